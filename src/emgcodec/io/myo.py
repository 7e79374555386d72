"""Raw exports of a Myo armband (``.dat``): 16-bit little-endian integers, 8 electrodes in turn.

The armband gives signed 8-bit counts at 200 Hz; nothing in the file says so.
"""

from __future__ import annotations

from functools import partial
from pathlib import Path

import numpy as np

from emgcodec.io.entry import Entry, Options
from emgcodec.recording import Recording, RecordingError

MYO_RATE = 200.0

_ELECTRODES = 8


def entries(path: Path, options: Options) -> list[Entry]:
    """The one recording of a file, named after it."""
    return [Entry(path.stem, partial(_load, path, options))]


def _load(path: Path, options: Options) -> Recording:
    counts = np.fromfile(path, "<i2")
    if path.stat().st_size % (2 * _ELECTRODES) or counts.min() < -128 or counts.max() > 127:
        raise RecordingError(
            "is no export of a Myo (rows of 8 numbers of 16 bits, from -128 to 127): it is cut "
            "off or of another device"
        )
    return Recording(
        counts.reshape(-1, _ELECTRODES).T,
        options.rate(MYO_RATE),
        montage=options.montage or "myo",
        unit=options.unit or "adc",
        metadata={"device": "Myo", "bits": 8},
    )
