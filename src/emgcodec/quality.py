"""How good a recording is, electrode by electrode: level, contact, clipping, mains."""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from emgcodec.recording import FloatArray, Recording
from emgcodec.signal import robust_sd

VERDICTS = ("ok", "flat", "missing", "clipped", "mains", "noisy contact")

MAX_MISSING = 0.05
MAX_FLAT = 0.20
MAX_CLIPPED = 0.01
MAX_MAINS = 10.0
MAX_CONTACT = 8.0
"""Beyond these (fractions, power ratio, multiple of the median electrode) a verdict falls."""

_WINDOW = 1.0  # seconds: level and spectrum
_WINDOWS_AT_ONCE = 60
_MAX_WINDOWS = 4096  # levels kept for each electrode
_FLAT = 0.1  # seconds without any change
_CLIP_RUN = 3  # samples in a row at the very extreme
_LINES = (50.0, 60.0)
_LOWEST_HZ = 10.0  # below it, drift and movement

DoubleArray = npt.NDArray[np.float64]
IntArray = npt.NDArray[np.int64]
BoolArray = npt.NDArray[np.bool_]


@dataclass(frozen=True)
class ElectrodeQuality:
    """What one electrode delivered.

    Attributes:
        verdict: ``ok``, or the first that applies of ``missing``, ``flat``, ``clipped``,
            ``noisy contact``, ``mains``.
        robust_sd: 1.4826 times the median absolute deviation within a second, median over the
            seconds; µV or counts.
        dc: Mean, µV or counts.
        missing: Fraction of samples that are NaN or infinite.
        clipped: Fraction of samples in runs of at least 3 at the electrode's extreme value.
        flat: Fraction of samples in exactly constant runs of at least 100 ms.
        mains_hz: 50 or 60, whichever stands out more; 0 where that cannot be told.
        mains_ratio: Power at that line over the power beside it; 0 where it cannot be told.
        median_frequency: Hz that halve the power above 10 Hz; 0 where there is none.
    """

    verdict: str
    robust_sd: float
    dc: float
    missing: float
    clipped: float
    flat: float
    mains_hz: float
    mains_ratio: float
    median_frequency: float


