"""From a folder of recordings to a language model's first step on their tokens.

python examples/corpus_to_llm.py    # pip install '.[io,llm]'
"""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import torch
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from emgcodec import Codec, write
from emgcodec.corpus import build
from emgcodec.llm import EmgCollator, extend_tokenizer, init_embeddings
from emgcodec.simulate import Person, gesture_recording

GESTURES = ("hand_close", "hand_open")
WORDS = ("<pad>", "<s>", "</s>", "<unk>")  # yours knows more


def text_tokenizer() -> Any:
    """Stands for the tokenizer of your language model."""
    made = Tokenizer(models.WordLevel({word: i for i, word in enumerate(WORDS)}, unk_token="<unk>"))
    made.pre_tokenizer = pre_tokenizers.Whitespace()
    names = dict(zip(("pad_token", "bos_token", "eos_token", "unk_token"), WORDS, strict=True))
    return PreTrainedTokenizerFast(tokenizer_object=made, **names)


def language_model(size: int) -> Any:
    """Stands for your language model: a Llama of one narrow layer."""
    config = LlamaConfig(
        vocab_size=size,
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=1,
        num_attention_heads=2,
    )
    return LlamaForCausalLM(config)


def record(folder: Path) -> None:
    """Three simulated people, a file each; your folder has your own."""
    for seed in range(3):
        rec = gesture_recording(Person.draw(seed), "myo", 200.0, gestures=GESTURES, unit="adc")
        write(rec, folder / f"person{seed}.h5")


def main() -> None:
    """Prints what the corpus holds, and the loss on its rows before and after one step."""
    torch.manual_seed(0)
    codec, tokenizer = Codec.from_pretrained(), text_tokenizer()
    model = language_model(len(tokenizer))
    vocabulary = extend_tokenizer(tokenizer, codec)
    init_embeddings(model, tokenizer, codec)
    with tempfile.TemporaryDirectory() as place:
        recordings, corpus = Path(place, "recordings"), Path(place, "tokens")
        recordings.mkdir()
        record(recordings)
        # With the tokenizer's offset the ids of the rows are the model's own.
        report = build([recordings], corpus, offset=vocabulary.layout.offset)
        # People are dealt out to splits; these three all train.
        rows = pq.read_table(corpus / "train").to_pylist()
    print("corpus:", report.splits)
    batch = EmgCollator(tokenizer, learn="emg")(rows)
    print("batch:", *batch["input_ids"].shape)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2)
    before = model(**batch).loss
    before.backward()
    optimizer.step()
    with torch.no_grad():
        after = model(**batch).loss
    print(f"loss: {before.item():.2f} before the step, {after.item():.2f} after it")


if __name__ == "__main__":
    main()
