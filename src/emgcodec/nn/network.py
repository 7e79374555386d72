"""The network: frontend, encoder, quantizer, decoder and heads, and the steps that run them.

A whole recording is the step over blocks of frames; a stream is the same step over smaller ones.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import torch
from torch import Tensor, nn

from emgcodec.calibration import Calibration, CalibrationError, Calibrations
from emgcodec.config import CodecConfig, LabelHeadConfig, SignalHeadConfig
from emgcodec.montage import Montage, MontageError
from emgcodec.nn.encoder import build_encoder
from emgcodec.nn.frontend import ElectrodeSet, build_frontend
from emgcodec.nn.heads import LabelHead, NoiseShaper, SignalHead
from emgcodec.nn.normalize import State, of_frames
from emgcodec.nn.quantizer import Quantizer
from emgcodec.signal import HUGE

Montages = Montage | Sequence[Montage]


@dataclass
class CodecOutput:
    """What `Codec.forward` gives in training.

    Attributes:
        latents: (B, D, T) before the quantizer.
        codes: (B, K, T) int64, -1 where there is no frame; K is 0 without a quantizer.
        decoded: (B, D, T) what the heads read.
        valid: (B, T) frames with a signal.
        heads: Output of each head: scores (B, T, V), spectrum (B, T, C, F).
        losses: Terms that need no labels: ``commitment``, ``reconstruction``, ``level``.
        spectrum: What the signal head should have said, and where that is known, (B, T, C, F).
        stats: Codebook usage.
    """

    latents: Tensor
    codes: Tensor
    decoded: Tensor
    valid: Tensor
    heads: dict[str, Tensor]
    losses: dict[str, Tensor]
    spectrum: tuple[Tensor, Tensor] | None = None
    stats: dict[str, float] = field(default_factory=dict)


class Network(nn.Module):
    """All parts that a `CodecConfig` names."""

    def __init__(self, config: CodecConfig) -> None:
        super().__init__()
        keep_freed_memory()
        self.config = config
        split, last = config.quantizer.after_block, config.encoder.blocks
        self.frontend = build_frontend(config)
        dim = self.frontend.dim
        self.encoder = build_encoder(config, dim, 0, split)
        self.quantizer = (
            None if config.quantizer.kind == "none" else Quantizer(config.quantizer, dim)
        )
        self.decoder = build_encoder(config, dim, split, last)
        self.head = nn.ModuleDict()
        self.shaper: NoiseShaper | None = None
        for name, part in config.heads.items():
            if isinstance(part, SignalHeadConfig):
                self.head[name] = SignalHead(config, part, dim)
                self.shaper = NoiseShaper(config)
            else:
                self.head[name] = LabelHead(part, dim)
        # Of all parts that there will be: heads have none, and a step has no time to look for them.
        self.dropouts = [part for part in self.modules() if isinstance(part, nn.Dropout)]

    def add_label_head(self, name: str, part: LabelHeadConfig) -> LabelHead:
        """A new label head, untrained; replaces one of that name."""
        head = LabelHead(part, self.decoder.dim).to(self.device)
        self.head[name] = head
        self.config = replace(self.config, heads={**self.config.heads, name: part})
        return head

    @property
    def device(self) -> torch.device:
        """Where the parameters are."""
        return next(self.parameters()).device

    @property
    def block_frames(self) -> int:
        """Frames of one step over a whole recording: products of a good size, in the cache."""
        return 1024 if self.config.hop_length < 32 else 512

    @property
    def features(self) -> str:
        """Which features a `Calibration` must hold to fit this network."""
        part = self.config.frontend
        if isinstance(self.frontend, ElectrodeSet):
            return f"bands-{self.config.sample_rate}-{part.window}-{self.frontend.num_features}"  # type: ignore[union-attr]
        return f"{part.kind}-{self.config.sample_rate}-{self.config.hop_length}"

    def init_state(
        self,
        batch_size: int,
        montage: Montages,
        calibration: Calibrations = None,
        *,
        num_electrodes: int | None = None,
    ) -> State:
        """State before the first frame of each stream.

        Args:
            batch_size: Streams that run side by side.
            montage: Of all, or one for each; smaller ones are padded with masked electrodes.
            calibration: Of all, or one or None for each.
            num_electrodes: Rows of the signal; as many as the largest montage by default.

        Returns:
            Tensors by name, batch first; `encode_step` takes and gives it.

        Raises:
            MontageError: if a fixed-montage codec is given another montage.
            CalibrationError: if a calibration is for other features or electrodes.
        """
        montages = [montage] * batch_size if isinstance(montage, Montage) else list(montage)
        if len(montages) != batch_size:
            raise MontageError(f"montage: {len(montages)} given for a batch of {batch_size}")
        fixed = self.config.montage
        if fixed is not None and any(m.electrodes != fixed.electrodes for m in montages):
            raise MontageError(
                f"codec {self.config.name!r} has the fixed montage {fixed.name!r}: bring the rows "
                "into its order first, x[:, montage.order_for(codec.config.montage)]"
            )
        device = self.device
        width = num_electrodes or max((len(m) for m in montages), default=1)
        positions = torch.zeros(batch_size, width, 4)
        mask = torch.zeros(batch_size, width, dtype=torch.bool)
        for i, m in enumerate(montages):
            positions[i, : len(m)] = torch.from_numpy(m.positions())
            mask[i, : len(m)] = True
        prior = self._prior(montages, calibration, width, device)
        parts = {
            "frontend": self.frontend.init_state(batch_size, width, prior, device),
            "encoder": self.encoder.init_state(batch_size, device),
        }
        state = {
            "frames": torch.zeros(batch_size, dtype=torch.long, device=device),
            "positions": positions.to(device),
            "mask": mask.to(device),
        }
        return state | _join(parts)

    def _prior(
        self, montages: list[Montage], calibration: Calibrations, width: int, device: torch.device
    ) -> tuple[Tensor, Tensor, Tensor] | None:
        if calibration is None:
            return None
        each = (
            [calibration] * len(montages)
            if isinstance(calibration, Calibration)
            else list(calibration)
        )
        if not all(item is None or isinstance(item, Calibration) for item in each):
            raise CalibrationError(f"calibration={calibration!r}: give a Calibration or None")
        if len(each) != len(montages):
            raise CalibrationError(f"calibration: {len(each)} given for a batch of {len(montages)}")
        shape = (len(montages), width, self.frontend.num_features)
        mean, std = torch.zeros(2, *shape, dtype=torch.float64)
        frames = torch.zeros(shape[:2], dtype=torch.float64)
        for i, (item, montage) in enumerate(zip(each, montages, strict=True)):
            if item is None:
                continue
            if item.features != self.features:
                raise CalibrationError(
                    f"calibration is for features {item.features!r}, this codec's are "
                    f"{self.features!r}: make one with codec.calibrate(...)"
                )
            fitted = item.for_montage(montage)
            mean[i, : len(montage)] = torch.tensor(fitted.mean)
            std[i, : len(montage)] = torch.tensor(fitted.std)
            frames[i, : len(montage)] = torch.tensor(fitted.frames)
        return mean.to(device), std.to(device), frames.to(device)

    def latent_step(
        self, x: Tensor, state: State, mask: Tensor | None = None
    ) -> tuple[Tensor, Tensor, State]:
        """Whole frames of signal to latents.

        Args:
            x: (B, C, T * hop_length) µV; non-finite samples mask their electrode and frame.
            state: From `init_state` or the last step.
            mask: (B, C) or (B, C, T) electrodes to use, beside the state's own mask.

        Returns:
            Latents (B, T, D), which frames had any signal (B, T), and the next state.
        """
        values, valid, state = self.measure_step(x, state, mask)
        return self._encode(values, valid, state)

    def measure_step(
        self, x: Tensor, state: State, mask: Tensor | None = None
    ) -> tuple[Tensor, Tensor, State]:
        """What the frontend measures, where it is valid (B, T, C), and the state after that.

        The first half of `latent_step`, whose arguments these are: nothing of it is learned.
        """
        # One pass finds NaN, infinities and what is too large to be squared.
        size = torch.linalg.vector_norm(x.unflatten(-1, (-1, self.config.hop_length)), dim=-1)
        usable = (size <= HUGE) & state["mask"][..., None]
        if mask is not None:
            usable = usable & (mask if mask.ndim == 3 else mask[..., None])
        values, valid, following = self.frontend.measure(
            x, usable, state["frames"], _part(state, "frontend")
        )
        return values, valid, state | _join({"frontend": following})

    def _encode(
        self, values: Tensor, valid: Tensor, state: State, hidden: Tensor | None = None
    ) -> tuple[Tensor, Tensor, State]:
        """Latents (B, T, D), which frames had any signal (B, T), and the next state."""
        frames = state["frames"]
        features, alive, frontend = self.frontend(
            values, valid, state["positions"], frames, _part(state, "frontend"), hidden
        )
        latents, encoder = self.encoder(features, frames, _part(state, "encoder"))
        following = state | _join({"frontend": frontend, "encoder": encoder})
        following["frames"] = frames + valid.shape[1]
        return latents, alive, following

    def statistics_step(
        self, x: Tensor, state: State, mask: Tensor | None = None
    ) -> tuple[Tensor, State]:
        """Sums that a `Calibration` is made of, (B, C, 2 F + 1): frames, features, squares."""
        values, valid, following = self.measure_step(x, state, mask)
        first, second = self.frontend.norm.moments(values)
        sums = torch.cat([valid.double()[..., None], first, second], dim=-1).sum(dim=1)
        following["frames"] = state["frames"] + valid.shape[1]
        return sums, following

    def init_decode_state(self, batch_size: int) -> State:
        """State before the first code of each stream."""
        frames = torch.zeros(batch_size, dtype=torch.long, device=self.device)
        decoder = self.decoder.init_state(batch_size, self.device)
        return {"frames": frames} | _join({"decoder": decoder})

    def decode_step(self, latents: Tensor, state: State) -> tuple[Tensor, State]:
        """Quantized latents (B, T, D) to the vectors that heads read, and the next state."""
        frames = state["frames"]
        h, decoder = self.decoder(latents, frames, _part(state, "decoder"))
        following = state | _join({"decoder": decoder})
        following["frames"] = frames + latents.shape[1]
        return h, following

    def forward(
        self,
        x: Tensor,
        lengths: Tensor,
        *,
        montage: Montages,
        mask: Tensor | None,
        calibration: Calibrations,
        quantize: bool,
        hidden: Tensor | None,
        read: bool,
    ) -> CodecOutput:
        """See `Codec.forward`, which checks the arguments."""
        hop = self.config.hop_length
        time = -(-x.shape[-1] // hop)
        x = hold_beyond(x, lengths, 0, time * hop)
        state = Network.init_state(self, len(x), montage, calibration, num_electrodes=x.shape[1])
        with torch.autocast(x.device.type, enabled=False):  # what is not learned stays exact
            values, genuine, measured = self.measure_step(x, state, mask)
        latents, alive, _ = self._encode(values, genuine, measured, hidden)
        count = -(-lengths.to(x.device) // hop)
        valid = alive & (torch.arange(time, device=x.device) < count[:, None])
        codes = latents.new_zeros((len(x), time, 0), dtype=torch.long)
        quantized, losses, stats = latents, {}, {}
        if self.quantizer is not None:
            result = self.quantizer(latents, valid, quantize)
            quantized, codes, stats = result.latents, result.codes, result.stats
            losses["commitment"] = result.commitment
        made = latents.mT, codes.mT
        if not read:
            return CodecOutput(*made, quantized.mT, valid, {}, losses, stats=stats)
        h, _ = self.decode_step(quantized, self.init_decode_state(len(x)))
        heads: dict[str, Tensor] = {}
        spectrum = None
        for name, head in self.head.items():
            if isinstance(head, SignalHead):
                heads[name] = head(h, state["positions"])
                spectrum = self._spectrum_target(values, genuine, valid, measured)
                losses |= _spectrum_losses(heads[name], *spectrum)
            else:
                heads[name] = head(h)
        return CodecOutput(*made, h.mT, valid, heads, losses, spectrum, stats)

    @torch.no_grad()
    def _spectrum_target(
        self, level: Tensor, genuine: Tensor, valid: Tensor, state: State
    ) -> tuple[Tensor, Tensor]:
        """Log10 band power relative to what is usual for the electrode, and where there is any.

        Usual is the running mean that the encoder's features are relative to as well: the mean of
        a window, part of which is still to come, could not be known from the codes.

        Args:
            level: (B, T, C, F) log10 power.
            genuine: (B, T, C) electrodes that were valid.
            valid: (B, T) frames that are no padding.
            state: Before these frames.

        Returns:
            Both (B, T, C, F).
        """
        assert isinstance(self.frontend, ElectrodeSet)
        statistics, _ = self.frontend.norm(
            level, genuine, state["frames"], _part(state, "frontend")
        )
        usual = torch.log10(torch.pow(10.0, statistics.mean).sum(dim=-1, keepdim=True))
        relative = level - of_frames(usual, statistics.row)
        known = self.frontend.audible(level, genuine & valid[..., None])
        return relative.clamp(min=-6.0), known


def _spectrum_losses(given: Tensor, target: Tensor, known: Tensor) -> dict[str, Tensor]:
    """Squared errors of each band, and of the mean over an electrode's bands.

    The spectrum of one window is noisy, band by band; the level is much less so.
    """
    error = (given - target) * known
    bands = known.sum(dim=-1)
    level = error.sum(dim=-1) / bands.clamp(min=1)
    return {
        "reconstruction": error.square().sum() / bands.sum().clamp(min=1),
        "level": level.square().sum() / (bands > 0).sum().clamp(min=1),
    }


def keep_freed_memory() -> None:
    """Teaches the C allocator to keep a block's temporaries instead of giving them back.

    glibc adapts to the largest block freed so far, up to 32 MiB; freeing one that was never
    touched costs nothing. Without it a step may spend half of its time on page faults.
    """
    torch.empty((1 << 25) - (1 << 16), dtype=torch.uint8)


def hold_beyond(x: Tensor, lengths: Tensor, start: int, stop: int) -> Tensor:
    """Samples start to stop of (B, C, N), each item held at its last sample beyond its length."""
    if stop <= x.shape[-1] and (len(lengths) == 0 or stop <= int(lengths.min())):
        return x[..., start:stop]
    if x.shape[-1] == 0:
        return x.new_zeros((*x.shape[:-1], stop - start))
    last = (lengths.to(x.device) - 1).clamp(min=0)
    index = torch.minimum(torch.arange(start, stop, device=x.device)[None], last[:, None])
    return x.gather(-1, index[:, None].expand(-1, x.shape[1], -1))


def _join(parts: dict[str, State]) -> State:
    return {f"{name}.{key}": t for name, part in parts.items() for key, t in part.items()}


def _part(state: State, name: str) -> State:
    return {k[len(name) + 1 :]: t for k, t in state.items() if k.startswith(f"{name}.")}


def parameter_counts(network: Network) -> dict[str, int]:
    """Parameters by part: encoder (all before the codebooks), codebooks, decoder, heads."""

    def count(*modules: nn.Module | None) -> int:
        return sum(p.numel() for m in modules if m is not None for p in m.parameters())

    quantizer = network.quantizer
    inwards = quantizer.project_in if quantizer else None
    outwards = quantizer.project_out if quantizer else None
    return {
        "encoder": count(network.frontend, network.encoder, inwards),
        "codebooks": quantizer.codebooks.numel() if quantizer else 0,
        "decoder": count(network.decoder, outwards),
        "heads": count(network.head),
    }
