"""From a source's samples to the codec's: repair, notch and resampling, all causal and stateful.

Every step gives the same numbers whether the signal comes whole or in pushes of any size.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from fractions import Fraction

import numpy as np
import numpy.typing as npt
from scipy import signal as dsp

from emgcodec.recording import exact_rate

FloatArray = npt.NDArray[np.float32]
DoubleArray = npt.NDArray[np.float64]
BoolArray = npt.NDArray[np.bool_]

HUGE = 1e9
"""Samples beyond this (µV or counts) are no EMG: their squares would leave float32."""

_GENUINE = 0.75  # of a frame's samples, or the electrode is masked in it
_KAISER_BETA = 6.0  # about 60 dB of stop band
_TABLE_PHASES = 1024
_TAPS_AT_ONCE = 1 << 20  # over outputs and electrodes


def num_resampled(num_samples: int, source_rate: float, target_rate: float) -> int:
    """Samples after resampling: ceil(num_samples * target / source), in exact arithmetic."""
    ratio = exact_rate(target_rate) / exact_rate(source_rate)
    return math.ceil(num_samples * ratio)


def resampling_lookahead(source_rate: float, target_rate: float) -> float:
    """Seconds of the future that the resampler needs; 0 where the rates are equal.

    At most the larger of 10 ms and 4 source samples.
    """
    if exact_rate(source_rate) == exact_rate(target_rate):
        return 0.0
    return _half_length(source_rate) / source_rate


def _half_length(source_rate: float) -> int:
    return max(4, math.floor(0.010 * source_rate))


class Resampler:
    """Delay-compensated polyphase FIR (Kaiser-windowed sinc), stateful over pushes.

    Output m is the signal at time m / target_rate; before the first and after the last sample
    the signal is held. A constant passes unchanged.

    Args:
        source_rate: Hz.
        target_rate: Hz.
        num_electrodes: Rows of the signal.
    """

    def __init__(self, source_rate: float, target_rate: float, num_electrodes: int) -> None:
        ratio: Fraction = exact_rate(target_rate) / exact_rate(source_rate)
        self._up, self._down = ratio.numerator, ratio.denominator
        self._half = 0 if ratio == 1 else _half_length(source_rate)
        self._cutoff = 0.5 * min(1.0, float(ratio))  # cycles per source sample
        self._table: DoubleArray | None = None
        if self._half and self._up <= _TABLE_PHASES:
            self._table = self._weights(np.arange(self._up) / self._up)
        self._buffer: DoubleArray = np.empty((num_electrodes, 0))
        self._start = 0  # source index of the buffer's first column
        self._received = 0
        self._next = 0  # next output

    def _weights(self, fraction: DoubleArray) -> DoubleArray:
        """(n, 2 * half) taps for outputs that lie `fraction` of a sample behind a source sample."""
        offset = np.arange(1 - self._half, self._half + 1) - fraction[:, None]
        window = np.i0(_KAISER_BETA * np.sqrt(np.clip(1 - (offset / self._half) ** 2, 0, 1)))
        taps = np.sinc(2 * self._cutoff * offset) * window
        weights: DoubleArray = taps / taps.sum(axis=1, keepdims=True)
        return weights

    def push(self, x: npt.NDArray[np.floating]) -> FloatArray:
        """Takes (C, n) source samples, gives the (C, m) outputs that are now known."""
        if self._half == 0:
            return x.astype(np.float32)
        if x.shape[1] and self._received == 0:
            x = np.concatenate([np.repeat(x[:, :1], self._half, axis=1), x], axis=1)
            self._start, self._received = -self._half, -self._half
        self._received += x.shape[1]
        self._buffer = np.concatenate([self._buffer, x], axis=1)
        ready = self._received - self._half  # outputs need source samples up to + half
        return self._produce(max(0, -(-ready * self._up // self._down)))

    def flush(self) -> FloatArray:
        """Ends the signal and gives the remaining outputs."""
        if self._half == 0 or self._received == 0:
            return np.zeros((len(self._buffer), 0), np.float32)
        total = -(-self._received * self._up // self._down)
        tail = np.repeat(self._buffer[:, -1:], self._half + 1, axis=1)
        self._buffer = np.concatenate([self._buffer, tail], axis=1)
        return self._produce(total)

    def _produce(self, stop: int) -> FloatArray:
        parts = [np.zeros((len(self._buffer), 0))]
        at_once = max(1, _TAPS_AT_ONCE // (2 * self._half * len(self._buffer)))
        while self._next < stop:
            count = min(stop - self._next, at_once)
            base, phase = divmod(self._next * self._down, self._up)
            steps = phase + np.arange(count) * self._down
            first = base + steps // self._up - self._half + 1 - self._start
            phases = steps % self._up
            table = self._table
            weights = self._weights(phases / self._up) if table is None else table[phases]
            windows = np.lib.stride_tricks.sliding_window_view(self._buffer, 2 * self._half, axis=1)
            parts.append(np.einsum("cnk,nk->cn", windows[:, first], weights))
            self._next += count
        # The next output may look back to here; everything older can go.
        oldest = self._next * self._down // self._up - self._half + 1
        drop = min(max(0, oldest - self._start), max(0, self._buffer.shape[1] - 1))
        self._buffer, self._start = self._buffer[:, drop:], self._start + drop
        return np.concatenate(parts, axis=1).astype(np.float32)


class Repair:
    """Replaces missing samples (NaN, inf, beyond `HUGE`) by the last good one, and marks them."""

    def __init__(self, num_electrodes: int) -> None:
        self._last: FloatArray = np.zeros((num_electrodes, 1), np.float32)
        self.missing: npt.NDArray[np.int64] = np.zeros(num_electrodes, np.int64)

    def push(self, x: FloatArray) -> tuple[FloatArray, BoolArray]:
        """(C, n) samples to (C, n) finite samples and which of them were there."""
        with np.errstate(invalid="ignore"):
            good = np.abs(x) <= HUGE
        if good.all():
            if x.shape[1]:
                self._last = x[:, -1:].copy()
            return x, good
        self.missing += (~good).sum(axis=1)
        padded = np.concatenate([self._last, x], axis=1)
        index = np.where(good, np.arange(1, x.shape[1] + 1), 0)
        filled = np.take_along_axis(padded, np.maximum.accumulate(index, axis=1), axis=1)
        self._last = filled[:, -1:].copy()
        return filled, good


class Notch:
    """Stateful second-order notches at the mains frequency and its first harmonics."""

    def __init__(self, mains: float, sample_rate: float) -> None:
        lines = [mains * k for k in (1, 2, 3) if mains * k < 0.45 * sample_rate]
        sections = [dsp.tf2sos(*dsp.iirnotch(line, 30.0, fs=sample_rate)) for line in lines]
        self._sos = np.concatenate(sections) if sections else None
        self._state: DoubleArray | None = None

    def push(self, x: npt.NDArray[np.floating]) -> npt.NDArray[np.floating]:
        """(C, n) to (C, n)."""
        if self._sos is None or x.shape[1] == 0:
            return x
        if self._state is None:  # as if the first sample had been there for ever
            steady = dsp.sosfilt_zi(self._sos)
            self._state = steady[:, None, :] * x[None, :, :1].astype(np.float64)
        filtered, self._state = dsp.sosfilt(self._sos, x, axis=1, zi=self._state)
        result: DoubleArray = filtered
        return result


class Preparation:
    """Repair, notch and resample one recording or stream on its way to the codec.

    Args:
        source_rate: Hz, of what is pushed.
        target_rate: Hz, of what comes out.
        num_electrodes: Rows of the signal.
        mains: Line frequency to notch out, or None.
    """

    def __init__(
        self, source_rate: float, target_rate: float, num_electrodes: int, mains: float | None
    ) -> None:
        self.repair = Repair(num_electrodes)
        self._notch = None if mains is None else Notch(mains, source_rate)
        self._signal = Resampler(source_rate, target_rate, num_electrodes)
        self._validity = _Nearest(source_rate, target_rate, num_electrodes)

    def push(self, x: FloatArray) -> tuple[FloatArray, BoolArray]:
        """(C, n) source samples to (C, m) samples at the target rate, and which are genuine."""
        filled, good = self.repair.push(x)
        clean = filled if self._notch is None else self._notch.push(filled)
        y = self._signal.push(clean)
        return y, self._validity.push(good, y.shape[1])

    def flush(self) -> tuple[FloatArray, BoolArray]:
        """The samples that waited for the resampler's look-ahead."""
        y = self._signal.flush()
        return y, self._validity.push(np.zeros((len(y), 0), bool), y.shape[1])


