"""myo_readings: takes of a minute from a Myo, a gesture and rest cued in turn for 5 s each.

Names are ``_readings_right_hand/<person>-<session>/<gesture>.txt``; lines hold eight values and
the label. A line that does not, where one was cut and glued to the next, is skipped, and the
samples behind it are another segment. Left out: left hands, and people with another rate or
protocol.
"""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np

from emgcodec.prepare.collection import Collection, PrepareError, Segment, Take, names, people
from emgcodec.prepare.parse import exact_integers

# fmt: off
_TRAIN = people(
    "R{}", 10000, 10101, 12345, 12378, 12548, 14478, 19999, 21547, 22222, 26082, 35622,
    40052, 41924, 45612, 45677, 45678, 45744, 48584, 51425, 54321, 56912,
)
# fmt: on
_ANOTHER_PROTOCOL = {"32185", "46666", "60186", "69069"}  # not 1000 samples in the 5 s of a cue
_MAX_CUT = 3
_ROW = re.compile(r"-?\d{1,3}(?:,-?\d{1,3}){7},\d")
_CONDITIONS = ("rest only", "cue alternates with rest every 5 s")


def _place(match: re.Match[str]) -> tuple[Take, int] | None:
    person, session, gesture = match.groups()
    if person in _ANOTHER_PROTOCOL:
        return None
    name, condition = f"session{session}_{gesture}", _CONDITIONS[gesture != "0"]
    return Take(f"R{person}", name, session, condition=condition), -1


def _read(path: Path, label: int) -> list[Segment]:
    runs: list[list[str]] = [[]]
    cuts = 0
    for line in path.read_text("utf-8", errors="replace").splitlines():
        if _ROW.fullmatch(line):
            runs[-1].append(line)
        else:
            cuts += 1
            runs.append([])
    if cuts > _MAX_CUT or not any(runs):
        raise PrepareError(
            f"{path}: {cuts} lines are not eight values and a label, with commas between: "
            f"expected at most {_MAX_CUT} among good ones"
        )
    segments: list[Segment] = []
    for run in filter(None, runs):
        rows = np.loadtxt(run, delimiter=",", ndmin=2)
        samples = exact_integers(path, rows[:, :8], bits=8)
        segments.append(Segment(samples, rows[:, 8].astype(np.int8), cuts if not segments else 0))
    if found := {int(k) for s in segments for k in np.unique(s.labels)} - {0, int(path.stem)}:
        raise PrepareError(f"{path}: has labels {sorted(found)}: expected 0 and {path.stem}")
    return segments


MYO_READINGS = Collection(
    name="myo_readings",
    repository="aljazfrancic/myo-readings-dataset",
    commit="2630b1dd8b83b2fa386f06d536f64254ad541ac5",
    licence="MIT (LICENSE of the repository)",
    citation="none asked for; name the repository (Aljaz Francic, myo-readings-dataset)",
    device="Thalmic Myo armband",
    channels=8,
    sample_rate=200.0,
    unit="adc_count (signed 8-bit)",
    gestures=names(
        "Hibernation (rest), Flexion, Extension, Radial Deviation, Ulnar Deviation, Pronation, "
        "Supination, Fist"
    ),
    train=_TRAIN,
    validation=people("R{}", 64917, 65842, 66666),
    pattern=r"_readings_right_hand/(\d{5})-(\d+)/([0-7])\.txt",
    place=_place,
    read=_read,
    kept=lambda take: take.session == "1" and take.condition != _CONDITIONS[0],
)
