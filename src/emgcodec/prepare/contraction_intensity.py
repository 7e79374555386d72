"""contraction_intensity: 10 people, seven motions at given forces, one table in volts a motion.

Names are ``S<k>/S<k>_<condition>_C<motion>_R<repetition>.csv``, motions from 1. The volts are a
16-bit grid over +-10 V, printed with five digits: (n + 0.5) * 20 / 65535.
"""

from __future__ import annotations

import re
from pathlib import Path

from emgcodec.prepare.collection import Collection, Segment, Take, names, people
from emgcodec.prepare.parse import exact_integers, one_gesture, table

_VOLTS = 20 / 65535
_OFFSET = 0.5
_KEPT = ("Ramp", "20P", "50P", "80P", "MVC")  # of people for training and validation


def _place(match: re.Match[str]) -> tuple[Take, int]:
    person, condition, motion, repetition = match.groups()
    subject, name = f"S{int(person):02d}", f"{condition}_rep{repetition}"
    rank = (*_KEPT, condition).index(condition)
    return Take(subject, name, "all", int(repetition), condition, rank=rank), int(motion) - 1


def _read(path: Path, label: int) -> list[Segment]:
    counts = table(path, 8) / _VOLTS - _OFFSET
    return one_gesture(exact_integers(path, counts, tolerance=0.2), label)


CONTRACTION_INTENSITY = Collection(
    name="contraction_intensity",
    repository="LibEMG/ContractionIntensity",
    commit="18139b3a7705f2ac523b6a7435830ab470435292",
    licence="none stated in the repository",
    citation="Scheme and Englehart, Training Strategies for Mitigating the Effect of Proportional "
    "Control on Classification in Pattern Recognition Based Myoelectric Control, "
    "J. Prosthetics and Orthotics 25(2):76-83, 2013",
    device="BE328 remote AC electrode amplifiers (Liberating Technologies), cuff",
    channels=8,
    sample_rate=1000.0,
    unit="V at the ADC (after an amplifier gain that is not stated)",
    gestures=names(
        "No Motion, Wrist Flexion, Wrist Extension, Wrist Pronation, Wrist Supination, "
        "Chuck Grip, Hand Open"
    ),
    train=people("S{:02d}", *range(1, 8)),
    validation=people("S{:02d}", 8),
    pattern=r"S(\d+)/S\1_(\w+)_C(\d+)_R(\d+)\.csv",
    place=_place,
    read=_read,
    kept=lambda take: take.condition in _KEPT,
    scale=_VOLTS,
    offset=_OFFSET,
)
