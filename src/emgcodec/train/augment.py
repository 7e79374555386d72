"""What is done to a window so that no two are alike: positions, signals and features."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import pairwise

import numpy as np
import numpy.typing as npt

from emgcodec.montage import Electrode, Montage
from emgcodec.train.recipe import AugmentRecipe

FloatArray = npt.NDArray[np.float32]
BoolArray = npt.NDArray[np.bool_]

_REACH = 90.0  # degrees: beyond that a neighbour tells nothing of what lies between


@dataclass(frozen=True)
class Augmented:
    """A window as the codec gets it.

    Attributes:
        x: (C, N).
        montage: Where its electrodes are said to be.
        mask: (C,) electrodes that are there.
        hidden: (T, F) features that are to be their mean; None where there are none.
    """

    x: FloatArray
    montage: Montage
    mask: BoolArray
    hidden: BoolArray | None


def augment(
    x: FloatArray,
    montage: Montage,
    recipe: AugmentRecipe,
    rng: np.random.Generator,
    *,
    sample_rate: int,
    hop_length: int,
    num_features: int,
) -> Augmented:
    """All that the recipe asks for.

    Args:
        x: (C, N); it may be changed.
        montage: Its electrodes.
        recipe: What to do, and how much of it.
        rng: Source of all chance.
        sample_rate: Hz.
        hop_length: Samples of a frame.
        num_features: F, of the frontend.
    """
    bands = 1 + max(e.band for e in montage.electrodes)
    if recipe.roll:
        x = rolled(x, montage, rng.integers(-recipe.roll, recipe.roll + 1, bands).tolist())
    if recipe.shift:
        x = np.matmul(slip(montage, rng.normal(0.0, recipe.shift, bands)), x)
    if recipe.band_jitter and bands > 1:
        delays = rng.integers(0, round(recipe.band_jitter * sample_rate) + 1, bands)
        x = delayed(x, montage, delays.tolist())
    if recipe.gain:
        x *= 10.0 ** (rng.normal(0.0, recipe.gain, (len(x), 1)).astype(np.float32) / 20.0)
    if rng.random() < recipe.noise:
        x = x + white_noise(x, rng.uniform(*recipe.noise_snr), rng)
    if rng.random() < recipe.mains:
        x = x + hum(x, rng.uniform(*recipe.mains_snr), sample_rate, rng)
    if rng.random() < recipe.full_circle:
        degrees = rng.uniform(0.0, 360.0, bands)
    else:
        degrees = rng.normal(0.0, recipe.rotation, bands)
    hidden = None
    if recipe.time_masks or recipe.band_masks:
        frames = -(-x.shape[1] // hop_length)
        longest = round(recipe.time_mask_seconds * sample_rate / hop_length)
        hidden = stretches(frames, recipe.time_masks, longest, rng)[:, None]
        hidden = hidden | stretches(num_features, recipe.band_masks, recipe.band_mask_width, rng)
    some = recipe.dropout if rng.random() < recipe.dropout_share else 0.0
    mask = rng.random(len(x)) >= some
    mask[rng.integers(len(x))] = True
    return Augmented(x, rotated(montage, degrees.tolist()), mask, hidden)


def rotated(montage: Montage, degrees: Sequence[float]) -> Montage:
    """The montage with each band turned around the limb by its number of `degrees`."""
    electrodes = tuple(
        Electrode(e.band, e.angle + degrees[e.band], e.row) for e in montage.electrodes
    )
    return Montage(montage.name, electrodes, montage.assumed)


def rolled(x: FloatArray, montage: Montage, steps: Sequence[int]) -> FloatArray:
    """(C, N) as if each band had been put on turned by so many electrodes.

    Args:
        x: (C, N).
        montage: Its electrodes.
        steps: For each band, how many electrodes its signals move on towards larger angles.
    """
    after, before = _neighbours(montage)
    source = list(range(len(montage)))
    for i, electrode in enumerate(montage.electrodes):
        step = steps[electrode.band]
        for _ in range(abs(step)):
            source[i] = before[source[i]] if step > 0 else after[source[i]]
    found: FloatArray = x[source]
    return found


def slip(montage: Montage, spacings: Sequence[float] | npt.NDArray[np.float64]) -> FloatArray:
    """(C, C) weights that make of a signal what slipped electrodes would have read.

    Each reads a mixture of itself and its neighbour of the same band and row; where there is none
    within 90 degrees, what it read before.

    Args:
        montage: The electrodes.
        spacings: How far each band slips towards larger angles, in spacings; at most 1 either way.
    """
    weights: FloatArray = np.eye(len(montage), dtype=np.float32)
    after, before = _neighbours(montage)
    for i, electrode in enumerate(montage.electrodes):
        part = float(np.clip(spacings[electrode.band], -1.0, 1.0))
        weights[i, i] -= abs(part)
        weights[i, after[i] if part > 0 else before[i]] += abs(part)
    return weights


@lru_cache(maxsize=4096)
def _neighbours(montage: Montage) -> tuple[list[int], list[int]]:
    """For each electrode the next one and the one before on its ring; itself if that is far."""
    rings: dict[tuple[int, float], list[int]] = defaultdict(list)
    for i in sorted(range(len(montage)), key=lambda i: montage.electrodes[i].angle):
        rings[montage.electrodes[i].band, montage.electrodes[i].row].append(i)
    after, before = (list(range(len(montage))) for _ in range(2))
    for ring in rings.values():
        for i, j in pairwise([*ring, ring[0]]):
            gap = (montage.electrodes[j].angle - montage.electrodes[i].angle) % 360.0
            if gap <= _REACH:
                after[i], before[j] = j, i
    return after, before


def delayed(x: FloatArray, montage: Montage, delays: Sequence[int]) -> FloatArray:
    """(C, N) with each band so many samples late; before its first sample it is held."""
    late = np.empty_like(x)
    band = np.array([e.band for e in montage.electrodes])
    for number, delay in enumerate(delays):
        here = band == number
        late[here, delay:] = x[here, : x.shape[1] - delay]
        late[here, :delay] = x[here, :1]
    return late


def white_noise(x: FloatArray, snr: float, rng: np.random.Generator) -> FloatArray:
    """(C, N) of noise, `snr` dB below each electrode's own standard deviation."""
    noise = rng.standard_normal(x.shape, dtype=np.float32)
    noise *= _below(x, snr)
    return noise


