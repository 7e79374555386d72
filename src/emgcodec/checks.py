"""What tensors that users pass may look like; each error says what to pass instead."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from emgcodec.montage import MAX_ELECTRODES
from emgcodec.stream import CodecError

_UNSIGNED = (torch.bool, torch.uint16, torch.uint32, torch.uint64)  # torch can hardly use them


def check_device(device: str | torch.device) -> None:
    """Whether there is such a device here, and torch was built for it."""
    try:
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError) as error:
        problem = str(error).splitlines()[0]
        raise CodecError(f"device={device!r}: {problem}: choose another, cpu for one") from error


def check_signal(x: Tensor) -> None:
    """Real samples (B, C, N) with 1 to 128 electrodes."""
    if not isinstance(x, Tensor):
        raise CodecError(f"x is a {type(x).__name__}: give a torch tensor (B, C, N)")
    if x.is_complex() or x.dtype in _UNSIGNED:
        raise CodecError(f"x has dtype {x.dtype}: give real numbers, best float32")
    if x.ndim != 3:
        raise CodecError(f"x has shape {tuple(x.shape)}: give (B, C, N), one item is x[None]")
    if x.shape[1] == 0:
        raise CodecError(f"x has shape {tuple(x.shape)}: there is no electrode in it")
    if x.shape[1] > MAX_ELECTRODES:
        raise CodecError(
            f"x has shape {tuple(x.shape)}: electrodes first, (B, C, N) with at most "
            f"{MAX_ELECTRODES} electrodes; use x.mT if samples come first"
        )


def check_lengths(lengths: Tensor | Sequence[int] | None, batch: int, longest: int) -> Tensor:
    """(B,) int64 lengths from 0 to the longest; all of that by default."""
    if lengths is None:
        return torch.full((batch,), longest)
    ends = torch.as_tensor(lengths).cpu() if batch else torch.zeros(0, dtype=torch.long)
    whole = not (ends.is_floating_point() or ends.is_complex() or ends.dtype == torch.bool)
    fits = whole and ends.shape == (batch,)
    ends = ends.long() if fits else ends
    if not fits or (batch and not 0 <= int(ends.min()) <= int(ends.max()) <= longest):
        raise CodecError(f"lengths={lengths}: give {batch} whole numbers from 0 to {longest}")
    return ends


def check_mask(mask: Tensor | None, shape: Sequence[int], frames: int) -> None:
    """None, or bool of (B, C) or (B, C, T) for a signal of the shape (B, C, N)."""
    shapes = (shape[0], shape[1]), (shape[0], shape[1], frames)
    if mask is None:
        return
    if not isinstance(mask, Tensor) or mask.dtype != torch.bool or tuple(mask.shape) not in shapes:
        found = f"{mask.dtype} {tuple(mask.shape)}" if isinstance(mask, Tensor) else type(mask)
        raise CodecError(
            f"mask={found}: give a bool tensor (B, C) or (B, C, T), here {shapes[0]} or {shapes[1]}"
        )


def check_levels(num_codebooks: int | None, levels: int) -> int:
    """How many of the levels to use; all by default."""
    if num_codebooks is None:
        return levels
    if num_codebooks not in range(1, levels + 1):
        raise CodecError(f"num_codebooks={num_codebooks}: give 1 to {levels}")
    return num_codebooks


def check_codes(codes: Tensor, levels: int, size: int) -> Tensor:
    """(B, K', T) int64 codes from -1 to size - 1, of any integer type before."""
    if (
        not isinstance(codes, Tensor)
        or codes.is_floating_point()
        or codes.dtype == torch.bool
        or codes.ndim != 3
    ):
        raise CodecError("codes: give an integer tensor (B, K, T)")
    codes = codes.long()
    check_levels(codes.shape[1], levels)
    if codes.numel() and not -1 <= int(codes.min()) <= int(codes.max()) < size:
        raise CodecError(f"codes lie outside -1 to {size - 1}")
    return codes
