"""Causal pre-norm transformer with rotary positions, a bounded window and a shifted cache."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from emgcodec.config import ConfigError, TransformerConfig
from emgcodec.nn.normalize import State

QUERY_BLOCK = 64
"""Queries that share one stretch of keys: smaller wastes calls, larger wastes products."""


class Rotary:
    """Rotations for a stretch of frames; angles in float64, so that hours stay exact."""

    def __init__(self, frames: Tensor, time: int, head_dim: int) -> None:
        position = frames[:, None] + torch.arange(time, device=frames.device)
        exponent = torch.arange(0, head_dim, 2, dtype=torch.float64, device=frames.device)
        frequency = 10000.0 ** (-exponent / head_dim)
        angle = position[:, :, None].double() * frequency
        cosine, sine = torch.cos(angle).float(), torch.sin(angle).float()
        self.cosine = torch.cat([cosine, cosine], dim=-1)[:, :, None, None]
        self.sine = torch.cat([-sine, sine], dim=-1)[:, :, None, None]

    def __call__(self, x: Tensor) -> Tensor:
        """(B, T, n, H, head_dim), rotated."""
        left, right = x.chunk(2, dim=-1)
        swapped = torch.cat([right, left], dim=-1)
        return torch.addcmul(x * self.cosine, swapped, self.sine)


def window_masks(frames: Tensor, time: int, window: int) -> Tensor:
    """What to add to scores, 0 or -inf: (B * blocks, 1, queries, window + queries).

    A query sees itself and `window` frames before it, none from before its stream's start.
    """
    size = min(time, QUERY_BLOCK)
    blocks = -(-time // size)
    device = frames.device
    query = torch.arange(size, device=device)[:, None]
    key = torch.arange(window + size, device=device)[None, :]
    near = (key >= query) & (key <= query + window)
    first = torch.arange(blocks, device=device) * size
    started = key >= window - (frames[:, None, None] + first[None, :, None])
    seen = (near & started.unsqueeze(2)).flatten(0, 1).unsqueeze(1)
    return torch.where(seen, 0.0, -torch.inf)


def attention(query: Tensor, keys: Tensor, values: Tensor, masks: Tensor) -> Tensor:
    """Scaled dot products; on a CPU in float32, where its bfloat16 kernel takes thrice as long."""
    if torch.is_autocast_enabled("cpu"):
        with torch.autocast("cpu", enabled=False):
            return attention(query.float(), keys.float(), values.float(), masks)
    if torch.compiler.is_exporting():  # graphs have no such operation, and make a detour
        scores = query @ keys.mT * query.shape[-1] ** -0.5 + masks
        return torch.softmax(scores, dim=-1) @ values
    return F.scaled_dot_product_attention(query, keys, values, attn_mask=masks)


class Block(nn.Module):
    """Attention and feed-forward, each behind a layer norm."""

    def __init__(self, config: TransformerConfig) -> None:
        super().__init__()
        self.heads, self.window = config.heads, config.window
        self.attention_norm = nn.LayerNorm(config.dim)
        self.qkv = nn.Linear(config.dim, 3 * config.dim)
        self.out = nn.Linear(config.dim, config.dim)
        self.ff_norm = nn.LayerNorm(config.dim)
        self.up = nn.Linear(config.dim, 4 * config.dim)
        self.down = nn.Linear(4 * config.dim, config.dim)
        self.dropout = nn.Dropout(config.dropout)

    def forward(
        self, x: Tensor, rotary: Rotary, masks: Tensor, cache: Tensor
    ) -> tuple[Tensor, Tensor]:
        """(B, T, D) and cached keys and values (B, 2, H, window, head_dim), to the next ones."""
        qkv = self.qkv(self.attention_norm(x)).unflatten(-1, (3, self.heads, -1))
        turned = torch.cat([rotary(qkv[:, :, :2]), qkv[:, :, 2:]], dim=2).permute(0, 2, 3, 1, 4)
        context = torch.cat([cache, turned[:, 1:]], dim=3)
        attended = self._attend(turned[:, 0], context, masks)
        x = x + self.dropout(self.out(attended))
        x = x + self.dropout(self.down(F.gelu(self.up(self.ff_norm(x)))))
        return x, context[:, :, :, context.shape[3] - self.window :]

    def _attend(self, query: Tensor, context: Tensor, masks: Tensor) -> Tensor:
        """(B, H, T, d) queries on (B, 2, H, window + T, d) keys and values, to (B, T, D)."""
        batch, time = query.shape[0], query.shape[2]
        size = masks.shape[2]
        blocks = masks.shape[0] // batch
        if blocks == 1:
            keys, values = context[:, 0], context[:, 1]
            return attention(query, keys, values, masks).transpose(1, 2).flatten(2)
        if spare := blocks * size - time:
            query = F.pad(query, (0, 0, 0, spare))
            context = F.pad(context, (0, 0, 0, spare))
        query = query.unflatten(2, (blocks, size)).transpose(1, 2).flatten(0, 1)
        # (B, 2, H, blocks, d, window + size): overlapped views, copied only where B > 1
        stretches = context.unfold(3, self.window + size, size)
        keys, values = stretches.permute(1, 0, 3, 2, 5, 4).flatten(1, 2)
        attended = attention(query, keys, values, masks)
        attended = attended.unflatten(0, (batch, blocks)).permute(0, 1, 3, 2, 4)
        joined: Tensor = attended.flatten(1, 2).flatten(2)[:, :time]
        return joined


class Transformer(nn.Module):
    """Blocks `first` to `last`; the first part of a stack also adds the convolved positions."""

    def __init__(self, config: TransformerConfig, dim: int, first: int, last: int) -> None:
        super().__init__()
        if dim != config.dim:
            raise ConfigError(f"encoder.dim={config.dim} is not the frontend's {dim} features")
        self.config = config
        self.dim = dim
        self.blocks = nn.ModuleList(Block(config) for _ in range(first, last))
        self.out_norm = nn.LayerNorm(dim) if self.blocks else nn.Identity()
        kernel = config.conv_position if first == 0 else 0
        self.position = nn.Conv1d(dim, dim, kernel, groups=config.conv_groups) if kernel else None
        self.receptive_field = (last - first) * config.window + max(kernel - 1, 0)

    def init_state(self, batch_size: int, device: torch.device) -> State:
        """Empty caches; a stream's frame count tells which of their entries are real."""
        head_dim = self.dim // self.config.heads
        shape = (batch_size, 2, self.config.heads, self.config.window, head_dim)
        state = {f"cache{i}": torch.zeros(shape, device=device) for i in range(len(self.blocks))}
        if self.position is not None:
            past = self.position.kernel_size[0] - 1
            state["position"] = torch.zeros(batch_size, past, self.dim, device=device)
        return state

    def forward(self, x: Tensor, frames: Tensor, state: State) -> tuple[Tensor, State]:
        """(B, T, D) to (B, T, D) and the next state; `frames` (B,) counts those before."""
        following: State = {}
        if self.position is not None:
            past = self.position.kernel_size[0] - 1
            padded = torch.cat([state["position"], x], dim=1)
            following["position"] = padded[:, padded.shape[1] - past :]
            x = x + F.gelu(self.position(padded.transpose(1, 2)).transpose(1, 2))
        if self.blocks:
            rotary = Rotary(frames, x.shape[1], self.dim // self.config.heads)
            masks = window_masks(frames, x.shape[1], self.config.window)
        for i, block in enumerate(self.blocks):
            x, following[f"cache{i}"] = block(x, rotary, masks, state[f"cache{i}"])
        return self.out_norm(x), following
