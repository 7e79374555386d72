"""The tensor half of `Codec`: signals to codes and back, for anything that is already a tensor."""

from __future__ import annotations

import functools
import hashlib
import json
import threading
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Concatenate, ParamSpec, Self, TypeVar

import torch
from torch import Tensor

from emgcodec.calibration import Calibrations
from emgcodec.checks import (
    check_codes,
    check_lengths,
    check_levels,
    check_mask,
    check_signal,
)
from emgcodec.config import LabelHeadConfig
from emgcodec.montage import Montage, MontageError, as_montage, resolve_montage
from emgcodec.nn.heads import LabelHead, SignalHead
from emgcodec.nn.network import (
    CodecOutput,
    Montages,
    Network,
    hold_beyond,
    parameter_counts,
)
from emgcodec.nn.normalize import State
from emgcodec.nn.quantizer import Quantizer
from emgcodec.stream import CodecError

_P = ParamSpec("_P")
_R = TypeVar("_R")
_C = TypeVar("_C", bound="TensorCodec")

_DROPOUT = threading.RLock()  # held while dropout is switched off in a codec that trains


def inference(
    method: Callable[Concatenate[_C, _P], _R],
) -> Callable[Concatenate[_C, _P], _R]:
    """Runs a method without gradients, dropout and autocast: codes depend on none of them."""

    @functools.wraps(method)
    def run(self: _C, /, *args: _P.args, **kwargs: _P.kwargs) -> _R:
        with torch.no_grad(), torch.autocast(self.device.type, enabled=False):
            with _DROPOUT:  # or another thread's off would be taken for eval mode
                active = [part for part in self.dropouts if part.training]
            if not active:
                return method(self, *args, **kwargs)
            with _DROPOUT:
                for module in active:
                    module.eval()
                try:
                    return method(self, *args, **kwargs)
                finally:
                    for module in active:
                        module.train()

    return run


