"""multiday: one person on 121 days, 11 classes a day, one table each. All of it is for the test.

Names are ``S<k>_D<day>_C<class>.csv``; values lie on a grid of 0.001. The names that the LibEMG
loader gives the classes are not safe (class 0 is no rest), so the labels only number them.
"""

from __future__ import annotations

import re
from pathlib import Path

from emgcodec.prepare.collection import Collection, Segment, Take
from emgcodec.prepare.parse import exact_integers, one_gesture, table

_GRID = 0.001


def _place(match: re.Match[str]) -> tuple[Take, int]:
    person, day, number = map(int, match.groups())
    return Take(f"S{person:02d}", f"day{day:03d}", f"day{day:03d}"), number


def _read(path: Path, label: int) -> list[Segment]:
    counts = exact_integers(path, table(path, 4) / _GRID, bits=32, tolerance=1e-6)
    return one_gesture(counts, label)


MULTIDAY = Collection(
    name="multiday",
    repository="LibEMG/MultiDay",
    commit="2b11c859ca2dc3c7b52188c54bc0f5edeb12245a",
    licence="none stated in the repository",
    citation="Kaufmann, Englehart and Platzner, IEEE 5627288",
    device="MindMedia (as given by the LibEMG loader)",
    channels=4,
    sample_rate=2048.0,
    unit="not stated (decimals on a grid of 0.001, probably uV)",
    gestures=tuple(f"Class {number}" for number in range(11)),
    train=frozenset(),
    validation=frozenset(),
    pattern=r"S(\d+)_D(\d+)_C(\d+)\.csv",
    place=_place,
    read=_read,
    scale=_GRID,
)
