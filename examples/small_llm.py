"""A small Llama from scratch on EMG tokens: the model, its training, and what both are asked for.

`train_llm.py` and `typing_llm.py` say what it learns.
"""

from __future__ import annotations

import argparse
import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from tokenizers import Regex, Tokenizer, models, pre_tokenizers
from tqdm import tqdm
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from emgcodec import Codec
from emgcodec.llm import EmgVocabulary, init_embeddings


def add_training(parser: argparse.ArgumentParser, out: Path) -> None:
    """What says which codec, how long and where to."""
    parser.add_argument("--model", help="codec that has not met who is tested; default: bundled")
    parser.add_argument("--out", type=Path, default=out)
    parser.add_argument("--minutes", type=float, default=25.0)
    parser.add_argument(
        "--precision",
        choices=["float32", "bf16"],
        default="float32",
        help="bf16 is twice as fast where the processor has it",
    )


def word_tokenizer(words: Sequence[str], word: str) -> Any:
    """So many words, each a match of a regular expression, and marks for beginning and end."""
    known = {each: i for i, each in enumerate(["<pad>", "<s>", "</s>", *words])}
    made = Tokenizer(models.WordLevel(known, unk_token="<pad>"))
    made.pre_tokenizer = pre_tokenizers.Split(Regex(word), "removed", invert=True)
    special = {"pad_token": "<pad>", "bos_token": "<s>", "eos_token": "</s>"}
    return PreTrainedTokenizerFast(tokenizer_object=made, **special)


def language_model(tokenizer: Any, codec: Codec, longest: int, seed: int) -> Any:
    """A Llama from scratch for so many ids at most, whose codes start where the codec has them."""
    torch.manual_seed(seed)
    config = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=192,
        intermediate_size=512,
        num_hidden_layers=5,
        num_attention_heads=6,
        attention_dropout=0.1,
        max_position_embeddings=longest,
        tie_word_embeddings=True,
        bos_token_id=1,
        eos_token_id=2,
        pad_token_id=0,
        attn_implementation="eager",  # for sequences as short as these the others are slower
    )
    model = LlamaForCausalLM(config)
    init_embeddings(model, tokenizer, codec, seed=seed)
    return model


def padded(sequences: Sequence[Sequence[int]]) -> tuple[torch.Tensor, torch.Tensor]:
    """Ids and attention mask, (B, longest)."""
    longest = max(map(len, sequences))
    ids = torch.zeros(len(sequences), longest, dtype=torch.long)
    mask = torch.zeros_like(ids)
    for row, sequence in enumerate(sequences):
        ids[row, : len(sequence)] = torch.tensor(sequence)
        mask[row, : len(sequence)] = 1
    return ids, mask


@torch.no_grad()
def next_scores(model: Any, sequences: Sequence[Sequence[int]]) -> torch.Tensor:
    """Logits of what follows each sequence, (B, ids)."""
    ids, mask = padded(sequences)
    logits: torch.Tensor = model(input_ids=ids, attention_mask=mask).logits
    return logits[torch.arange(len(ids)), mask.sum(dim=1) - 1]


@dataclass(frozen=True)
class Lessons:
    """What a language model learns from.

    Attributes:
        draw: Gives sequences of ids, by chance.
        heavy: Ids that weigh twenty codes each: one word in two hundred codes would not be learned.
        people: Whose they are.
    """

    draw: Callable[[np.random.Generator], list[list[int]]]
    heavy: Sequence[int]
    people: Sequence[str]


def train(
    model: Any, vocabulary: EmgVocabulary, lessons: Lessons, args: argparse.Namespace, seed: int
) -> int:
    """Trains for some minutes, summed over interruptions, with a checkpoint every one of them.

    Returns:
        How many steps that were.

    Raises:
        ValueError: if `args.out` holds a model of other people, tokens or settings.
    """
    out, minutes = args.out, args.minutes
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3, betas=(0.9, 0.98), weight_decay=0.1)
    state, done, step = out / "checkpoint.pt", 0.0, 0
    this = {"minutes": minutes, "precision": args.precision, "seed": seed}
    this |= {"people": list(lessons.people), "tokens": vocabulary.layout.vocab_id}
    if state.is_file():
        saved = torch.load(state, weights_only=True)
        if saved["this"] != this:
            raise ValueError(f"--out {out} holds a model of other people, tokens or settings")
        model.load_state_dict(saved["model"])
        optimizer.load_state_dict(saved["optimizer"])
        done, step = saved["done"], saved["step"]

    def save() -> None:
        tensors = {"model": model.state_dict(), "optimizer": optimizer.state_dict()}
        torch.save(tensors | {"done": done, "step": step, "this": this}, state.with_suffix(".new"))
        state.with_suffix(".new").replace(state)

    kept, heavy = done, torch.tensor(lessons.heavy)
    model.train()
    with tqdm(total=minutes, initial=done, desc="training", unit="min") as bar:
        while done < minutes:
            began = time.monotonic()
            rng = np.random.default_rng([seed, step])
            ids, mask = padded(lessons.draw(rng))
            heard = _blurred(ids, vocabulary, rng)
            with torch.autocast("cpu", torch.bfloat16, enabled=args.precision == "bf16"):
                logits = model(input_ids=heard, attention_mask=mask).logits[:, :-1].float()
            wanted = torch.where(mask[:, 1:] > 0, ids[:, 1:], -100)
            surprise = torch.nn.functional.cross_entropy(
                logits.flatten(0, 1), wanted.flatten(), ignore_index=-100, reduction="none"
            )
            weight = torch.where(torch.isin(wanted.flatten(), heavy), 20.0, 1.0)
            weight = weight * (wanted.flatten() >= 0)
            loss = (surprise * weight).sum() / weight.sum()
            share = done / minutes
            for group in optimizer.param_groups:
                group["lr"] = 1e-3 * min(1, (step + 1) / 50) * 0.5 * (1 + math.cos(math.pi * share))
            optimizer.zero_grad()
            loss.backward()
            torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimizer.step()
            step += 1
            spent = (time.monotonic() - began) / 60
            done += spent
            bar.update(min(spent, minutes - bar.n))
            bar.set_postfix_str(f"step {step}, loss {loss.item():.2f}", refresh=False)
            if done - kept > 1:
                save()
                kept = done
    save()
    model.eval()
    return step


def _blurred(
    ids: torch.Tensor, vocabulary: EmgVocabulary, rng: np.random.Generator
) -> torch.Tensor:
    """What the model hears: some codes are another one, or it learns people by heart."""
    layout = vocabulary.layout
    level = (ids - layout.offset) // layout.codebook_size
    code = (ids >= layout.offset) & (level < layout.num_codebooks)
    other = layout.offset + level * layout.codebook_size
    other = other + torch.from_numpy(rng.integers(layout.codebook_size, size=ids.shape))
    replaced = code & torch.from_numpy(rng.random(ids.shape) < 0.15)
    return torch.where(replaced, other, ids)
