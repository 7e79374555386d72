"""myo_laval: 40 folders of people, sessions of four cycles through 7 gestures, from a Myo.

Names are ``<half>/<Female or Male><k>/<session>/classe_<i>.dat``, gesture i % 7 of cycle i // 7.
That the files are little-endian int16, eight channels after one another for each sample, is how
the corpus read them; the repository does not say so. Values outside eight bits are an error.
"""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np

from emgcodec.prepare.collection import Collection, PrepareError, Segment, Take, names, people
from emgcodec.prepare.parse import exact_integers, one_gesture

_HALVES = {"EvaluationDataset": "eval", "PreTrainingDataset": "pre"}


def _place(match: re.Match[str]) -> tuple[Take, int]:
    half, sex, person, session, number = match.groups()
    cycle, gesture = divmod(int(number), 7)
    subject = f"{_HALVES[half]}{sex[0]}{int(person):02d}"
    return Take(subject, f"{session}_cycle{cycle}", session, cycle, half), gesture


def _read(path: Path, label: int) -> list[Segment]:
    size = path.stat().st_size
    if size == 0 or size % 16:
        raise PrepareError(f"{path}: {size} bytes: expected a multiple of 16, eight int16 a sample")
    return one_gesture(exact_integers(path, np.fromfile(path, "<i2").reshape(-1, 8), bits=8), label)


MYO_LAVAL = Collection(
    name="myo_laval",
    repository="UlysseCoteAllard/MyoArmbandDataset",
    commit="4de3efef85356fbf565d96a150f386d99165cfee",
    licence="GPL-3.0 (LICENSE of the repository, code and data together)",
    citation="Cote-Allard et al., Deep learning for electromyographic hand gesture signal "
    "classification using transfer learning, IEEE TNSRE 27(4):760-771, 2019; and IEEE SMC 2017, "
    "1663-1668 (same first author)",
    device="Thalmic Myo armband",
    channels=8,
    sample_rate=200.0,
    unit="adc_count (signed 8-bit)",
    gestures=names(
        "Neutral, Radial Deviation, Wrist Flexion, Ulnar Deviation, Wrist Extension, "
        "Hand Close, Hand Open"
    ),
    train=people("evalF{:02d}", 0)
    | people("evalM{:02d}", *range(9))
    | people("preF{:02d}", *range(6))
    | people("preM{:02d}", *range(9)),
    validation=frozenset({"evalM09", "preF06", "preM09"}),
    pattern=r"(EvaluationDataset|PreTrainingDataset)/(Female|Male)(\d+)/(\w+)/classe_(\d+)\.dat",
    place=_place,
    read=_read,
)
