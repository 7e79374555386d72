"""Who trains, who selects and who tests, and what their scores say.

Five person-disjoint folds over the people of the corpora.

Fold f tests the people of fold f, selects on those of fold f + 1 and trains on the rest, so that
over the five folds everybody is tested once. ``splits/evidence.json`` holds what `make_folds` made.

Of flexemg two people are left, two folds apart: either is tested with the other in training, and
then nobody of it selects. Whether some people appear under several names is not known, beside
those in `TOGETHER`: myo_ciil has two studies, myo_readings random names, and 3dc and myo_laval
come from one laboratory, as do, probably, contraction_intensity and myo_ciil, ten years apart.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Any, Literal

import numpy as np

NUM_FOLDS = 5
CORPORA = ("3dc", "contraction_intensity", "flexemg", "myo_laval", "myo_ciil", "myo_readings")
"""Data sets of real people; scores are never pooled over them."""

Start = Literal["cold", "device", "calibrated"]
MODES: tuple[Start, ...] = ("cold", "device", "calibrated")
"""What a codec starts from: nothing, what is usual for the device, or the wearing's own signal."""

TOGETHER = (("3dc/P13", "3dc/P14"),)
"""Names that must share a fold: recordings of the first were also filed under the second."""

Part = Literal["train", "validation", "test"]

Result = Mapping[str, Any]
"""What one job wrote: ``scores`` by mode, corpus and person, and how they came about."""

_RESAMPLES = 10_000
_FEWEST = 5  # people, of whom a bootstrap tells an interval
_FEW = "(few people)"


def make_folds(people: Iterable[str], seed: int = 0) -> list[list[str]]:
    """Deals people out to folds, each data set, study and sex as evenly as can be.

    Args:
        people: Names, ``dataset/subject``.
        seed: Of the order within a stratum.

    Returns:
        Sorted names of each fold.
    """
    rng = np.random.default_rng(seed)
    names = set(people)
    follows = {n: first for first, *rest in TOGETHER for n in rest if {n, first} <= names}
    strata: dict[str, list[str]] = {}
    for name in sorted(names - set(follows)):
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


def everyone(corpus: str) -> frozenset[str]:
    """All people of a corpus."""
    return frozenset(n for fold in folds() for n in fold if n.startswith(f"{corpus}/"))


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
    dealt = folds()
    return frozenset(name for f in chosen[part] for name in dealt[f])


def load_results(folder: Path) -> dict[str, list[Result]]:
    """Results by row, in the order of folds; a folder that is not there holds none."""
    found: dict[str, list[Result]] = {}
    for path in sorted(folder.glob("*.json")):
        result = json.loads(path.read_text("utf-8"))
        found.setdefault(result["row"], []).append(result)
    return {row: sorted(results, key=lambda r: r["fold"]) for row, results in found.items()}


def pooled(results: Iterable[Result], *keys: str) -> dict[str, float]:
    """Numbers by person from all folds; the mean where somebody is in several.

    Args:
        results: Of one row.
        keys: Where in a result they are, for example ``"scores", "cold", "3dc"``.
    """
    people: dict[str, list[float]] = {}
    for result in results:
        part: Any = result
        for key in keys:
            part = part.get(key, {})
        for person, number in part.items():
            people.setdefault(person, []).append(number)
    return {person: float(np.mean(numbers)) for person, numbers in people.items()}


@dataclass(frozen=True)
class Summary:
    """Numbers of several people.

    Attributes:
        mean: Over people.
        sd: Standard deviation over people, of a sample; nan of one.
        low: 2.5 % point of the mean, by bootstrap over people; nan of fewer than five.
        high: 97.5 % point.
        people: How many.
    """

    mean: float
    sd: float
    low: float
    high: float
    people: int

    @classmethod
    def of(cls, people: Mapping[str, float]) -> Summary | None:
        """Of numbers by person; None of nobody."""
        if not people:
            return None
        values = np.array([people[name] for name in sorted(people)])
        means = _resampled(values)
        low, high = (_quantile(means, share) for share in (0.025, 0.975))
        sd = float(values.std(ddof=1)) if len(values) > 1 else np.nan
        return cls(float(values.mean()), sd, low, high, len(values))

    def __str__(self) -> str:
        spread = f" ± {100 * self.sd:.1f}" if self.people > 1 else ""
        return f"{100 * self.mean:.1f}{self.interval(1, scale=100)}{spread}"

    def plain(self, digits: int) -> str:
        """Mean and interval of what is no share, with so many digits."""
        return f"{self.mean:.{digits}f}{self.interval(digits)}"

    def interval(self, digits: int, scale: float = 1.0) -> str:
        """`` [low, high]``, or nothing of too few people."""
        low, high = (f"{scale * v:.{digits}f}" for v in (self.low, self.high))
        return "" if np.isnan(self.low) else f" [{low}, {high}]"


