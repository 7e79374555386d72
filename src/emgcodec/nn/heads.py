"""Decoder heads: the spectrum of each electrode and a waveform from it, and class scores."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from emgcodec.config import CodecConfig, ElectrodeSetConfig, LabelHeadConfig, SignalHeadConfig
from emgcodec.nn.normalize import State
from emgcodec.nn.positions import NUM_POSITION_FEATURES, position_features

_NOISE_LENGTH = 1 << 15
_BLANK_BIAS = 3.0


class SignalHead(nn.Module):
    """Log10 power in each band of each electrode, relative to the electrode's usual power.

    Usual is the sum over the bands of 10 to the running mean of their log10 power, the one that
    features are normalised by.

    A frame's vector and an electrode's position meet in a product of `rank` features, so any
    electrode can be asked for. The mean of a logarithm lies below the logarithm of the mean: what
    a waveform must add to have the right power is in `correction`, (F,), measured after training.
    """

    correction: Tensor

    def __init__(self, config: CodecConfig, part: SignalHeadConfig, dim: int) -> None:
        super().__init__()
        assert isinstance(config.frontend, ElectrodeSetConfig)
        self.frame = nn.Linear(dim, part.rank)
        self.place = nn.Sequential(
            nn.Linear(NUM_POSITION_FEATURES, part.rank), nn.GELU(), nn.Linear(part.rank, part.rank)
        )
        self.bands = nn.Linear(part.rank, config.frontend.num_bands)
        nn.init.constant_(self.bands.bias, -2.0)  # a band's usual share of the power
        self.register_buffer("correction", torch.full((config.frontend.num_bands,), 0.2))

    def forward(self, h: Tensor, positions: Tensor) -> Tensor:
        """(B, T, D) and (B, C, 4) to (B, T, C, F)."""
        place = self.place(position_features(positions))[:, None]
        frame = self.frame(h)[:, :, None]
        out: Tensor = self.bands(F.gelu(frame * (1 + place) + place))
        return out


class LabelHead(nn.Module):
    """Scores of the classes of each frame; ``ctc`` heads have the blank as one more, the last."""

    def __init__(self, part: LabelHeadConfig, dim: int) -> None:
        super().__init__()
        self.out = nn.Linear(dim, len(part.labels) + (part.kind == "ctc"))
        if part.kind == "ctc":
            # Whichever class starts out likeliest fills the time between keys: let it be the blank.
            nn.init.constant_(self.out.bias[-1:], _BLANK_BIAS)

    def forward(self, h: Tensor) -> Tensor:
        """(B, T, D) to (B, T, V)."""
        scores: Tensor = self.out(h)
        return scores


class NoiseShaper(nn.Module):
    """A waveform with a given spectrum: fixed noise, shaped frame by frame and overlap-added.

    EMG at these frame rates is modulated noise; which noise it was is not in the codes. Noise is
    indexed by the absolute sample and the electrode's position, so blocks, batches and the order
    of electrodes do not matter. Each frame's window ends with the frame, so a block of samples is
    complete one frame later.
    """

    noise: Tensor
    taper: Tensor
    spread: Tensor

    def __init__(self, config: CodecConfig) -> None:
        super().__init__()
        assert isinstance(config.frontend, ElectrodeSetConfig)
        part = config.frontend
        self.window, self.hop = part.window, config.hop_length
        self.register_buffer("noise", _fixed_noise(), persistent=False)
        time = torch.arange(self.window, dtype=torch.float64)
        # Overlapping windows add up to one: unshaped noise comes out as it is.
        taper = torch.sin(math.pi * (time + 0.5) / self.window).square()
        taper = taper / taper.reshape(-1, self.hop).sum(0).repeat(self.window // self.hop)
        self.register_buffer("taper", taper.float(), persistent=False)
        edges = torch.tensor(part.band_edges)
        width = edges[1:] - edges[:-1]
        bin_ = torch.arange(self.window // 2 + 1)[:, None]
        inside = (bin_ >= edges[:-1]) & (bin_ < edges[1:])
        # A band's power in white noise of unit variance, so that the gain is a ratio.
        share = width * 2.0 / self.window
        self.register_buffer("spread", inside.float() / share, persistent=False)

    def init_state(self, batch_size: int, num_electrodes: int, device: torch.device) -> State:
        """The unfinished samples of the last frame."""
        past = self.window - self.hop
        return {"tail": torch.zeros(batch_size, num_electrodes, past, device=device)}

    def forward(
        self, level: Tensor, positions: Tensor, frames: Tensor, state: State
    ) -> tuple[Tensor, State]:
        """Frames of spectrum to the samples that they complete.

        Args:
            level: (B, T, C, F) log10 power in each band.
            positions: (B, C, 4).
            frames: (B,) frames before these.
            state: From `init_state` or the last call.

        Returns:
            (B, C, T * hop) samples, those from `window - hop` before the first frame's end on,
            and the next state.
        """
        batch, time, electrodes, _ = level.shape
        start = frames[:, None] + torch.arange(time, device=level.device)
        start = (start + 1) * self.hop - self.window
        sample = start[:, None, :, None] + torch.arange(self.window, device=level.device)
        index = (sample + _noise_offset(positions)[:, :, None, None]) % _NOISE_LENGTH
        spectrum = torch.fft.rfft(self.noise[index], dim=-1)
        power = torch.pow(10.0, level.clamp(max=6.0)) @ self.spread.T
        gain = torch.sqrt(power).transpose(1, 2)
        pieces = torch.fft.irfft(spectrum * gain, n=self.window, dim=-1) * self.taper
        tail = state["tail"]
        length = (time - 1) * self.hop + self.window
        total = F.fold(
            pieces.flatten(0, 1).transpose(1, 2),
            (1, length),
            (1, self.window),
            stride=(1, self.hop),
        ).reshape(batch, electrodes, length)
        past = self.window - self.hop
        total = torch.cat([total[..., :past] + tail, total[..., past:]], dim=-1)
        done = time * self.hop
        return total[..., :done], {"tail": total[..., done:]}


def _fixed_noise() -> Tensor:
    """Unit-variance uniform noise from an integer hash (splitmix64): no library can change it."""
    x = torch.arange(1, _NOISE_LENGTH + 1, dtype=torch.int64) * -7046029254386353131
    for shift, factor in ((30, -4658895280553007687), (27, -7723592293110705685)):
        x = (x ^ ((x >> shift) & ((1 << (64 - shift)) - 1))) * factor
    bits = (x >> 40) & 0xFFFFFF
    return ((bits.double() + 0.5) / (1 << 24) * 2 - 1).mul(math.sqrt(3.0)).float()


def _noise_offset(positions: Tensor) -> Tensor:
    """(B, C, 4) to (B, C): another stretch of the noise for every place."""
    places = (positions.double() * 997.0).round().long()
    factors = torch.tensor([7919, 104729, 1299709, 15485863], device=positions.device)
    return (places * factors).sum(dim=-1) % _NOISE_LENGTH
