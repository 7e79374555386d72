"""Recordings as EDF+ (16 bits) or BDF+ (24 bits).

Integers, and signals on any other even grid that fits the bits, are kept exactly; others are
rounded to the range of their electrode. The header has places for all but labels' scores and
free metadata; missing samples are its smallest number, which the electrode's entry says.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, time
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from emgcodec.files import written_beside
from emgcodec.io.edf import MISSING, OURS
from emgcodec.recording import Recording, RecordingError

_MOST_SECONDS = 32  # of a data record
_COARSEST = 1e-3  # of the range: an error that a signal may have
_LARGEST = 1e7  # value that, with its sign, the header has room for
_FIRST_YEAR = datetime(1985, 1, 2, tzinfo=UTC).timestamp()
_LAST_YEAR = datetime(2085, 1, 1, tzinfo=UTC).timestamp()

DoubleArray = npt.NDArray[np.float64]


def write_edf(recording: Recording, path: Path) -> None:
    """Writes a recording as EDF+, or as BDF+ if the suffix is ``.bdf``; holds it in memory.

    Raises:
        RecordingError: if edfio is missing, or the format cannot hold the recording.
    """
    try:
        import edfio
    except ImportError as error:
        raise RecordingError("EDF files need edfio: pip install 'emgcodec[io]'") from error
    bdf = path.suffix.lower() == ".bdf"
    if recording.num_samples == 0:
        raise RecordingError("cannot be written as EDF, it has no samples")
    for event in recording.events:
        if not 0 <= event.end - event.start < math.inf:
            raise RecordingError(
                f"cannot be written as EDF, {event.label!r:.40} lasts from {event.start} to "
                f"{event.end} s: give each event a finite start, and an end that is not before it"
            )
    # Data records last whole seconds: others cannot be stated in eight characters.
    rate = Fraction(recording.sample_rate).limit_denominator(_MOST_SECONDS)
    facts = [OURS, f"samples={recording.num_samples}"]
    if float(rate) != recording.sample_rate:
        facts.append(f"rate={recording.sample_rate!r}")
    moment = None
    if _FIRST_YEAR <= recording.start_time < _LAST_YEAR:
        moment = datetime.fromtimestamp(recording.start_time, UTC)
    elif recording.start_time:
        facts.append(f"start={recording.start_time!r}")
    try:
        file = (edfio.Bdf if bdf else edfio.Edf)(
            list(_signals(recording, edfio.BdfSignal if bdf else edfio.EdfSignal, rate)),
            recording=edfio.Recording(
                startdate=moment and moment.date(), equipment_code=facts[0], additional=facts[1:]
            ),
            starttime=moment.time() if moment else time(),
            data_record_duration=rate.denominator,
            annotations=[
                edfio.EdfAnnotation(e.start, e.end - e.start or None, f"{e.kind}/{e.label}")
                for e in recording.events
            ],
        )
    except ValueError as error:
        raise RecordingError(f"cannot be written as EDF: {error}") from error
    with written_beside(path) as beside:
        file.write(beside)


def _signals(recording: Recording, kind: Any, rate: Fraction) -> Iterator[Any]:
    bits = 24 if kind.__name__ == "BdfSignal" else 16
    lowest, most = -(1 << bits - 1), (1 << bits) - 1
    name = "_".join(recording.montage.name.split()) or "montage"
    for k, (row, place) in enumerate(zip(recording.emg, recording.montage.electrodes, strict=True)):
        genuine = np.isfinite(row)
        values = row[genuine].astype(np.float64)
        bottom, top, steps = _span(np.unique(values) if len(values) else np.zeros(1), most)
        digital = np.zeros(len(row), np.int32 if bits == 24 else np.int16) + lowest
        near = np.rint((values - bottom) * (steps / (top - bottom)))
        digital[genuine] = (near + lowest).astype(digital.dtype)
        at = f"{name[:24]} band={place.band} angle={place.angle:.6f} row={place.row:.6f}"
        words = ["" if recording.montage.assumed else at, "" if genuine.all() else MISSING]
        yield kind.from_digital(
            np.pad(digital, (0, -len(row) % rate.numerator), mode="edge"),
            float(rate),
            label=f"EMG {k + 1}",
            transducer_type=" ".join(filter(None, words)),
            physical_dimension="uV" if recording.unit == "uV" else "",
            physical_range=(bottom, top),
            digital_range=(lowest, lowest + steps),
        )


def _span(levels: DoubleArray, most: int) -> tuple[float, float, int]:
    """The physical range, and how many steps it has, that keep these values best.

    The lowest step is left free for missing samples.
    """
    low, high = levels[0], levels[-1]
    gaps = np.diff(levels) if len(levels) > 1 else np.ones(1)
    gaps = gaps[gaps < 64 * gaps.min()]
    grid = gaps.sum() / np.rint(gaps / gaps.min()).sum()  # of which float32 blurs each gap
    counts = np.rint(levels / grid)
    exact = float(levels @ counts / max(counts @ counts, 1.0)) or grid  # if 0 is on it
    spans = []
    for step in (1.0, 0.5, 0.25, grid, exact):
        for unit in (1024 * step, step):  # ends at round numbers, which the header can say
            bottom = math.floor((low - step) / unit) * unit
            steps = min(math.ceil((high - bottom) / unit) * unit / step, most)
            spans.append((_eight(bottom), _eight(bottom + steps * step), round(steps)))
    fine = 4 * (high - low or 1.0) / most
    spans.append((_eight(low - fine, math.floor), _eight(high + fine, math.ceil), most))

    def error(span: tuple[float, float, int]) -> float:
        bottom, top, steps = span
        if not bottom < top < _LARGEST or bottom <= -_LARGEST:
            return math.inf
        near = np.rint((levels - bottom) * (steps / (top - bottom)))
        if near[0] < 1 or near[-1] > steps:
            return math.inf
        back = (bottom + near * ((top - bottom) / steps)).astype(np.float32)
        return float(np.abs(back - levels).max())

    best = min(spans, key=error)
    if error(best) > _COARSEST * (high - low or 1.0):
        raise RecordingError(
            f"cannot be written as EDF, it has values from {low:g} to {high:g}: scale them"
        )
    return best


def _eight(value: float, rounded: Callable[[float], int] = round) -> float:
    """A number that the eight characters of the header can say."""
    scale = 10.0 ** max(0, 6 - len(str(int(abs(value)))))
    return rounded(value * scale) / scale
