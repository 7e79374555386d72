"""3dc: 22 people, two sessions of four cycles through 11 gestures, one text file a gesture.

What is known of the layout is the form that the LibEMG documentation and loader give for names,
``Participant<k>/<session>/EMG...`` ending in ``EMG_gesture_<cycle>_<gesture>.txt``. The listing of
the repository could not be seen, so further folders in between are allowed, and so are commas or
white space between the numbers. The gestures are cued back to back, but the files do not join up.
"""

from __future__ import annotations

import re
from pathlib import Path

from emgcodec.prepare.collection import Collection, Segment, Take, names, people
from emgcodec.prepare.parse import exact_integers, one_gesture, table


def _place(match: re.Match[str]) -> tuple[Take, int]:
    person, session, cycle, gesture = match.groups()
    subject, name, rank = f"P{int(person):02d}", f"{session}_rep{cycle}", int(session == "test")
    return Take(subject, name, session, int(cycle), rank=rank), int(gesture)


def _read(path: Path, label: int) -> list[Segment]:
    return one_gesture(exact_integers(path, table(path, 10)), label)


THREE_DC = Collection(
    name="3dc",
    repository="LibEMG/3DCDataset",
    commit="1af9058237a5d79a883feb2ce61f4d59090288ac",
    licence="none stated in the repository",
    citation="Cote-Allard et al., Deep learning for electromyographic hand gesture signal "
    "classification using transfer learning, IEEE TNSRE 27(4):760-771, 2019",
    device="3DC Armband (prototype)",
    channels=10,
    sample_rate=1000.0,
    unit="adc_count (volts per count not stated)",
    gestures=names(
        "No Motion, Radial Deviation, Wrist Flexion, Ulnar Deviation, Wrist Extension, "
        "Supination, Pronation, Power Grip, Open Hand, Chuck Grip, Pinch Grip"
    ),
    train=people("P{:02d}", *range(1, 15)),
    validation=people("P{:02d}", 15, 16),
    pattern=r"(?:.*/)?Participant(\d+)/(train|test)/(?:.*/)?EMG_gesture_(\d+)_(\d+)\.txt",
    place=_place,
    read=_read,
)