def paired_loss(ours: Mapping[str, float], theirs: Mapping[str, float]) -> tuple[float, float]:
    """How much lower our score is than theirs on the same people, and at most so.

    Returns:
        The mean difference, and its upper 95 % bound (one-sided) by bootstrap over people; nan
        where nobody has both scores, and the bound where fewer than five have.
    """
    both = sorted(ours.keys() & theirs.keys())
    if not both:
        return float("nan"), float("nan")
    lost = np.array([theirs[name] - ours[name] for name in both])
    return float(lost.mean()), _quantile(_resampled(lost), 0.95)


def _quantile(means: Any, share: float) -> float:
    return float(np.quantile(means, share)) if len(means) else np.nan


def _resampled(values: Any) -> Any:
    """Means of as many people drawn with replacement, again and again; none of too few people."""
    if len(values) < _FEWEST:
        return np.empty(0)
    draws = np.random.default_rng(0).integers(len(values), size=(_RESAMPLES, len(values)))
    return values[draws].mean(axis=1)


def table_head(heads: Sequence[str]) -> tuple[str, str]:
    """The first two lines of a Markdown table."""
    return table_line(heads), "|---" * len(heads) + "|"


def table_line(cells: Iterable[str]) -> str:
    """A line of a Markdown table."""
    return f"| {' | '.join(cells)} |"


def rerun(results: Sequence[Result]) -> tuple[str, str]:
    """The command that makes results again, for all folds, and the commits that it was made at.

    A result that was renamed has its former name as ``called``, which its own command knows.

    Args:
        results: Of one row, at least one.
    """
    first = results[0]
    command = re.sub(r" --fold \S+", "", first["command"])
    if "called" in first:
        command = command.replace(first["called"], first["row"])
    at = []
    for commit in sorted({r["commit"] for r in results}):
        called = sorted({r["called"] for r in results if r["commit"] == commit and "called" in r})
        at.append(f"`{commit}`" + "".join(f" (where it was `{name}`)" for name in called))
    return command, ", ".join(at)


def took(result: Result) -> float:
    """Seconds of a job and of its model's training, which may have been there before."""
    trained = result.get("trained") or result.get("model", {}).get("trained", {})
    training = 60.0 * float(trained.get("minutes", 0.0))
    seconds = float(result["seconds"])
    return seconds if seconds > training else seconds + training


def points(lost: float, most: float) -> str:
    """A table's cell: points lost, and at most so; ``not run`` where nobody has both scores."""
    if np.isnan(lost):
        return "not run"
    return f"{100 * lost:+.1f} " + (_FEW if np.isnan(most) else f"(at most {100 * most:+.1f})")


def gained(lost: float, most: float) -> str:
    """The same the other way round: points gained, and at least so."""
    if np.isnan(lost):
        return "not run"
    won, least = 0.0 - 100 * lost, 0.0 - 100 * most  # no -0.0
    return f"{won:+.1f} " + (_FEW if np.isnan(most) else f"(at least {least:+.1f})")


def cell(results: Sequence[Result], *keys: str) -> str:
    """A table's cell: mean [95 % interval] ± deviation over people in percent, or ``not run``.

    Args:
        results: Of one row.
        keys: See `pooled`.
    """
    summary = Summary.of(pooled(results, *keys))
    if summary is None:
        return "not run"
    missing = NUM_FOLDS - len({result["fold"] for result in results})
    return f"{summary} ({NUM_FOLDS - missing} of {NUM_FOLDS} folds)" if missing else str(summary)


def paired_loss_over_trainings(
    ours: Sequence[Mapping[str, float]], theirs: Sequence[Mapping[str, float]]
) -> tuple[float, float]:
    """`paired_loss` where the same people were scored after several trainings.

    Trainings are drawn anew as people are: of few, one lucky one is worth little.

    Args:
        ours: Numbers by person, of one training after the other.
        theirs: The same of the other's trainings with the same seeds.
    """
    pairs = list(zip(ours, theirs, strict=True))
    if not pairs:
        return float("nan"), float("nan")
    names = sorted(set.intersection(*(set(o.keys() & t.keys()) for o, t in pairs)))
    lost = np.array([[t[n] - o[n] for n in names] for o, t in pairs])
    rng = np.random.default_rng(0)
    trainings = rng.integers(len(lost), size=(_RESAMPLES, len(lost), 1))
    people = rng.integers(len(names), size=(_RESAMPLES, 1, len(names)))
    means = lost[trainings, people].mean(axis=(1, 2))
    return float(lost.mean()), _quantile(means if len(names) >= _FEWEST else [], 0.95)


def lost_to(
    ours: Sequence[Result], theirs: Sequence[Result], mode: Start, corpus: str
) -> tuple[float, float]:
    """`paired_loss` of a row against another, which may have no start from its device.

    A rival that is fitted to a device knows when cold what is usual for it.
    """
    rival = pooled(theirs, "scores", mode, corpus)
    if mode == "device" and not rival:
        rival = pooled(theirs, "scores", "cold", corpus)
    return paired_loss(pooled(ours, "scores", mode, corpus), rival)


def gain(
    results: Mapping[str, Sequence[Result]], row: str, rival: str, mode: Start, corpus: str
) -> str:
    """A table's cell: points that a row has over another on the same people, and at least so."""
    return gained(*lost_to(results.get(row, ()), results.get(rival, ()), mode, corpus))