@dataclass(frozen=True)
class QualityReport:
    """The quality of a recording; see `quality_report`.

    Attributes:
        electrodes: One entry for each row of the signal.
        montage: Name of the montage.
        sample_rate: Hz.
        duration: Seconds.
        unit: ``uV`` or ``adc``, of levels and dc.
    """

    electrodes: tuple[ElectrodeQuality, ...]
    montage: str
    sample_rate: float
    duration: float
    unit: str

    @property
    def ok(self) -> bool:
        """Whether every electrode is."""
        return all(electrode.verdict == "ok" for electrode in self.electrodes)

    def summary(self) -> str:
        """A table for the terminal."""
        unit = "µV" if self.unit == "uV" else self.unit
        names = (
            f"{'#':>3}  {'verdict':<13} {'sd ' + unit:>10} {'dc ' + unit:>10} {'missing':>8} "
            f"{'clipped':>8} {'flat':>8} {'mains':>12} {'median':>8}"
        )
        rows = [f"{k:>3}  {_row(electrode)}" for k, electrode in enumerate(self.electrodes)]
        return "\n".join([self._gist(), names, *rows])

    def __repr__(self) -> str:
        return f"QualityReport({self._gist()})"

    def _gist(self) -> str:
        counts = Counter(electrode.verdict for electrode in self.electrodes)
        verdicts = ", ".join(f"{counts[v]} {v}" for v in VERDICTS if counts[v])
        return (
            f"{len(self.electrodes)} electrodes ({self.montage}), {self.duration:.1f} s "
            f"at {self.sample_rate:g} Hz: {verdicts}"
        )

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON types."""
        return asdict(self) | {"electrodes": [asdict(each) for each in self.electrodes]}


def _row(e: ElectrodeQuality) -> str:
    mains = f"x{e.mains_ratio:.3g} {e.mains_hz:.0f} Hz" if e.mains_hz else "-"
    return (
        f"{e.verdict:<13} {e.robust_sd:>10.4g} {e.dc:>10.4g} {e.missing:>8.2%} "
        f"{e.clipped:>8.2%} {e.flat:>8.2%} {mains:>12} {e.median_frequency:>5.0f} Hz"
    )


def quality_report(recording: Recording) -> QualityReport:
    """Measures every electrode in one pass over the signal, in constant memory.

    Args:
        recording: Of any length, rate and unit.

    Returns:
        One `ElectrodeQuality` per electrode, verdicts included.
    """
    electrodes, samples = recording.num_electrodes, recording.num_samples
    rate = recording.sample_rate
    window = max(1, min(round(_WINDOW * rate), samples))
    levels, spectrum = _Levels(), _Spectrum(electrodes, window, rate)
    tops = _Extreme(electrodes, 1), _Extreme(electrodes, -1)
    constant = _Runs(electrodes, max(1, math.ceil(_FLAT * rate) - 1))
    last = np.full((electrodes, 1), np.nan, np.float32)
    total, count = np.zeros(electrodes), np.zeros(electrodes)
    size = window * _WINDOWS_AT_ONCE
    for start in range(0, samples, size):
        x = recording.read(start, min(start + size, samples))
        good = np.isfinite(x)
        x = np.where(good, x, np.float32(np.nan))
        total += np.nansum(x, axis=1, dtype=np.float64)
        count += good.sum(axis=1)
        constant.push(x == np.concatenate([last, x[:, :-1]], axis=1))
        last = x[:, -1:]
        for extreme in tops:
            extreme.push(x)
        windows = x[:, : x.shape[1] // window * window].reshape(electrodes, -1, window)
        for k in range(windows.shape[1]):
            levels.push(windows[:, k])
            spectrum.push(windows[:, k])
    high, low = tops
    piled = np.where(high.value > -low.value, high.runs.samples() + low.runs.samples(), 0)
    missing = 1.0 - count / samples if samples else np.ones(electrodes)
    flat = constant.samples(extra=1) / max(samples, 1)
    measures = zip(
        levels.median(electrodes).tolist(),
        (total / np.maximum(count, 1)).tolist(),
        missing.tolist(),
        (piled / max(samples, 1)).tolist(),
        flat.tolist(),
        *(column.tolist() for column in spectrum.mains()),
        spectrum.median_frequency().tolist(),
        strict=True,
    )
    rough = [ElectrodeQuality("ok", *values) for values in measures]
    usable = [e.robust_sd for e in rough if e.missing <= MAX_MISSING and e.flat <= MAX_FLAT]
    typical = float(np.median(usable)) if usable else 0.0
    judged = tuple(replace(e, verdict=_verdict(e, typical)) for e in rough)
    return QualityReport(judged, recording.montage.name, rate, recording.duration, recording.unit)


def _verdict(electrode: ElectrodeQuality, typical_sd: float) -> str:
    if electrode.missing > MAX_MISSING:
        return "missing"
    if electrode.flat > MAX_FLAT:
        return "flat"
    if electrode.clipped > MAX_CLIPPED:
        return "clipped"
    if electrode.robust_sd > MAX_CONTACT * typical_sd:
        return "noisy contact"
    return "mains" if electrode.mains_ratio > MAX_MAINS else "ok"


class _Runs:
    """Counts samples in runs of at least `least` True, row by row and across block borders."""

    def __init__(self, rows: int, least: int) -> None:
        self._least = least
        self._open: IntArray = np.zeros(rows, np.int64)  # of the run that reaches the border
        self._runs: IntArray = np.zeros(rows, np.int64)
        self._samples: IntArray = np.zeros(rows, np.int64)

    def push(self, mask: BoolArray) -> None:
        """Takes (rows, n > 0)."""
        stopped = np.flatnonzero(~mask[:, 0])
        self._close(stopped, self._open[stopped])
        edges = np.diff(np.pad(mask, ((0, 0), (1, 1))).astype(np.int8), axis=1)
        rows, starts = np.nonzero(edges == 1)
        ends = np.nonzero(edges == -1)[1]
        lengths = ends - starts + np.where(starts == 0, self._open[rows], 0)
        done = ends < mask.shape[1]
        self._close(rows[done], lengths[done])
        self._open[:] = 0
        self._open[rows[~done]] = lengths[~done]

    def _close(self, rows: IntArray, lengths: IntArray) -> None:
        long = lengths >= self._least
        np.add.at(self._runs, rows[long], 1)
        np.add.at(self._samples, rows[long], lengths[long])

    def reset(self, rows: BoolArray) -> None:
        """Forgets what was counted in these rows."""
        for counts in (self._open, self._runs, self._samples):
            counts[rows] = 0

    def samples(self, *, extra: int = 0) -> IntArray:
        """Samples counted, (rows,), with `extra` ones for each run."""
        self._close(np.arange(len(self._open)), self._open)
        self._open[:] = 0
        return self._samples + extra * self._runs


class _Extreme:
    """The largest value of each row (the smallest, for sign -1) and the runs spent there."""

    def __init__(self, rows: int, sign: int) -> None:
        self._sign = sign
        self.value: DoubleArray = np.full(rows, -np.inf)  # times the sign
        self.runs = _Runs(rows, _CLIP_RUN)

    def push(self, x: FloatArray) -> None:
        signed = self._sign * x
        top = np.fmax.reduce(signed, axis=1)
        higher = top > self.value
        self.runs.reset(higher)
        self.value[higher] = top[higher]
        self.runs.push(signed == self.value[:, None])


class _Levels:
    """Robust deviation of each window; of very many, every second one is dropped."""

    def __init__(self) -> None:
        self._kept: list[DoubleArray] = []
        self._seen, self._stride = 0, 1

    def push(self, x: FloatArray) -> None:
        if self._seen % self._stride == 0:
            self._kept.append(np.where(np.isfinite(x).any(axis=1), robust_sd(x), np.nan))
        self._seen += 1
        if len(self._kept) > _MAX_WINDOWS:
            self._kept, self._stride = self._kept[::2], 2 * self._stride

    def median(self, rows: int) -> DoubleArray:
        """(rows,); 0 where nothing was measured."""
        kept = np.array(self._kept).reshape(-1, rows)
        measured = np.isfinite(kept).any(axis=0)
        result = np.zeros(rows)
        result[measured] = np.nanmedian(kept[:, measured], axis=0)
        return result


class _Spectrum:
    """Averaged power spectrum of Hann windows."""

    def __init__(self, rows: int, window: int, rate: float) -> None:
        self._frequencies = np.fft.rfftfreq(window, 1 / rate)
        self._hann = np.hanning(window + 1)[:-1]
        self._power: DoubleArray = np.zeros((rows, len(self._frequencies)))
        self._count = 0

    def push(self, x: FloatArray) -> None:
        good = np.isfinite(x)
        mean = np.nansum(x, axis=1, keepdims=True) / np.maximum(good.sum(axis=1, keepdims=True), 1)
        centred = np.where(good, x - mean, 0.0)
        self._power += np.abs(np.fft.rfft(centred * self._hann, axis=1)) ** 2
        self._count += 1

    def mains(self) -> tuple[DoubleArray, DoubleArray]:
        """Line frequency and ratio to its neighbours, (rows,) each."""
        ratios = np.zeros((len(_LINES), len(self._power)))
        fine = self._frequencies[1:2] <= 1.05  # Hz between bins: else a line hides its neighbours
        for ratio, line in zip(ratios, _LINES, strict=True):
            if self._count > 1 and fine.any() and line + 8 < self._frequencies[-1]:
                away = np.abs(self._frequencies - line)
                peak = self._power[:, away <= 1].max(axis=1)
                beside = np.median(self._power[:, (away >= 3) & (away <= 8)], axis=1)
                ratio[:] = peak / np.maximum(beside, np.finfo(float).tiny)
        told = ratios.max(axis=0) > 0
        return np.where(told, np.array(_LINES)[ratios.argmax(axis=0)], 0.0), ratios.max(axis=0)

    def median_frequency(self) -> DoubleArray:
        """Hz, (rows,); 0 where there is no power."""
        band = self._frequencies >= _LOWEST_HZ
        share = np.cumsum(self._power[:, band], axis=1)
        if not band.any():
            return np.zeros(len(share))
        half = np.argmax(share >= share[:, -1:] / 2, axis=1)
        return np.where(share[:, -1] > 0, self._frequencies[band][half], 0.0)
