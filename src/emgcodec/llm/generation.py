"""EMG that a model writes: kept on the grid of levels, and back to tokens."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from emgcodec.codec import Codec
from emgcodec.layouts import SPECIALS
from emgcodec.llm.vocabulary import EmgVocabulary, LLMError
from emgcodec.montage import Montage, as_montage
from emgcodec.tokenizer import code_tensor, level_in
from emgcodec.tokens import Tokens


class GridLogitsProcessor:
    """Lets a model write only what can be decoded: a `LogitsProcessor` of transformers.

    Behind ``<|emg|>`` comes level after level, frame after frame; a gap takes all levels of a
    frame; ``<|/emg|>`` may follow a whole frame, and must after the last one. Elsewhere no codes.

    Args:
        tokenizer: From `extend_tokenizer`.
        num_frames: Frames of each recording; a model ends where it likes if None.
    """

    def __init__(self, tokenizer: Any, num_frames: int | None = None) -> None:
        self._vocabulary, self._num_frames = EmgVocabulary.of(tokenizer), num_frames

    def __call__(self, input_ids: Tensor, scores: Tensor) -> Tensor:
        """Scores (B, V) of what may follow the ids (B, n); minus infinity for all else."""
        out = torch.full_like(scores, -torch.inf)
        for row, ids in enumerate(input_ids.tolist()):
            allowed = self._allowed(ids, scores.shape[1])
            out[row, allowed] = scores[row, allowed]
        return out

    def _allowed(self, ids: Sequence[int], size: int) -> Tensor:
        layout = self._vocabulary.layout
        start = _last(ids, self._vocabulary.open)
        if start <= _last(ids, self._vocabulary.close):
            inside = torch.arange(layout.offset, layout.offset + layout.vocab_size)
            free = torch.ones(size, dtype=torch.bool)
            free[inside] = free[self._vocabulary.close] = False
            return free.nonzero()[:, 0]
        written = ids[start + 1 :]
        frame, level = divmod(len(written), layout.tokens_per_frame)
        if level == 0 and frame == self._num_frames:
            return torch.tensor([self._vocabulary.close])
        if level and written[-1] == layout.gap:
            return torch.tensor([layout.gap])
        codes = (layout.vocab_size - len(SPECIALS)) // layout.tokens_per_frame
        first = layout.offset + level * codes
        more = [] if level else [layout.gap]
        if level == 0 and frame and self._num_frames is None:
            more.append(self._vocabulary.close)
        return torch.cat([torch.arange(first, first + codes), torch.tensor(more, dtype=torch.long)])


def _last(ids: Sequence[int], wanted: int) -> int:
    """Place of the last of them, -1 without any."""
    return next((i for i in range(len(ids) - 1, -1, -1) if ids[i] == wanted), -1)


def generated_tokens(
    ids: Sequence[int] | Tensor, tokenizer: Any, codec: Codec, *, montage: Montage | str
) -> list[Tokens]:
    """The recordings in a text of ids, for `Codec.detokenize`.

    Args:
        ids: (n,) of one text.
        tokenizer: From `extend_tokenizer`.
        codec: That it was extended with.
        montage: Electrodes to give the signal, which codes do not say. Its unit is what is usual
            for each of them: a gesture is in what is louder than that, and what quieter.

    Raises:
        LLMError: if a recording is not closed, or the codec is another one.
        LayoutError: if codes are off the grid of levels.
    """
    vocabulary = EmgVocabulary.of(tokenizer)
    vocabulary.check(codec.vocab_id)
    montage = as_montage(montage)
    listed = [int(i) for i in ids]
    starts = [i for i, each in enumerate(listed) if each == vocabulary.open]
    ends = [i for i, each in enumerate(listed) if each == vocabulary.close]
    if sorted([*starts, *ends]) != [i for pair in zip(starts, ends, strict=False) for i in pair]:
        raise LLMError(
            f"recordings open at {starts} and close at {ends}: generate until each is closed, or "
            "cut the last one off"
        )
    found = []
    for start, end in zip(starts, ends, strict=True):
        codes, valid = vocabulary.layout.to_codes(np.array(listed[start + 1 : end], np.int64))
        tokens = Tokens(
            codes=codes,
            valid=valid,
            num_samples=codec.hop_length * codes.shape[1],
            sample_rate=codec.sample_rate,
            frame_rate=codec.frame_rate,
            codebook_size=codec.codebook_size,
            montage=montage,
            unit="adc",
            scale=np.ones(len(montage), np.float32),
            vocab_id=codec.vocab_id,
            codec_id=codec.codec_id,
        )
        if "signal" in codec.heads:
            emg = codec.decode(code_tensor(codec, tokens), montage=montage)[0].cpu().numpy()
            tokens = replace(tokens, scale=level_in(emg, tokens))
        found.append(tokens)
    return found
