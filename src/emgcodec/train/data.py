"""Training data: recordings of many devices at the codec's rate, labelled and calibrated."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from itertools import chain
from typing import Literal

import numpy as np
import numpy.typing as npt
from tqdm import tqdm

from emgcodec.calibration import Calibration
from emgcodec.codec import Codec
from emgcodec.gestures import GESTURES, canonical_gesture
from emgcodec.montage import Montage
from emgcodec.recording import Event, Recording
from emgcodec.signal import Notch, Preparation, num_resampled
from emgcodec.text import to_ids

SIMULATED = "simulated"
"""Data set of people who are from nowhere."""

UNLABELLED = -100
CUED = ("3dc", "flexemg", "myo_readings")
"""Data sets whose labels are cues, which the hand follows some 0.3 s later."""

_CUE_SECONDS = 0.5


def reaction_time(dataset: str) -> float:
    """Seconds by which hands may follow the labels of a data set."""
    return _CUE_SECONDS if dataset in CUED else 0.0


@dataclass(frozen=True)
class Segment:
    """One contiguous recording, ready for the codec.

    Attributes:
        dataset: Where it comes from, or `SIMULATED`.
        subject: Who it was, unique over data sets.
        wearing: Subject and session: electrodes stay where they are within it.
        block: The joined recording that it was part of; the first of a wearing calibrates.
        montage: Its electrodes.
        sample_rate: Hz, of the source.
        unit: Of the source.
        x: (C, N) float32 at the codec's rate.
        labels: (T,) index into `GESTURES` for each frame, or `UNLABELLED`.
        keys: (n,) label ids of the keys that were pressed, in the order of time.
        pressed: (n,) when, in seconds.
    """

    dataset: str
    subject: str
    wearing: str
    block: str
    montage: Montage
    sample_rate: float
    unit: Literal["uV", "adc"]
    x: npt.NDArray[np.float32]
    labels: npt.NDArray[np.int64]
    keys: npt.NDArray[np.int64] = field(default_factory=lambda: np.zeros(0, np.int64))
    pressed: npt.NDArray[np.float64] = field(default_factory=lambda: np.zeros(0))


def load_segments(recordings: Iterable[Recording], codec: Codec) -> list[Segment]:
    """Prepares recordings, one `Segment` for each, with progress on stderr."""
    return [prepare(r, codec) for r in tqdm(recordings, desc="loading", unit="recordings")]


def prepare(rec: Recording, codec: Codec, x: npt.NDArray[np.float32] | None = None) -> Segment:
    """A recording at the codec's rate, each electrode about its median, and its labels.

    Args:
        rec: With ``dataset``, ``subject``, ``session`` and ``recording`` in its metadata.
        codec: Whose rate and frames to take.
        x: (C, N) where to put the signal; a new array by default.
    """
    if x is None:
        length = num_resampled(rec.num_samples, rec.sample_rate, codec.sample_rate)
        x = np.empty((rec.num_electrodes, length), np.float32)
    preparation = Preparation(rec.sample_rate, codec.sample_rate, rec.num_electrodes, None)
    done = 0
    for block in chain(rec.blocks(), [None]):
        part, _ = preparation.flush() if block is None else preparation.push(block)
        x[:, done : done + part.shape[1]] = part
        done += part.shape[1]
    for row in x:
        row -= np.median(row[::16])
    dataset = str(rec.metadata.get("dataset", SIMULATED))
    subject = f"{dataset}/{rec.metadata['subject']}"
    name = str(rec.metadata.get("recording", "0"))
    keys, pressed = _keys(rec)
    return Segment(
        dataset=dataset,
        subject=subject,
        wearing=f"{subject}/{rec.metadata.get('session', '')}",
        block=name.split(".")[0],
        montage=rec.montage,
        sample_rate=rec.sample_rate,
        unit=rec.unit,
        x=x,
        labels=_frame_labels(rec, codec, codec.num_frames(x.shape[1]), dataset),
        keys=keys,
        pressed=pressed,
    )


def _keys(rec: Recording) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.float64]]:
    """Label ids and times of the keys that have a label and were pressed within the recording.

    Who typed without a keyboard typed what was prompted, at times that nobody knows: evenly.
    """
    pressed: Iterable[tuple[float, int]]
    if rec.metadata.get("condition", "on_keyboard") in ("on_keyboard", ""):
        pressed = (
            (e.start, int(key))
            for e in rec.events
            if e.kind == "key"
            for key in to_ids([e.label]).ids
        )
    else:
        pressed = (
            (e.start + (e.end - e.start) * (i + 0.5) / len(keys), int(key))
            for e in rec.events
            if e.kind == "prompt"
            for keys in [to_ids(e.label).ids]
            for i, key in enumerate(keys)
        )
    found = sorted((time, key) for time, key in pressed if 0 <= time < rec.duration)
    times, ids = zip(*found, strict=True) if found else ((), ())
    return np.array(ids, np.int64), np.array(times, np.float64)


def _frame_labels(rec: Recording, codec: Codec, frames: int, dataset: str) -> npt.NDArray[np.int64]:
    """The label at each frame's last sample; what follows a cue too closely has none."""
    labels = np.full(frames, UNLABELLED)
    for gesture, during in gesture_frames(rec.events, frames, codec.frame_rate, dataset):
        labels[during] = gesture
    return labels