class Framing:
    """Prepares one recording or stream and cuts it into whole frames.

    Args:
        preparation: Of this signal.
        hop_length: Samples of a frame.
        frames: How many come at a time; fewer wait.
    """

    def __init__(self, preparation: Preparation, hop_length: int, frames: int = 1) -> None:
        self._preparation = preparation
        self._hop, self._size = hop_length, hop_length * frames
        self._waiting: tuple[FloatArray, BoolArray] | None = None

    def push(self, raw: FloatArray) -> tuple[FloatArray, BoolArray]:
        """(C, n) source samples to (C, m) of whole frames, and which are genuine."""
        x, good = self._join(self._preparation.push(raw))
        ready = x.shape[1] // self._size * self._size
        self._waiting = x[:, ready:], good[:, ready:]
        return x[:, :ready], good[:, :ready]

    def flush(self) -> tuple[FloatArray, BoolArray]:
        """What waited; the last frame is filled up with the last sample."""
        x, good = self._join(self._preparation.flush())
        spare = ((0, 0), (0, -x.shape[1] % self._hop))
        return np.pad(x, spare, mode="edge"), np.pad(good, spare, mode="edge")

    def _join(self, fresh: tuple[FloatArray, BoolArray]) -> tuple[FloatArray, BoolArray]:
        if self._waiting is None:
            return fresh
        x, good = self._waiting
        return np.concatenate([x, fresh[0]], axis=1), np.concatenate([good, fresh[1]], axis=1)


