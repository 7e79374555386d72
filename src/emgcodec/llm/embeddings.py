"""Rows of a model's embeddings for EMG tokens, from what the codes mean to the codec."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from emgcodec.codec import Codec
from emgcodec.llm.vocabulary import EmgVocabulary

_MULTIPLE = 64  # a vocabulary of such a size is faster on a GPU


@torch.no_grad()
def init_embeddings(model: Any, tokenizer: Any, codec: Codec, *, seed: int = 0) -> None:
    """Makes room for the tokens of an extended tokenizer, and places codes as they lie in theirs.

    Each code's row is the mean of the rows that were there, plus its vector of the codebook behind
    a random projection, with the deviation that the rows had: codes alike to the codec are alike
    to the model from the start. (The library's own way makes all new rows the same.) Rows of text
    keep every bit; an output layer that is tied stays tied, another gets its own.

    Args:
        model: A causal language model of transformers.
        tokenizer: From `extend_tokenizer`.
        codec: Whose tokens they are.
        seed: Of the projection.

    Raises:
        LLMError: if the codec is another one.
    """
    vocabulary = EmgVocabulary.of(tokenizer)
    vocabulary.check(codec.vocab_id)
    old = model.get_input_embeddings().weight.shape[0]
    model.resize_token_embeddings(
        max(len(tokenizer), old), pad_to_multiple_of=_MULTIPLE, mean_resizing=False
    )
    vectors = _code_vectors(vocabulary, codec)
    layers = [model.get_input_embeddings(), model.get_output_embeddings()]
    seen: set[int] = set()
    for layer in layers:
        if layer is None or layer.weight.data_ptr() in seen:
            continue
        seen.add(layer.weight.data_ptr())
        _place(layer.weight, min(old, vocabulary.layout.offset), vocabulary, vectors, seed)


def _code_vectors(vocabulary: EmgVocabulary, codec: Codec) -> Tensor:
    """(codes, width) what each code of the layout stands for, standardised level by level."""
    assert codec.quantizer is not None
    books = codec.quantizer.codebooks.float().cpu()
    books = (books - books.mean(dim=1, keepdim=True)) / books.std().clamp(min=1e-6)
    if vocabulary.layout.kind == "flat":
        # Levels lie apart as well: a direction of its own for each.
        apart = torch.eye(len(books))[:, None].expand(-1, books.shape[1], -1)
        return torch.cat([books, apart * books.shape[2] ** 0.5], dim=2).flatten(0, 1)
    total = books[0]
    for book in books[1:]:
        total = (total[:, None] + book).flatten(0, 1)
    return total


def _place(rows: Tensor, texts: int, vocabulary: EmgVocabulary, vectors: Tensor, seed: int) -> None:
    chance = torch.Generator().manual_seed(seed)
    known = rows[:texts].float().cpu()
    mean, deviation = known.mean(dim=0), known.std(dim=0)
    projection = torch.randn(vectors.shape[1], rows.shape[1], generator=chance)
    first = vocabulary.layout.offset
    count = rows.shape[0] - first
    spread = torch.randn(count, rows.shape[1], generator=chance)  # specials, marks and padding
    spread[: len(vectors)] = _standardised(vectors @ projection)
    rows[first:] = (mean + deviation * spread).to(rows)


def _standardised(values: Tensor) -> Tensor:
    return (values - values.mean(dim=0)) / values.std(dim=0).clamp(min=1e-6)
