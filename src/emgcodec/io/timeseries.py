"""Rows of compound HDF5 data with a time stamp each, as emg2qwerty and emg2pose have them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from emgcodec.io.entry import MAX_GAP, check_stretches, naming
from emgcodec.io.hdf5 import find_dataset, open_hdf5
from emgcodec.recording import Event, RecordingError

NOMINAL_RATE = 2000.0

_ROWS_AT_ONCE = 120_000  # 60 s
_ANCHOR_ROWS = 2_000  # 1 s

DoubleArray = npt.NDArray[np.float64]


@dataclass(frozen=True)
class RowsSignal:
    """A `SignalSource` over rows with time stamps; the file is open only while it is read.

    Attributes:
        path: The file.
        dataset: Path of the rows in it.
        bands: Their fields that hold signal, in the order of the electrodes.
        start: First row.
        shape: (C, N).
    """

    path: Path
    dataset: str
    bands: tuple[str, ...]
    start: int
    shape: tuple[int, int]

    def read(self, start: int, stop: int) -> npt.NDArray[np.float32]:
        """Samples start to stop, (C, stop - start)."""
        emg = np.empty((self.shape[0], max(0, min(stop, self.shape[1]) - start)), np.float32)
        with naming(self.path), open_hdf5(self.path) as file:
            dataset = find_rows(file, self.dataset, self.bands)
            for first in range(0, emg.shape[1], _ROWS_AT_ONCE):
                part = emg[:, first : first + _ROWS_AT_ONCE]
                # Whole rows once: a read for each field would unpack the file once more.
                offset = self.start + start + first
                rows = dataset[offset : offset + part.shape[1]]
                np.concatenate([rows[band].T for band in self.bands], out=part)
        return emg


@dataclass(frozen=True)
class Stretch:
    """Rows without a gap, and the time stamps of some of them.

    Attributes:
        start: First row.
        stop: The row behind the last one.
        rows: (A,) some of them, the first and the last among them.
        times: (A,) when those were taken, unix seconds.
    """

    start: int
    stop: int
    rows: npt.NDArray[np.int64]
    times: DoubleArray

    def seconds(self, times: Sequence[float], rate: float) -> list[float]:
        """Moments on the recording's own clock, which may run faster or slower than ours."""
        found: list[float] = (
            (np.interp(times, self.times, self.rows) - self.start) / rate
        ).tolist()
        return found

    def holds(self, event: Event) -> bool:
        """Whether the event falls into this stretch; a key counts where it was pressed."""
        return bool(event.start <= self.times[-1] and _end(event) >= self.times[0])


def outside(events: Sequence[Event], stretches: Sequence[Stretch]) -> int:
    """How many events fall into no stretch: as many end before them as begin by their end."""
    begin = [event.start for event in events]
    end = [_end(event) for event in events]
    began = np.searchsorted(sorted(each.times[0] for each in stretches), end, "right")
    ended = np.searchsorted(sorted(each.times[-1] for each in stretches), begin, "left")
    return int(np.count_nonzero(began == ended))


def _end(event: Event) -> float:
    return event.start if event.kind == "key" else event.end


def find_rows(file: Any, path: str, bands: tuple[str, ...]) -> Any:
    """The dataset of rows at `path`.

    Raises:
        RecordingError: if it is not there, has no rows, or none of `bands` and ``time``.
    """
    dataset = find_dataset(file, path, kinds="V", ndim=1)
    fields = dataset.dtype.fields or {}
    shapes = [fields[field][0].shape for field in (*bands, "time") if field in fields]
    if [len(shape) for shape in shapes] != [*(1 for _ in bands), 0]:
        raise RecordingError(
            f"{path!r} has rows of {dataset.dtype}: expected {' and '.join(bands)} "
            "(16 numbers each) and time"
        )
    if len(dataset) == 0:
        raise RecordingError(f"{path!r} holds no samples")
    return dataset


def scan(dataset: Any) -> tuple[float, list[Stretch]]:
    """The mean step of the time stamps, and the stretches between leaps of the clock."""
    elapsed, steps = 0.0, 0
    leaps: list[int] = [0]
    known: dict[int, float] = {}
    for start in range(0, len(dataset), _ROWS_AT_ONCE):
        first = max(0, start - 1)  # each block begins with the last row of the one before
        times = dataset.fields("time")[first : start + _ROWS_AT_ONCE].astype(np.float64)
        if not np.isfinite(times).all():
            raise RecordingError("has time stamps that are not finite: repair the field 'time'")
        step = np.diff(times)
        leap = np.abs(step) > max(MAX_GAP, 1.5 * float(np.median(step)) if len(step) else 0.0)
        elapsed, steps = elapsed + float(step[~leap].sum()), steps + int((~leap).sum())
        behind = np.flatnonzero(leap) + 1
        check_stretches(len(leaps) + len(behind))
        leaps += (first + behind).tolist()
        ends = {0, len(times) - 1, *behind.tolist(), *(behind - 1).tolist()}
        rows = np.array(sorted(ends.union(range(0, len(times), _ANCHOR_ROWS))))
        known.update(zip((first + rows).tolist(), times[rows].tolist(), strict=True))
    anchors, stamps = np.array(list(known)), np.array(list(known.values()))
    stretches = []
    for start, stop in pairwise([*leaps, len(dataset)]):
        here = slice(*np.searchsorted(anchors, [start, stop]))
        # Jitter may turn single stamps back; the clock itself never runs backwards.
        rising = np.maximum.accumulate(stamps[here])
        stretches.append(Stretch(start, stop, anchors[here], rising))
    return elapsed / steps if steps else 1 / NOMINAL_RATE, stretches


def nominal_rate(step: float) -> float:
    """2000 Hz, unless the mean step of the time stamps differs by more than 1 %."""
    if step <= 0:
        raise RecordingError("has time stamps that do not rise: pass sample_rate=, in Hz")
    return NOMINAL_RATE if abs(step * NOMINAL_RATE - 1) <= 0.01 else float(round(1 / step))