def gesture_frames(
    events: Iterable[Event], frames: int, frame_rate: float, dataset: str
) -> Iterator[tuple[int, npt.NDArray[np.bool_]]]:
    """Each event that is a gesture: its index in `GESTURES`, and the frames (T,) that show it.

    A frame counts by its last sample, and not where it follows a cue too closely.
    """
    time = (np.arange(frames) + 1) / frame_rate
    for event in events:
        name = canonical_gesture(event.label)
        if event.kind == "gesture" and name is not None:
            yield GESTURES.index(name), event.during(time, reaction_time(dataset))


def first_blocks(segments: Iterable[Segment]) -> dict[str, list[Segment]]:
    """For each wearing the segments of its first block, which calibrates it."""
    found: dict[str, list[Segment]] = defaultdict(list)
    for segment in segments:
        group = found[segment.wearing]
        if not group or group[0].block == segment.block:
            group.append(segment)
    return found


def calibrations(
    segments: Sequence[Segment], codec: Codec, seconds: float | None = None
) -> dict[str, Calibration]:
    """For each wearing, a calibration on its first block, unlabelled, or on that long of it."""
    return {
        wearing: _calibrated(group, codec, seconds)
        for wearing, group in tqdm(first_blocks(segments).items(), "calibrating", unit="wearings")
    }


def usual_calibrations(
    segments: Iterable[Segment], codec: Codec, seconds: float | None = None
) -> dict[str, Calibration]:
    """For each device, a calibration on the first block of everybody who wore it.

    Simulated people wear none. A name that several devices go by has none.

    Args:
        segments: Of real people or not.
        codec: Whose features.
        seconds: Longest part of each segment to use.

    Returns:
        By name of the montage.
    """
    worn: dict[str, list[Segment]] = defaultdict(list)
    for group in first_blocks(s for s in segments if s.dataset != SIMULATED).values():
        for s in group:
            worn[s.montage.name].append(s)
    return {
        device: replace(
            _calibrated(group, codec, seconds),
            sample_rate=group[0].sample_rate,
            unit=group[0].unit,
        )
        for device, group in sorted(worn.items())
        if len({(s.montage.electrodes, s.sample_rate, s.unit) for s in group}) == 1
    }


def _calibrated(group: Iterable[Segment], codec: Codec, seconds: float | None) -> Calibration:
    longest = None if seconds is None else round(seconds * codec.sample_rate)
    return codec.calibrate(
        Recording(s.x[:, :longest], codec.sample_rate, montage=s.montage, unit="adc") for s in group
    )


def is_calibration(segment: Segment, segments: Sequence[Segment]) -> bool:
    """Whether the segment belongs to the block that calibrates its wearing."""
    return segment.block == next(s.block for s in segments if s.wearing == segment.wearing)


def as_calibrated(
    x: npt.NDArray[np.float32], calibration: Calibration | None, codec: Codec
) -> npt.NDArray[np.float32]:
    """The signal as the calibration will have it: without the mains that it found."""
    if calibration is None or calibration.mains is None:
        return x
    return Notch(calibration.mains, codec.sample_rate).push(x).astype(np.float32)
