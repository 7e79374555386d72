"""EMG tokens in a text tokenizer: where their ids are, kept with the tokenizer."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, Protocol

from emgcodec.layouts import Layout

OPEN, CLOSE = "<|emg|>", "<|/emg|>"
"""What stands around a recording in a text."""

_KEY = "emgcodec_layout"


class LLMError(ValueError):
    """A tokenizer, model or text that does not go with the codec."""


class Vocabulary(Protocol):
    """What a codec says of its codes."""

    @property
    def num_codebooks(self) -> int:
        """Levels K."""

    @property
    def codebook_size(self) -> int:
        """Codes of each level."""

    @property
    def vocab_id(self) -> str:
        """Which codebooks they are."""


@dataclass(frozen=True)
class EmgVocabulary:
    """Ids of EMG in an extended tokenizer.

    Attributes:
        layout: One-dimensional, in the tokenizer's ids.
        open: Id of ``<|emg|>``.
        close: Id of ``<|/emg|>``.
    """

    layout: Layout
    open: int
    close: int

    @classmethod
    def of(cls, tokenizer: Any) -> EmgVocabulary:
        """Of an extended tokenizer, also of one that was saved and loaded again.

        Raises:
            LLMError: if it was never extended.
        """
        stored = tokenizer.init_kwargs.get(_KEY)
        if stored is None:
            raise LLMError("the tokenizer knows no EMG tokens: extend_tokenizer(tokenizer, codec)")
        layout = Layout.from_dict(stored)
        first, around = layout.special_tokens()[0], (OPEN, CLOSE)
        if tokenizer.convert_tokens_to_ids(first) != layout.offset:
            raise LLMError(
                f"token {first!r} does not have the id {layout.offset} that was stored with the "
                "tokenizer: it was changed afterwards, extend it anew"
            )
        return cls(layout, *tokenizer.convert_tokens_to_ids(list(around)))

    def check(self, vocab_id: str) -> None:
        """Raises an `LLMError` if codes of these codebooks are not what the ids stand for."""
        if vocab_id != self.layout.vocab_id:
            raise LLMError(
                f"codes are of vocabulary {vocab_id!r}, the tokenizer was extended for "
                f"{self.layout.vocab_id!r}: use the codec that it was extended with"
            )


def extend_tokenizer(tokenizer: Any, codec: Vocabulary, *, kind: str = "flat") -> EmgVocabulary:
    """Adds the codec's tokens to a text tokenizer, in place; done before, it changes nothing.

    The codes' ids lie side by side behind the text's; special ids of the layout and the marks
    around a recording follow. All is saved with the tokenizer. Codes are no special tokens, so
    they survive ``skip_special_tokens``.

    Args:
        tokenizer: Of transformers.
        codec: Whose codes; a `Codec`, for example.
        kind: ``flat``, or ``joint`` for small codebooks.

    Raises:
        LLMError: if it was extended for other codes.
        LayoutError: for another kind, or more codes than can be listed as text: use ``flat``.
    """
    from tokenizers import AddedToken

    wanted = Layout(kind, codec.num_codebooks, codec.codebook_size, vocab_id=codec.vocab_id)
    if wanted.has_rows:
        raise LLMError(f"kind={kind!r} has several ids a step: a text has one, give kind='flat'")
    if _KEY in tokenizer.init_kwargs:
        found = EmgVocabulary.of(tokenizer)
        if replace(found.layout, offset=0) != wanted:
            raise LLMError(f"the tokenizer was extended before, with {found.layout}: load it anew")
        return found
    layout = replace(wanted, offset=len(tokenizer))
    codes = [AddedToken(text, normalized=False) for text in layout.special_tokens()]
    if taken := sorted({OPEN, CLOSE, *map(str, codes)} & set(tokenizer.get_vocab())):
        raise LLMError(f"the tokenizer has {taken[0]!r} already: extend a fresh one")
    tokenizer.add_tokens(codes)
    tokenizer.add_tokens([OPEN, CLOSE], special_tokens=True)
    tokenizer.init_kwargs[_KEY] = layout.to_dict()
    return EmgVocabulary.of(tokenizer)
