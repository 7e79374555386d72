"""Random windows of typing sessions: a core with its keys, and what the codec hears around it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import torch

from emgcodec.calibration import Calibration
from emgcodec.codec import Codec
from emgcodec.config import ConfigError
from emgcodec.train.data import UNLABELLED, Segment
from emgcodec.train.recipe import Recipe
from emgcodec.train.windows import Batch, Keys, Window, collate, heard

_NO_CLASSES = np.zeros(0, np.bool_)


class _Typed(NamedTuple):
    window: Window
    keys: npt.NDArray[np.int64]
    first: int


class TypingWindows:
    """Batches by number, as `GestureWindows`: every moment of every session alike.

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
        typed = [self._draw(seconds, np.random.default_rng([seed, step, n])) for n in numbers]
        keys = Keys(
            torch.from_numpy(np.concatenate([t.keys for t in typed])),
            torch.tensor([len(t.keys) for t in typed]),
            torch.tensor([t.first for t in typed]),
            torch.tensor([len(t.window.labels) for t in typed]),
        )
        return replace(collate([t.window for t in typed], self._codec), keys=keys)

    def _draw(self, seconds: float, rng: np.random.Generator) -> _Typed:
        codec, recipe = self._codec, self._recipe
        rate, hop = codec.sample_rate, codec.hop_length
        s = self._segments[rng.choice(len(self._segments), p=self._chance)]
        length = min(round(seconds * rate), s.x.shape[1])
        core = int(rng.integers(s.x.shape[1] - length + 1))
        start = max(0, core - round(recipe.typing.left * rate))
        stop = min(s.x.shape[1], core + length + round(recipe.typing.right * rate))
        known = self._calibrations[s.wearing] if rng.random() < recipe.data.calibrated else None
        signal = heard(codec, s, slice(start, stop), known, recipe.augment, rng)
        labels = np.full(codec.num_frames(stop - start), UNLABELLED)
        pressed = s.pressed * rate
        inside = (pressed >= core) & (pressed < core + length)
        window = Window(signal, known, labels, s.dataset, _NO_CLASSES)
        return _Typed(window, s.keys[inside], (core - start) // hop)
