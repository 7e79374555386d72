"""How like the signal what comes back is, beside three trivial ways of making something like it.

All four make noise with a spectrum that changes over time, by the codec's own `NoiseShaper`; what
they know of it differs. Each electrode then gets its true level, which is stored beside any codes.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from scipy import signal as dsp
from scipy.cluster.vq import kmeans2
from torch import Tensor

from emgcodec.codec import Codec
from emgcodec.config import ElectrodeSetConfig
from emgcodec.evaluate.codecs import Take
from emgcodec.metrics import envelope_correlation, log_spectral_distance
from emgcodec.nn.frontend import ElectrodeSet
from emgcodec.nn.network import hold_beyond

Array = npt.NDArray[np.float64]

WAYS = ("codec", "noise", "mean_spectrum", "level_pca")
"""The codec; level-only noise; the corpus' mean spectrum with the true envelope; per-electrode log
levels by principal components at the codec's bits."""

_LOWEST, _HIGHEST = 20.0, 450.0  # Hz
_SHORTEST = 1.0  # seconds
_SMALLEST = 1e-6


@dataclass(frozen=True)
class LevelCoder:
    """Levels of all electrodes in few bits: principal components, each rounded to its own grid.

    Attributes:
        mean: (C,) log10 power.
        components: (k, C).
        grids: Values of each component; their numbers multiply to 2 to the bits.
    """

    mean: Array
    components: Array
    grids: tuple[Array, ...]

    @classmethod
    def fit(cls, levels: Array, bits: int) -> LevelCoder:
        """On (N, C) log10 power; each bit goes where the most variance is left."""
        mean = levels.mean(axis=0)
        variance, vectors = np.linalg.eigh(np.cov((levels - mean).T).reshape(len(mean), -1))
        left, spent = variance.copy(), np.zeros(len(variance), int)
        for _ in range(bits):
            best = int(left.argmax())
            spent[best] += 1
            left[best] /= 4.0  # a bit halves the error
        chosen = np.flatnonzero(spent)
        components = vectors.T[chosen]
        grids = []
        for values, count in zip(((levels - mean) @ components.T).T, spent[chosen], strict=True):
            start = np.quantile(values, (np.arange(2**count) + 0.5) / 2**count)
            grid, _ = kmeans2(values[:, None], np.unique(start)[:, None], 20, minit="matrix")
            grids.append(np.sort(grid[:, 0]))
        return cls(mean, components, tuple(grids))

    def round_trip(self, levels: Array) -> Array:
        """(T, C) through the grids and back."""
        values = (levels - self.mean) @ self.components.T
        for k, grid in enumerate(self.grids):
            values[:, k] = grid[np.abs(values[:, k, None] - grid).argmin(axis=1)]
        rounded: Array = self.mean + values @ self.components
        return rounded


@dataclass(frozen=True)
class Rivals:
    """What the trivial ways have learned from the training people of a corpus.

    Attributes:
        spectrum: (F,) mean share of the power in each band.
        coder: Of levels.
    """

    spectrum: Array
    coder: LevelCoder

    @classmethod
    def fit(cls, codec: Codec, takes: Iterable[Take]) -> Rivals:
        """On takes of training people; their calibration blocks do."""
        spectra, levels = [], []
        for take in takes:
            power = _band_power(codec, take)
            spectra.append(power.mean(axis=(0, 1)))
            levels.append(_log(power.sum(axis=2)))
        spectrum = np.mean(spectra, axis=0)
        coder = LevelCoder.fit(np.concatenate(levels), codec.bits_per_frame)
        return cls(spectrum / spectrum.sum(), coder)

    def levels(self, codec: Codec, take: Take) -> dict[str, Array]:
        """Log10 band power (T, C, F) that each trivial way puts in place of the true one."""
        assert isinstance(codec.config.frontend, ElectrodeSetConfig)
        power = _band_power(codec, take)
        level = _log(power.sum(axis=2))
        width = np.diff(codec.config.frontend.band_edges)
        flat = np.where(self.spectrum > self.spectrum.max() * 1e-4, width, 0.0)  # up to its rate
        return {
            "noise": np.broadcast_to(_log(flat / flat.sum()), power.shape),
            "mean_spectrum": level[..., None] + _log(self.spectrum),
            "level_pca": self.coder.round_trip(level)[..., None] + _log(self.spectrum),
        }


