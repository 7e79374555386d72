"""Training data: prepared recordings of many devices in memory, and random windows of them."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from tqdm import tqdm

from emgcodec.calibration import Calibration
from emgcodec.codec import Codec
from emgcodec.gestures import GESTURES, canonical_gesture
from emgcodec.montage import Electrode, Montage
from emgcodec.recording import Recording
from emgcodec.signal import Notch, Preparation

UNLABELLED = -100
CUED = ("3dc", "flexemg", "myo_readings")
"""Data sets whose labels are cues, which the hand follows some 0.3 s later."""

_CUE_SECONDS = 0.5


@dataclass(frozen=True)
class Segment:
    """One contiguous recording, ready for the codec.

    Attributes:
        dataset: Where it comes from; ``simulated`` if from nowhere.
        subject: Who it was, unique over data sets.
        wearing: Subject and session: electrodes stay where they are within it.
        block: The joined recording that it was part of; the first of a wearing calibrates.
        montage: Its electrodes.
        x: (C, N) float32 at the codec's rate.
        labels: (T,) index into `GESTURES` for each frame, or `UNLABELLED`.
    """

    dataset: str
    subject: str
    wearing: str
    block: str
    montage: Montage
    x: npt.NDArray[np.float32]
    labels: npt.NDArray[np.int64]


@dataclass(frozen=True)
class Batch:
    """Windows of one electrode count: what `Codec.forward` takes, and (B, T) frame labels.

    `classes` is a (B, V) mask of the gestures that each item's data set has.
    """

    x: Tensor
    lengths: Tensor
    mask: Tensor
    montages: list[Montage]
    calibrations: list[Calibration | None]
    labels: Tensor
    classes: Tensor


def load_segments(recordings: Iterable[Recording], codec: Codec) -> list[Segment]:
    """Prepares recordings, one `Segment` for each, with progress on stderr."""
    return [_segment(r, codec) for r in tqdm(recordings, desc="loading", unit="recordings")]


def _segment(rec: Recording, codec: Codec) -> Segment:
    preparation = Preparation(rec.sample_rate, codec.sample_rate, rec.num_electrodes, None)
    parts = [preparation.push(block)[0] for block in rec.blocks()]
    x = np.concatenate([*parts, preparation.flush()[0]], axis=1)
    dataset = str(rec.metadata.get("dataset", "simulated"))
    subject = f"{dataset}/{rec.metadata['subject']}"
    name = str(rec.metadata.get("recording", "0"))
    return Segment(
        dataset=dataset,
        subject=subject,
        wearing=f"{subject}/{rec.metadata.get('session', '')}",
        block=name.split(".")[0],
        montage=rec.montage,
        x=x - np.median(x[:, ::16], axis=1, keepdims=True),
        labels=_frame_labels(rec, codec, codec.num_frames(x.shape[1]), dataset in CUED),
    )


def _frame_labels(rec: Recording, codec: Codec, frames: int, cued: bool) -> npt.NDArray[np.int64]:
    """The label at each frame's last sample; what follows a cue too closely has none."""
    time = (np.arange(frames) + 1) / codec.frame_rate
    labels = np.full(frames, UNLABELLED)
    for event in rec.events:
        name = canonical_gesture(event.label)
        if event.kind == "gesture" and name is not None:
            delay = _CUE_SECONDS if cued else 0.0
            labels[(time > event.start + delay) & (time <= event.end)] = GESTURES.index(name)
    return labels


def calibrations(segments: Sequence[Segment], codec: Codec) -> dict[str, Calibration]:
    """For each wearing, a calibration on its first block, unlabelled."""
    first: dict[str, list[Segment]] = defaultdict(list)
    for segment in segments:
        group = first[segment.wearing]
        if not group or group[0].block == segment.block:
            group.append(segment)
    return {
        wearing: codec.calibrate(
            Recording(s.x, codec.sample_rate, montage=s.montage, unit="adc") for s in group
        )
        for wearing, group in tqdm(first.items(), desc="calibrating", unit="wearings")
    }


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


