"""Recordings of the emg2pose dataset: one wristband, hand pose beside it.

Group ``emg2pose`` holds ``timeseries``, rows of {``emg`` (16), ``joint_angles``, ``time``} at
2 kHz. It states no unit, so that the signal is in ADC counts unless `unit` says otherwise.
"""

from __future__ import annotations

from functools import partial
from pathlib import Path

from emgcodec.io.entry import Entry, Options
from emgcodec.io.hdf5 import attribute, find_group, open_hdf5
from emgcodec.io.timeseries import RowsSignal, Stretch, find_rows, nominal_rate, scan
from emgcodec.recording import Recording

_TIMESERIES = "emg2pose/timeseries"
_BANDS = ("emg",)
_FACTS = {"subject": "user", "session": "session", "condition": "stage", "side": "side"}


def entries(path: Path, options: Options) -> list[Entry]:
    """The contiguous recordings of a file: its name, with ``.<k>`` if there are gaps in it.

    Raises:
        RecordingError: if the file does not follow the format.
    """
    with open_hdf5(path) as file:
        rows, group = find_rows(file, _TIMESERIES, _BANDS), find_group(file, "emg2pose")
        step, stretches = scan(rows)
        electrodes = rows.dtype["emg"].shape[0]
        facts = {ours: attribute(group, theirs, str, "") for ours, theirs in _FACTS.items()}
    rate = options.rate(nominal_rate(step) if options.sample_rate is None else None)

    def load(stretch: Stretch) -> Recording:
        shape = (electrodes, stretch.stop - stretch.start)
        return Recording(
            RowsSignal(path, _TIMESERIES, _BANDS, stretch.start, shape),
            rate,
            montage=options.montage or "emg2pose",
            unit=options.unit or "adc",
            start_time=float(stretch.times[0]),
            metadata={"dataset": "emg2pose", **facts, "licence": "CC BY-NC-SA 4.0"},
        )

    several = len(stretches) > 1
    return [
        Entry(f"{path.stem}.{k}" if several else path.stem, partial(load, stretch))
        for k, stretch in enumerate(stretches)
    ]
