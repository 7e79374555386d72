"""Two codecs on the same codebooks: whose codes agree, and what a reader of the one's loses."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from emgcodec.codec import Codec
from emgcodec.evaluate.codecs import Take
from emgcodec.evaluate.frames import Labels
from emgcodec.evaluate.tokens import Codes
from emgcodec.gestures import GESTURES

_REST = GESTURES.index("rest")


@dataclass(frozen=True)
class Coded:
    """A take as codes, calibrated.

    Attributes:
        subject: Who it was.
        calibrates: Whether it is part of its wearing's first block, which is never scored.
        labels: (T,) index into `GESTURES`, or `UNLABELLED`.
        codes: (K, T).
    """

    subject: str
    calibrates: bool
    labels: Labels
    codes: Codes


def coded(codec: Codec, takes: Iterable[Take]) -> list[Coded]:
    """Takes as a codec's codes."""
    return [
        Coded(
            take.segment.subject,
            take.calibrates,
            take.segment.labels,
            codec.encode(**take.signal(codec, "calibrated"))[0].numpy(),
        )
        for take in takes
    ]


def agreement(ours: Sequence[Coded], theirs: Sequence[Coded]) -> dict[str, Any]:
    """Share of frames with equal codes, by person, over all frames and over those in a gesture.

    Args:
        ours: Of the student.
        theirs: Of its teacher, for the same takes.

    Returns:
        For ``all`` and ``gestures``: ``level 1`` and on; ``level 2 given 1`` and on, where all
        levels before agree; and ``chance 1`` and on, what codes drawn by chance, as often as
        each of the two uses them, would agree on; with a level given, as often as behind the same
        codes of the levels before.
    """
    pairs: dict[str, list[tuple[Codes, Codes, Labels]]] = defaultdict(list)
    for take, twin in zip(ours, theirs, strict=True):
        if not take.calibrates:
            pairs[take.subject].append((take.codes, twin.codes, take.labels))
    found: dict[str, dict[str, dict[str, float]]] = {"all": {}, "gestures": {}}
    for subject, parts in pairs.items():
        mine, other = (np.concatenate([p[i] for p in parts], axis=1) for i in (0, 1))
        labels = np.concatenate([p[2] for p in parts])
        known = (mine >= 0).all(axis=0) & (other >= 0).all(axis=0)
        for where, kept in (
            ("all", known),
            ("gestures", known & (labels >= 0) & (labels != _REST)),
        ):
            if kept.any():
                for name, share in _shares(mine[:, kept], other[:, kept]).items():
                    found[where].setdefault(name, {})[subject] = share
    return found


def _shares(mine: Codes, other: Codes) -> Mapping[str, float]:
    equal = mine == other
    shares, before = {}, np.ones(equal.shape[1], dtype=bool)
    for level, same in enumerate(equal, start=1):
        shares[f"level {level}"] = float(same.mean())
        if level > 1 and before.any():
            given = f"{level} given {level - 1}"
            shares[f"level {given}"] = float(same[before].mean())
            chance = _chance_given(mine[:level, before], other[level - 1, before])
            if chance is not None:
                shares[f"chance {given}"] = chance
        size = int(max(mine[level - 1].max(), other[level - 1].max())) + 1
        used = (np.bincount(c[level - 1], minlength=size) / len(same) for c in (mine, other))
        shares[f"chance {level}"] = float(np.dot(*used))
        before &= same
    return shares


def _chance_given(mine: Codes, other: Codes) -> float | None:
    """How often a frame's last code is the other's of another frame with the same codes before.

    Frames whose codes before are nobody else's say nothing; None if there are no others.

    Args:
        mine: (levels, n), where the levels before the last agree.
        other: (n,) of the last level.
    """
    _, group = np.unique(mine[:-1], axis=1, return_inverse=True)
    group = group.reshape(-1)
    size = int(max(mine[-1].max(), other.max())) + 1
    ours, theirs = (
        np.unique(group * size + codes, return_counts=True) for codes in (mine[-1], other)
    )
    _, i, j = np.intersect1d(ours[0], theirs[0], return_indices=True)
    pairs = float(np.dot(ours[1][i], theirs[1][j])) - float((mine[-1] == other).sum())
    members = np.bincount(group).astype(float)
    possible = float((members * (members - 1)).sum())
    return pairs / possible if possible else None
