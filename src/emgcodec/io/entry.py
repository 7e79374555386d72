"""What every reader takes and gives: the caller's options, and the recordings of one file."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from emgcodec.montage import Montage, MontageError
from emgcodec.recording import UNITS, Recording, RecordingError, SignalSource, check_sample_rate

MAX_GAP = 0.010
"""Seconds by which time stamps may stray; a longer leap means that samples are missing."""

MAX_HELD = 1 << 26
"""Numbers that a file may hold which cannot be read piece by piece: half a GiB of doubles."""

MAX_EVENTS = 1 << 20
"""Events of a recording, runs of its labels among them: 29 hours of typing, 10 keys a second."""

MAX_STRETCHES = 1 << 12
"""Contiguous recordings of a file, each of which is opened by itself."""

_SPELLINGS = {
    "nV": ("nv", "nanovolt", "nanovolts"),
    "uV": ("uv", "\u00b5v", "\u03bcv", "microv", "microvolt", "microvolts"),
    "mV": ("mv", "milliv", "millivolt", "millivolts"),
    "V": ("v", "volt", "volts"),
    "adc": ("adc", "count", "counts", "lsb", "raw", "a.u.", "au", "arbitrary", "unitless"),
}
_VOLTAGES = {"nV": 1e-3, **{unit: UNITS[unit] for unit in ("uV", "mV", "V")}}


@dataclass(frozen=True)
class Options:
    """What the caller states about a file; it overrides what the file says.

    Attributes:
        sample_rate: Hz, or None to take the file's.
        unit: ``uV``, ``mV``, ``V`` or ``adc``, or None to take the file's.
        montage: Electrode positions or a device name, or None to take the file's.
        dataset: Which of the signals in a file is meant, or None to find out.
    """

    sample_rate: float | None = None
    unit: str | None = None
    montage: Montage | str | None = None
    dataset: str | None = None

    def rate(self, stated: float | None) -> float:
        """The caller's rate, else the one `stated` by the file.

        Raises:
            RecordingError: if there is neither, or it is no possible rate.
        """
        rate = stated if self.sample_rate is None else self.sample_rate
        if rate is None:
            raise RecordingError("states no sampling rate: pass sample_rate=, in Hz")
        return check_sample_rate(rate)

    def scales(self, stated: Sequence[str]) -> tuple[str | None, list[float]]:
        """The unit of the signal, and what its electrodes are to be multiplied by.

        Args:
            stated: How the file names the unit of each electrode.

        Returns:
            The caller's unit, else ``uV`` where the file states voltages, ``adc`` where it states
            counts, else None.

        Raises:
            RecordingError: if the unit of only some electrodes is known.
        """
        known = [known_unit(text) for text in stated]
        if self.unit is not None or not any(known):
            return self.unit, [1.0] * len(known)
        if set(known) == {"adc"}:
            return "adc", [1.0] * len(known)
        if not _VOLTAGES.keys() >= set(known):
            raise RecordingError(
                f"states the units {sorted(set(stated))}, of which only some are voltages: "
                "choose the electrodes with dataset=, or pass unit="
            )
        return "uV", [_VOLTAGES[unit] for unit in known if unit]


@dataclass(frozen=True)
class Stamped:
    """A `SignalSource` whose file must stay as it was when it was opened.

    Attributes:
        source: The signal.
        path: Its file.
        stamp: What `file_stamp` said then.
    """

    source: SignalSource
    path: Path
    stamp: tuple[int, ...]

    @property
    def shape(self) -> tuple[int, int]:
        """(C, N)."""
        return self.source.shape

    def read(self, start: int, stop: int) -> npt.NDArray[Any]:
        """Samples start to stop, (C, stop - start)."""
        with unchanged(self.path, self.stamp):
            return self.source.read(start, stop)


@dataclass(frozen=True)
class Entry:
    """One contiguous recording in a file, not opened yet."""

    name: str
    load: Callable[[], Recording]


@contextmanager
def naming(path: Path, verb: str = "read") -> Iterator[None]:
    """Puts the file's name in front of whatever is wrong with it."""
    try:
        yield
    except (RecordingError, MontageError) as error:
        raise type(error)(f"{path}: {error}") from error
    except OSError as error:
        raise RecordingError(f"{path}: cannot be {verb}: {error.strerror or error}") from error


def file_stamp(path: Path) -> tuple[int, ...]:
    """What is another when a file is changed or replaced."""
    if "\0" in str(path):
        raise RecordingError(f"{str(path)!r}: has a null byte, which no name can: check the path")
    with naming(path):
        stat = path.stat()
    return stat.st_ino, stat.st_size, stat.st_mtime_ns


@contextmanager
def unchanged(path: Path, stamp: tuple[int, ...]) -> Iterator[None]:
    """What is read within is of the file that was opened, or an error.

    Raises:
        RecordingError: if the file is another now.
    """
    try:
        yield
    finally:
        if file_stamp(path) != stamp:
            raise RecordingError(
                f"{path}: was changed while it was read: read it again when it is finished"
            )


def known_unit(text: str) -> str | None:
    """``nV``, ``uV``, ``mV``, ``V`` or ``adc``, however it is written; None for anything else."""
    plain = text.strip(" []()").lower()
    return next((unit for unit, words in _SPELLINGS.items() if plain in words), None)


def check_held(values: int) -> None:
    """Refuses what would have to be in memory as a whole and is too much for it.

    Raises:
        RecordingError: if there are more than `MAX_HELD` numbers.
    """
    if values > MAX_HELD:
        raise RecordingError(
            f"holds {values} numbers, which its format has us read at once ({MAX_HELD} at most): "
            "save it as HDF5 or .npy, which are read piece by piece"
        )


def check_events(count: int) -> None:
    """Refuses more events than a recording can have; to be asked before they are made.

    Raises:
        RecordingError: if there are more than `MAX_EVENTS`.
    """
    what = "events or runs of labels in one recording"
    _check_most(count, MAX_EVENTS, what, "what marks them")


def check_stretches(count: int) -> None:
    """Refuses more contiguous recordings than a file can have; to be asked before they are made.

    Raises:
        RecordingError: if there are more than `MAX_STRETCHES`.
    """
    broken = "its time stamps or starts of segments"
    _check_most(count, MAX_STRETCHES, "contiguous recordings", broken)


def _check_most(count: int, most: int, what: str, broken: str) -> None:
    if count > most:
        raise RecordingError(
            f"holds at least {count} {what} ({most} at most): repair {broken}, or cut it into "
            "several files"
        )


def label_runs(
    labels: npt.NDArray[np.integer[Any]], rate: float, others: int = 0
) -> Iterator[tuple[float, float, int]]:
    """Start and end in seconds, and label, of each run of equal labels, (N,).

    Raises:
        RecordingError: if they and the `others` are too many events.
    """
    changes = labels[1:] != labels[:-1]
    check_events(others + 1 + int(np.count_nonzero(changes)))
    bounds = [0, *(np.flatnonzero(changes) + 1).tolist(), len(labels)]
    for start, stop in pairwise(bounds):
        if stop > start:
            yield start / rate, stop / rate, int(labels[start])