def reconstruction_scores(
    codec: Codec,
    rivals: Rivals | None,
    takes: Sequence[Take],
    codes: Sequence[Tensor] | None = None,
) -> dict[str, dict[str, dict[str, float]]]:
    """Metric, way and person: means over the person's takes of a second or more; calibrated.

    Args:
        codec: Whose codes are decoded.
        rivals: Trivial ways beside it; None for the codec alone.
        takes: Of any people of one corpus.
        codes: Of each take, calibrated, (1, K, T), if they are known; the first few levels do.
    """
    found: dict[str, dict[str, dict[str, list[float]]]] = defaultdict(
        lambda: defaultdict(lambda: defaultdict(list))
    )
    rate = codec.sample_rate
    for i, take in enumerate(takes):
        s = take.segment
        if take.calibrates or s.x.shape[1] < _SHORTEST * rate:
            continue
        known = codec.encode(**take.signal(codec, "calibrated")) if codes is None else codes[i]
        made = {"codec": codec.decode(known, montage=s.montage)[0].numpy()}
        for way, level in ({} if rivals is None else rivals.levels(codec, take)).items():
            made[way] = _shaped(codec, take, level)
        x = _audible(s.x, rate)
        band = (_LOWEST, min(_HIGHEST, 0.45 * s.sample_rate))
        for way, wave in made.items():
            y = _audible(wave[:, : x.shape[1]], rate)
            size = np.sqrt(np.square(y).mean(axis=1))
            y *= (np.sqrt(np.square(x).mean(axis=1)) / np.maximum(size, 1e-12))[:, None]
            values = {
                "envelope_correlation": envelope_correlation(x, y, rate),
                "log_spectral_distance": log_spectral_distance(x, y, rate, band),
            }
            for metric, value in values.items():
                if np.isfinite(value):
                    found[metric][way][s.subject].append(value)
    return {
        metric: {
            way: {person: float(np.mean(values)) for person, values in people.items()}
            for way, people in ways.items()
        }
        for metric, ways in found.items()
    }


@torch.no_grad()
def _band_power(codec: Codec, take: Take) -> Array:
    """Power of each band relative to the electrode's mean over the take, (T, C, F)."""
    frontend = codec.frontend
    assert isinstance(frontend, ElectrodeSet)
    x = take.signal(codec, "calibrated")["x"]
    frames = codec.num_frames(x.shape[-1])
    x = hold_beyond(x, torch.tensor([x.shape[-1]]), 0, frames * codec.hop_length)
    level, valid, _ = codec.measure_step(x, codec.init_state(1, take.segment.montage))
    known = frontend.audible(level, valid)[0].numpy()
    power: Array = np.power(10.0, level[0].numpy().astype(np.float64)) * known
    mean = power.sum(axis=(0, 2)) / np.maximum(known.any(axis=2).sum(axis=0), 1)
    relative: Array = power / np.maximum(mean, 1e-300)[:, None]
    return relative


@torch.no_grad()
def _shaped(codec: Codec, take: Take, level: Array) -> npt.NDArray[np.float32]:
    """Noise of (T, C, F) log10 band power, (C, N)."""
    shaper = codec.shaper
    assert shaper is not None
    positions = torch.from_numpy(take.segment.montage.positions())[None]
    state = shaper.init_state(1, positions.shape[1], positions.device)
    start = torch.zeros(1, dtype=torch.long)
    spectrum = torch.tensor(level, dtype=torch.float32)[None]
    done, state = shaper(spectrum, positions, start, state)
    wave: npt.NDArray[np.float32] = torch.cat([done, state["tail"]], dim=-1)[0].numpy()
    return wave[:, shaper.window - shaper.hop :]


def _audible(x: npt.NDArray[np.floating], rate: float) -> Array:
    """Without what lies below the muscles' band; both ways, for nothing may be delayed."""
    sections = dsp.butter(2, _LOWEST, "highpass", fs=rate, output="sos")
    filtered: Array = dsp.sosfiltfilt(sections, x.astype(np.float64), axis=1)
    return filtered


def _log(power: Array) -> Array:
    levels: Array = np.log10(np.maximum(power, _SMALLEST))
    return levels
