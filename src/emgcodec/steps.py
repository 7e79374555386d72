"""The codec behind sessions: its steps, and the state of each slot of a batch."""

from __future__ import annotations

import functools
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from emgcodec import encoding
from emgcodec.calibration import Calibrations
from emgcodec.checks import check_codes
from emgcodec.encoding import check_batch_size, named_montage
from emgcodec.montage import Montage
from emgcodec.nn.heads import LabelHead
from emgcodec.nn.normalize import State
from emgcodec.stream import (
    BoolArray,
    CodecError,
    EncodeStream,
    FloatArray,
    IntArray,
    chosen_slots,
)
from emgcodec.tensors import TensorCodec, inference


class Slots:
    """Streams side by side, each of whose states can begin anew without the others'."""

    def __init__(self, fresh: State) -> None:
        self._fresh = self.state = fresh

    def restart(self, slots: Sequence[int]) -> None:
        """Forgets what these slots have seen."""
        self.put(slots, _rows(self._fresh, slots))

    def take(self, slots: Sequence[int]) -> State:
        """The state of some slots."""
        return _rows(self.state, slots)

    def put(self, slots: Sequence[int], part: State) -> None:
        """Replaces the state of some slots."""
        if len(slots) < len(self.state["frames"]):
            index = torch.tensor(slots, dtype=torch.long, device=self.state["frames"].device)
            part = {name: t.index_copy(0, index, part[name]) for name, t in self.state.items()}
        self.state = part


class CodecSteps(Slots):
    """`encode_step` on some slots of a batch at a time; a `stream.Stepper`."""

    def __init__(
        self, codec: TensorCodec, batch_size: int, montage: Montage, calibration: Calibrations
    ) -> None:
        super().__init__(codec.init_state(batch_size, montage, calibration))
        self._codec = codec
        self.sample_rate, self.hop_length = codec.sample_rate, codec.hop_length
        self.block_frames, self.num_codebooks = codec.block_frames, codec.num_codebooks

    def encode(self, slots: Sequence[int], x: FloatArray, usable: BoolArray) -> IntArray:
        """Whole frames (b, C, t * hop) and electrodes to use (b, C, t), to codes (b, K, t)."""
        signal, mask = (torch.from_numpy(part).to(self._codec.device) for part in (x, usable))
        codes, following = self._codec.encode_step(signal, self.take(slots), mask)
        self.put(slots, following)
        found: IntArray = codes.cpu().numpy()
        return found


def encode_stream(
    codec: TensorCodec,
    batch_size: int,
    sample_rate: float | None,
    unit: str,
    montage: Montage | str | None,
    calibration: Calibrations,
) -> EncodeStream:
    """See `Codec.encode_stream`."""
    start = functools.partial(CodecSteps, codec)
    return encoding.encode_stream(codec, start, batch_size, sample_rate, unit, montage, calibration)


class DecodeStream:
    """A session of `Codec.decode_stream`: codes in, what the heads make of them out.

    One thread uses a session at a time; sessions share their codec, in as many threads as you like.

    Attributes:
        batch_size: Slots B, streams side by side that are fed together.
        delay: Samples by which the signal head's waveform lags behind its codes.
    """

    def __init__(self, codec: TensorCodec, batch_size: int, montage: Montage | str | None) -> None:
        check_batch_size(batch_size)
        self._codec, self.batch_size, self.delay = codec, batch_size, 0
        state = codec.init_decode_state(batch_size)
        self._nothing: dict[str, FloatArray] = {}
        for name, head in codec.head.items():
            if isinstance(head, LabelHead):
                self._nothing[name] = np.zeros((batch_size, 0, head.out.out_features), np.float32)
            elif montage is not None and codec.shaper is not None:
                places = codec.init_state(batch_size, named_montage(montage, codec.config))[
                    "positions"
                ]
                tail = codec.shaper.init_state(batch_size, places.shape[1], codec.device)
                self._nothing[name] = np.zeros((*places.shape[:2], 0), np.float32)
                self.delay, state = tail["tail"].shape[-1], state | {"positions": places} | tail
        self._slots = Slots(state)

    def push(
        self, codes: npt.ArrayLike, valid: npt.ArrayLike | None = None
    ) -> dict[str, FloatArray]:
        """Takes any number of frames, gives what each head says of them.

        Args:
            codes: (B, K', t), or (K', t) where B is 1; the first few levels do.
            valid: (B, t) or (t,) bool, False for frames that are missing; none is by default.

        Returns:
            Of a label head the scores (B, t, V), as `predict` gives them; of the signal head,
            where a montage was given, the waveform (B, C, t * hop_length) of `decode`, but
            `delay` samples late.

        Raises:
            CodecError: if codes or valid cannot be, or slots have different numbers of frames.
        """
        given = torch.as_tensor(np.asarray(codes))
        given = given[None] if given.ndim == 2 else given
        given = check_codes(given, self._codec.num_codebooks, self._codec.codebook_size)
        shape = self.batch_size, given.shape[-1]
        there = np.ones(shape, bool) if valid is None else np.atleast_2d(np.asarray(valid))
        if len(given) != shape[0] or there.shape != shape or there.dtype != bool:
            raise CodecError(
                f"codes have shape {tuple(given.shape)}, valid is {there.dtype} of shape "
                f"{there.shape}: give codes of {shape[0]} slots and booleans (slots, frames)"
            )
        if (given < 0).any():
            raise CodecError("codes of -1: a slot has fewer frames than others, decode it apart")
        given = torch.where(torch.from_numpy(there)[:, None], given, -1).to(self._codec.device)
        found = {name: [nothing] for name, nothing in self._nothing.items()}
        for part in given.split(self._codec.block_frames, dim=-1) if given.numel() else ():
            fresh, self._slots.state = _read(self._codec, part, self._slots.state)
            for name in found:
                found[name].append(fresh[name].cpu().numpy())
        # Time is where there is nothing yet: the second axis of scores, the third of waveforms.
        axes = {name: nothing.shape.index(0) for name, nothing in self._nothing.items()}
        return {name: np.concatenate(parts, axis=axes[name]) for name, parts in found.items()}

    def flush(self) -> dict[str, FloatArray]:
        """Ends all streams: the waveform that was late, and no scores; then begins anew."""
        late = {"signal": self._slots.state["tail"].cpu().numpy()} if self.delay else {}
        self.reset()
        return self._nothing | late

    def reset(self, mask: npt.ArrayLike | None = None) -> None:
        """Begins anew, in all slots or where the mask (B,) is true.

        Raises:
            ValueError: if the mask is not (B,) bool.
        """
        self._slots.restart(chosen_slots(mask, self.batch_size))


def read_step(codec: TensorCodec, codes: Tensor, state: State) -> tuple[dict[str, Tensor], State]:
    """Some frames of codes to what each head says, and the next state."""
    assert codec.quantizer is not None
    h, following = codec.decode_step(codec.quantizer.decode(codes.mT), state)
    out: dict[str, Tensor] = {}
    for name, head in codec.head.items():
        if isinstance(head, LabelHead):
            out[name] = head(h)
        elif "tail" in state and codec.shaper is not None:
            level = head(h, state["positions"]) + head.correction
            out[name], tail = codec.shaper(level, state["positions"], state["frames"], state)
            following |= tail
    return out, following


_read = inference(read_step)


def _rows(state: State, slots: Sequence[int]) -> State:
    every = len(slots) == len(state["frames"])
    return state if every else {name: tensor[list(slots)] for name, tensor in state.items()}