class WindowSampler:
    """Endless random batches: data sets, then people, then recordings, each alike.

    Args:
        segments: To draw from.
        calibrations: By wearing.
        codec: Whose frames they are for.
        seconds: Longest window.
        batch_size: Windows of one batch; they share one electrode count.
        weights: Chance of each data set.
        calibrated: Share of windows that start from the wearing's calibration.
        seed: Of all draws.
    """

    def __init__(
        self,
        segments: Sequence[Segment],
        calibrations: dict[str, Calibration],
        codec: Codec,
        *,
        seconds: float,
        batch_size: int,
        weights: dict[str, float],
        calibrated: float = 0.6,
        seed: int = 0,
    ) -> None:
        self._rng = np.random.default_rng(seed)
        self._calibrations = calibrations
        self._codec = codec
        self._length = codec.num_frames(round(seconds * codec.sample_rate)) * codec.hop_length
        self._batch_size = batch_size
        self._calibrated = calibrated
        self._people: dict[tuple[str, int], dict[str, list[Segment]]] = {}
        self._classes: dict[str, npt.NDArray[np.bool_]] = {}
        for s in segments:
            group = self._people.setdefault((s.dataset, len(s.montage)), {})
            group.setdefault(s.subject, []).append(s)
            known = self._classes.setdefault(s.dataset, np.zeros(len(GESTURES), bool))
            known[s.labels[s.labels >= 0]] = True
        groups = list(self._people)
        chance = np.array([weights[d] / sum(d == other for other, _ in groups) for d, _ in groups])
        self._groups, self._chance = groups, chance / chance.sum()

    def __iter__(self) -> Iterator[Batch]:
        while True:
            yield self._draw()

    def _draw(self) -> Batch:
        rng = self._rng
        people = self._people[self._groups[rng.choice(len(self._groups), p=self._chance)]]
        names = list(people)
        chosen = []
        for _ in range(self._batch_size):
            segments = people[names[rng.integers(len(names))]]
            chosen.append(segments[rng.integers(len(segments))])
        length = min(self._length, max(s.x.shape[1] for s in chosen))
        hop = self._codec.hop_length
        electrodes = len(chosen[0].montage)
        x = np.zeros((len(chosen), electrodes, length), np.float32)
        labels = np.full((len(chosen), -(-length // hop)), UNLABELLED)
        lengths, montages, starts = [], [], []
        for i, s in enumerate(chosen):
            last = max(0, s.x.shape[1] - length) // hop
            frame = int(rng.integers(last + 1))
            known = self._calibrations[s.wearing] if rng.random() < self._calibrated else None
            part = as_calibrated(s.x[:, frame * hop :][:, :length], known, self._codec)
            x[i, :, : part.shape[1]] = part * 10.0 ** rng.normal(0, 0.05, (electrodes, 1))
            frames = -(-part.shape[1] // hop)
            labels[i, :frames] = s.labels[frame : frame + frames]
            lengths.append(part.shape[1])
            montages.append(rotated(s.montage, rng.normal(0, 12.0)))
            starts.append(known and replace(known, montage=montages[-1]))
        keep = rng.random((len(chosen), electrodes)) > 0.1 * (rng.random((len(chosen), 1)) < 0.5)
        keep[:, rng.integers(electrodes)] = True
        return Batch(
            x=torch.from_numpy(x),
            lengths=torch.tensor(lengths),
            mask=torch.from_numpy(keep),
            montages=montages,
            calibrations=starts,
            labels=torch.from_numpy(labels),
            classes=torch.from_numpy(np.stack([self._classes[s.dataset] for s in chosen])),
        )


def rotated(montage: Montage, degrees: float) -> Montage:
    """The montage turned around the limb."""
    electrodes = tuple(Electrode(e.band, e.angle + degrees, e.row) for e in montage.electrodes)
    return Montage(montage.name, electrodes, montage.assumed)
