"""Golden codes: made when a model is saved, made again by `emgcodec info --verify`."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from helpers import CONFIGS, codec_for

from emgcodec import Codec, Tokens, list_pretrained, sample
from emgcodec.cli import main
from emgcodec.pretrained import find_model


@pytest.fixture
def model(tmp_path: Path) -> Path:
    """A small codec, two codes of whose first level are one and the same vector."""
    codec = Codec(codec_for("student").config).eval()
    codec.load_state_dict(codec_for("student").state_dict())
    assert codec.quantizer is not None
    books = codec.quantizer.codebooks.clone()
    books[0, 1::2] = books[0, ::2]
    codec.quantizer.set_codebooks(books)
    codec.save_pretrained(tmp_path)
    return tmp_path


def change(model: Path, frames: slice, by: int) -> None:
    """Flips that bit of the golden codes of the first level."""
    tokens = Tokens.load(model / "golden.tokens")
    codes = tokens.codes.copy()
    codes[0, frames] ^= by
    replace(tokens, codes=codes).save(model / "golden.tokens")


@pytest.mark.parametrize("name", [name for name in CONFIGS if codec_for(name).num_codebooks])
def test_every_codec_reproduces_its_golden_codes(
    name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    codec = codec_for(name)
    codec.save_pretrained(tmp_path)
    tokens = Tokens.load(tmp_path / "golden.tokens")
    assert tokens.codec_id == codec.codec_id
    assert tokens.num_frames > 200
    assert len(np.unique(tokens.codes[0])) > 10
    assert main(["info", "--verify", str(tmp_path)]) == 0
    assert capsys.readouterr().out == f"{codec.codec_id}: golden codes reproduced\n"


@pytest.mark.parametrize("name", list_pretrained())
def test_models_that_come_along_are_what_they_were_elsewhere(name: str) -> None:
    assert main(["info", "--verify", name]) == 0
    golden = Tokens.load(find_model(name) / "golden.tokens")
    made = Codec.from_pretrained(name).tokenize(sample("armband"))  # by hand, as anybody may
    assert (golden.codes != made.codes).mean() <= 1e-4


def test_a_near_tie_is_allowed_and_told(model: Path, capsys: pytest.CaptureFixture[str]) -> None:
    change(model, slice(100, 101), 1)  # to the other one of the two that are the same
    assert main(["info", "--verify", str(model)]) == 0
    assert "near-tie at frame 100, level 1: 0.00e+00 apart" in capsys.readouterr().out
    change(model, slice(101, 102), 1)  # rounding is rarer than that
    assert main(["info", "--verify", str(model)]) == 2
    assert "2 of 625 frames differ, 0 by more than a near-tie" in capsys.readouterr().err


def test_other_codes_are_an_error(model: Path, capsys: pytest.CaptureFixture[str]) -> None:
    change(model, slice(100, 101), 2)
    assert main(["info", "--verify", str(model)]) == 2
    assert "1 of 625 frames differ, 1 by more than a near-tie" in capsys.readouterr().err


def test_golden_codes_of_another_model_or_none_are_an_error(
    model: Path, tmp_path_factory: pytest.TempPathFactory, capsys: pytest.CaptureFixture[str]
) -> None:
    codec = Codec.from_pretrained(model)
    with torch.no_grad():
        next(codec.parameters()).mul_(1.5)
    other = tmp_path_factory.mktemp("other")
    codec.save_pretrained(other)
    (other / "golden.tokens").write_bytes((model / "golden.tokens").read_bytes())
    assert main(["info", "--verify", str(other)]) == 2
    assert "not of this model" in capsys.readouterr().err
    (other / "golden.tokens").unlink()
    assert main(["info", "--verify", str(other)]) == 2
    assert "has no golden.tokens" in capsys.readouterr().err
    codec_for("tiny").save_pretrained(model)  # no codebooks: the old codes go
    assert not (model / "golden.tokens").exists()
    assert main(["info", "--verify", str(model)]) == 2
    assert "no codebooks" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("pupil", "master"), [("student", "teacher"), ("student-open", "teacher-open")]
)
def test_student_and_teacher_decode_what_the_other_wrote(pupil: str, master: str) -> None:
    student, teacher, rec = *map(Codec.from_pretrained, (pupil, master)), sample("armband")
    ours, theirs = student.tokenize(rec), teacher.tokenize(rec)
    assert student.num_parameters("encoder") * 10 < teacher.num_parameters("encoder")
    assert (ours.codes[0] == theirs.codes[0]).mean() > 0.5  # 0.66 and 0.73
    for codec, tokens in ((student, theirs), (teacher, ours)):
        with pytest.warns(UserWarning, match="tokens were made by .*, on the same codebooks as"):
            back = codec.detokenize(tokens)
        assert back.emg.shape == rec.emg.shape
        with pytest.warns(UserWarning, match="same codebooks"):
            assert codec.transcribe(tokens, "gesture")
