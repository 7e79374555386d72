"""Time-depth separable convolutions (Hannun et al., 2019), causal: T frames in, T frames out."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from emgcodec.config import ConfigError, TDSConfig
from emgcodec.nn.normalize import State


class TDSBlock(nn.Module):
    """A convolution over time for each feature row, then a fully connected part, both residual."""

    def __init__(self, config: TDSConfig, dim: int) -> None:
        super().__init__()
        self.channels, self.kernel = config.channels, config.kernel
        self.conv = nn.Conv2d(config.channels, config.channels, (config.kernel, 1))
        self.conv_norm = nn.LayerNorm(dim)
        self.up = nn.Linear(dim, dim)
        self.down = nn.Linear(dim, dim)
        self.out_norm = nn.LayerNorm(dim)
        self.dropout = nn.Dropout(config.dropout)

    def forward(self, x: Tensor, past: Tensor) -> tuple[Tensor, Tensor]:
        """(B, T, D) and the last kernel - 1 frames, to (B, T, D) and the next ones."""
        padded = torch.cat([past, x], dim=1)
        rows = padded.unflatten(-1, (self.channels, -1)).transpose(1, 2)  # (B, channels, T, width)
        convolved = F.relu(self.conv(rows)).transpose(1, 2).flatten(2)
        h = self.conv_norm(x + self.dropout(convolved))
        h = self.out_norm(h + self.dropout(self.down(F.relu(self.up(h)))))
        return h, padded[:, padded.shape[1] - self.kernel + 1 :]


class TDS(nn.Module):
    """Blocks `first` to `last` of a TDS encoder of width `dim`."""

    def __init__(self, config: TDSConfig, dim: int, first: int, last: int) -> None:
        super().__init__()
        if dim % config.channels:
            raise ConfigError(f"encoder.channels={config.channels} does not divide {dim} features")
        self.dim = dim
        self.receptive_field = (last - first) * (config.kernel - 1)  # frames before the present one
        self.blocks = nn.ModuleList(TDSBlock(config, dim) for _ in range(first, last))
        self.past = config.kernel - 1

    def init_state(self, batch_size: int, device: torch.device) -> State:
        """Zero frames before the stream."""
        past = torch.zeros(batch_size, self.past, self.dim, device=device)
        return {f"past{i}": past for i in range(len(self.blocks))}

    def forward(self, x: Tensor, frames: Tensor, state: State) -> tuple[Tensor, State]:
        """(B, T, D) to (B, T, D) and the next state."""
        following = {}
        for i, block in enumerate(self.blocks):
            x, following[f"past{i}"] = block(x, state[f"past{i}"])
        return x, following