class TensorCodec(Network):
    """A network with the tensor methods of `Codec`, and what can be asked about it."""

    @property
    def sample_rate(self) -> int:
        """Hz, inside the codec."""
        return self.config.sample_rate

    @property
    def hop_length(self) -> int:
        """Samples of one frame."""
        return self.config.hop_length

    @property
    def frame_rate(self) -> float:
        """Frames a second."""
        return self.config.frame_rate

    @property
    def num_codebooks(self) -> int:
        """Levels K; 0 without a quantizer."""
        return self.config.quantizer.levels

    @property
    def codebook_size(self) -> int:
        """Codes of each level."""
        return self.config.quantizer.size if self.quantizer is not None else 0

    @property
    def bits_per_frame(self) -> int:
        """Bits of one frame's codes."""
        return self.num_codebooks * max(self.codebook_size - 1, 0).bit_length()

    @property
    def receptive_field(self) -> int:
        """Samples that can change a frame's codes, beside the normalisation's slow statistics."""
        past = self.encoder.receptive_field * self.hop_length
        return self.frontend.receptive_field + past

    @property
    def lookahead(self) -> int:
        """Samples after a frame's end that its codes need: none at the codec's own rate.

        Resampling a foreign rate needs `emgcodec.signal.resampling_lookahead` seconds.
        """
        return 0

    @property
    def heads(self) -> tuple[str, ...]:
        """Names of the heads."""
        return tuple(self.config.heads)

    def labels(self, head: str) -> tuple[str, ...]:
        """Class names of a label head, without the blank of a text head; else a `CodecError`."""
        part = self.config.heads.get(head)
        if not isinstance(part, LabelHeadConfig):
            raise CodecError(f"head {head!r} has no labels: {self._known_heads()}")
        return part.labels

    def num_parameters(self, part: str | None = None) -> int:
        """Parameters of a part, or of all.

        Args:
            part: ``encoder`` (all before the quantizer), ``codebooks``, ``decoder`` or ``heads``.
        """
        counts = parameter_counts(self)
        if part is not None and part not in counts:
            raise CodecError(f"part={part!r} is unknown: choose from {list(counts)}")
        return sum(counts.values()) if part is None else counts[part]

    @property
    def vocab_id(self) -> str:
        """Hash of codebooks, levels, size and frame rate: what the codes mean."""
        return self._ids()[0]

    @property
    def codec_id(self) -> str:
        """Name and hash of the config and all tensors: which codec made the codes."""
        return self._ids()[1]

    def _ids(self) -> tuple[str, str]:
        tensors = self.state_dict()
        state: Any = None
        if not any(t.is_inference() for t in tensors.values()):  # those do not tell of changes
            state = self.config, [(t.data_ptr(), t._version) for t in tensors.values()]
        cached: tuple[Any, tuple[str, str]] | None = getattr(self, "_cached_ids", None)
        if cached is not None and state is not None and cached[0] == state:
            return cached[1]
        facts = [self.num_codebooks, self.codebook_size, self.sample_rate, self.hop_length]
        vocab = hashlib.sha256(json.dumps(facts).encode())
        whole = hashlib.sha256(json.dumps(self.config.to_dict(), sort_keys=True).encode())
        for name, tensor in sorted(tensors.items()):
            data = tensor.detach().cpu().numpy().tobytes()
            whole.update(name.encode() + data)
            if name == "quantizer.codebooks":
                vocab.update(data)
        ids = vocab.hexdigest()[:12], f"{self.config.name}-{whole.hexdigest()[:12]}"
        self._cached_ids = (state, ids)
        return ids

    def init_state(
        self,
        batch_size: int,
        montage: Montages,
        calibration: Calibrations = None,
        *,
        num_electrodes: int | None = None,
    ) -> State:
        """See `Network.init_state`; marked as this codec's, for `encode_step` takes no other."""
        state = super().init_state(batch_size, montage, calibration, num_electrodes=num_electrodes)
        mark = int(self.codec_id[-12:], 16)
        state["codec"] = torch.full((batch_size,), mark, device=self.device)
        return state

    def forward(
        self,
        x: Tensor,
        lengths: Tensor | Sequence[int] | None = None,
        *,
        montage: Montages | str | None = None,
        mask: Tensor | None = None,
        calibration: Calibrations = None,
        quantize: bool = True,
        hidden: Tensor | None = None,
        read: bool = True,
    ) -> CodecOutput:
        """Training: every output and the losses that need no labels, with gradients.

        Args:
            x: (B, C, N) µV at the codec's rate, at least one sample.
            lengths: (B,) samples of each item.
            montage: Of all items, or one each; rows in the codec's order where it has its own.
            mask: (B, C) or (B, C, T) bool, electrodes to use.
            calibration: Of all items, or one or None each.
            quantize: False lets latents pass unquantized, to warm up before codebooks start.
            hidden: (B, T, F) bool, features of the frontend to replace by their mean.
            read: False leaves out the decoder and all heads.

        Raises:
            CodecError: if the tensor, lengths or mask cannot be.
        """
        check_signal(x)
        check_mask(mask, x.shape, self.num_frames(x.shape[-1]))
        if x.shape[-1] == 0 or len(x) == 0:
            raise CodecError(f"x has shape {tuple(x.shape)}: there is nothing to train on")
        return super().forward(
            x.to(torch.float32),
            check_lengths(lengths, len(x), x.shape[-1]),
            montage=self._montages(montage, len(x), x.shape[1]),
            mask=mask,
            calibration=calibration,
            quantize=quantize,
            hidden=hidden,
            read=read,
        )

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Self:
        if fn(torch.zeros(1)).dtype != torch.float32:
            raise CodecError("a codec stays in float32: in other types it would give other codes")
        return super()._apply(fn, recurse)  # type: ignore[no-untyped-call, no-any-return]

    @inference
    def encode_step(
        self, x: Tensor, state: State, mask: Tensor | None = None
    ) -> tuple[Tensor, State]:
        """Whole frames of signal to codes.

        Args:
            x: (B, C, T * hop_length) µV at the codec's rate.
            state: From `init_state` or the last step; it is not changed.
            mask: (B, C) or (B, C, T) electrodes to use.

        Returns:
            Codes (B, K, T) int64, -1 for frames without any electrode, and the next state.

        Raises:
            CodecError: if x is not whole frames of the state's electrodes, or the state is of
                another codec.
        """
        check_signal(x)
        self._check_state(state)
        if x.shape[:2] != state["mask"].shape or x.shape[-1] % self.hop_length:
            raise CodecError(
                f"x has shape {tuple(x.shape)}: the state is of {tuple(state['mask'].shape)} "
                f"streams and electrodes, and samples come in whole frames of {self.hop_length}"
            )
        if x.shape[-1] == 0:
            return torch.empty(len(x), self.num_codebooks, 0, dtype=torch.long), state
        check_mask(mask, x.shape, self.num_frames(x.shape[-1]))
        x = x.to(torch.float32)
        latents, valid, following = self.latent_step(x, state, mask)
        return self._require_quantizer().encode(latents, valid).mT, following

    @inference
    def encode(
        self,
        x: Tensor,
        lengths: Tensor | Sequence[int] | None = None,
        *,
        montage: Montages | str | None = None,
        mask: Tensor | None = None,
        calibration: Calibrations = None,
        num_codebooks: int | None = None,
    ) -> Tensor:
        """Signals to codes; the same whatever the batch and the padding.

        Args:
            x: (B, C, N) µV at the codec's rate. A sample that is not finite masks its electrode
                in the frames that it touches (`tokenize` repairs single ones).
            lengths: (B,) samples of each item; what lies behind is padding.
            montage: Of all items, or one each; an assumed ring by default.
            mask: (B, C) or (B, C, T) bool, electrodes to use.
            calibration: Of all items, or one or None each.
            num_codebooks: Only the first few levels.

        Returns:
            (B, K, T) int64 with T = ceil(N / hop_length); -1 where an item has no frame, or a
            frame no electrode.

        Raises:
            CodecError: if the tensor, lengths or number of levels cannot be.
            MontageError, CalibrationError: if those are not of this signal.
        """
        quantizer = self._require_quantizer()
        levels = check_levels(num_codebooks, self.num_codebooks)
        check_signal(x)
        # Filled in place: small pieces kept between large temporaries would fragment the memory.
        shape = (len(x), levels, self.num_frames(x.shape[-1]))
        codes = torch.empty(shape, dtype=torch.long, device=x.device)
        done = 0
        for latents, valid in self._latent_blocks(x, lengths, montage, mask, calibration):
            fresh = quantizer.encode(latents, valid, levels)
            codes[..., done : done + valid.shape[1]] = fresh.mT
            done += valid.shape[1]
        return codes

    @inference
    def encode_latent(
        self,
        x: Tensor,
        lengths: Tensor | Sequence[int] | None = None,
        *,
        montage: Montages | str | None = None,
        mask: Tensor | None = None,
        calibration: Calibrations = None,
    ) -> Tensor:
        """Latents before the quantizer, (B, D, T), zero behind each item's end; see `encode`."""
        blocks = [
            latents * valid[..., None]
            for latents, valid in self._latent_blocks(x, lengths, montage, mask, calibration)
        ]
        empty = torch.zeros(len(x), 0, self.frontend.dim, device=x.device)
        return torch.cat([empty, *blocks], dim=1).mT

    def num_frames(self, num_samples: int) -> int:
        """ceil(num_samples / hop_length)."""
        return -(-num_samples // self.hop_length)

    @inference
    def decode_latent(self, codes: Tensor) -> Tensor:
        """(B, K', T) codes to the (B, D, T) latents they stand for; zeros at -1."""
        quantizer = self._require_quantizer()
        return quantizer.decode(self._codes(codes).mT).mT

    @inference
    def predict(self, codes: Tensor, head: str) -> Tensor:
        """(B, K', T) codes to the scores (B, T, V) of a label head, before a softmax.

        Raises:
            CodecError: if there is no such head.
        """
        module = dict(self.head.items()).get(head)
        if not isinstance(module, LabelHead):
            raise CodecError(f"head {head!r} gives no scores: {self._known_heads()}")
        blocks = [module(h) for h, _ in self.decoded_blocks(codes)]
        empty = torch.zeros(len(codes), 0, module.out.out_features, device=codes.device)
        return torch.cat([empty, *blocks], dim=1)

    @inference
    def decode_spectrum(self, codes: Tensor, montage: Montages | str | None = None) -> Tensor:
        """Log10 power of each electrode and band, relative to what is usual for the electrode.

        Args:
            codes: (B, K', T).
            montage: Electrodes to reconstruct, of all items or one each.

        Returns:
            (B, C, F, T).
        """
        head = self._signal_head()
        positions = self._positions(montage, len(codes))
        blocks = [head(h, positions) for h, _ in self.decoded_blocks(codes)]
        empty = torch.zeros(
            len(codes), 0, positions.shape[1], head.bands.out_features, device=codes.device
        )
        return torch.cat([empty, *blocks], dim=1).permute(0, 2, 3, 1)

    @inference
    def decode(
        self, codes: Tensor, *, montage: Montages | str | None = None, length: int | None = None
    ) -> Tensor:
        """Codes to a waveform: noise with the spectrum that the codes tell.

        Args:
            codes: (B, K', T).
            montage: Electrodes to reconstruct, of all items or one each.
            length: Samples to give; all of T * hop_length by default.

        Returns:
            (B, C, N) in units of each electrode's usual level, at the codec's rate;
            `Codec.detokenize` brings it to the recording's own (`Tokens.scale`).

        Raises:
            CodecError: if the codec has no signal head, or the length is not that of T frames.
        """
        whole = codes.shape[-1] * self.hop_length
        if length is not None and (length < 0 or self.num_frames(length) != codes.shape[-1]):
            raise CodecError(f"length={length} does not fit {codes.shape[-1]} frames of codes")
        parts = list(self.wave_blocks(codes, montage))
        return torch.cat(parts, dim=-1)[..., : whole if length is None else length]

    def wave_blocks(self, codes: Tensor, montage: Montages | str | None) -> Iterator[Tensor]:
        """The waveform of `decode`, (B, C, n) at a time."""
        head, shaper = self._signal_head(), self.shaper
        assert shaper is not None
        positions = self._positions(montage, len(codes))
        state = shaper.init_state(len(codes), positions.shape[1], codes.device)
        skip = shaper.window - shaper.hop  # samples before the first frame's own
        yield torch.zeros(len(codes), positions.shape[1], 0, device=codes.device)
        for h, frames in self.decoded_blocks(codes):
            done, state = shaper(head(h, positions) + head.correction, positions, frames, state)
            yield done[..., skip:]
            skip = max(0, skip - done.shape[-1])
        yield state["tail"][..., skip:]

    def _latent_blocks(
        self,
        x: Tensor,
        lengths: Tensor | Sequence[int] | None,
        montage: Montages | str | None,
        mask: Tensor | None,
        calibration: Calibrations,
    ) -> Iterator[tuple[Tensor, Tensor]]:
        """Latents (B, t, D) and validity (B, t), a block of frames at a time."""
        check_signal(x)
        batch, electrodes, length = x.shape
        ends = check_lengths(lengths, batch, length)
        montages = self._montages(montage, batch, electrodes)
        check_mask(mask, x.shape, self.num_frames(x.shape[-1]))
        order = None
        if self.config.montage is not None:
            rows = [m.order_for(self.config.montage) for m in montages]
            montages = [self.config.montage] * batch
            electrodes = len(self.config.montage)
            if any(row != list(range(x.shape[1])) for row in rows):
                order = torch.tensor(rows, device=x.device)
        if order is not None and mask is not None:
            mask = torch.stack([m[o] for m, o in zip(mask, order, strict=True)])
        state = super().init_state(batch, montages, calibration, num_electrodes=electrodes)
        frames, hop = self.num_frames(length), self.hop_length
        count = (ends + hop - 1) // hop
        for first in range(0, frames, self.block_frames):
            last = min(first + self.block_frames, frames)
            block = hold_beyond(x, ends, first * hop, last * hop).to(torch.float32)
            if order is not None:
                block = block.gather(1, order[..., None].expand(-1, -1, block.shape[-1]))
            part = mask[..., first:last] if mask is not None and mask.ndim == 3 else mask
            latents, valid, state = self.latent_step(block, state, part)
            index = torch.arange(first, last, device=x.device)
            yield latents, valid & (index < count.to(x.device)[:, None])

    def decoded_blocks(self, codes: Tensor) -> Iterator[tuple[Tensor, Tensor]]:
        """Vectors that heads read (B, t, D), and the frames before them (B,)."""
        quantizer = self._require_quantizer()
        codes = self._codes(codes)
        state = self.init_decode_state(len(codes))
        for part in codes.split(self.block_frames, dim=-1) if codes.shape[-1] else ():
            frames = state["frames"]
            h, state = self.decode_step(quantizer.decode(part.mT), state)
            yield h, frames

    def _check_state(self, state: State) -> None:
        """Raises if a state is not of this codec, or of one with other weights."""
        ids = getattr(self, "_cached_ids", None)
        codec_id = ids[1][1] if ids else self.codec_id  # a hash of all weights: not at each step
        if "codec" not in state or (state["codec"] != int(codec_id[-12:], 16)).any():
            raise CodecError(
                f"state is not of codec {codec_id!r}: give what its own init_state() or last "
                "encode_step() gave"
            )

    def _require_quantizer(self) -> Quantizer:
        if self.quantizer is None:
            raise CodecError(
                f"codec {self.config.name!r} has no quantizer, so there are no codes: use "
                "encode_latent(), or a preset with codebooks"
            )
        return self.quantizer

    def _codes(self, codes: Tensor) -> Tensor:
        return check_codes(codes, self.num_codebooks, self.codebook_size)

    def _known_heads(self) -> str:
        return f"this codec has the heads {list(self.heads)}"

    def _signal_head(self) -> SignalHead:
        for head in self.head.values():
            if isinstance(head, SignalHead):
                return head
        raise CodecError(f"there is no signal head to decode with: {self._known_heads()}")

    def _montages(
        self, montage: Montages | str | None, batch: int, electrodes: int
    ) -> list[Montage]:
        if montage is None and self.config.montage is not None:
            montage = self.config.montage
        if montage is None or isinstance(montage, str | Montage):
            return [resolve_montage(montage, electrodes)] * batch
        montages = [as_montage(m) for m in montage]
        if len(montages) != batch or any(len(m) > electrodes for m in montages):
            raise MontageError(
                f"montage: {len(montages)} given for {batch} items of {electrodes} rows; give "
                "one each, with no more electrodes than there are rows"
            )
        return montages

    def _positions(self, montage: Montages | str | None, batch: int) -> Tensor:
        montage = self.config.montage if montage is None else montage
        if montage is None:
            raise MontageError("montage: say which electrodes to reconstruct, for example 'myo'")
        given = [montage] * batch if isinstance(montage, str | Montage) else montage
        return super().init_state(batch, [as_montage(m) for m in given])["positions"]
