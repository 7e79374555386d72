"""From samples to one vector a frame: three frontends with one interface.

``measure(x, valid, frames, state)`` takes (B, C, T * hop) samples, (B, C, T) validity of each
electrode in each frame (samples may be anything where it is not) and (B,) frames so far, and gives
values that the causal norm learns from, their validity (B, T, C) and the next state of the windows.
``forward(values, valid, positions, frames, state)`` takes those and (B, C, 4) positions, and gives
(B, T, D) features, (B, T) whether any electrode was valid, and the next state of all else. Training
may hide normalised features, (B, T, F) bool: they are then their mean.
"""

from __future__ import annotations

import math
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from emgcodec.config import (
    CodecConfig,
    ConvConfig,
    ElectrodeSetConfig,
    LogSpectrogramConfig,
    require,
)
from emgcodec.nn.normalize import CausalNorm, State, in_cache
from emgcodec.nn.positions import NUM_POSITION_FEATURES, position_features

POWER_FLOOR = 1e-6
"""Added to power (µV squared) before the logarithm."""

_OUTLIER = 4.0  # deviations


def without_invalid(x: Tensor, valid: Tensor) -> Tensor:
    """(B, C, T * hop) samples with zeros in frames that are not valid, (B, C, T)."""
    frames = torch.nan_to_num(x).unflatten(-1, (valid.shape[-1], -1))
    clean: Tensor = (frames * valid[..., None]).flatten(-2)
    return clean


