"""What studies score a codec by, each on the people who test in a fold."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from itertools import chain
from pathlib import Path
from typing import Any

from emgcodec.codec import Codec
from emgcodec.evaluate.agreement import agreement, coded
from emgcodec.evaluate.codecs import Take, codebook_use, gesture_scores, load_takes
from emgcodec.evaluate.sequence import fit_sequence_model, read_sequences
from emgcodec.evaluate.typing import greedy, score_split
from emgcodec.evidence import MODES, Part, people
from emgcodec.train.sessions import find_splits

Score = Callable[[Codec, int, Path], dict[str, Any]]

WHOSE = ("student's", "teacher's")
"""Tokens that a sequence model reads."""

_SEQUENCE_STEPS = 2000


def gestures(*corpora: str) -> Score:
    """Gesture head, cold and calibrated; use of the codebooks by those who select."""

    def score(codec: Codec, fold: int, data: Path) -> dict[str, Any]:
        scores: dict[str, dict[str, Any]] = {mode: {} for mode in MODES}
        for corpus in corpora:
            takes = load_takes(data, corpus, people(fold, "test"), codec)
            for mode in MODES:
                scores[mode][corpus] = gesture_scores(codec, takes, mode == "calibrated")
        if codec.quantizer is None:
            return {"scores": scores}
        selecting = _takes(codec, corpora, fold, "validation", data)
        return {"scores": scores, "usage": codebook_use(codec, selecting)}

    return score


def agreement_with_teacher(*corpora: str) -> Callable[[Codec, Codec, int, Path], dict[str, Any]]:
    """Agreement of codes, and what a sequence model of the teacher's tokens makes of either's."""

    def compare(teacher: Codec, student: Codec, fold: int, data: Path) -> dict[str, Any]:
        tested = list(_takes(teacher, corpora, fold, "test", data))
        ours, theirs = (coded(codec, tested) for codec in (student, teacher))
        learned = coded(teacher, _takes(teacher, corpora, fold, "train", data))
        model, known = fit_sequence_model(learned, teacher.codebook_size, fold, _SEQUENCE_STEPS)
        return {
            "agreement": agreement(ours, theirs),
            "sequence model": {
                whose: read_sequences(model, known, tokens)
                for whose, tokens in zip(WHOSE, (ours, theirs), strict=True)
            },
        }

    return compare


def typing(codec: Codec, fold: int, data: Path) -> dict[str, Any]:
    """Character error rate of each person who has a split file, greedily, in whole sessions."""
    errors = {
        split.name: score_split(codec, split, {"greedy": greedy}, ("test",))["test"]["greedy"]
        for split in find_splits(data, "user*")
    }
    return {
        "scores": {"cold": {"simulated typing": {name: e.rate for name, e in errors.items()}}},
        "keys": {name: e.length for name, e in errors.items()},
    }


def _takes(
    codec: Codec, corpora: Sequence[str], fold: int, part: Part, data: Path
) -> Iterable[Take]:
    return chain.from_iterable(load_takes(data, c, people(fold, part), codec) for c in corpora)
