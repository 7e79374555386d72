"""Random windows of typing sessions: a core with its keys, and what the codec hears around it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt
import torch

from emgcodec.calibration import Calibration
from emgcodec.codec import Codec
from emgcodec.config import ConfigError
from emgcodec.train.augment import Augmented, augment
from emgcodec.train.data import Segment, as_calibrated
from emgcodec.train.recipe import Recipe
from emgcodec.train.windows import Batch, Keys


@dataclass(frozen=True)
class _Window:
    signal: Augmented
    calibration: Calibration | None
    keys: npt.NDArray[np.int64]
    first: int
    frames: int


class TypingWindows:
    """Batches by number, as `Windows`: every moment of every session alike.

    Args:
        segments: To draw from.
        calibrations: By wearing.
        codec: Whose frames they are for.
        recipe: Sizes, share of calibrated starts, what is done to each window, and the seed.

    Raises:
        ConfigError: if nothing was typed, or the windows would not fit the codec's montage.
    """

    def __init__(
        self,
        segments: Sequence[Segment],
        calibrations: Mapping[str, Calibration],
        codec: Codec,
        recipe: Recipe,
    ) -> None:
        self._recipe, self._codec, self._calibrations = recipe, codec, calibrations
        shortest = round(recipe.typing.seconds * codec.sample_rate)
        self._segments = [s for s in segments if s.x.shape[1] >= shortest and len(s.keys)]
        if not self._segments:
            raise ConfigError(
                f"data: no session of at least typing.seconds={recipe.typing.seconds} has keys"
            )
        if codec.config.montage is not None and (
            recipe.augment.rotation or recipe.augment.full_circle
        ):
            raise ConfigError(
                f"augment.rotation={recipe.augment.rotation}: codec {codec.config.name!r} has a "
                "fixed montage, set augment.rotation and augment.full_circle to 0; augment.roll "
                "turns the signals instead"
            )
        lengths = np.array([s.x.shape[1] for s in self._segments], np.float64)
        self._chance = lengths / lengths.sum()

    def batch(self, step: int, part: int = 0) -> Batch:
        """The windows of one part of a step.

        Args:
            step: Which step.
            part: Which of its batches: each process has its own, and each that is accumulated.
        """
        typing, seed = self._recipe.typing, self._recipe.run.seed
        rng = np.random.default_rng([seed, step])
        seconds, count = typing.seconds, self._recipe.data.batch_size
        if rng.random() < typing.longer:
            seconds = rng.uniform(typing.seconds, typing.longest)
            count = max(1, round(count * typing.seconds / seconds))
        numbers = range(part * count, (part + 1) * count)
        return self._collate(
            [self._draw(seconds, np.random.default_rng([seed, step, n])) for n in numbers]
        )

    def _draw(self, seconds: float, rng: np.random.Generator) -> _Window:
        codec, recipe = self._codec, self._recipe
        rate, hop = codec.sample_rate, codec.hop_length
        s = self._segments[rng.choice(len(self._segments), p=self._chance)]
        length = min(round(seconds * rate), s.x.shape[1])
        core = int(rng.integers(s.x.shape[1] - length + 1))
        start = max(0, core - round(recipe.typing.left * rate))
        stop = min(s.x.shape[1], core + length + round(recipe.typing.right * rate))
        known = self._calibrations[s.wearing] if rng.random() < recipe.data.calibrated else None
        signal = augment(
            np.array(as_calibrated(s.x[:, start:stop], known, codec)),
            s.montage,
            recipe.augment,
            rng,
            sample_rate=rate,
            hop_length=hop,
            num_features=codec.frontend.num_features,
        )
        pressed = s.pressed * rate
        inside = (pressed >= core) & (pressed < core + length)
        return _Window(
            signal, known, s.keys[inside], (core - start) // hop, codec.num_frames(stop - start)
        )

    def _collate(self, windows: Sequence[_Window]) -> Batch:
        """One batch, filled up to the longest window."""
        codec = self._codec
        length = max(w.signal.x.shape[1] for w in windows)
        shape = len(windows), len(windows[0].signal.x)
        x = np.zeros((*shape, length), np.float32)
        frames, features = codec.num_frames(length), codec.frontend.num_features
        hidden = np.zeros((len(windows), frames, features), bool)
        for i, w in enumerate(windows):
            x[i, :, : w.signal.x.shape[1]] = w.signal.x
            if w.signal.hidden is not None:
                hidden[i, : w.frames] = w.signal.hidden
        montages = [w.signal.montage for w in windows]
        return Batch(
            x=torch.from_numpy(x),
            lengths=torch.tensor([w.signal.x.shape[1] for w in windows]),
            mask=torch.from_numpy(np.stack([w.signal.mask for w in windows])),
            montages=montages,
            calibrations=[
                w.calibration and replace(w.calibration, montage=montage)
                for w, montage in zip(windows, montages, strict=True)
            ],
            labels=torch.full((len(windows), frames), -100),
            classes=torch.zeros(len(windows), 0, dtype=torch.bool),
            hidden=torch.from_numpy(hidden) if hidden.any() else None,
            keys=Keys(
                torch.from_numpy(np.concatenate([w.keys for w in windows])),
                torch.tensor([len(w.keys) for w in windows]),
                torch.tensor([w.first for w in windows]),
                torch.tensor([w.frames for w in windows]),
            ),
        )
