"""Causal normalisation: running mean and deviation of every electrode and feature."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from emgcodec.config import NormalizationConfig

State = dict[str, Tensor]

UPDATE_FRAMES = 8


class CausalNorm(nn.Module):
    """Statistics from past frames, exponentially forgotten, in float64.

    The first `UPDATE_FRAMES` frames of a stream use all frames so far, their own included; later
    ones use what was known at the last multiple of `UPDATE_FRAMES`, counted from the stream's
    start, so that a stream and a whole recording see the same numbers. The state is
    C * (2 F + 1) doubles, twice.

    An electrode with less than `prior_seconds` of memory borrows the rest from a prior: in the
    log-power domain its neighbours' mean (so the pattern over the electrodes survives a cold
    start) and a fixed deviation; in the amplitude domain its neighbours' variance.

    Args:
        config: Time constants.
        num_features: F.
        frame_rate: Frames a second.
        domain: ``log_power`` or ``amplitude``.
        depth: Means lie at most this far below the largest of their electrode, and normalised
            features no deeper than that either.
    """

    def __init__(
        self,
        config: NormalizationConfig,
        num_features: int,
        frame_rate: float,
        domain: str,
        depth: float | None = None,
    ) -> None:
        super().__init__()
        self.num_features = num_features
        self.domain = domain
        self.depth = depth
        self.log_decay = -1.0 / (config.time_constant * frame_rate)
        self.full_weight = config.time_constant * frame_rate
        self.prior_weight = config.prior_seconds * frame_rate
        self.prior_variance = config.prior_std**2

    def init_state(
        self,
        batch_size: int,
        num_electrodes: int,
        prior: tuple[Tensor, Tensor, Tensor] | None,
        device: torch.device,
    ) -> State:
        """Fresh state; the prior is mean and deviation (B, C, F) and frames (B, C)."""
        size = (batch_size, num_electrodes, 2 * self.num_features + 1)
        state = {
            "stats": torch.zeros(size, dtype=torch.float64, device=device),
            "partial": torch.zeros(size, dtype=torch.float64, device=device),
        }
        if prior is not None:
            mean, std, frames = prior
            weight = frames.clamp(max=self.full_weight)[..., None]
            second = std.square() + mean.square()
            state["stats"] = torch.cat([weight, weight * mean, weight * second], dim=-1)
        return state

    def forward(
        self, first: Tensor, second: Tensor, valid: Tensor, frames: Tensor, state: State
    ) -> tuple[Tensor, Tensor, Tensor | None, State]:
        """Mean and reciprocal deviation for each frame.

        Args:
            first: (B, T, C, F) features of each frame (or their mean within it), 0 if not valid.
            second: (B, T, C, F) their squares, likewise.
            valid: (B, T, C) electrodes to learn from.
            frames: (B,) frames of each stream before this call.
            state: From `init_state` or the last call.

        Returns:
            Mean, reciprocal deviation and, with a depth, the lowest normalised feature, each
            (B, T, C, F) float32, and the next state.
        """
        batch, time = first.shape[:2]
        segment, length = self._segments(frames, time)
        rows = length.shape[1]

        # A segment's few frames are summed in the features' own type, all the rest in float64; row
        # after row is added in order: the same sums whatever the size of the blocks.
        weight = valid.to(first.dtype)[..., None]
        sample = torch.cat([weight, first, second], dim=-1)
        sums = sample.new_zeros(batch, rows, *sample.shape[2:])
        sums[:, 0] = state["partial"]
        index = segment + rows * torch.arange(batch, device=segment.device)[:, None]
        sums = sums.flatten(0, 1).index_add_(0, index.flatten(), sample.flatten(0, 1))
        sums = sums.unflatten(0, (batch, rows)).double()

        # Statistics before each segment: a linear recurrence with constant decay, in closed form.
        age = torch.cumsum(length, dim=1) - length
        grown = sums[:, :-1] * torch.exp(-self.log_decay * (age + length))[:, :-1, None, None]
        before = torch.cumsum(torch.cat([state["stats"][:, None], grown], dim=1), dim=1)
        stats = before.mul_(torch.exp(self.log_decay * age)[..., None, None])

        mean, rstd = self._moments(stats)
        frame = frames[:, None] + torch.arange(time, device=frames.device)
        known = segment + (frame < UPDATE_FRAMES)
        last = self._segment_of(frames + time) - self._segment_of(frames)
        items = torch.arange(batch, device=frames.device)
        following = {"stats": stats[items, last], "partial": sums[items, last]}
        chosen = (known + stats.shape[1] * items[:, None]).flatten()
        shape = (batch, time)

        def each_frame(rows: Tensor) -> Tensor:
            frames_: Tensor = rows.flatten(0, 1).index_select(0, chosen).unflatten(0, shape)
            return frames_

        if self.depth is None:
            return each_frame(mean), each_frame(rstd), None, following
        deepest = mean.amax(dim=-1, keepdim=True) - self.depth
        mean = torch.maximum(mean, deepest)
        lowest = (deepest - mean) * rstd
        return each_frame(mean), each_frame(rstd), each_frame(lowest), following

    @staticmethod
    def _segment_of(frame: Tensor) -> Tensor:
        """Frames 0 to 7 are segments of their own, later ones come in eights."""
        eight = UPDATE_FRAMES
        later = eight - 1 + torch.div(frame, eight, rounding_mode="floor")
        return torch.where(frame < eight, frame, later)

    def _segments(self, frames: Tensor, time: int) -> tuple[Tensor, Tensor]:
        """Segment of each frame (B, T), from 0, and frames of each segment (B, rows)."""
        start = self._segment_of(frames)[:, None]
        frame = frames[:, None] + torch.arange(time, device=frames.device)
        rows = min(time, UPDATE_FRAMES) + time // UPDATE_FRAMES + 2
        segment = start + torch.arange(rows, device=frames.device)
        length = torch.where(segment < UPDATE_FRAMES, 1, UPDATE_FRAMES).to(torch.float64)
        return self._segment_of(frame) - start, length

    def _moments(self, stats: Tensor) -> tuple[Tensor, Tensor]:
        weight, first, second = stats.split([1, self.num_features, self.num_features], dim=-1)
        inverse = 1.0 / weight.clamp(min=1e-9)
        own_mean = first * inverse
        own_variance = torch.addcmul(second * inverse, own_mean, own_mean, value=-1).float()
        # The share of the prior: what is missing from `prior_weight` frames.
        borrowed = (self.prior_weight - weight).clamp(min=0)
        share = (borrowed / (weight + borrowed)).float()
        total = weight.sum(dim=-2, keepdim=True).clamp(min=1e-9)
        mean = own_mean.float()
        if self.domain == "log_power":
            shared_mean = (first.sum(dim=-2, keepdim=True) / total).float()
            mean = torch.lerp(mean, shared_mean, share)
            variance = torch.lerp(own_variance, own_variance.new_tensor(self.prior_variance), share)
        else:
            scatter = (own_variance * weight).sum(dim=-2, keepdim=True)
            variance = torch.lerp(own_variance, (scatter / total).float(), share)
        return mean, torch.rsqrt(variance.clamp_(min=0) + 1e-6)
