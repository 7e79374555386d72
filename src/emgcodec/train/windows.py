"""Random windows of segments: what each step of a training sees, by its number alone."""

from __future__ import annotations

import bisect
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, replace

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from emgcodec.calibration import Calibration
from emgcodec.codec import Codec
from emgcodec.gestures import GESTURES, own_head
from emgcodec.montage import Montage
from emgcodec.train.augment import Augmented, augment
from emgcodec.train.data import SIMULATED, UNLABELLED, Segment, as_calibrated
from emgcodec.train.recipe import AugmentRecipe, DataRecipe

_SIZES = (16, 32, 64, 128)
"""Electrode counts up to which montages share a batch: below the first, the transformer costs so
much more than electrodes do that filling up is cheap, and a batch of many data sets worth it."""


@dataclass(frozen=True)
class Keys:
    """What was typed in each window of a batch.

    Attributes:
        labels: (n,) of all windows, one after the other.
        counts: (B,) how many are of each window.
        first: (B,) the first frame in which they may come out.
        stop: (B,) the frame after the last one.
    """

    labels: Tensor
    counts: Tensor
    first: Tensor
    stop: Tensor

    def inside(self, frames: int) -> Tensor:
        """(B, frames) in which they may come out."""
        frame = torch.arange(frames, device=self.first.device)
        return (frame >= self.first[:, None]) & (frame < self.stop[:, None])

    def to(self, device: torch.device) -> Keys:
        """The same, with its tensors there."""
        return Keys(*(getattr(self, f.name).to(device) for f in fields(self)))


@dataclass(frozen=True)
class Batch:
    """Windows: what `Codec.forward` takes, and (B, T) frame labels.

    `datasets` says where each item comes from; `classes` is a (B, V) mask of the gestures that are
    known there; `hidden` (B, T, F), or None, the features to hide; `keys`, or None, what was typed.
    """

    x: Tensor
    lengths: Tensor
    mask: Tensor
    montages: list[Montage]
    calibrations: list[Calibration | None]
    labels: Tensor
    datasets: list[str]
    classes: Tensor
    hidden: Tensor | None = None
    keys: Keys | None = None

    def asked(self, head: str) -> Tensor:
        """(B,) items that a head is for: all, or those of the data set whose own it is."""
        own = [own_head(dataset) == head for dataset in self.datasets]
        everything = not head.startswith(own_head(""))
        return torch.tensor(own, device=self.labels.device) | everything

    def unhidden(self) -> Batch:
        """The same with all features."""
        return replace(self, hidden=None)

    def to(self, device: torch.device) -> Batch:
        """The same, with its tensors there."""
        return replace(
            self,
            x=self.x.to(device),
            mask=self.mask.to(device),
            labels=self.labels.to(device),
            classes=self.classes.to(device),
            hidden=None if self.hidden is None else self.hidden.to(device),
            keys=None if self.keys is None else self.keys.to(device),
        )


@dataclass(frozen=True)
class Window:
    """One item of a batch.

    Attributes:
        signal: What the codec hears.
        calibration: What it starts from; None for a cold start.
        labels: (T,) index into `GESTURES` for each frame, or `UNLABELLED`.
        dataset: Where it comes from.
        classes: (V,) the gestures that its data set has.
    """

    signal: Augmented
    calibration: Calibration | None
    labels: npt.NDArray[np.int64]
    dataset: str
    classes: npt.NDArray[np.bool_]


@dataclass(frozen=True)
class _Bucket:
    """Segments whose windows fit into one batch: by data set, then by person."""

    seconds: float
    batch_size: int
    chance: npt.NDArray[np.float64]
    people: list[list[list[Segment]]]


