"""myo_ciil: 21 and 11 people in two halves, repetitions of 5 gestures, one table each, from a Myo.

Names are ``<half>/subject<k>/<session>/R_<repetition>_C<gesture>.csv``. The gestures are named as
``metadata.json`` beside the files names them; folders without one are taken to have that order.
"""

from __future__ import annotations

import re
from functools import lru_cache
from pathlib import Path

from emgcodec.files import read_json
from emgcodec.gestures import canonical_gesture
from emgcodec.prepare.collection import Collection, PrepareError, Segment, Take, people
from emgcodec.prepare.parse import exact_integers, one_gesture, table

_HALVES = {"ElectrodeShift": "shift", "MinimalTrainingData": "min"}
_GESTURES = ("Hand Close", "Hand Open", "No Motion", "Wrist Extension", "Wrist Flexion")


def _place(match: re.Match[str]) -> tuple[Take, int]:
    half, person, folders, repetition, gesture = match.groups()
    session = folders.replace("/", "_")
    name = f"{session}_rep{repetition}"
    take = Take(f"{_HALVES[half]}{int(person):02d}", name, session, int(repetition), half)
    return take, int(gesture)


@lru_cache(maxsize=1)
def _stated(folder: Path) -> dict[str, str]:
    """What ``metadata.json`` of a folder, if it has one, calls the gesture of each file."""
    path = folder / "metadata.json"
    try:
        facts = read_json(path) if path.exists() else {}
        files = {k: v for k, v in facts.items() if isinstance(v, dict)}
        return {name.rpartition("/")[2]: str(v["class_name"]) for name, v in files.items()}
    except (ValueError, KeyError, AttributeError) as error:
        raise PrepareError(f"{path}: expected class_name for each file, but {error}") from error


def _read(path: Path, label: int) -> list[Segment]:
    stated = _stated(path.parent).get(path.name, _GESTURES[label])
    if canonical_gesture(stated) != canonical_gesture(_GESTURES[label]):
        raise PrepareError(
            f"{path}: metadata.json calls it {stated!r}: expected {_GESTURES[label]!r}"
        )
    return one_gesture(exact_integers(path, table(path, 8), bits=8), label)


MYO_CIIL = Collection(
    name="myo_ciil",
    repository="LibEMG/CIILData",
    commit="b7230dd253b3cd2c2603f5fdeb0c3711551ba19f",
    licence="none stated in the repository",
    citation="ElectrodeShift: doi 10.1186/s12984-024-01355-4; MinimalTrainingData: IEEE 10394393 "
    "(as given by the LibEMG loader)",
    device="Thalmic Myo armband",
    channels=8,
    sample_rate=200.0,
    unit="adc_count (signed 8-bit)",
    gestures=_GESTURES,
    train=people("min{:02d}", *range(7)) | people("shift{:02d}", *range(14)),
    validation=frozenset({"min07", "shift14", "shift15"}),
    pattern=r"(ElectrodeShift|MinimalTrainingData)/subject(\d+)/([\w/]+)/R_(\d+)_C_(\d+)\.csv",
    place=_place,
    read=_read,
)
