"""What calibrates the recordings of a session: the first seconds of it, unlabelled."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING

from emgcodec.calibration import Calibration
from emgcodec.recording import Recording

if TYPE_CHECKING:
    from emgcodec.codec import Codec


@dataclass
class Session:
    """The recordings of a person between putting the electrodes on and taking them off.

    Attributes:
        codec: To calibrate.
        first: Recordings that calibrate it.
    """

    codec: Codec
    first: list[Recording] = field(default_factory=list)

    @cached_property
    def calibration(self) -> Calibration:
        """On the first recordings.

        Raises:
            CalibrationError: if they hold no signal.
        """
        return self.codec.calibrate(self.first)

    def calibrates(self, rec: Recording) -> bool:
        """Whether a recording is one of the first."""
        return any(rec.metadata == each.metadata for each in self.first)


def session_of(rec: Recording) -> tuple[object, object]:
    """Who and when, as far as the file says."""
    return rec.metadata.get("subject"), rec.metadata.get("session")


def find_sessions(
    recordings: Iterable[Recording], codec: Codec, seconds: float
) -> dict[tuple[object, object], Session]:
    """Sessions of a file, with so many seconds of first recordings, or a little more."""
    found: dict[tuple[object, object], Session] = defaultdict(lambda: Session(codec))
    with suppress(Exception):  # what cannot be read is named when its turn comes
        for rec in recordings:
            first = found[session_of(rec)].first
            if sum(each.duration for each in first) < seconds:
                first.append(rec)
    return found
