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
from io_files import write_session

from emgcodec import GESTURES, Codec, Event, Recording
from emgcodec.cli import main
from emgcodec.io import read, write
from emgcodec.llm import extend_tokenizer
from emgcodec.text import labels, to_ids

EXAMPLES = Path(__file__).parents[1] / "examples"


@pytest.fixture(autouse=True)
def beside(monkeypatch: pytest.MonkeyPatch) -> None:
    """They import each other, as scripts of one folder do."""
    pytest.importorskip("transformers")
    monkeypatch.syspath_prepend(str(EXAMPLES.parent / "benchmarks"))
    monkeypatch.syspath_prepend(str(EXAMPLES))


def run(name: str, monkeypatch: pytest.MonkeyPatch, *argv: str) -> None:
    monkeypatch.setattr(sys, "argv", [name, *argv])
    runpy.run_path(str(EXAMPLES / name), run_name="__main__")


def test_mixed_files_become_a_language_model(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """README's three commands, with files of four kinds, one of them cut off."""
    pytest.importorskip("pyarrow")
    source, corpus, out = (tmp_path / name for name in ("in", "tokens", "llm"))
    source.mkdir()
    rng = np.random.default_rng(0)
    for person in range(6):
        x = rng.normal(0, 20, (8, 1000)).astype(np.float32)
        x[:4, 500:] *= 4
        events = [Event(0.0, 2.5, "rest"), Event(2.5, 5.0, "fist")]
        rec = Recording(x, 200, montage="myo", events=events)
        rec.metadata |= {"dataset": "mine", "subject": f"P{person}", "session": "1"}
        write(rec, source / f"P{person}.h5")
    write_session(source / "typing.hdf5", np.arange(4000) / 2000)
    np.savetxt(source / "band.csv", rng.normal(0, 30, (600, 4)), delimiter=",")
    (source / "cut.h5").write_bytes((source / "P0.h5").read_bytes()[:3000])
    build = ["corpus", "build", str(source), "-o", str(corpus)]
    build += ["--sample-rate", "200", "--by-gesture"]
    assert main(build) == 2
    assert "skipped cut.h5" in capsys.readouterr().err
    argv = ("--corpus", str(corpus), "--out", str(out), "--minutes", "0.05")
    for _ in range(2):  # trained, the second time it only reads and writes
        run("train_llm.py", monkeypatch, *argv)
        printed = capsys.readouterr().out
        assert re.search(r"language model +mine \d", printed)
        assert re.search(r"codec's own head +mine \d", printed)
        assert "perplexity by level" in printed
    for name in ("rest", "hand_close"):
        assert read(out / "written" / f"mine-{name}.h5").num_electrodes == 8
    with pytest.raises(ValueError, match="other people, tokens or settings"):
        run("train_llm.py", monkeypatch, *argv[:-1], "0.1")


def test_what_nobody_taught_is_not_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    import train_llm

    def take(dataset: str, gesture: int) -> Any:
        return train_llm.Take(dataset, "P", "test", 8, gesture, np.zeros((2, 9)), False)

    known = [take("a", 1), take("b", train_llm.NONE)]
    asked = [take("a", 1), take("b", 2), take("c", 1), take("a", train_llm.NONE)]
    found = train_llm.Learned(None, None, None, 0, known, asked)  # type: ignore[arg-type]
    assert found.named == asked[:1]


def test_histograms_find_takes_of_the_same_codes() -> None:
    import language_model
    import train_llm

    rng = np.random.default_rng(0)

    def take(gesture: int) -> Any:
        codes = rng.integers(gesture * 16, gesture * 16 + 16, size=(2, 40))
        return train_llm.Take("a", "P", "test", 8, gesture, codes, False)

    known, asked = [take(g) for g in (0, 1, 2) for _ in range(20)], [take(g) for g in (2, 0)]
    votes = list(language_model.neighbour_evidence(known, asked, 64))
    assert [int(each.argmax()) for each in votes] == [2, 0]
    assert all(each.sum() == 15 and len(each) == len(GESTURES) for each in votes)


def test_variety_is_the_share_of_ngrams_that_differ() -> None:
    import language_model

    assert language_model.variety([[1, 1, 1, 1]], 2) == pytest.approx(1 / 3)
    assert language_model.variety([[1, 2, 3], [1, 2, 4]], 2) == pytest.approx(3 / 4)
    assert language_model.variety([[1]], 2) == 0.0


def test_aims_are_said_to_be_reached_only_where_they_are() -> None:
    import language_model

    rows = {"language model": [0.6, 0.7], "codec's own head": [0.6, 0.75]}
    near, far = rows | {"nearest histograms": [0.59]}, rows | {"nearest histograms": [0.62]}
    text = "\n".join(language_model.aims({"a": near, "b": far}, {"a": 0.59, "b": 0.61}))
    assert "behind the codec's head: reached for a, b; not for none." in text
    assert "before the nearest histograms: reached for a; not for b." in text
    assert "recognised: reached for b; not for a." in text


@pytest.mark.parametrize(
    ("benchmark", "section"), [("language_model", "numbers"), ("typing_llm", "typing")]
)
def test_the_page_says_what_the_results_do(benchmark: str, section: str) -> None:
    import llm_results

    page = (EXAMPLES.parent / "docs" / "llm.md").read_text("utf-8")
    results = llm_results.load(benchmark)
    made = runpy.run_path(str(EXAMPLES.parent / "benchmarks" / f"{benchmark}.py"))
    tables = made["page"](results) if results else "Not run yet."
    assert f"<!-- {section} -->\n{tables}\n<!-- /{section} -->" in page


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
        Codec.from_preset("student", **{"quantizer.size": 64}),
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
