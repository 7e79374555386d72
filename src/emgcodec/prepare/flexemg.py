"""flexemg: 3 people, continuous takes of 28 s from a 16x4 array, one MATLAB file a take.

Names are ``data/<person>-<session>/<person>-<take>.mat``. `raw` is (N, 96) with zeros behind
column 64. How the files say which gesture was cued could not be seen. In every take of the corpus
rest and four gestures change every 5 s, in one order in the first takes of a session and in
another in the second ones: that is used for those. Later takes are left without labels (-1).
"""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np

from emgcodec.prepare.collection import Collection, PrepareError, Segment, Take, people
from emgcodec.prepare.parse import exact_integers

_SAMPLES, _CUE = 28000, 5000
_ORDERS = {1: [0, 3, 4, 2, 1, 0], 2: [0, 1, 2, 4, 3, 0]}
_KEPT = {  # takes of a session, of people for training and validation
    ("S001", "Session1Train"): 2,
    ("S001", "Session2Test"): 2,
    ("S001", "Session3Train"): 1,
    ("S002", "Session1Train"): 2,
}


def _place(match: re.Match[str]) -> tuple[Take, int]:
    person, session, number = match.groups()
    name = f"{session}_trial{int(number):02d}"
    return Take(f"S{person}", name, session, int(number)), -1


def _read(path: Path, label: int) -> list[Segment]:
    from scipy.io import loadmat

    try:
        raw = loadmat(path, variable_names=["raw"])["raw"]
    except Exception as error:  # scipy has many for files that are cut, damaged or of another kind
        raise PrepareError(f"{path}: expected a MATLAB 5 file with `raw` in it: {error}") from error
    if raw.shape != (_SAMPLES, 96) or raw.dtype.kind not in "iuf" or raw[:, 64:].any():
        raise PrepareError(
            f"{path}: `raw` is {raw.dtype} {raw.shape}: expected numbers ({_SAMPLES}, 96), "
            "all zero from column 64"
        )
    labels = np.full(_SAMPLES, label, np.int8)
    if order := _ORDERS.get(int(path.stem.split("-")[1])):
        labels = np.repeat(np.array(order, np.int8), _CUE)[:_SAMPLES]
    return [Segment(exact_integers(path, raw[:, :64].astype(np.float64)), labels)]


FLEXEMG = Collection(
    name="flexemg",
    repository="a-moin/flexemg",
    commit="8ce40c5341f7099ea4e6d5db220752cdfaf9c74a",
    licence="GPL-3.0 (LICENSE and README of the repository)",
    citation="Moin et al., An EMG Gesture Recognition System with Flexible High-Density Sensors "
    "and Brain-Inspired High-Dimensional Classifier, IEEE ISCAS 2018",
    device="flexible 16x4 electrode array (64 channels)",
    channels=64,
    sample_rate=1000.0,
    unit="uV",
    gestures=("Rest", "Fist", "Raise", "Lower", "Open"),
    train=people("S{:03d}", 1),
    validation=people("S{:03d}", 2),
    pattern=r"data/(\d+)-(\w+)/\1-(\d+)\.mat",
    place=_place,
    read=_read,
    kept=lambda take: take.repetition <= _KEPT.get((take.subject, take.session), 0),
    scale=3.0517578125,
    scale_uv=3.0517578125,
)
