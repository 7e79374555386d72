"""`Recording`: one contiguous stretch of EMG, in memory or read block by block from a file."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from fractions import Fraction
from typing import Any, Literal, Protocol, TypeVar, runtime_checkable

import numpy as np
import numpy.typing as npt

from emgcodec.montage import MAX_ELECTRODES, Montage, as_montage, resolve_montage

BLOCK_SECONDS = 60.0
MAX_BLOCK_VALUES = 1 << 24
MIN_SAMPLE_RATE, MAX_SAMPLE_RATE = 100.0, 1e6
UNITS: dict[str, float] = {"uV": 1.0, "mV": 1e3, "V": 1e6, "adc": 1.0}
"""Factor to microvolt; ``adc`` counts have none and stay as they are."""

FloatArray = npt.NDArray[np.float32]
_T = TypeVar("_T")


def one_ahead(items: Iterator[_T]) -> Iterator[_T]:
    """The items; while one is worked on, the next is made in a thread."""
    with ThreadPoolExecutor(1) as thread:
        coming = thread.submit(next, items, None)
        while (item := coming.result()) is not None:
            coming = thread.submit(next, items, None)
            yield item


class RecordingError(ValueError):
    """A signal, rate, unit or file that cannot be a recording."""


@dataclass(frozen=True)
class Event:
    """Something that happened: a gesture, a key press, a prompt.

    Attributes:
        start: Seconds since the first sample of the recording.
        end: Seconds since the first sample; equal to `start` for an instant.
        label: What it was, in the words of its source.
        score: Confidence from 0 to 1 where a model said so, else None.
        kind: What sort of event: ``gesture``, ``key``, ``prompt``, ...
    """

    start: float
    end: float
    label: str
    score: float | None = None
    kind: str = "gesture"

    def during(
        self, times: npt.NDArray[np.float64], reaction: float = 0.0
    ) -> npt.NDArray[np.bool_]:
        """Which of `times` are within the event, or after `reaction` seconds of it.

        Args:
            times: (T,) when frames end, in seconds since the first sample of the recording.
            reaction: Seconds after its start that do not count, where it is a cue.
        """
        return (times > self.start + reaction) & (times <= self.end)

    def __str__(self) -> str:
        score = "" if self.score is None else f"  {self.score:.2f}"
        return f"{self.start:8.2f} - {self.end:8.2f} s  {self.label}{score}"


@runtime_checkable
class SignalSource(Protocol):
    """A signal that stays in its file until it is asked for."""

    @property
    def shape(self) -> tuple[int, int]:
        """(C, N)."""

    def read(self, start: int, stop: int) -> npt.NDArray[Any]:
        """Samples start to stop, (C, stop - start)."""


def check_sample_rate(sample_rate: float) -> float:
    """The rate as a float.

    Raises:
        RecordingError: if it is not a number from 100 Hz to 1 MHz.
    """
    if isinstance(sample_rate, bool) or not isinstance(
        sample_rate, int | float | np.integer | np.floating
    ):
        raise RecordingError(
            f"sample_rate={sample_rate!r} is not a number: give it in Hz, for example 2000"
        )
    if not MIN_SAMPLE_RATE <= sample_rate <= MAX_SAMPLE_RATE:
        raise RecordingError(
            f"sample_rate={str(sample_rate)[:40]} Hz: EMG needs a finite rate of at least "
            f"{MIN_SAMPLE_RATE:g} Hz and at most {MAX_SAMPLE_RATE:g}; check whether it was given "
            "in kHz or as a period"
        )
    return float(sample_rate)


def exact_rate(sample_rate: float) -> Fraction:
    """The rate as the fraction that its decimal form means (1259.26 is 62963/50)."""
    return Fraction(repr(float(sample_rate))).limit_denominator(1_000_000)


def check_emg(emg: Any) -> npt.NDArray[Any]:
    """A real (C, N) array with 1 to 128 rows; its dtype is kept.

    Raises:
        RecordingError: naming what is wrong with it and how to put it right.
    """
    array = np.asarray(emg)
    if array.dtype.kind not in "iuf":
        raise RecordingError(
            f"emg has dtype {array.dtype}: give real numbers (integers or floats), "
            "not complex, boolean, object or text"
        )
    if array.ndim != 2:
        raise RecordingError(
            f"emg has shape {array.shape}: give (electrodes, samples); "
            "one electrode is x[None], a batch goes item by item"
        )
    electrodes = array.shape[0]
    if electrodes == 0:
        raise RecordingError(f"emg has shape {array.shape}: there is no electrode in it")
    if electrodes > MAX_ELECTRODES:
        raise RecordingError(
            f"emg has shape {array.shape}: electrodes first; {electrodes} rows are more than "
            f"{MAX_ELECTRODES} electrodes, so pass emg.T if samples come first"
        )
    return array


def in_unit(samples: npt.NDArray[Any], factor: float) -> FloatArray:
    """Samples times the factor of their unit, in float32."""
    if factor != 1.0:
        samples = np.multiply(samples, factor, dtype=np.float64)  # float16 would overflow
    with np.errstate(over="ignore"):  # what does not fit float32 is inf: repair sees it
        return np.ascontiguousarray(samples, dtype=np.float32)


def _part(source: SignalSource | npt.NDArray[Any], start: int, stop: int) -> npt.NDArray[Any]:
    return source[:, start:stop] if isinstance(source, np.ndarray) else source.read(start, stop)


@dataclass(frozen=True)
class _Rows:
    """A `SignalSource` with some rows of another, in another order."""

    source: SignalSource | npt.NDArray[Any]
    order: tuple[int, ...]

    @property
    def shape(self) -> tuple[int, int]:
        return len(self.order), self.source.shape[1]

    def read(self, start: int, stop: int) -> npt.NDArray[Any]:
        part: npt.NDArray[Any] = _part(self.source, start, stop)[list(self.order)]
        return part


class Recording:
    """One contiguous stretch of surface EMG.

    Signals are float32 in microvolts, or unit-less ADC counts where the source states no unit.

    Args:
        emg: (C, N) array, or a `SignalSource` for files too big to load.
        sample_rate: Samples per second, at least 100 Hz.
        montage: Electrode positions, a device name, or None for an assumed ring.
        unit: Unit of `emg`: ``uV``, ``mV``, ``V`` (both become microvolts) or ``adc``.
        start_time: Time of the first sample, in unix seconds, or 0.
        events: What happened during the recording, in seconds since its first sample.
        metadata: Free facts about it: subject, session, device, licence, ...

    Raises:
        RecordingError: if shape, dtype, rate, unit or time cannot be.
        MontageError: if the montage has another number of electrodes.
    """

    def __init__(
        self,
        emg: npt.ArrayLike | SignalSource,
        sample_rate: float,
        *,
        montage: Montage | str | None = None,
        unit: str = "uV",
        start_time: float = 0.0,
        events: Sequence[Event] = (),
        metadata: Mapping[str, Any] | None = None,
    ) -> None:
        if unit not in UNITS:
            raise RecordingError(f"unit={unit!r} is unknown: choose from {list(UNITS)}")
        self.sample_rate = check_sample_rate(sample_rate)
        self.unit: Literal["uV", "adc"] = "adc" if unit == "adc" else "uV"
        self._factor = UNITS[unit]
        self._source: SignalSource | npt.NDArray[Any]
        self._source = emg if isinstance(emg, SignalSource) else check_emg(emg)
        shape = self._source.shape
        if not 1 <= shape[0] <= MAX_ELECTRODES:
            check_emg(np.empty((shape[0], 0)))  # the same words for files as for arrays
        self.num_electrodes, self.num_samples = int(shape[0]), int(shape[1])
        self.montage = resolve_montage(montage, self.num_electrodes)
        self.start_time = float(start_time)
        if not math.isfinite(self.start_time):
            raise RecordingError(f"start_time={start_time}: give unix seconds, or 0")
        self.events = tuple(events)
        self.metadata: dict[str, Any] = dict(metadata or {})

    @property
    def duration(self) -> float:
        """Length in seconds."""
        return self.num_samples / self.sample_rate

    @property
    def emg(self) -> FloatArray:
        """The whole signal, (C, N) float32 in µV or ADC counts; reads the file if it must."""
        return self.read(0, self.num_samples)

    def read(self, start: int, stop: int) -> FloatArray:
        """Samples `start` to `stop`, (C, stop - start) float32 in µV or ADC counts."""
        part = _part(self._source, start, min(stop, self.num_samples))
        return in_unit(part, self._factor)

    def blocks(self, seconds: float = BLOCK_SECONDS) -> Iterator[FloatArray]:
        """The signal in blocks of `seconds`, each (C, n): constant memory for any length.

        While one is worked on, the next is read from its file in a thread.
        """
        size = round(seconds * self.sample_rate)
        size = max(1, min(size, MAX_BLOCK_VALUES // self.num_electrodes))
        starts = range(0, self.num_samples, size)
        blocks = (self.read(start, start + size) for start in starts)
        at_hand = isinstance(self._source, np.ndarray) or len(starts) < 2
        yield from blocks if at_hand else one_ahead(blocks)

    def watch(self, wrap: Callable[[SignalSource], SignalSource]) -> None:
        """Puts something between the recording and the file that its signal stays in, if any."""
        if not isinstance(self._source, np.ndarray):
            self._source = wrap(self._source)

    def with_montage(self, montage: Montage | str) -> Recording:
        """The same recording with other electrode positions; the signal is shared.

        Raises:
            MontageError: if the montage has another number of electrodes.
        """
        twin = self._twin()
        twin.montage = resolve_montage(montage, self.num_electrodes)
        return twin

    def remap(self, montage: Montage | str) -> Recording:
        """The electrodes of another montage, in its order; others are left out.

        Raises:
            MontageError: if some of its positions are missing here, listing them.
        """
        target = as_montage(montage)
        order = tuple(self.montage.order_for(target, spare=True))
        twin = self._twin()
        twin._source = _Rows(self._source, order)
        twin.num_electrodes, twin.montage = len(order), target
        return twin

    def _twin(self) -> Recording:
        """The same, with metadata of its own."""
        twin = copy.copy(self)
        twin.metadata = dict(self.metadata)
        return twin

    def crop(self, start: float, end: float) -> Recording:
        """The stretch from `start` to `end` seconds, with its events shifted and clipped."""
        first = max(0, round(start * self.sample_rate))
        last = min(self.num_samples, round(end * self.sample_rate))
        offset, stop = first / self.sample_rate, max(first, last) / self.sample_rate
        events = [
            replace(e, start=max(e.start, offset) - offset, end=min(e.end, stop) - offset)
            for e in self.events
            if max(e.start, offset) < min(e.end, stop) or offset <= e.start < stop
        ]
        return Recording(
            self.read(first, max(first, last)),
            self.sample_rate,
            montage=self.montage,
            unit=self.unit,
            start_time=self.start_time + offset,
            events=events,
            metadata=self.metadata,
        )

    def __repr__(self) -> str:
        return (
            f"Recording({self.num_electrodes} electrodes ({self.montage.name}), "
            f"{self.duration:.2f} s at {self.sample_rate:g} Hz, {self.unit}, "
            f"{len(self.events)} events)"
        )
