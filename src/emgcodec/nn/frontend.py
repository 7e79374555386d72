"""From samples to one vector a frame: three frontends with one interface.

``measure(x, valid, frames, state)`` takes (B, C, T * hop) samples, (B, C, T) validity of each
electrode in each frame (samples may be anything where it is not) and (B,) frames so far, and gives
values that the causal norm learns from, their validity (B, T, C) and the next state of the windows;
``moments`` gives the sums behind the norm. ``forward(values, valid, positions, frames, state)``
takes those and (B, C, 4) positions, and gives (B, T, D) features, (B, T) whether any electrode was
valid, and the next state of all else. Training may hide normalised features, (B, T, F) bool: they
are then their mean.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from emgcodec.config import (
    CodecConfig,
    ConvConfig,
    ElectrodeSetConfig,
    LogSpectrogramConfig,
)
from emgcodec.nn.normalize import CausalNorm, State
from emgcodec.nn.positions import NUM_POSITION_FEATURES, position_features

POWER_FLOOR = 1e-6
"""Added to power (µV squared) before the logarithm."""

_OUTLIER = 4.0  # deviations
_WINDOWS_AT_ONCE = 2048


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

    def forward(self, windows: Tensor) -> Iterator[Tensor]:
        """(B, T, C, window) to real and imaginary parts, (B, t, C, bins, 2) at a time.

        A few frames at a time stay in the cache until they are logarithms.
        """
        for part in windows.split(max(1, _WINDOWS_AT_ONCE // windows.shape[2]), dim=1):
            # Rows lie overlapped in the signal: one copy puts all that follows in order.
            rows = part.contiguous()
            centred = (rows - rows.mean(dim=-1, keepdim=True)).mul_(self.taper)
            yield torch.view_as_real(torch.fft.rfft(centred))


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

    def measure(
        self, x: Tensor, valid: Tensor, frames: Tensor, state: State
    ) -> tuple[Tensor, Tensor, State]:
        """Log power (B, T, C, F), 0 where not valid; validity (B, T, C); state of the windows."""
        windows, valid, following = self.windows(x, valid, frames, state)
        spectra = self.spectrum(windows.transpose(1, 2))
        levels = [torch.log10(self.power(parts) + POWER_FLOOR) for parts in spectra]
        level = torch.nan_to_num(torch.cat(levels, dim=1))
        # A window without any change is a lead that has come off, not a quiet muscle.
        silence = self.num_features * math.log10(POWER_FLOOR)
        valid = valid.transpose(1, 2) & (level.sum(dim=-1) > silence + math.log10(2))
        return level * valid[..., None], valid, following

    @staticmethod
    def moments(level: Tensor) -> tuple[Tensor, Tensor]:
        """The log power and its square."""
        return level, level.square()


class LogSpectrogram(SpectralFrontend):
    """Log spectrogram, causal norm, and an MLP for each band averaged over electrode rolls.

    The published system (Sivakumar et al., 2024) normalises over the batch; here it is causal.
    """

    def __init__(self, config: CodecConfig, part: LogSpectrogramConfig) -> None:
        super().__init__(config, part.window, part.window // 2 + 1)
        assert config.montage is not None
        self.rolls = part.rolls
        self.num_bands = 1 + max(e.band for e in config.montage.electrodes)
        self.per_band = len(config.montage) // self.num_bands
        self.dim = self.num_bands * part.mlp_dim
        size = self.per_band * self.num_features
        self.mlps = nn.ModuleList(nn.Linear(size, part.mlp_dim) for _ in range(self.num_bands))

    def power(self, parts: Tensor) -> Tensor:
        """The power of each bin."""
        real, imaginary = parts.unbind(-1)
        return torch.addcmul(real.square(), imaginary, imaginary)

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
        mean, rstd, _, statistics = self.norm(*self.moments(level), valid, frames, state)
        # Power next to nothing has a logarithm that only the floor bounds: a gain would show.
        normal = ((level - mean).mul_(rstd)).clamp_(-_OUTLIER, _OUTLIER).mul_(valid[..., None])
        if hidden is not None:
            normal = normal.masked_fill(hidden[:, :, None], 0.0)
        bands = normal.unflatten(2, (self.num_bands, self.per_band)).flatten(3)
        features = [self._mlp(mlp, bands[:, :, i]) for i, mlp in enumerate(self.mlps)]
        return torch.cat(features, dim=-1), valid.any(dim=-1), statistics

    def _mlp(self, mlp: nn.Module, x: Tensor) -> Tensor:
        assert isinstance(mlp, nn.Linear)
        # Rolling the weights instead of the signal makes it one matrix product.
        weight = mlp.weight.unflatten(1, (self.per_band, self.num_features))
        rolled = torch.cat([weight.roll(-roll, dims=1) for roll in self.rolls]).flatten(1)
        bias = mlp.bias.repeat(len(self.rolls))
        out = F.relu(F.linear(x, rolled, bias))
        mean: Tensor = out.unflatten(-1, (len(self.rolls), -1)).mean(dim=-2)
        return mean


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

    @staticmethod
    def moments(samples: Tensor) -> tuple[Tensor, Tensor]:
        """Mean and mean square of each frame, (B, T, C, 1)."""
        wide = samples.double()  # offsets of thousands beside signals of tens
        return wide.mean(dim=-1, keepdim=True), wide.square().mean(dim=-1, keepdim=True)

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
        mean, rstd, _, following = self.norm(*self.moments(samples), valid, frames, state)
        normal = (samples - mean) * (rstd * valid[..., None])
        if hidden is not None:
            normal = normal.masked_fill(hidden[:, :, None], 0.0)
        h = normal.transpose(1, 2).flatten(2)
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
    """Any electrodes at any positions: shared MLP on each spectrum, attention over the set."""

    pool: Tensor

    def __init__(self, config: CodecConfig, part: ElectrodeSetConfig) -> None:
        super().__init__(config, part.window, part.num_bands, part.dynamic_range)
        assert config.encoder.kind == "transformer"
        self.dynamic_range = part.dynamic_range
        self.heads, self.queries = part.heads, part.queries
        self.dim = config.encoder.dim
        edges = part.band_edges
        bin_ = torch.arange(part.window // 2 + 1)[:, None]
        pool = ((bin_ >= torch.tensor(edges[:-1])) & (bin_ < torch.tensor(edges[1:]))).float()
        pool[-1] /= 2  # the last bin has no twin at negative frequency
        self.register_buffer("pool", pool.repeat_interleave(2, dim=0), persistent=False)
        self.spectral = nn.Linear(part.num_bands, part.width)
        self.position = nn.Linear(NUM_POSITION_FEATURES, part.width, bias=False)
        self.mix = nn.Linear(part.width, part.width)
        self.score = nn.Linear(part.width, part.heads * part.queries)
        self.sector = nn.Linear(NUM_POSITION_FEATURES, part.heads * part.queries, bias=False)
        self._init_sectors()
        self.value = nn.Linear(part.width, part.width)
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
        mean, rstd, lowest, statistics = self.norm(*self.moments(level), valid, frames, state)
        assert lowest is not None
        normal = torch.maximum((level - mean).mul_(rstd), lowest)
        if hidden is not None:
            normal = normal.masked_fill(hidden[:, :, None], 0.0)
        place = position_features(positions)
        h = self.spectral(normal).add_(self.position(place)[:, None])
        h = F.gelu(self.mix(F.gelu(h)))
        pooled = self._attend(h, self.sector(place)[:, None], valid)
        return self.project(pooled), valid.any(dim=-1), statistics

    @torch.no_grad()
    def _init_sectors(self) -> None:
        """Each query starts with a sector of the ring; half of the heads prefer one band."""
        angle = torch.arange(self.queries) * 2 * math.pi / self.queries
        weight = torch.zeros(self.heads, self.queries, NUM_POSITION_FEATURES)
        weight[..., 0], weight[..., 1] = 2.5 * torch.sin(angle), 2.5 * torch.cos(angle)
        for head in range(self.heads // 2, self.heads):
            weight[head, :, -1] = 4.0 * (-1) ** head
        self.sector.weight.copy_(weight.flatten(0, 1))

    def _attend(self, h: Tensor, sector: Tensor, valid: Tensor) -> Tensor:
        """(B, T, C, W) and (B, T, C) to (B, T, queries * W); the queries are constants."""
        # Large but finite: a frame without any electrode gives zeros, not NaN.
        absent = (valid.float()[..., None] - 1.0) * 1e4
        weight = torch.softmax(self.score(h).add_(sector).add_(absent), dim=2)
        weight = weight.unflatten(-1, (self.heads, self.queries)).permute(0, 1, 3, 4, 2)
        value = self.value(h).unflatten(-1, (self.heads, -1)).transpose(2, 3)
        pooled: Tensor = (weight @ value).transpose(2, 3).flatten(2)
        return pooled * valid.any(dim=-1)[..., None]


Frontend = LogSpectrogram | Conv | ElectrodeSet

FRONTENDS = {"log_spectrogram": LogSpectrogram, "conv": Conv, "electrode_set": ElectrodeSet}


def build_frontend(config: CodecConfig) -> Frontend:
    """The frontend that `config.frontend.kind` names."""
    part: Frontend = FRONTENDS[config.frontend.kind](config, config.frontend)
    return part
