"""Language models and EMG tokens: ids, embeddings, prompts, what a model may write."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from language_models import WORDS, fresh_tokenizer, language_model
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from training import small_codec
from transformers import AutoTokenizer, PreTrainedTokenizerFast

from emgcodec import Codec, LayoutError, Montage, sample
from emgcodec.llm import (
    CLOSE,
    OPEN,
    EmgCollator,
    EmgProcessor,
    EmgVocabulary,
    GridLogitsProcessor,
    LLMError,
    extend_tokenizer,
    generated_tokens,
    init_embeddings,
)


@pytest.fixture(scope="module")
def codec() -> Codec:
    return small_codec()


@pytest.fixture
def tokenizer(codec: Codec) -> Any:
    made = fresh_tokenizer()
    extend_tokenizer(made, codec)
    return made


def test_ids_lie_side_by_side_and_are_kept_with_the_tokenizer(codec: Codec, tmp_path: Path) -> None:
    tokenizer = fresh_tokenizer()
    vocabulary = extend_tokenizer(tokenizer, codec)
    layout = vocabulary.layout
    assert layout.offset == len(WORDS)
    texts = layout.special_tokens()
    assert tokenizer.convert_tokens_to_ids(texts) == list(
        range(layout.offset, layout.offset + layout.vocab_size)
    )
    assert extend_tokenizer(tokenizer, codec) == vocabulary
    assert len(tokenizer) == layout.offset + layout.vocab_size + 2
    tokenizer.save_pretrained(tmp_path)
    loaded = AutoTokenizer.from_pretrained(tmp_path)
    assert EmgVocabulary.of(loaded) == vocabulary
    text = "fist" + texts[3] + texts[40]
    assert loaded(text)["input_ids"] == [9, layout.offset + 3, layout.offset + 40]
    assert texts[3] in loaded.decode([9, layout.offset + 3], skip_special_tokens=True)


def test_a_tokenizer_of_bytes_reads_text_as_before(codec: Codec, tmp_path: Path) -> None:
    """Byte-pair encoding, as most language models have it, whose words have spaces before them."""
    made = Tokenizer(models.BPE())
    made.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    made.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(vocab_size=300, initial_alphabet=alphabet)
    made.train_from_iterator(["what does the hand do", "the hand is a fist"] * 5, trainer)
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=made, eos_token="<|end|>")
    text = "What does the hand do? Größe <|emg"
    before = tokenizer(text)["input_ids"]
    vocabulary = extend_tokenizer(tokenizer, codec)
    tokenizer.save_pretrained(tmp_path)
    loaded = AutoTokenizer.from_pretrained(tmp_path)
    tokens = codec.tokenize(sample("armband"))
    written = "".join(vocabulary.layout.special_tokens()[i] for i in (3, 40))
    for each in (tokenizer, loaded):
        assert each(text)["input_ids"] == before
        assert each.decode(before) == text
        ids = each(f"a{OPEN}{written}{CLOSE} b")["input_ids"]
        first = vocabulary.layout.offset
        assert ids[1:5] == [vocabulary.open, first + 3, first + 40, vocabulary.close]
        prompt = EmgProcessor(each)("the hand: <|emg|>", [tokens], answer=" fist")
        (back,) = generated_tokens(prompt["input_ids"], each, codec, montage="myo")
        assert np.array_equal(back.codes, tokens.codes)


def test_what_does_not_go_together_is_refused(codec: Codec, tokenizer: Any) -> None:
    other = Codec.from_preset("student", **{"quantizer.size": 32})
    with pytest.raises(LLMError, match="extended before"):
        extend_tokenizer(tokenizer, other)
    with pytest.raises(LLMError, match="extend_tokenizer"):
        EmgVocabulary.of(fresh_tokenizer())
    with pytest.raises(LLMError, match="give kind='flat'"):
        extend_tokenizer(fresh_tokenizer(), codec, kind="delay")
    with pytest.raises(LayoutError, match="use kind='flat'"):
        extend_tokenizer(fresh_tokenizer(), Codec.from_preset("student"), kind="joint")
    taken = fresh_tokenizer()
    taken.add_tokens([OPEN])
    with pytest.raises(LLMError, match="already"):
        extend_tokenizer(taken, codec)
    model = language_model(len(tokenizer))
    with pytest.raises(LLMError, match="vocabulary"):
        init_embeddings(model, tokenizer, other)


@pytest.mark.parametrize("tied", [True, False])
@pytest.mark.parametrize("kind", ["flat", "joint"])
def test_codes_that_are_alike_start_out_alike(codec: Codec, kind: str, tied: bool) -> None:
    tokenizer = fresh_tokenizer()
    vocabulary = extend_tokenizer(tokenizer, codec, kind=kind)
    model = language_model(len(WORDS), tied=tied)
    before = model.get_input_embeddings().weight.detach().clone()
    init_embeddings(model, tokenizer, codec)
    rows = model.get_input_embeddings().weight.detach()
    assert len(rows) % 64 == 0
    assert len(rows) >= len(tokenizer)
    assert torch.equal(rows[: len(WORDS)], before)
    out = model.get_output_embeddings().weight
    assert (out.data_ptr() == model.get_input_embeddings().weight.data_ptr()) == tied
    new = rows[len(WORDS) :]
    assert torch.cdist(new, new).fill_diagonal_(9).min() > 1e-3
    assert float(new.std()) == pytest.approx(float(before.std()), rel=0.3)
    if kind == "flat":
        size, first = codec.codebook_size, vocabulary.layout.offset
        book, placed = codec.quantizer.codebooks[1], rows[first + size : first + 2 * size]
        known, found = (torch.pdist(v).numpy() for v in (book, placed))
        assert np.corrcoef(known, found)[0, 1] > 0.6
        across = torch.cdist(rows[first : first + size], placed).mean()
        assert across > 1.1 * found.mean()
    ids = torch.tensor([[5, vocabulary.open, vocabulary.layout.offset, vocabulary.close]])
    assert model(ids).logits.isfinite().all()


def test_prompts_mix_text_and_recordings(codec: Codec, tokenizer: Any) -> None:
    tokens = [codec.tokenize(sample("armband")), codec.tokenize(sample("wristbands"))]
    processor = EmgProcessor(tokenizer)
    text = f"what does the hand do {OPEN} ? {OPEN}"
    prompt = processor(text, tokens, answer="fist")
    ids, marks = prompt["input_ids"], processor.vocabulary
    assert len(ids) == len(prompt["attention_mask"])
    assert ids[:5] == [4, 5, 6, 7, 8]
    assert ids[5] == marks.open
    assert ids[-2:] == [9, 2]
    found = generated_tokens(ids, tokenizer, codec, montage="myo")
    for ours, theirs in zip(found, tokens, strict=True):
        assert np.array_equal(ours.codes, theirs.codes)
        assert np.array_equal(ours.valid, theirs.valid)
    assert processor(text.replace(OPEN, OPEN + CLOSE), tokens, answer="fist") == prompt
    with pytest.raises(LLMError, match="2 marks"):
        processor(text, tokens[:1])
    with pytest.raises(LLMError, match="vocabulary"):
        processor(OPEN, [Codec.from_preset("student").tokenize(sample("armband"))])
    only = {"input_ids": ids, "prompt_length": prompt["prompt_length"]}
    short = processor(f"open {OPEN}", tokens[:1])
    batch = EmgCollator(tokenizer)([only, short])
    assert batch["input_ids"].shape == batch["labels"].shape == (2, len(ids))
    assert batch["labels"][0].tolist() == [-100] * (len(ids) - 2) + [9, 2]
    kept = batch["attention_mask"][1].bool()
    assert batch["labels"][1][kept].tolist() == short["input_ids"]
    assert (batch["labels"][1][~kept] == -100).all()
    emg = EmgCollator(tokenizer, "emg")([only])["labels"][0]
    text_ = EmgCollator(tokenizer, "text")([only])["labels"][0]
    assert ((emg == -100) != (text_ == -100)).all()
    assert (emg != -100).sum() == sum(t.codes.size + 1 for t in tokens)
    with pytest.raises(LLMError, match="choose from"):
        EmgCollator(tokenizer, "answers")  # type: ignore[arg-type]


def test_what_is_written_keeps_the_levels_that_its_codes_tell() -> None:
    codec, tokenizer = Codec.from_pretrained("teacher"), fresh_tokenizer()
    extend_tokenizer(tokenizer, codec)
    tokens = codec.tokenize(sample("armband"))
    ids = EmgProcessor(tokenizer).recording(tokens)
    (written,) = generated_tokens(ids, tokenizer, codec, montage=tokens.montage)
    codes = torch.from_numpy(tokens.codes.astype(np.int64))[None]
    wave = codec.decode(codes, montage=tokens.montage)[0].numpy()
    back = codec.detokenize(written).emg
    np.testing.assert_allclose(back, wave, rtol=1e-3, atol=1e-4)
    loud = np.sqrt((back**2).mean(axis=1))
    assert loud.max() > 1.2 * loud.min()


@pytest.mark.parametrize("kind", ["flat", "joint"])
@pytest.mark.parametrize("frames", [None, 5])
def test_whatever_a_model_writes_can_be_decoded(
    codec: Codec, kind: str, frames: int | None
) -> None:
    tokenizer = fresh_tokenizer()
    vocabulary = extend_tokenizer(tokenizer, codec, kind=kind)
    grid = GridLogitsProcessor(tokenizer, frames)
    rng = torch.Generator().manual_seed(0)
    closed = 0
    for _ in range(20):
        ids = [4, vocabulary.open]
        for _ in range(40):
            # Marks and gaps are drawn often, or chance would hardly come upon them.
            scores = torch.randn(1, len(tokenizer) + 3, generator=rng)
            scores[0, [vocabulary.close, vocabulary.layout.gap]] += 4
            ids.append(int(grid(torch.tensor([ids]), scores).argmax()))
            if ids[-1] == vocabulary.close:
                break
        if ids[-1] != vocabulary.close:
            continue
        closed += 1
        (tokens,) = generated_tokens(ids, tokenizer, codec, montage=Montage.ring(3))
        assert frames is None or tokens.codes.shape[1] == frames
        assert tokens.codes.shape[1] > 0
        after = grid(torch.tensor([ids]), torch.zeros(1, len(tokenizer)))[0]
        assert after[: len(WORDS)].isfinite().all()
        assert after[vocabulary.open].isfinite()
        assert not after[vocabulary.layout.offset : vocabulary.open].isfinite().any()
    assert closed > 5
    model = language_model(len(WORDS))
    init_embeddings(model, tokenizer, codec)
    out = model.generate(
        torch.tensor([[4, vocabulary.open]]),
        logits_processor=[GridLogitsProcessor(tokenizer, 4)],
        max_new_tokens=4 * vocabulary.layout.tokens_per_frame + 1,
        do_sample=False,
        pad_token_id=0,
        eos_token_id=vocabulary.close,
    )
    (tokens,) = generated_tokens(out[0], tokenizer, codec, montage="myo")
    assert codec.detokenize(tokens).emg[:].shape == (8, 4 * codec.hop_length)


def test_the_guide_lets_a_model_write(codec: Codec, tokenizer: Any) -> None:
    guide = (Path(__file__).parents[1] / "docs" / "llm.md").read_text("utf-8")
    (block,) = re.findall(r"```python\n(from emgcodec.*?)```", guide, re.S)
    model = language_model(len(WORDS))
    init_embeddings(model, tokenizer, codec)
    prompt = torch.tensor([[4, EmgVocabulary.of(tokenizer).open]])
    names = {"model": model, "tokenizer": tokenizer, "codec": codec, "prompt_ids": prompt}
    torch.manual_seed(0)
    exec(compile(block, "llm.md", "exec"), names)
    assert names["written"].num_samples == 64 * codec.hop_length


def test_recordings_that_are_not_closed_are_refused(codec: Codec, tokenizer: Any) -> None:
    vocabulary = EmgVocabulary.of(tokenizer)
    open_, close = vocabulary.open, vocabulary.close
    first = vocabulary.layout.offset
    whole = [first, first + codec.codebook_size]
    for ids in ([open_, *whole], [close, open_], [open_, open_, close, close], [*whole, close]):
        with pytest.raises(LLMError, match="close"):
            generated_tokens(ids, tokenizer, codec, montage="myo")
    with pytest.raises(LayoutError, match="incomplete"):
        generated_tokens([open_, first, close], tokenizer, codec, montage="myo")
    assert CLOSE in tokenizer.convert_ids_to_tokens([close])
