"""The codec behind sessions: its steps, and the state of each slot of a batch."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from emgcodec.calibration import Calibration, CalibrationError
from emgcodec.checks import CodecError, check_codes
from emgcodec.montage import Montage, MontageError
from emgcodec.nn.heads import LabelHead, SignalHead
from emgcodec.nn.network import Calibrations
from emgcodec.nn.normalize import State
from emgcodec.recording import check_sample_rate
from emgcodec.stream import (
    BoolArray,
    EncodeStream,
    FloatArray,
    IntArray,
    check_calibration,
    chosen_slots,
    electrode_order,
)
from emgcodec.tensors import TensorCodec, inference


class CodecSteps:
    """`encode_step` on some slots of a batch at a time; see `stream.Stepper`."""

    def __init__(
        self, codec: TensorCodec, montage: Montage, calibrations: Sequence[Calibration | None]
    ) -> None:
        self._codec = codec
        self.sample_rate, self.hop_length = codec.sample_rate, codec.hop_length
        self.block_frames, self.num_codebooks = codec.block_frames, codec.num_codebooks
        self._fresh = codec.init_state(len(calibrations), montage, calibrations)
        self._state = self._fresh

    def restart(self, slots: Sequence[int]) -> None:
        """Forgets what these slots have seen."""
        self._state = _put(self._state, slots, _take(self._fresh, slots))

    def encode(self, slots: Sequence[int], x: FloatArray, usable: BoolArray) -> IntArray:
        """Whole frames (b, C, t * hop) and electrodes to use (b, C, t), to codes (b, K, t)."""
        device = self._codec.device
        signal, mask = (torch.from_numpy(part).to(device) for part in (x, usable))
        state = _take(self._state, slots)
        codes, following = self._codec.encode_step(signal, state, mask)
        self._state = _put(self._state, slots, following)
        found: IntArray = codes.cpu().numpy()
        return found


def encode_stream(
    codec: TensorCodec,
    batch_size: int,
    *,
    sample_rate: float | None,
    unit: str,
    montage: Montage | str | None,
    calibration: Calibrations,
) -> EncodeStream:
    """See `Codec.encode_stream`."""
    rate = check_sample_rate(codec.sample_rate if sample_rate is None else sample_rate)
    source = _named(montage, codec)
    order, target = electrode_order(source, codec.config.montage)
    if calibration is None or isinstance(calibration, Calibration):
        calibration = [calibration] * _checked_size(batch_size)
    if len(calibration) != batch_size:
        raise CalibrationError(f"calibration: {len(calibration)} given for {batch_size} slots")
    for each in calibration:
        check_calibration(each, rate)
    return EncodeStream(
        CodecSteps(codec, target, calibration),
        sample_rate=rate,
        unit=unit,
        montage=source,
        order=order,
        mains=[each.mains if each else None for each in calibration],
    )


class DecodeStream:
    """A session of `Codec.decode_stream`: codes in, what the heads make of them out.

    One thread uses a session at a time; sessions share their codec, in as many threads as you like.

    Attributes:
        batch_size: Slots B, streams side by side that are fed together.
        delay: Samples by which the signal head's waveform lags behind its codes.
    """

    def __init__(self, codec: TensorCodec, batch_size: int, montage: Montage | str | None) -> None:
        self._codec, self.batch_size = codec, _checked_size(batch_size)
        self.delay = 0
        self._fresh = codec.init_decode_state(batch_size)
        self._nothing: dict[str, FloatArray] = {}
        for name, head in codec.head.items():
            if isinstance(head, LabelHead):
                self._nothing[name] = np.zeros((batch_size, 0, head.out.out_features), np.float32)
            elif montage is not None and codec.shaper is not None:
                places = codec.init_state(batch_size, _named(montage, codec))["positions"]
                tail = codec.shaper.init_state(batch_size, places.shape[1], codec.device)
                self._nothing[name] = np.zeros((*places.shape[:2], 0), np.float32)
                self._fresh |= {"positions": places} | tail
                self.delay = codec.shaper.window - codec.shaper.hop
        self._state = self._fresh

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
        found = {name: [nothing] for name, nothing in self._nothing.items()}
        given = self._checked(codes, valid).to(self._codec.device)
        for part in given.split(self._codec.block_frames, dim=-1) if given.numel() else ():
            fresh, self._state = _read(self._codec, part, self._state)
            for name in found:
                found[name].append(fresh[name].cpu().numpy())
        # Scores have their frames, waveforms their samples where there is nothing yet.
        axes = {name: nothing.shape.index(0) for name, nothing in self._nothing.items()}
        return {name: np.concatenate(parts, axis=axes[name]) for name, parts in found.items()}

    def flush(self) -> dict[str, FloatArray]:
        """Ends all streams: the waveform that was late, and no scores; then begins anew."""
        late = {"signal": self._state["tail"].cpu().numpy()} if self.delay else {}
        self.reset()
        return self._nothing | late

    def reset(self, mask: npt.ArrayLike | None = None) -> None:
        """Begins anew, in all slots or where the mask (B,) is true.

        Raises:
            ValueError: if the mask is not (B,) bool.
        """
        slots = chosen_slots(mask, self.batch_size)
        self._state = _put(self._state, slots, _take(self._fresh, slots))

    def _checked(self, codes: npt.ArrayLike, valid: npt.ArrayLike | None) -> Tensor:
        """(B, K', t), -1 where a frame is missing."""
        given = torch.as_tensor(np.asarray(codes))
        given = given[None] if given.ndim == 2 else given
        given = check_codes(given, self._codec.num_codebooks, self._codec.codebook_size)
        shape = (len(given), given.shape[-1])
        there = np.ones(shape, bool) if valid is None else np.atleast_2d(np.asarray(valid))
        if len(given) != self.batch_size or there.shape != shape or there.dtype != bool:
            raise CodecError(
                f"codes have shape {tuple(given.shape)}, valid is {there.dtype} of shape "
                f"{there.shape}: give codes of {self.batch_size} slots and booleans (slots, frames)"
            )
        if (given < 0).any():
            raise CodecError(
                "codes of -1: a slot has fewer frames than others. Decode each slot in a session "
                "of its own; where a frame is missing, valid says so"
            )
        return torch.where(torch.from_numpy(there)[:, None], given, -1)


@inference
def _read(codec: TensorCodec, codes: Tensor, state: State) -> tuple[dict[str, Tensor], State]:
    """Some frames of codes to what each head says, and the next state."""
    assert codec.quantizer is not None
    h, following = codec.decode_step(codec.quantizer.decode(codes.mT), state)
    out: dict[str, Tensor] = {}
    for name, head in codec.head.items():
        if isinstance(head, LabelHead):
            out[name] = head(h)
        elif isinstance(head, SignalHead) and codec.shaper is not None and "tail" in state:
            level = head(h, state["positions"]) + head.correction
            out[name], tail = codec.shaper(level, state["positions"], state["frames"], state)
            following |= tail
    return out, following


def _checked_size(batch_size: int) -> int:
    if isinstance(batch_size, bool) or not isinstance(batch_size, int) or batch_size < 1:
        raise CodecError(f"batch_size={batch_size!r}: give a whole number from 1")
    return batch_size


def _named(montage: Montage | str | None, codec: TensorCodec) -> Montage:
    """The montage of a stream: nothing has come yet that would tell the number of electrodes."""
    montage = codec.config.montage if montage is None else montage
    if montage is None:
        raise MontageError("montage: say which electrodes, for example 'myo' or Montage.ring(8)")
    return Montage.preset(montage) if isinstance(montage, str) else montage


def _take(state: State, slots: Sequence[int]) -> State:
    """The state of some slots."""
    if len(slots) == len(state["frames"]):
        return state
    return {name: tensor[list(slots)] for name, tensor in state.items()}


def _put(state: State, slots: Sequence[int], part: State) -> State:
    """The state with that of some slots replaced."""
    if len(slots) == len(state["frames"]):
        return part
    rows = torch.tensor(slots, dtype=torch.long, device=state["frames"].device)
    return {name: tensor.index_copy(0, rows, part[name]) for name, tensor in state.items()}
