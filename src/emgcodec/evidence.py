"""Who trains, who selects and who tests: five person-disjoint folds over the people of the corpora.

Fold f tests the people of fold f, selects on those of fold f + 1 and trains on the rest, so that
over the five folds everybody is tested once. ``splits/evidence.json`` holds what `make_folds` made.

Of flexemg two people are left, two folds apart: either is tested with the other in training, and
then nobody of it selects. Whether some people appear under several names is not known, beside
those in `TOGETHER`: myo_ciil has two studies, myo_readings random names, and 3dc and myo_laval
come from one laboratory.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from importlib import resources
from typing import Literal

import numpy as np

NUM_FOLDS = 5
TOGETHER = (("3dc/P13", "3dc/P14"),)
"""Names that must share a fold: recordings of the first were also filed under the second."""

Part = Literal["train", "validation", "test"]


def make_folds(people: Iterable[str], seed: int = 0) -> list[list[str]]:
    """Deals people out to folds, each data set, study and sex as evenly as can be.

    Args:
        people: Names, ``dataset/subject``.
        seed: Of the order within a stratum.

    Returns:
        Sorted names of each fold.
    """
    rng = np.random.default_rng(seed)
    everyone = set(people)
    follows = {n: first for first, *rest in TOGETHER for n in rest if {n, first} <= everyone}
    strata: dict[str, list[str]] = {}
    for name in sorted(everyone - set(follows)):
        strata.setdefault(re.sub(r"\d+$", "", name), []).append(name)
    dealt = [name for _, group in sorted(strata.items()) for name in rng.permutation(group)]
    # In steps of two folds: of two people, either can train while the other tests.
    fold_of = {str(name): 2 * i % NUM_FOLDS for i, name in enumerate(dealt)}
    fold_of |= {name: fold_of[first] for name, first in follows.items()}
    return [sorted(n for n, f in fold_of.items() if f == fold) for fold in range(NUM_FOLDS)]


def folds() -> list[list[str]]:
    """The people of each fold, as committed."""
    text = (resources.files("emgcodec") / "splits" / "evidence.json").read_text("utf-8")
    found: list[list[str]] = json.loads(text)["folds"]
    return found


def people(fold: int, part: Part) -> frozenset[str]:
    """Names ``dataset/subject`` of the people of one part of a fold.

    Args:
        fold: 0 to 4.
        part: ``test`` is the fold itself, ``validation`` the next one, ``train`` the rest.

    Raises:
        ValueError: for another fold or part.
    """
    if fold not in range(NUM_FOLDS):
        raise ValueError(f"fold={fold!r}: choose from 0 to {NUM_FOLDS - 1}")
    tested, selecting = fold, (fold + 1) % NUM_FOLDS
    rest = [f for f in range(NUM_FOLDS) if f not in (tested, selecting)]
    chosen = {"test": [tested], "validation": [selecting], "train": rest}
    if part not in chosen:
        raise ValueError(f"part={part!r}: choose from {list(chosen)}")
    everyone = folds()
    return frozenset(name for f in chosen[part] for name in everyone[f])