class GestureWindows:
    """Batches by number: data sets by weight, then people, then recordings, each alike.

    The windows of one step are much alike in electrodes and length, so that little is filled up.
    Which they are depends on the seed, the step and the window's number in the step, not on how
    many processes share them.

    Args:
        segments: To draw from.
        calibrations: By wearing.
        devices: Calibrations by name of the montage.
        codec: Whose frames they are for.
        data: Weights, sizes and shares of the ways to start.
        recipe: What is done to each window.
        seed: Of all draws.
    """

    def __init__(
        self,
        segments: Sequence[Segment],
        calibrations: Mapping[str, Calibration],
        devices: Mapping[str, Calibration],
        codec: Codec,
        data: DataRecipe,
        recipe: AugmentRecipe,
        seed: int = 0,
    ) -> None:
        self._calibrations, self._devices = calibrations, devices
        self._calibrated, self._informed = data.calibrated, data.calibrated + data.usual
        self._augment = recipe
        self._codec = codec
        self._seed = seed
        self._classes: dict[str, npt.NDArray[np.bool_]] = {}
        groups: dict[tuple[int, bool], dict[str, dict[str, list[Segment]]]] = {}
        seconds: dict[tuple[int, bool, str], float] = defaultdict(float)
        for s in segments:
            size = _SIZES[bisect.bisect_left(_SIZES, len(s.montage))]
            key = size, s.x.shape[1] <= data.seconds / 2 * codec.sample_rate
            groups.setdefault(key, {}).setdefault(s.dataset, {}).setdefault(s.subject, []).append(s)
            seconds[*key, s.dataset] += s.x.shape[1]
            known = self._classes.setdefault(s.dataset, np.zeros(len(GESTURES), bool))
            known[s.labels[s.labels >= 0]] = True
        chance = np.zeros(len(groups))
        self._buckets: list[_Bucket] = []
        for i, (key, members) in enumerate(groups.items()):
            size, short = key
            # A data set that lies in several buckets shares its weight by their signal.
            parts = np.array([
                data.weights[d] * seconds[*key, d]
                / sum(t for (*_, other), t in seconds.items() if other == d)
                for d in members
            ])  # fmt: skip
            chance[i] = parts.sum()
            self._buckets.append(
                _Bucket(
                    data.seconds / (1 + short),
                    data.batch_size * (1 + short),
                    parts / parts.sum() if parts.sum() else parts,
                    [list(people.values()) for people in members.values()],
                )
            )
        self._chance = chance / chance.sum()

    def batch(self, step: int, part: int = 0) -> Batch:
        """The windows of one part of a step.

        Args:
            step: Which step.
            part: Which of its batches: each process has its own, and each that is accumulated.
        """
        rng = np.random.default_rng([self._seed, step])
        bucket = self._buckets[rng.choice(len(self._buckets), p=self._chance)]
        numbers = range(part * bucket.batch_size, (part + 1) * bucket.batch_size)
        drawn = [self._draw(bucket, np.random.default_rng([self._seed, step, n])) for n in numbers]
        return collate(drawn, self._codec)

    def _draw(self, bucket: _Bucket, rng: np.random.Generator) -> Window:
        people = bucket.people[rng.choice(len(bucket.people), p=bucket.chance)]
        person = people[rng.integers(len(people))]
        s = person[rng.integers(len(person))]
        rate, hop = self._codec.sample_rate, self._codec.hop_length
        length = min(round(bucket.seconds * rate), s.x.shape[1])
        start = int(rng.integers(s.x.shape[1] - length + 1))
        known, chance = None, rng.random()
        if chance < self._calibrated:
            known = self._calibrations[s.wearing]
        elif chance < self._informed and s.dataset != SIMULATED:
            known = self._devices.get(s.montage.name)
        late = rng.normal(0.0, self._augment.label_jitter) * rate
        frame = round((start + late) / hop) + np.arange(self._codec.num_frames(length))
        inside = (frame >= 0) & (frame < len(s.labels))
        labels = np.where(inside, s.labels[frame.clip(0, len(s.labels) - 1)], UNLABELLED)
        part = slice(start, start + length)
        signal = heard(self._codec, s, part, known, self._augment, rng)
        return Window(signal, known, labels, s.dataset, self._classes[s.dataset])


def heard(
    codec: Codec,
    segment: Segment,
    part: slice,
    calibration: Calibration | None,
    recipe: AugmentRecipe,
    rng: np.random.Generator,
) -> Augmented:
    """Some samples of a segment as the codec gets them: calibrated, if so, and augmented."""
    return augment(
        np.array(as_calibrated(segment.x[:, part], calibration, codec)),
        segment.montage,
        recipe,
        rng,
        sample_rate=codec.sample_rate,
        hop_length=codec.hop_length,
        num_features=codec.frontend.num_features,
    )


def collate(windows: Sequence[Window], codec: Codec) -> Batch:
    """One batch, filled up to the longest window and the most electrodes."""
    count = len(windows)
    electrodes = max(len(w.signal.x) for w in windows)
    length = max(w.signal.x.shape[1] for w in windows)
    frames, features = codec.num_frames(length), codec.frontend.num_features
    x = np.zeros((count, electrodes, length), np.float32)
    mask = np.zeros((count, electrodes), bool)
    hidden = np.zeros((count, frames, features), bool)
    labels = np.full((count, frames), UNLABELLED)
    for i, w in enumerate(windows):
        rows, samples = w.signal.x.shape
        x[i, :rows, :samples] = w.signal.x
        mask[i, :rows] = w.signal.mask
        labels[i, : len(w.labels)] = w.labels
        if w.signal.hidden is not None:
            hidden[i, : len(w.labels)] = w.signal.hidden
    montages = [w.signal.montage for w in windows]
    return Batch(
        x=torch.from_numpy(x),
        lengths=torch.tensor([w.signal.x.shape[1] for w in windows]),
        mask=torch.from_numpy(mask),
        montages=montages,
        calibrations=[
            w.calibration and replace(w.calibration, montage=montage)
            for w, montage in zip(windows, montages, strict=True)
        ],
        labels=torch.from_numpy(labels),
        datasets=[w.dataset for w in windows],
        classes=torch.from_numpy(np.stack([w.classes for w in windows])),
        hidden=torch.from_numpy(hidden) if hidden.any() else None,
    )
