"""Recordings to MNE-Python and back."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import numpy as np
import numpy.typing as npt

from emgcodec.labels import infer_montage
from emgcodec.montage import Montage
from emgcodec.recording import Event, Recording, RecordingError

_VOLT = 1e6  # µV


@dataclass(frozen=True)
class _RawSignal:
    """A `SignalSource` over an MNE object, which reads its file as it is asked to."""

    raw: Any
    shape: tuple[int, int]

    def read(self, start: int, stop: int) -> npt.NDArray[np.float64]:
        data: npt.NDArray[np.float64] = self.raw.get_data(start=start, stop=stop)
        return data


def to_mne(recording: Recording) -> Any:
    """An `mne.io.RawArray` of the recording, with its events as annotations.

    Voltages become channels of type ``emg`` in volts. ADC counts have no unit that MNE knows: they
    become channels of type ``misc``, as they are. Positions are not carried over.

    Raises:
        RecordingError: if MNE is missing.
    """
    try:
        import mne
    except ImportError as error:
        raise RecordingError("this needs MNE-Python: pip install mne") from error
    adc = recording.unit == "adc"
    names = [f"EMG {k}" for k in range(1, recording.num_electrodes + 1)]
    info = mne.create_info(names, recording.sample_rate, "misc" if adc else "emg")
    emg = recording.emg.astype(np.float64)
    raw = mne.io.RawArray(emg if adc else emg / _VOLT, info, verbose="error")
    if recording.start_time:
        raw.set_meas_date(datetime.fromtimestamp(recording.start_time, UTC))
    events = recording.events
    raw.set_annotations(
        mne.Annotations(
            [e.start for e in events],
            [e.end - e.start for e in events],
            [f"{e.kind}/{e.label}" for e in events],
        )
    )
    return raw


def from_mne(
    raw: Any,
    *,
    picks: Any = None,
    unit: str = "V",
    montage: Montage | str | None = None,
) -> Recording:
    """A recording of channels of an MNE object; they are read from it piece by piece.

    Args:
        raw: `mne.io.Raw`.
        picks: Channels, by name, type or number; None takes those of type ``emg``.
        unit: Of the values; MNE keeps volts. ``adc`` for counts in ``misc`` channels.
        montage: Electrode positions, or None for what the names of the channels tell.

    Raises:
        RecordingError: if there is no such channel, or several recordings were joined.
    """
    try:
        chosen = raw.copy().pick("emg" if picks is None else picks)
    except ValueError as error:
        raise RecordingError(f"picks={picks!r}: {error}; name channels with picks=") from error
    notes = chosen.annotations
    if any("boundary" in str(text) for text in notes.description):
        raise RecordingError("several recordings were joined: crop it at each 'EDGE boundary'")
    first = chosen.first_time  # of what was cropped away; onsets count from before it
    begun = chosen.info["meas_date"]
    return Recording(
        _RawSignal(chosen, (len(chosen.ch_names), chosen.n_times)),
        float(chosen.info["sfreq"]),
        montage=montage or infer_montage(chosen.ch_names),
        unit=unit,
        start_time=begun.timestamp() + first if begun else 0.0,
        events=[
            _event(float(onset) - first, float(length), str(text))
            for onset, length, text in zip(
                notes.onset, notes.duration, notes.description, strict=True
            )
        ],
    )


def _event(start: float, length: float, text: str) -> Event:
    kind, slash, label = text.partition("/")
    return Event(
        start, start + length, label if slash else text, kind=kind if slash else "annotation"
    )
