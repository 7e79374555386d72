"""The examples that train a language model."""

from __future__ import annotations

import re
import runpy
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from emgcodec import Codec
from emgcodec.llm import extend_tokenizer
from emgcodec.text import labels, to_ids

EXAMPLES = Path(__file__).parents[1] / "examples"


@pytest.fixture(autouse=True)
def beside(monkeypatch: pytest.MonkeyPatch) -> None:
    """They import each other, as scripts of one folder do."""
    pytest.importorskip("transformers")
    monkeypatch.syspath_prepend(str(EXAMPLES))


def run(name: str, monkeypatch: pytest.MonkeyPatch, *argv: str) -> None:
    monkeypatch.setattr(sys, "argv", [name, *argv])
    runpy.run_path(str(EXAMPLES / name), run_name="__main__")


@pytest.mark.slow
def test_gestures_are_read_and_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    argv = ("--minutes", "0.2", "--workers", "1", "--out", str(tmp_path))
    run("train_llm.py", monkeypatch, *argv)
    printed = capsys.readouterr().out
    level = re.search(r"perplexity by level: (\d+), ", printed)
    assert level
    assert int(level[1]) < 1500  # untrained, all 2,065 words are alike
    assert re.search(r"language model +simulated \d", printed)
    assert (tmp_path / "model" / "tokenizer.json").is_file()


@pytest.mark.slow
def test_typing_is_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    run("typing_llm.py", monkeypatch, "--minutes", "0.1", "--out", str(tmp_path))
    assert re.search(r"language model: \d+\.\d % of characters wrong, of 1 people",
                     capsys.readouterr().out)  # fmt: skip
    assert (tmp_path / "model" / "tokenizer.json").is_file()


def test_keys_follow_the_half_second_in_which_they_went_down() -> None:
    import typing_llm

    codec, rng = (
        Codec.from_preset("student-small", **{"quantizer.size": 64}),
        np.random.default_rng(0),
    )
    tokenizer = typing_llm.word_tokenizer(labels(), r"Key\.\w+|[\s\S]")
    extend_tokenizer(tokenizer, codec)
    writer = typing_llm.Writer(tokenizer, 16)
    sessions = []
    for subject, text in (("a", "Hello, you"), ("b", "no")):
        frames = np.sort(rng.integers(200, size=len(text)))
        codes = rng.integers(64, size=(2, 200)).astype(np.uint16)
        valid = rng.random(200) < 0.9
        sessions.append(typing_llm.Session(subject, codes, valid, to_ids(text).ids, frames))
    lesson = writer.lesson(sessions[0], np.random.default_rng(3))
    assert lesson[0] == tokenizer.bos_token_id
    assert lesson[-1] == writer.vocabulary.open
    assert lesson.count(writer.vocabulary.close) == typing_llm.CHUNKS

    # Who knows which keys follow a chunk's codes reads everything.
    known = {
        tuple(writer.chunk(session, i)): writer.pressed(session, i)
        for session in sessions
        for i in range(writer.number(session))
    }

    def oracle(input_ids: torch.Tensor, attention_mask: torch.Tensor) -> Any:
        logits = torch.zeros(*input_ids.shape, len(tokenizer))
        for row, (ids, mask) in enumerate(zip(input_ids, attention_mask, strict=True)):
            written = ids[: mask.sum()].tolist()
            start = len(written) - 1 - written[::-1].index(writer.vocabulary.open)
            end = written.index(writer.vocabulary.close, start) + 1
            keys = [*known[tuple(written[start:end])], writer.vocabulary.open]
            logits[row, len(written) - 1, keys[len(written) - end]] = 1.0
        return SimpleNamespace(logits=logits)

    typed = typing_llm.read_typing(oracle, writer, sessions)
    errors = typing_llm.errors_by_person(sessions, typed)
    assert {name: each.rate for name, each in errors.items()} == {"a": 0.0, "b": 0.0}
    errors = typing_llm.errors_by_person(sessions, [typed[0][:-2], typed[1]])
    assert errors["a"].rate == pytest.approx(0.2)
