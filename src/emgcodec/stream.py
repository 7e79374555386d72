"""Streams: samples pushed as they come, the very codes that the whole recording gives.

A session holds all that changes; the model is shared. NumPy only: what runs the codec is a
`Stepper`, so that one session serves every runtime.
"""

from __future__ import annotations

import itertools
import operator
from collections.abc import Iterable, Iterator, Sequence
from typing import Protocol

import numpy as np
import numpy.typing as npt

from emgcodec.calibration import Calibration, CalibrationError
from emgcodec.montage import Montage
from emgcodec.recording import UNITS, RecordingError, in_unit
from emgcodec.signal import Framing, Preparation, resampling_lookahead, robust_sd, usable_electrodes

LOWEST_SD, HIGHEST_SD = 0.05, 20_000.0
"""Robust standard deviations (µV) outside of which a unit must be wrong."""

_LONGEST_JUMP = 3600.0  # seconds; a device's counter that runs on by more is wrong
_JUDGED_SAMPLES = 4000  # of each electrode and block: its median is known to a few percent
_JUDGED_SECONDS = 10.0  # of a stream's signal, before its unit is believed

FloatArray = npt.NDArray[np.float32]
BoolArray = npt.NDArray[np.bool_]
IntArray = npt.NDArray[np.int64]


class CodecError(ValueError):
    """A tensor, head or option that a codec cannot work with."""


class Stepper(Protocol):
    """Runs a codec on some slots of a batch, and keeps the state of each."""

    sample_rate: int
    hop_length: int
    block_frames: int
    num_codebooks: int

    def restart(self, slots: Sequence[int]) -> None:
        """Forgets what these slots have seen."""

    def encode(self, slots: Sequence[int], x: FloatArray, usable: BoolArray) -> IntArray:
        """Whole frames (b, C, t * hop) and electrodes to use (b, C, t), to codes (b, K, t)."""


