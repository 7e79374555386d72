"""Recordings of a session: the first seconds, which calibrate it, and what they are cut into."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator
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
        first: Beginnings of recordings, which calibrate it.
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
        """Whether a recording, or one that was cropped, has any of the first seconds."""
        return any(
            rec.metadata == each.metadata and rec.start_time < each.start_time + each.duration
            for each in self.first
        )


def session_of(rec: Recording) -> tuple[object, object]:
    """Who and when, as far as the file says."""
    return rec.metadata.get("subject"), rec.metadata.get("session")


def find_sessions(
    recordings: Iterable[Recording], codec: Codec, seconds: float
) -> dict[tuple[object, object], Session]:
    """Sessions of a file, with so many seconds of first recordings."""
    found: dict[tuple[object, object], Session] = defaultdict(lambda: Session(codec))
    with suppress(OSError, ValueError):  # what cannot be read is named when its turn comes
        for rec in recordings:
            first = found[session_of(rec)].first
            if (left := seconds - sum(each.duration for each in first)) > 0:
                first.append(rec.crop(0.0, left))
    return found


def gesture_parts(rec: Recording) -> Iterator[tuple[str, Recording]]:
    """A recording of several gestures, gesture by gesture, without what lies between; or as it is.

    Gestures follow one another in an order that somebody chose, and codes know what came before:
    in a recording of its own each tells of nothing but itself.

    Yields:
        Names, with the second at which a part begins, and recordings.
    """
    name = str(rec.metadata["recording"])
    held = [e for e in rec.events if e.kind == "gesture" and e.end > e.start]
    if len({event.label for event in held}) < 2:
        yield name, rec
        return
    for event in held:
        part = rec.crop(event.start, event.end)
        yield f"{name}@{part.start_time - rec.start_time:.3f}", part
