"""Causal normalisation: running mean and deviation of every electrode and feature."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from emgcodec.config import NormalizationConfig

State = dict[str, Tensor]

UPDATE_FRAMES = 8

_ROWS_AT_ONCE = 4096


def in_cache(work: Callable[..., Tensor], values: Tensor, *others: Tensor) -> Tensor:
    """What is made of (B, T, C, ...), of so few frames at a time that all of it stays in the cache.

    Args:
        work: Takes and gives (B, t, ...).
        values: (B, T, C, ...).
        others: (B, T, ...), what else it takes.
    """
    batch, time, electrodes = values.shape[:3]
    size = max(1, _ROWS_AT_ONCE // max(1, batch * electrodes))
    if torch.compiler.is_compiling() or time <= size:  # a graph for any size counts no loops
        return work(values, *others)
    parts = zip(*(tensor.split(size, dim=1) for tensor in (values, *others)), strict=True)
    return torch.cat([work(*part) for part in parts], dim=1)


@dataclass(frozen=True)
class Statistics:
    """What the norm knew at each frame.

    Attributes:
        mean: (B * rows, C, F) of each stretch of frames between two updates.
        rstd: Reciprocal deviation, likewise.
        lowest: Normalised features lie no deeper, likewise; None without a depth.
        row: (B, T) which of the rows holds for a frame; None where each item has but one.
    """

    mean: Tensor
    rstd: Tensor
    lowest: Tensor | None
    row: Tensor | None

    @torch.no_grad()
    def normalize(
        self,
        values: Tensor,
        valid: Tensor,
        hidden: Tensor | None = None,
        limit: float | None = None,
    ) -> Tensor:
        """Values without mean and with unit deviation, no further from 0 than the limit.

        Args:
            values: (B, T, C, F), or (B, T, C, samples) where F is 1.
            valid: (B, T, C); the rest becomes 0.
            hidden: (B, T, F) features that become 0 on all electrodes.
            limit: In deviations.
        """

        def work(values: Tensor, valid: Tensor, row: Tensor | None = None) -> Tensor:
            normal = (values - of_frames(self.mean, row)).mul_(of_frames(self.rstd, row))
            if self.lowest is not None:
                normal = torch.maximum(normal, of_frames(self.lowest, row))
            if limit is not None:
                normal.clamp_(-limit, limit)
            return normal.mul_(valid[..., None])

        normal = in_cache(work, values, valid, *(() if self.row is None else (self.row,)))
        return normal if hidden is None else normal.masked_fill_(hidden[:, :, None], 0.0)


def of_frames(rows: Tensor, row: Tensor | None) -> Tensor:
    """Rows (B * rows, ...) to those of frames (B, T, ...); (B, 1, ...) where one holds for all."""
    if row is None:
        return rows[:, None]
    frames: Tensor = rows.index_select(0, row.flatten()).unflatten(0, row.shape)
    return frames


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

    def moments(self, values: Tensor) -> tuple[Tensor, Tensor]:
        """What the statistics are sums of: each frame's values and squares, (B, T, C, F)."""
        if self.domain == "log_power":
            return values, values.square()
        wide = values.double()  # offsets of thousands beside signals of tens
        return wide.mean(dim=-1, keepdim=True), wide.square().mean(dim=-1, keepdim=True)

    @torch.no_grad()
    def forward(
        self, values: Tensor, valid: Tensor, frames: Tensor, state: State
    ) -> tuple[Statistics, State]:
        """What is known at each frame.

        Args:
            values: (B, T, C, F) log power, or (B, T, C, samples) amplitude; 0 if not valid.
            valid: (B, T, C) electrodes to learn from.
            frames: (B,) frames of each stream before this call.
            state: From `init_state` or the last call.

        Returns:
            The statistics and the next state.
        """
        batch, time = values.shape[:2]
        first, second = self.moments(values)
        weight = valid[..., None].to(first.dtype)
        if time == 1:
            sample = torch.cat([weight, first, second], dim=-1)[:, 0]
            return self._one_frame(sample, frames[:, None, None], state)
        segment, length = self._segments(frames, time)
        rows = length.shape[1]
        items = torch.arange(batch, device=frames.device)[:, None]

        # A segment's few frames are summed in the features' own type, all the rest in float64; row
        # after row is added in order: the same sums whatever the size of the blocks.
        index = (segment + rows * items).flatten()
        sums = values.new_zeros(
            batch, rows, values.shape[2], 2 * self.num_features + 1, dtype=torch.float64
        )
        samples = weight, first, second
        for whole, start, sample in zip(
            self._split(sums), self._split(state["partial"]), samples, strict=True
        ):
            total = sample.new_zeros(batch, rows, *sample.shape[2:])
            total[:, 0] = start
            total.flatten(0, 1).index_add_(0, index, sample.flatten(0, 1))
            whole.copy_(total)

        # Statistics before each segment: a linear recurrence with constant decay, in closed form.
        age = (torch.cumsum(length, dim=1) - length)[..., None, None]
        stats = torch.empty_like(sums)
        stats[:, 0] = state["stats"]
        growth = torch.exp(-self.log_decay * age[:, 1:])
        torch.mul(sums[:, :-1], growth, out=stats[:, 1:])
        torch.cumsum(stats, dim=1, out=stats)
        stats.mul_(torch.exp(self.log_decay * age))

        frame = frames[:, None] + torch.arange(time, device=frames.device)
        row = segment + (frame < UPDATE_FRAMES) + rows * items
        last = self._segment_of(frames + time) - self._segment_of(frames)
        following = {"stats": stats[items[:, 0], last], "partial": sums[items[:, 0], last]}
        return self._known(stats.flatten(0, 1), row), following

    def _one_frame(self, sample: Tensor, frame: Tensor, state: State) -> tuple[Statistics, State]:
        """The same of a single frame: of a stream's step the above would be a third."""
        early = frame < UPDATE_FRAMES
        ends = early | (frame % UPDATE_FRAMES == UPDATE_FRAMES - 1)
        sums = (state["partial"].to(sample.dtype) + sample).double()
        length = torch.where(early, 1, UPDATE_FRAMES).double()
        updated = torch.addcmul(sums, state["stats"], torch.exp(self.log_decay * length))
        known = torch.where(early, updated, state["stats"])
        stats = torch.where(ends, updated, state["stats"])
        return self._known(known, None), {"stats": stats, "partial": sums.masked_fill(ends, 0.0)}

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

    def _split(self, stats: Tensor) -> tuple[Tensor, ...]:
        """Weight (..., 1), sums and sums of squares (..., F)."""
        parts: tuple[Tensor, ...] = stats.split([1, self.num_features, self.num_features], dim=-1)
        return parts

    def _known(self, stats: Tensor, row: Tensor | None) -> Statistics:
        mean, rstd = self._moments(stats)
        if self.depth is None:
            return Statistics(mean, rstd, None, row)
        deepest = mean.amax(dim=-1, keepdim=True) - self.depth
        mean = torch.maximum(mean, deepest)
        return Statistics(mean, rstd, (deepest - mean) * rstd, row)

    def _moments(self, stats: Tensor) -> tuple[Tensor, Tensor]:
        weight, first, second = self._split(stats)
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
