"""The emg2qwerty protocol: personal models, whole sessions, and what is not there."""

from __future__ import annotations

import itertools
import json
import os
import signal
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from typing_sessions import write_sessions

from emgcodec import Codec
from emgcodec.cli import main
from emgcodec.evaluate.typing import greedy, plain, score_split, session_errors, summary
from emgcodec.io import read
from emgcodec.metrics import CharacterErrors
from emgcodec.text import to_ids
from emgcodec.train import loop
from emgcodec.train.sessions import Split, find_splits
from emgcodec.train.typing import TypingWindows
from emgcodec.train.windows import Batch

SMALL = {"hop_length": 64, "frontend.window": 128, "frontend.mlp_dim": 32,
         "encoder.channels": 8, "encoder.blocks": 2, "encoder.kernel": 8,
         "quantizer.size": 16}  # fmt: skip
SETTINGS = [
    *(part for name, value in SMALL.items() for part in ("--set", f"{name}={value}")),
    *("--set", "optim.steps=2", "--set", "data.batch_size=2", "--set", "typing.longer=0"),
]


@pytest.fixture(scope="module")
def sessions(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("sessions")
    return write_sessions(folder, {"user0": 5, "user1": 6, "carl": 5}, seconds=6.0)


def untrained(**overrides: object) -> Codec:
    torch.manual_seed(0)
    return Codec.from_preset("emg-codec", **SMALL | overrides).eval()


def test_errors_are_those_between_keys_and_what_was_read(sessions: Path) -> None:
    path = sessions / "user0-00.hdf5"
    typed = to_ids([e.label for e in read(path).events if e.kind == "key"]).ids.tolist()
    readers = {"all": lambda _: typed, "none": lambda _: [], "more": lambda _: [*typed, 3]}
    found = session_errors(untrained(), path, readers)
    assert found["all"] == CharacterErrors(length=len(typed))
    assert found["none"] == CharacterErrors(missed=len(typed), length=len(typed))
    assert found["more"] == CharacterErrors(spurious=1, length=len(typed))


READERS = {  # by family, with a quantizer and without
    "tds, rvq": ("emg-codec", SMALL),
    "tds, none": ("emg-codec", SMALL | {"quantizer.kind": "none"}),
    "transformer, none": ("tiny", {"hop_length": 64, "frontend.strides": (4, 4, 4),
                                   "encoder.blocks": 2, "encoder.heads": 2, "encoder.window": 32,
                                   "quantizer.after_block": 2}),
}  # fmt: skip


@pytest.mark.parametrize("reader", READERS)
def test_whole_sessions_are_read_as_their_parts_are(tmp_path: Path, reader: str) -> None:
    preset, changes = READERS[reader]
    torch.manual_seed(0)
    codec = Codec.from_preset(preset, **changes).eval()
    path = write_sessions(tmp_path, {"user0": 1}, seconds=40.0) / "user0-00.hdf5"
    emissions: list[np.ndarray] = []

    def keep(log_probs: np.ndarray) -> list[int]:
        emissions.append(log_probs)
        return greedy(log_probs)

    session_errors(codec, path, {"greedy": keep})
    (whole,) = emissions
    assert len(whole) == codec.num_frames(80_000) > 2 * codec.block_frames
    assert np.allclose(np.exp(whole).sum(axis=1), 1.0)
    # A window that carries its state on gives the same emissions.
    rec = read(path)
    x = torch.from_numpy(np.concatenate(list(rec.blocks()), axis=1))[None]
    x = x - x[0, :, ::16].median(dim=1).values[None, :, None]
    state, further = codec.init_state(1, rec.montage), codec.init_decode_state(1)
    parts = []
    with torch.no_grad():
        for piece in x[..., : 64 * 1240].split(64 * 155, dim=-1):
            latents, _, state = codec.latent_step(piece, state)
            if codec.quantizer is not None:
                valid = torch.ones(latents.shape[:2], dtype=torch.bool)
                latents = codec.quantizer.decode(codec.quantizer.encode(latents, valid))
            h, further = codec.decode_step(latents, further)
            parts.append(torch.log_softmax(codec.head["text"](h).double(), dim=-1)[0])
    assert np.allclose(whole[:1240], torch.cat(parts).numpy(), atol=1e-3)


def test_scores_are_summed_over_sessions_and_then_over_people(sessions: Path) -> None:
    split = find_splits(sessions, "user1")[0]
    codec = untrained()
    scores = score_split(codec, split, {"greedy": greedy})
    each = [session_errors(codec, p, {"greedy": greedy})["greedy"] for p in split.test]
    assert scores["test"]["greedy"] == each[0] + each[1]
    told = plain(scores)
    assert told["test"]["greedy"]["cer"] == (each[0] + each[1]).rate
    people = {
        "a": {"test": {"greedy": {"cer": 0.1}}},
        "b": {"test": {"greedy": {"cer": 0.3}}},
    }
    assert list(summary(people)) == [
        ("test", "greedy", pytest.approx(0.2), pytest.approx(0.2 / np.sqrt(2)))
    ]


def test_one_model_each_in_two_commands(
    sessions: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    out = tmp_path / "runs" / "emg-codec"
    argv = ["train", "emg-codec", "--data", str(sessions), "--each-user", "user*"]
    argv += ["--cache", str(tmp_path / "cache"), *SETTINGS]
    assert main(argv) == 0
    shown = capsys.readouterr().out
    assert "user0" in shown
    assert "carl" not in shown
    assert "test, greedy" in shown
    people = Codec.from_pretrained(out / "user1" / "model").config.provenance["data"]["emg2qwerty"]
    assert (people["people"], people["recordings"]) == (["user1"], 2)
    scores = out / "user0" / "scores.json"
    before = scores.stat().st_mtime_ns
    assert main(argv) == 0  # nothing is done twice
    assert scores.stat().st_mtime_ns == before
    told = json.loads(scores.read_text())
    scores.write_text(json.dumps({"codec_id": "another", "scores": {}}))
    assert main(argv) == 0
    assert json.loads(scores.read_text()) == told  # those of another model were no use
    capsys.readouterr()

    result = tmp_path / "result.json"
    argv = ["evaluate", "--benchmark", "emg2qwerty", "--data", str(sessions)]
    assert main([*argv, "--json", str(result)]) == 0
    shown = capsys.readouterr().out
    assert "not run: carl" in shown
    told = json.loads(result.read_text())
    assert set(told["people"]) == {"user0", "user1"}
    personal = json.loads(scores.read_text())["scores"]
    assert told["people"]["user0"]["test"]["greedy"] == personal["test"]["greedy"]
    assert set(told["people"]["user0"]["val"]) == {"greedy", "beam"}
    assert {"command", "commit", "versions", "protocol"} <= told.keys()


def test_a_model_of_all_becomes_each_persons_own(
    sessions: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = write_sessions(tmp_path / "sessions", {"user0": 3, "bob": 3}, seconds=6.0)
    entries = {name: [{"user": name, "session": f"{name}-{k:02}"} for k in range(3)]
               for name in ("user0", "bob")}  # fmt: skip
    for split, who in (("generic", "bob"), ("user0", "user0")):
        first, second, third = ([entry] for entry in entries[who])
        parts = {"dataset": {"train": first, "val": second, "test": third}}
        (folder / f"{split}.yaml").write_text(json.dumps(parts))
    monkeypatch.chdir(tmp_path)
    argv = ["train", "--data", str(folder), "--cache", str(tmp_path / "cache")]
    generic = ["emg-codec", "--set", "data.split=generic", "--out", "runs/generic", *SETTINGS]
    assert main([*argv, *generic]) == 0
    own = ["personal", "--each-user", "*", "--set", "optim.steps=2", "--set", "data.batch_size=2"]
    assert main([*argv, *own, "--set", "typing.longer=0", "--set", "optim.lr=1e-9"]) == 0
    models = Path("runs/personal")
    assert [path.name for path in models.iterdir()] == ["user0"]  # generic is nobody's own
    before, after = Codec.from_pretrained("runs/generic/model"), Codec.from_pretrained(
        models / "user0" / "model"
    )  # fmt: skip
    assert after.config.provenance["started_from"]["data"]["emg2qwerty"]["people"] == ["bob"]
    weights = zip(before.parameters(), after.parameters(), strict=True)
    assert all(torch.allclose(a, b, atol=1e-4) for a, b in weights)


def test_people_who_were_interrupted_are_gone_on_with(
    sessions: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    argv = ["train", "emg-codec", "--data", str(sessions), "--each-user", "user*", *SETTINGS]
    argv += ["--cache", str(tmp_path / "cache"), "--set", "optim.steps=4"]
    argv += ["--set", "run.checkpoint_steps=1"]
    assert main([*argv, "--out", "straight"]) == 0
    batch, drawn = TypingWindows.batch, []

    def stopped(self: TypingWindows, step: int, part: int = 0) -> Batch:
        drawn.append(step)
        if len(drawn) == 7:  # in the second person
            os.kill(os.getpid(), signal.SIGTERM)
        return batch(self, step, part)

    monkeypatch.setattr(TypingWindows, "batch", stopped)
    clock = itertools.count(step=60).__next__  # what a model is does not depend on how long it took
    monkeypatch.setattr(loop, "time", SimpleNamespace(monotonic=clock))
    assert main([*argv, "--out", "broken"]) == 130
    assert main([*argv, "--out", "broken"]) == 2  # not without being asked to
    assert main([*argv, "--out", "broken", "--resume"]) == 0
    assert len(drawn) == 2 * 4  # no step twice
    for user in ("user0", "user1"):
        ours, theirs = (Path(out) / user / "model" for out in ("broken", "straight"))
        assert Codec.from_pretrained(ours).codec_id == Codec.from_pretrained(theirs).codec_id
        assert (ours.parent / "scores.json").is_file()


def test_what_is_missing_is_named(
    sessions: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.delenv("EMGCODEC_DATA", raising=False)
    benchmark = ["evaluate", "--benchmark", "emg2qwerty"]
    cases = [
        ([*benchmark, "--data", str(sessions), "--models", str(tmp_path)], "no model"),
        ([*benchmark, "--models", str(tmp_path)], "--data"),
        (["evaluate", "--benchmark", "typing"], "emg2qwerty"),
        (["evaluate"], "verb"),
        (["evaluate", "--data", "x", "run", "--row", "lda"], "--data before 'run'"),
    ]
    for argv, words in cases:
        assert main(argv) != 0
        assert words in capsys.readouterr().err
    with pytest.raises(AttributeError):
        score_split(untrained(), Split("x", (), (), ()), {}, parts=("nobody",))