class EncodeStream:
    """A session of `Codec.encode_stream`: signals in, codes out, in each slot the same as alone.

    One thread uses a session at a time; sessions share their codec, in as many threads as you like.

    Attributes:
        batch_size: Slots B, streams side by side that are fed together.
        sample_rate: Hz, of what is pushed.
        montage: Electrodes of each slot, in the order of its rows.
        latency: Seconds from a frame's first sample to its codes, computing apart: the frame, and
            the look-ahead of resampling where the rate is not the codec's own.
    """

    def __init__(
        self,
        stepper: Stepper,
        sample_rate: float,
        unit: str,
        montage: Montage,
        order: list[int],
        mains: Sequence[float | None],
    ) -> None:
        if unit not in UNITS:
            raise RecordingError(f"unit={unit!r} is unknown: choose from {list(UNITS)}")
        self._stepper, self._unit, self._order, self._mains = stepper, unit, order, mains
        self.batch_size, self.sample_rate, self.montage = len(mains), sample_rate, montage
        frame = stepper.hop_length / stepper.sample_rate
        self.latency = frame + resampling_lookahead(sample_rate, stepper.sample_rate)
        self._samples_at_once = max(1, int(stepper.block_frames * frame * sample_rate))
        self._next = 0  # number of the next sample
        self._counting = False  # whether samples came, which may have said so
        self._framings: dict[int, Framing] = {}
        self.reset()

    def push(
        self, samples: npt.ArrayLike, *, start: int | None = None
    ) -> tuple[IntArray, BoolArray]:
        """Takes any number of samples, gives the frames that they complete.

        Args:
            samples: (B, C, n), or (C, n) where B is 1. An electrode that is late, lost or off is
                NaN for as long: it is masked. Single missing samples are repaired.
            start: Number of the first of these samples, of a device that counts: what it skips
                becomes a gap. Counting may begin anywhere.

        Returns:
            Codes (B, K, t) and which of them are valid (B, t): False where a frame has no usable
            electrode, and there codes are 0. Slots that were reset apart may complete different
            numbers of frames: codes of a frame that a slot does not have are -1, at the end.

        Raises:
            RecordingError: if type, shape or start cannot be: the session goes on as if nothing
                had been pushed. If the unit cannot be, after some seconds: `reset` comes first.
        """
        x = np.asarray(samples)
        x = x[None] if x.ndim == 2 and self.batch_size == 1 else x
        shape = self.batch_size, len(self.montage)
        if x.ndim != 3 or x.shape[:2] != shape or x.dtype.kind not in "iuf":
            raise RecordingError(
                f"samples are {x.dtype} of shape {x.shape}: give real numbers (slots, electrodes, "
                f"n), here ({shape[0]}, {shape[1]}, n); electrodes that are missing are NaN"
            )
        if start is not None:
            start = whole_number("start", start)
        expected = self._next if start is None or self._counting else start
        gap = 0 if start is None else start - expected
        if not 0 <= gap <= _LONGEST_JUMP * self.sample_rate:
            raise RecordingError(
                f"start={start}: the next sample is number {expected}, time goes neither back nor "
                f"on by over {_LONGEST_JUMP:g} s; leave out what came twice, or reset() first"
            )
        self._next, self._counting = expected + gap + x.shape[-1], True
        return self._run(itertools.chain(self._missing(gap), self._framed(x)))

    def push_gap(self, num_samples: int) -> tuple[IntArray, BoolArray]:
        """Time passes without samples: frames that are not valid, and nothing is learned.

        The same as to push so many NaN.

        Raises:
            RecordingError: if it is no whole number, negative, or more than an hour.
        """
        num_samples = whole_number("num_samples", num_samples)
        if not 0 <= num_samples <= _LONGEST_JUMP * self.sample_rate:
            raise RecordingError(
                f"num_samples={num_samples}: time goes neither back nor on by over "
                f"{_LONGEST_JUMP:g} s; reset() for what comes later"
            )
        self._next += num_samples
        return self._run(self._missing(num_samples))

    def flush(self) -> tuple[IntArray, BoolArray]:
        """Ends all streams, gives their last frames, and begins anew."""
        last = self._run([[self._framings[slot].flush() for slot in range(self.batch_size)]])
        self.reset()
        return last

    def reset(self, mask: npt.ArrayLike | None = None) -> None:
        """Begins anew, in all slots or where the mask (B,) is true; what waited there is lost.

        Raises:
            ValueError: if the mask is not (B,) bool.
        """
        slots = chosen_slots(mask, self.batch_size)
        self._stepper.restart(slots)
        for slot in slots:
            rates = self.sample_rate, self._stepper.sample_rate
            preparation = Preparation(*rates, len(self.montage), self._mains[slot])
            self._framings[slot] = Framing(preparation, self._stepper.hop_length)
        if len(slots) == self.batch_size:
            self._next, self._counting = 0, False
            self._check, self._unjudged = UnitCheck(self._unit), _JUDGED_SECONDS

    def _framed(self, x: npt.NDArray[np.generic]) -> Iterator[list[tuple[FloatArray, BoolArray]]]:
        """Whole frames of each slot, from so many samples at once as memory likes."""
        for first in range(0, x.shape[-1], self._samples_at_once):
            part = in_unit(x[..., first : first + self._samples_at_once], UNITS[self._unit])
            yield [self._framings[slot].push(raw) for slot, raw in enumerate(part)]

    def _missing(self, samples: int) -> Iterator[list[tuple[FloatArray, BoolArray]]]:
        shape = self.batch_size, len(self.montage), samples
        return self._framed(np.broadcast_to(np.float32(np.nan), shape))

    def _run(
        self, pieces: Iterable[Sequence[tuple[FloatArray, BoolArray]]]
    ) -> tuple[IntArray, BoolArray]:
        hop, at_most = self._stepper.hop_length, self._stepper.block_frames
        found = [[np.zeros((self._stepper.num_codebooks, 0), np.int64)] for _ in self._mains]
        for piece in pieces:
            for slots, first, last in _turns([x.shape[1] // hop for x, _ in piece], at_most):
                part = self._order, slice(first * hop, last * hop)
                x = np.stack([piece[slot][0][part] for slot in slots])
                good = np.stack([piece[slot][1][part] for slot in slots])
                self._judge(np.concatenate(x))
                codes = self._stepper.encode(slots, x, usable_electrodes(good, hop))
                for slot, fresh in zip(slots, codes, strict=True):
                    found[slot].append(fresh)
        return _side_by_side([np.concatenate(parts, axis=1) for parts in found])

    def _judge(self, x: FloatArray) -> None:
        """Refuses a wrong unit after some seconds of signal; leads may be off before that."""
        if self._unit == "adc" or self._unjudged <= 0:
            return
        live = x[robust_sd(x) > 0]
        if not len(live):
            return
        self._check.push(live)
        left = self._unjudged - x.shape[1] / self._stepper.sample_rate
        if left <= 0:
            self._check.finish()
        self._unjudged = left


class UnitCheck:
    """Refuses microvolts that cannot be microvolts; looks at every block of a recording."""

    def __init__(self, unit: str) -> None:
        self._unit = unit
        self._found: list[float] = []

    def push(self, block: FloatArray) -> None:
        """Looks at (C, n) samples."""
        if self._unit != "adc" and block.shape[1] > 1:
            stride = max(1, block.shape[1] // _JUDGED_SAMPLES)
            self._found.append(float(np.median(robust_sd(block[:, ::stride]))))

    def finish(self) -> None:
        """Judges what was seen.

        Raises:
            RecordingError: if the unit must be another one.
        """
        if not self._found:
            return
        highest, typical = max(self._found), float(np.median(self._found))
        if highest == 0.0:
            raise RecordingError(
                "the signal is flat or missing on most electrodes: check the file and the leads, "
                "or give unit='adc' to tokenize it all the same"
            )
        if highest < LOWEST_SD or typical > HIGHEST_SD:
            value = highest if highest < LOWEST_SD else typical
            raise RecordingError(
                f"the signal's robust standard deviation is {value:.3g} µV, outside "
                f"{LOWEST_SD:g} to {HIGHEST_SD:g}: give the right unit= (uV, mV or V), or "
                "unit='adc' for a signal without one"
            )


def check_calibration(calibration: Calibration | None, sample_rate: float, unit: str) -> None:
    """Raises a `CalibrationError` if it is of another rate, or of counts and not of volts."""
    if calibration is None:
        return
    if not isinstance(calibration, Calibration):
        raise CalibrationError(
            f"calibration={calibration!r}: give a Calibration, from calibrate() or "
            "Calibration.load(), or one of codec.devices"
        )
    if calibration.sample_rate != sample_rate:
        raise CalibrationError(
            f"calibration is of {calibration.sample_rate:g} Hz, the signal of "
            f"{sample_rate:g} Hz: calibrate on the device as it records"
        )
    if (calibration.unit == "adc") != (unit == "adc"):
        raise CalibrationError(
            f"calibration is of a signal in {calibration.unit}, this one is in {unit}: calibrate "
            "on the device as it records"
        )


def electrode_order(montage: Montage, fixed: Montage | None) -> tuple[list[int], Montage]:
    """Rows in the order of a codec's fixed montage, and the montage that they then have."""
    if fixed is None:
        return list(range(len(montage))), montage
    if montage.assumed and len(montage) == len(fixed):
        return list(range(len(fixed))), fixed
    return montage.order_for(fixed), fixed


def whole_number(name: str, value: int) -> int:
    """The value, if it is a whole number.

    Raises:
        RecordingError: if it is not.
    """
    try:
        return operator.index(value)
    except TypeError:
        raise RecordingError(f"{name}={value!r}: give a whole number of samples") from None


def chosen_slots(mask: npt.ArrayLike | None, batch_size: int) -> list[int]:
    """The slots where a mask (B,) is true; all without one.

    Raises:
        ValueError: if it is not bool of that shape.
    """
    chosen = np.ones(batch_size, bool) if mask is None else np.asarray(mask)
    if chosen.shape != (batch_size,) or chosen.dtype != bool:
        raise ValueError(f"mask={mask!r}: give {batch_size} booleans, one for each slot")
    return np.flatnonzero(chosen).tolist()


def _turns(counts: Sequence[int], at_most: int) -> Iterator[tuple[list[int], int, int]]:
    """Slots that step together and over which of their frames, until all have done theirs."""
    first = 0
    while slots := [slot for slot, count in enumerate(counts) if count > first]:
        last = min(first + at_most, *(counts[slot] for slot in slots))
        yield slots, first, last
        first = last


def _side_by_side(each: Sequence[IntArray]) -> tuple[IntArray, BoolArray]:
    """Codes (K, t) of each slot, -1 where invalid, to (B, K, T) and validity (B, T)."""
    longest = max(codes.shape[1] for codes in each)
    joined = np.full((len(each), len(each[0]), longest), -1, np.int64)
    valid = np.zeros((len(each), longest), bool)
    for slot, codes in enumerate(each):
        joined[slot, :, : codes.shape[1]] = np.maximum(codes, 0)
        valid[slot, : codes.shape[1]] = codes[0] >= 0
    return joined, valid
