"""Prompts that mix text and EMG, and batches of them with labels to learn from."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor

from emgcodec.llm.vocabulary import CLOSE, OPEN, EmgVocabulary, LLMError
from emgcodec.tokens import Tokens

IGNORED = -100
"""Label of what is not learned."""


class EmgProcessor:
    """Texts with a mark for each recording to ids.

    Args:
        tokenizer: From `extend_tokenizer`.
    """

    def __init__(self, tokenizer: Any) -> None:
        self.tokenizer = tokenizer
        self.vocabulary = EmgVocabulary.of(tokenizer)

    def __call__(
        self, text: str, emg: Sequence[Tokens] = (), *, answer: str | None = None
    ) -> dict[str, list[int]]:
        """One prompt, and the answer to it if it is known.

        Args:
            text: With ``<|emg|>``, or ``<|emg|><|/emg|>``, where each of the recordings goes.
            emg: Their tokens, in order.
            answer: What a model is to write; the tokenizer's end of text follows it. May hold
                marks too, whose recordings come after those of the text.

        Returns:
            ``input_ids``, ``attention_mask``, and ``prompt_length`` where there is an answer.

        Raises:
            LLMError: if marks and recordings are not equally many, or codes are of other codebooks.
        """
        parts = [text] if answer is None else [text, answer + (self.tokenizer.eos_token or "")]
        parts = [part.replace(OPEN + CLOSE, OPEN) for part in parts]
        marks = sum(part.count(OPEN) for part in parts)
        if marks != len(emg):
            raise LLMError(f"{marks} marks {OPEN} for {len(emg)} recordings: give one for each")
        recordings = iter(emg)
        ids: list[list[int]] = []
        for number, part in enumerate(parts):
            pieces = part.split(OPEN)
            ids.append(self._text(pieces[0], first=number == 0))
            for piece in pieces[1:]:
                ids[-1] += self.recording(next(recordings)) + self._text(piece)
        found = [i for part in ids for i in part]
        fields = {"input_ids": found, "attention_mask": [1] * len(found)}
        return fields if answer is None else fields | {"prompt_length": [len(ids[0])]}

    def recording(self, tokens: Tokens) -> list[int]:
        """Ids of a recording with the marks around it.

        Raises:
            LLMError: if it is of other codebooks.
        """
        self.vocabulary.check(tokens.vocab_id)
        ids = self.vocabulary.layout.to_ids(tokens.codes, tokens.valid)
        return [self.vocabulary.open, *ids.tolist(), self.vocabulary.close]

    def _text(self, text: str, *, first: bool = False) -> list[int]:
        ids: list[int] = self.tokenizer(text, add_special_tokens=first)["input_ids"]
        # Such a prompt goes on: an end that the tokenizer puts behind every text would close it.
        return ids[:-1] if first and ids and ids[-1] == self.tokenizer.eos_token_id else ids


@dataclass(frozen=True)
class EmgCollator:
    """Pads prompts to a batch, with labels.

    Attributes:
        tokenizer: From `extend_tokenizer`.
        learn: ``answer`` (what is behind the prompt; all where there is no answer), ``text`` (no
            EMG), ``emg`` (nothing else) or ``all``.
    """

    tokenizer: Any
    learn: Literal["answer", "text", "emg", "all"] = "answer"

    def __post_init__(self) -> None:
        known = ("answer", "text", "emg", "all")
        if self.learn not in known:
            raise LLMError(f"learn={self.learn!r} is unknown: choose from {list(known)}")

    def __call__(self, prompts: Sequence[Mapping[str, Sequence[int]]]) -> dict[str, Tensor]:
        """``input_ids``, ``attention_mask`` and ``labels``, (B, longest) int64."""
        longest = max(len(p["input_ids"]) for p in prompts)
        vocabulary = EmgVocabulary.of(self.tokenizer)
        ids = np.full((len(prompts), longest), vocabulary.layout.pad)
        mask, labels = np.zeros_like(ids), np.full_like(ids, IGNORED)
        for row, prompt in enumerate(prompts):
            own = np.asarray(prompt["input_ids"])
            ids[row, : len(own)] = own
            mask[row, : len(own)] = 1
            learned = self._learned(own, prompt, vocabulary)
            labels[row, : len(own)] = np.where(learned, own, IGNORED)
        fields = {"input_ids": ids, "attention_mask": mask, "labels": labels}
        return {name: torch.from_numpy(array) for name, array in fields.items()}

    def _learned(
        self, ids: np.ndarray, prompt: Mapping[str, Sequence[int]], vocabulary: EmgVocabulary
    ) -> np.ndarray:
        if self.learn == "answer":
            return np.arange(len(ids)) >= (prompt.get("prompt_length") or [0])[0]
        if self.learn == "all":
            return np.ones(len(ids), bool)
        layout = vocabulary.layout
        emg = (ids >= layout.offset) & (ids < layout.offset + layout.vocab_size)
        # The closing mark ends what is written in codes, the opening one what is written in text.
        emg |= ids == vocabulary.close
        return emg if self.learn == "emg" else ~emg
