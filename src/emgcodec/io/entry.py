"""What every reader takes and gives: the caller's options, and the recordings of one file."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from emgcodec.montage import Montage, MontageError
from emgcodec.recording import Recording, RecordingError, check_sample_rate

MAX_GAP = 0.010
"""Seconds by which time stamps may stray; a longer leap means that samples are missing."""


@dataclass(frozen=True)
class Options:
    """What the caller states about a file; it overrides what the file says.

    Attributes:
        sample_rate: Hz, or None to take the file's.
        unit: ``uV``, ``mV``, ``V`` or ``adc``, or None to take the file's.
        montage: Electrode positions or a device name, or None to take the file's.
    """

    sample_rate: float | None = None
    unit: str | None = None
    montage: Montage | str | None = None

    def rate(self, stated: float | None) -> float:
        """The caller's rate, else the one `stated` by the file.

        Raises:
            RecordingError: if there is neither, or it is no possible rate.
        """
        rate = stated if self.sample_rate is None else self.sample_rate
        if rate is None:
            raise RecordingError("states no sampling rate: pass sample_rate=, in Hz")
        return check_sample_rate(rate)


@dataclass(frozen=True)
class Entry:
    """One contiguous recording in a file, not opened yet."""

    name: str
    load: Callable[[], Recording]


@contextmanager
def naming(path: Path) -> Iterator[None]:
    """Puts the file's name in front of whatever is wrong with it."""
    try:
        yield
    except (RecordingError, MontageError) as error:
        raise type(error)(f"{path}: {error}") from error
    except OSError as error:
        raise RecordingError(f"{path}: cannot be read: {error.strerror or error}") from error