class Windows(nn.Module):
    """Overlapping windows that end with each frame, and which of them are wholly valid."""

    def __init__(self, window: int, hop: int) -> None:
        super().__init__()
        self.window, self.hop = window, hop

    def init_state(self, batch_size: int, num_electrodes: int, device: torch.device) -> State:
        """The last samples, and the validity of the frames they belong to."""
        past = self.window - self.hop
        shape = (batch_size, num_electrodes)
        return {
            "samples": torch.zeros(*shape, past, device=device),
            "valid": torch.ones(*shape, past // self.hop, dtype=torch.bool, device=device),
        }

    def forward(
        self, x: Tensor, valid: Tensor, frames: Tensor, state: State
    ) -> tuple[Tensor, Tensor, State]:
        """(B, C, T * hop) to a view (B, C, T, window), validity (B, C, T) and the next state."""
        past = self.window - self.hop
        # Before its first sample a stream is held at it: no step where there is an offset.
        held = x[..., :1].expand(-1, -1, past)
        history = torch.where((frames == 0)[:, None, None], held, state["samples"])
        x = torch.cat([history, x], dim=-1)
        valid = torch.cat([state["valid"], valid], dim=-1)
        following = {"samples": x[..., -past:], "valid": valid[..., -(past // self.hop) :]}
        time = x.shape[-1] // self.hop - past // self.hop
        whole = valid[..., :time]
        for later in range(1, self.window // self.hop):
            whole = whole & valid[..., later : later + time]
        return x.unfold(-1, self.window, self.hop), whole, following


class Spectrum(nn.Module):
    """Power spectrum of windows, each without its mean.

    Scaled so that the bins between the first and the last add up to the variance of the window.
    """

    taper: Tensor

    def __init__(self, window: int) -> None:
        super().__init__()
        hann = torch.hann_window(window, dtype=torch.float64)
        taper = hann * torch.sqrt(2.0 / (window * hann.square().sum()))
        self.register_buffer("taper", taper.float(), persistent=False)

    def forward(self, windows: Tensor) -> Tensor:
        """(..., window) to real and imaginary parts, (..., bins, 2)."""
        rows = windows.new_empty(windows.shape)  # in order, where windows overlap in the signal
        torch.sub(windows, windows.mean(dim=-1, keepdim=True), out=rows)
        return torch.view_as_real(torch.fft.rfft(rows.mul_(self.taper)))


class SpectralFrontend(nn.Module):
    """What the two frontends on log power share: windows, spectrum, norm and their state."""

    domain: Literal["log_power", "amplitude"] = "log_power"

    def __init__(
        self, config: CodecConfig, window: int, num_features: int, depth: float | None = None
    ) -> None:
        super().__init__()
        self.num_features = num_features
        self.receptive_field = window
        self.windows = Windows(window, config.hop_length)
        self.spectrum = Spectrum(window)
        rate = config.frame_rate
        self.norm = CausalNorm(config.normalization, num_features, rate, self.domain, depth)

    def init_state(
        self,
        batch_size: int,
        num_electrodes: int,
        prior: tuple[Tensor, Tensor, Tensor] | None,
        device: torch.device,
    ) -> State:
        """See `nn`."""
        windows = self.windows.init_state(batch_size, num_electrodes, device)
        return windows | self.norm.init_state(batch_size, num_electrodes, prior, device)

    def power(self, parts: Tensor) -> Tensor:
        """Real and imaginary parts (B, T, C, bins, 2) to power in each feature, (B, T, C, F)."""
        raise NotImplementedError

    @torch.no_grad()
    def measure(
        self, x: Tensor, valid: Tensor, frames: Tensor, state: State
    ) -> tuple[Tensor, Tensor, State]:
        """Log power (B, T, C, F), 0 where not valid; validity (B, T, C); state of the windows."""
        windows, valid, following = self.windows(x, valid, frames, state)
        windows, valid = windows.transpose(1, 2), valid.transpose(1, 2)
        level = in_cache(self._log_power, windows)
        # A window without any change is a lead that has come off, not a quiet muscle.
        silence = self.num_features * math.log10(POWER_FLOOR) + math.log10(2)
        alive = valid & (level.sum(dim=-1) > silence)
        return level.masked_fill_(~alive[..., None], 0.0), alive, following

    def _log_power(self, windows: Tensor) -> Tensor:
        return self.power(self.spectrum(windows)).add_(POWER_FLOOR).log10_()


class LogSpectrogram(SpectralFrontend):
    """Log spectrogram, causal norm, and an MLP for each band averaged over electrode rolls.

    The published system (Sivakumar et al., 2024) normalises over the batch; here it is causal.
    """

    def __init__(self, config: CodecConfig, part: LogSpectrogramConfig) -> None:
        super().__init__(config, part.window, part.window // 2 + 1)
        assert config.montage is not None
        self.rolls = part.rolls
        bands = [electrode.band for electrode in config.montage.electrodes]
        self.num_bands, self.per_band = 1 + max(bands), bands.count(0)
        require(
            bands == [band for band in range(self.num_bands) for _ in range(self.per_band)],
            f"montage {config.montage.name!r} has bands {bands}: frontend log_spectrogram takes "
            "bands of equally many electrodes, one after the other",
        )
        self.dim = self.num_bands * part.mlp_dim
        size = self.per_band * self.num_features
        self.mlps = nn.ModuleList(nn.Linear(size, part.mlp_dim) for _ in range(self.num_bands))

    def power(self, parts: Tensor) -> Tensor:
        """The power of each bin."""
        squares = parts.square()  # before the two are apart: what lies side by side is faster
        return squares[..., 0] + squares[..., 1]

    def forward(
        self,
        level: Tensor,
        valid: Tensor,
        positions: Tensor,
        frames: Tensor,
        state: State,
        hidden: Tensor | None = None,
    ) -> tuple[Tensor, Tensor, State]:
        """See the module's docstring; D is mlp_dim for each band."""
        statistics, following = self.norm(level, valid, frames, state)
        # Power next to nothing has a logarithm that only the floor bounds: a gain would show.
        normal = statistics.normalize(level, valid, hidden, _OUTLIER)
        bands = normal.unflatten(2, (self.num_bands, self.per_band)).flatten(3)
        features = []
        for i, mlp in enumerate(self.mlps):
            assert isinstance(mlp, nn.Linear)
            bias = mlp.bias.repeat(len(self.rolls))
            out = F.relu(F.linear(bands[:, :, i], self._roll(mlp.weight), bias))
            features.append(out.unflatten(-1, (len(self.rolls), -1)).mean(dim=-2))
        return torch.cat(features, dim=-1), valid.any(dim=-1), following

    def _roll(self, weight: Tensor) -> Tensor:
        """Rolling the weights instead of the signal makes it one matrix product."""
        rows = weight.unflatten(1, (self.per_band, self.num_features))
        return torch.cat([rows.roll(-roll, dims=1) for roll in self.rolls]).flatten(1)


class Conv(nn.Module):
    """Strided convolutions on raw samples (Mehlman et al., 2025).

    Their instance norm over time behind the first layer becomes a causal one before it.
    """

    domain: Literal["log_power", "amplitude"] = "amplitude"
    num_features = 1

    def __init__(self, config: CodecConfig, part: ConvConfig) -> None:
        super().__init__()
        assert config.montage is not None
        self.hop = config.hop_length
        self.norm = CausalNorm(config.normalization, 1, config.frame_rate, self.domain)
        inputs = (len(config.montage), *part.dims)
        self.layers = nn.ModuleList(
            nn.Conv1d(inputs[i], inputs[i + 1], kernel, stride, bias=False)
            for i, (kernel, stride) in enumerate(zip(part.kernels, part.strides, strict=True))
        )
        self.out_norm = nn.LayerNorm(part.dims[-1])
        dim = config.encoder.dim if config.encoder.kind == "transformer" else part.dims[-1]
        self.project = nn.Linear(part.dims[-1], dim)
        self.dim = dim
        field, hop = 1, 1
        for kernel, stride in zip(part.kernels, part.strides, strict=True):
            field, hop = field + (kernel - 1) * hop, hop * stride
        self.receptive_field = max(field, hop)

    def init_state(
        self,
        batch_size: int,
        num_electrodes: int,
        prior: tuple[Tensor, Tensor, Tensor] | None,
        device: torch.device,
    ) -> State:
        """See `nn`."""
        state = self.norm.init_state(batch_size, num_electrodes, prior, device)
        for i, layer in enumerate(self.layers):
            assert isinstance(layer, nn.Conv1d)
            past = max(layer.kernel_size[0] - layer.stride[0], 0)
            state[f"conv{i}"] = torch.zeros(batch_size, layer.in_channels, past, device=device)
        return state

    def measure(
        self, x: Tensor, valid: Tensor, frames: Tensor, state: State
    ) -> tuple[Tensor, Tensor, State]:
        """Samples (B, T, C, hop) and validity (B, T, C); there is no state to carry."""
        samples = without_invalid(x, valid).unflatten(-1, (-1, self.hop))
        return samples.transpose(1, 2), valid.transpose(1, 2), {}

    def forward(
        self,
        samples: Tensor,
        valid: Tensor,
        positions: Tensor,
        frames: Tensor,
        state: State,
        hidden: Tensor | None = None,
    ) -> tuple[Tensor, Tensor, State]:
        """See the module's docstring."""
        statistics, following = self.norm(samples, valid, frames, state)
        h = statistics.normalize(samples, valid, hidden).transpose(1, 2).flatten(2)
        for i, layer in enumerate(self.layers):
            assert isinstance(layer, nn.Conv1d)
            kernel, stride = layer.kernel_size[0], layer.stride[0]
            h = torch.cat([state[f"conv{i}"], h], dim=-1)
            following[f"conv{i}"] = h[..., h.shape[-1] - max(kernel - stride, 0) :]
            # Each output ends with its stride; a kernel shorter than that skips the first samples.
            h = F.gelu(layer(h[..., max(stride - kernel, 0) :]))
        features: Tensor = self.project(self.out_norm(h.transpose(1, 2)))
        return features, valid.any(dim=-1), following


class ElectrodeSet(SpectralFrontend):
    """Any electrodes at any positions: shared MLP on each spectrum, attention over the set.

    Each query pools the electrodes in its own way; none of the layers that see every electrode
    has a bias or more than a rectifier, for there are many electrodes.
    """

    pool: Tensor

    def __init__(self, config: CodecConfig, part: ElectrodeSetConfig) -> None:
        super().__init__(config, part.window, part.num_bands, part.dynamic_range)
        assert config.encoder.kind == "transformer"
        self.dynamic_range = part.dynamic_range
        self.queries = part.queries
        self.dim = config.encoder.dim
        edges = part.band_edges
        bin_ = torch.arange(part.window // 2 + 1)[:, None]
        pool = ((bin_ >= torch.tensor(edges[:-1])) & (bin_ < torch.tensor(edges[1:]))).float()
        pool[-1] /= 2  # the last bin has no twin at negative frequency
        self.register_buffer("pool", pool.repeat_interleave(2, dim=0), persistent=False)
        self.spectral = nn.Linear(part.num_bands, part.width, bias=False)
        self.position = nn.Linear(NUM_POSITION_FEATURES, part.width)
        self.mix = nn.Linear(part.width, part.width, bias=False)
        self.score = nn.Linear(part.width, part.queries, bias=False)
        self.sector = nn.Linear(NUM_POSITION_FEATURES, part.queries, bias=False)
        self._init_sectors()
        self.project = nn.Linear(part.width * part.queries, self.dim)

    def power(self, parts: Tensor) -> Tensor:
        """The power of each band."""
        power: Tensor = parts.flatten(-2).square() @ self.pool
        return power

    def forward(
        self,
        level: Tensor,
        valid: Tensor,
        positions: Tensor,
        frames: Tensor,
        state: State,
        hidden: Tensor | None = None,
    ) -> tuple[Tensor, Tensor, State]:
        """See the module's docstring."""
        statistics, following = self.norm(level, valid, frames, state)
        normal = statistics.normalize(level, valid, hidden)
        place = position_features(positions)[:, None]
        where, sector = self.position(place), self.sector(place)
        # Large but finite: a frame without any electrode must not give NaN.
        absent = (valid.float()[..., None] - 1.0) * 1e4

        def pool(normal: Tensor, absent: Tensor) -> Tensor:
            h = F.relu(self.spectral(normal).add_(where), inplace=True)
            h = F.relu(self.mix(h), inplace=True)
            score = self.score(h).add_(sector).add_(absent)
            return (torch.softmax(score, dim=2).mT @ h).flatten(2)

        alive = valid.any(dim=-1)
        pooled = in_cache(pool, normal, absent)
        return self.project(pooled) * alive[..., None], alive, following

    @torch.no_grad()
    def audible(self, level: Tensor, valid: Tensor) -> Tensor:
        """(B, T, C, F) where a band holds signal: bands far below the strongest hold none.

        Args:
            level: (B, T, C, F) log10 power.
            valid: (B, T, C) electrodes to look at.
        """
        present = valid.float()[..., None]
        mean = (torch.pow(10.0, level) * present).sum(dim=1, keepdim=True)
        strongest = mean.amax(dim=-1, keepdim=True) * 10.0**-self.dynamic_range
        known: Tensor = present * (mean > strongest)
        return known

    @torch.no_grad()
    def _init_sectors(self) -> None:
        """Each query starts with a sector of the ring; every other one prefers one band."""
        query = torch.arange(self.queries)
        angle = query * 2 * math.pi / self.queries
        weight = torch.zeros(self.queries, NUM_POSITION_FEATURES)
        weight[:, 0], weight[:, 1] = 2.5 * torch.sin(angle), 2.5 * torch.cos(angle)
        weight[1::2, -1] = 4.0 * (-1.0) ** (query[1::2] // 2)
        self.sector.weight.copy_(weight)


Frontend = LogSpectrogram | Conv | ElectrodeSet

FRONTENDS = {"log_spectrogram": LogSpectrogram, "conv": Conv, "electrode_set": ElectrodeSet}


def build_frontend(config: CodecConfig) -> Frontend:
    """The frontend that `config.frontend.kind` names."""
    part: Frontend = FRONTENDS[config.frontend.kind](config, config.frontend)
    return part