def usable_electrodes(good: BoolArray, hop_length: int) -> BoolArray:
    """(..., T * hop_length) genuine samples to (..., T): in which frames there are enough."""
    share = good.reshape(*good.shape[:-1], -1, hop_length).mean(axis=-1)
    usable: BoolArray = share >= _GENUINE
    return usable


class _Nearest:
    """Brings the validity of samples to another rate: a sample is as good as its nearest one."""

    def __init__(self, source_rate: float, target_rate: float, num_electrodes: int) -> None:
        ratio = exact_rate(target_rate) / exact_rate(source_rate)
        self._up, self._down = ratio.numerator, ratio.denominator
        self._buffer: BoolArray = np.zeros((num_electrodes, 0), bool)
        self._start = 0
        self._next = 0

    def push(self, good: BoolArray, count: int) -> BoolArray:
        if self._up == self._down:
            return good
        self._buffer = np.concatenate([self._buffer, good], axis=1)
        base, phase = divmod(self._next * self._down, self._up)
        steps = 2 * (phase + np.arange(count) * self._down) + self._up
        index = base + steps // (2 * self._up) - self._start
        result = self._buffer[:, np.minimum(index, max(self._buffer.shape[1] - 1, 0))]
        self._next += count
        oldest = self._next * self._down // self._up
        drop = min(max(0, oldest - self._start), max(0, self._buffer.shape[1] - 1))
        self._buffer, self._start = self._buffer[:, drop:], self._start + drop
        return result


class LevelMeter:
    """Root mean square per electrode, over the genuine samples of a signal of any length.

    Args:
        num_electrodes: Rows of the signal.
        window: Samples within which the mean is removed; pushes are whole windows but the last.
    """

    def __init__(self, num_electrodes: int, window: int) -> None:
        self._window = window
        self._energy: DoubleArray = np.zeros(num_electrodes)
        self._count: DoubleArray = np.zeros(num_electrodes)

    def push(self, x: FloatArray, valid: BoolArray) -> None:
        """Takes (C, n) samples and which of them are genuine."""
        whole = x.shape[1] // self._window * self._window
        for part, good in ((x[:, :whole], valid[:, :whole]), (x[:, whole:], valid[:, whole:])):
            shape = (len(x), -1, min(self._window, max(part.shape[1], 1)))
            windows, genuine = part.reshape(shape), good.reshape(shape)
            count, values = genuine.sum(axis=2), windows.astype(np.float64)
            missing = count.sum() < genuine.size
            if missing:
                values *= genuine
            values -= (values.sum(axis=2) / np.maximum(count, 1))[..., None]
            if missing:
                values *= genuine
            self._energy += np.einsum("cwk,cwk->c", values, values)
            self._count += count.sum(axis=1)

    def level(self) -> FloatArray:
        """(C,) float32; 0 for an electrode without one genuine sample."""
        return np.sqrt(self._energy / np.maximum(self._count, 1)).astype(np.float32)


def robust_sd(x: npt.NDArray[np.floating]) -> DoubleArray:
    """(C, n) to (C,): 1.4826 times the median absolute deviation, missing samples left out."""
    if x.shape[1] == 0 or not np.isfinite(x).any():
        return np.zeros(len(x))
    finite = np.where(np.isfinite(x), x, np.nan).astype(np.float64)  # the mean of two may overflow
    there = np.isfinite(finite)
    rows = there.any(axis=1)
    median = np.median if there.all() else np.nanmedian  # which takes thrice as long
    result = np.zeros(len(x))
    centred = finite[rows] - median(finite[rows], axis=1, keepdims=True)
    result[rows] = 1.4826 * median(np.abs(centred), axis=1)
    return result


def detect_mains(blocks: Iterable[npt.NDArray[np.floating]], sample_rate: float) -> float | None:
    """Line frequency that stands out of the spectrum, or None.

    Args:
        blocks: Finite signal, (C, n) each.
        sample_rate: Hz.

    Returns:
        50.0 or 60.0 where half of the electrodes have a line at least 10 dB above its
        surroundings; None otherwise, and for rates too low to tell.
    """
    if sample_rate <= 150:
        return None
    size = int(2 * sample_rate)
    total: DoubleArray | None = None
    for block in blocks:
        if block.shape[1] >= size:
            freqs, power = dsp.welch(block, sample_rate, nperseg=size)
            total = power * block.shape[1] + (0 if total is None else total)
    if total is None:
        return None
    ratios = {}
    for line in (50.0, 60.0):
        around = (np.abs(freqs - line) >= 2) & (np.abs(freqs - line) <= 8)
        peak = total[:, np.abs(freqs - line) <= 0.75].max(axis=1)
        ratios[line] = float(np.median(peak / (np.median(total[:, around], axis=1) + 1e-30)))
    best = max(ratios, key=ratios.__getitem__)
    return best if ratios[best] >= 10.0 else None
