"""Signals from the Lab Streaming Layer as they come; needs ``emgcodec[lsl]``."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import numpy.typing as npt

from emgcodec.recording import RecordingError, check_sample_rate

JITTER_SECONDS = 0.2
"""Time stamps that are off by less are jitter; by more, samples were lost."""

_RESOLVE_SECONDS = 10.0
_LONGEST_JUMP = 3600.0  # seconds; after a longer one the sender's clock was set anew
_WAIT_SECONDS = 0.2  # for samples, so that an interrupt is heard


class Inlet:
    """One stream of the Lab Streaming Layer, found by its name.

    Attributes:
        sample_rate: Hz, as the sender states it.
        num_electrodes: Its channels.

    Raises:
        RecordingError: if pylsl is missing, or there is no regular stream of numbers of the name.
    """

    def __init__(self, name: str) -> None:
        try:
            import pylsl
        except (ImportError, RuntimeError) as error:  # RuntimeError: without its C library
            raise RecordingError("LSL streams need pylsl: pip install 'emgcodec[lsl]'") from error
        found = pylsl.resolve_byprop("name", name, timeout=_RESOLVE_SECONDS)
        if len(found) != 1 or found[0].channel_format() == pylsl.cf_string:
            kinds = [f"{i.channel_count()} x {i.type()}, {i.hostname()}" for i in found]
            raise RecordingError(f"lsl={name!r}: found {kinds}, need one stream of numbers")
        self.sample_rate = check_sample_rate(found[0].nominal_srate())
        self.num_electrodes = int(found[0].channel_count())
        self._inlet: Any = pylsl.StreamInlet(found[0])
        self._ended: type[Exception] = pylsl.util.LostError
        self._inlet.open_stream(timeout=_RESOLVE_SECONDS)

    def blocks(self, num_samples: int) -> Iterator[npt.NDArray[Any] | int]:
        """Samples (C, n), at most so many at a time, and lengths of gaps, until the sender ends.

        A sender that is interrupted is waited for. Where time stamps jump back the samples are
        taken as they come.
        """
        period, last = 1 / self.sample_rate, None
        while True:
            try:
                rows, stamps = self._inlet.pull_chunk(_WAIT_SECONDS, num_samples)
            except self._ended:
                return
            if not stamps:
                continue
            late = np.diff(stamps, prepend=stamps[0] - period if last is None else last) - period
            jumps = np.flatnonzero((late > JITTER_SECONDS) & (late <= _LONGEST_JUMP))
            first, *others = np.split(np.asarray(rows), jumps)
            yield first.T
            for jump, part in zip(late[jumps], others, strict=True):
                yield round(jump * self.sample_rate)
                yield part.T
            last = stamps[-1]