def hum(x: FloatArray, snr: float, sample_rate: float, rng: np.random.Generator) -> FloatArray:
    """(C, N) of mains hum, about `snr` dB below each electrode's own standard deviation.

    50 or 60 Hz and two weaker harmonics, in phase over the electrodes, not equally strong.
    """
    line = (50.0, 60.0)[rng.integers(2)] * rng.uniform(0.998, 1.002)
    phase = rng.uniform(0.0, 2.0 * np.pi, (3, 1))
    harmonics = np.arange(1.0, 4.0)[:, None]
    time = np.arange(x.shape[1]) / sample_rate
    strength = np.array([1.0, 0.3, 0.3])[:, None] * rng.uniform(0.2, 1.0, (3, 1))
    wave = (strength * np.sin(2.0 * np.pi * line * harmonics * time + phase)).sum(axis=0)
    wave *= np.sqrt(2.0) / np.linalg.norm(strength)
    coupling = rng.lognormal(0.0, 0.5, (len(x), 1)).astype(np.float32)
    found: FloatArray = (_below(x, snr) * coupling) * wave.astype(np.float32)
    return found


def stretches(length: int, count: int, longest: int, rng: np.random.Generator) -> BoolArray:
    """(length,) that is True in `count` random stretches of up to `longest`."""
    found = np.zeros(length, bool)
    for _ in range(count):
        size = int(rng.integers(min(longest, length) + 1))
        start = int(rng.integers(length - size + 1))
        found[start : start + size] = True
    return found


def _below(x: FloatArray, decibel: float) -> FloatArray:
    level: FloatArray = x.std(axis=1, keepdims=True) * np.float32(10.0 ** (-decibel / 20.0))
    return level
