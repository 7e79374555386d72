"""Learning to read typing: its windows, its loss, its sessions, and a toy task from end to end."""

from __future__ import annotations

import itertools
import json
import math
from pathlib import Path

import numpy as np
import pytest
import torch
from typing_sessions import KEYS, write_sessions

from emgcodec import Codec, ConfigError, Event, Recording
from emgcodec.cli import main
from emgcodec.evaluate.typing import greedy, score_split
from emgcodec.io import read
from emgcodec.text import BLANK, to_text
from emgcodec.train.data import calibrations, load_segments
from emgcodec.train.loop import train
from emgcodec.train.losses import text_loss
from emgcodec.train.recipe import Recipe
from emgcodec.train.sessions import find_splits
from emgcodec.train.typing import TypingWindows
from emgcodec.train.typists import write_typists
from emgcodec.train.windows import Keys

SMALL = (
    "hop_length=64",
    "frontend.window=128",
    "frontend.mlp_dim=32",
    "encoder.channels=8",
    "encoder.blocks=2",
    "encoder.kernel=8",
    "quantizer.size=64",
    "optim.warm_up=20",
    "run.log_steps=10",
)


def recipe(*changes: str) -> Recipe:
    return Recipe.load("emg-codec", ["data.split=ann", *SMALL, *changes])


@pytest.fixture(scope="module")
def sessions(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_sessions(tmp_path_factory.mktemp("sessions"), {"ann": 8, "bob": 5})


def windows(sessions: Path, *changes: str) -> TypingWindows:
    wanted = recipe(*changes)
    codec = Codec.from_preset("emg-codec", **wanted.model.overrides)
    recordings = [read(path) for path in sorted(sessions.glob("ann-0[0-2].hdf5"))]
    segments = load_segments(recordings, codec)
    return TypingWindows(segments, calibrations(segments, codec, 5.0), codec, wanted)


def keys(labels: list[list[int]], first: list[int], stop: list[int]) -> Keys:
    counts = [len(each) for each in labels]
    return Keys(*map(torch.tensor, ([i for each in labels for i in each], counts, first, stop)))


def test_the_loss_is_that_of_all_ways_to_type_it() -> None:
    torch.manual_seed(0)
    scores = torch.randn(1, 6, BLANK + 1)
    chance = torch.softmax(scores[0, 1:5], dim=-1)
    total = 0.0
    for path in itertools.product((2, 7, BLANK), repeat=4):
        if [k for k, _ in itertools.groupby(path) if k != BLANK] == [2, 7]:
            total += float(np.prod([chance[t, k] for t, k in enumerate(path)]))
    loss, facts = text_loss(scores, keys([[2, 7]], [1], [5]))
    assert float(loss) == pytest.approx(-math.log(total) / 2, rel=1e-5)
    assert facts["untold"] == 0


def test_frames_around_the_core_are_not_scored() -> None:
    scores = torch.randn(2, 40, BLANK + 1, requires_grad=True)
    text_loss(scores, keys([[1, 1], [3]], [10, 5], [30, 40]))[0].backward()
    told = scores.grad.abs().sum(dim=-1) > 0
    assert [told[0].nonzero().flatten().tolist(), told[1].nonzero().flatten().tolist()] == [
        list(range(10, 30)),
        list(range(5, 40)),
    ]


def test_more_keys_than_frames_count_for_nothing_and_are_told() -> None:
    scores = torch.randn(2, 10, BLANK + 1, requires_grad=True)
    loss, facts = text_loss(scores, keys([[1, 1, 1], [3]], [0, 0], [4, 10]))
    loss.backward()
    assert facts["untold"] == 1
    assert scores.grad.isfinite().all()
    assert (scores.grad[0] == 0).all()
    alone, _ = text_loss(scores[1:], keys([[3]], [0], [10]))
    assert loss.item() == pytest.approx(alone.item())


def test_the_loss_is_in_float32_under_autocast() -> None:
    scores = torch.randn(1, 50, BLANK + 1)
    typed = keys([[1, 2, 3]], [0], [50])
    with torch.autocast("cpu", torch.bfloat16):
        assert text_loss(scores, typed)[0] == text_loss(scores, typed)[0].float()
        assert text_loss(scores, typed)[0].dtype == torch.float32


def test_a_window_has_the_keys_of_its_core_and_hears_more(sessions: Path) -> None:
    some = windows(sessions, "typing.seconds=3.0", "typing.longer=0.0", "typing.longest=3.0")
    batch = some.batch(0)
    assert batch.keys is not None
    assert batch.x.shape[1:] == (32, 8000)  # 0.9 + 3 + 0.1 s
    assert len(batch.keys.labels) == batch.keys.counts.sum()
    # A key every 0.3 s: 3 s have ten or so of them.
    assert ((batch.keys.counts >= 7) & (batch.keys.counts <= 11)).all()
    inner = batch.lengths == 8000  # not at a session's start or end
    assert (batch.keys.first[inner] == 1800 // 64).all()
    assert (batch.keys.stop[inner] == 8000 // 64).all()
    again = some.batch(0)
    assert torch.equal(batch.x, again.x)
    assert not torch.equal(batch.x, some.batch(1).x)
    parts = some.batch(5, part=1)
    assert not torch.equal(parts.x, some.batch(5).x)


def test_some_steps_have_longer_windows(sessions: Path) -> None:
    some = windows(sessions, "typing.seconds=2.0", "typing.longer=1.0", "typing.longest=12.0")
    lengths = [batch.x.shape for batch in map(some.batch, range(12))]
    seconds = np.array([shape[-1] / 2000 for shape in lengths])
    assert seconds.max() > 7.0
    spent = np.array([shape[0] for shape in lengths]) * (seconds - 1.0)
    assert (spent < 32 * 2.0 * 1.6).all()  # fewer of them, so that a step costs the same


def test_windows_that_cannot_be_are_named(sessions: Path) -> None:
    with pytest.raises(ConfigError, match=r"typing\.seconds=60"):
        windows(sessions, "typing.seconds=60.0", "typing.longest=60.0")
    with pytest.raises(ConfigError, match=r"augment\.roll"):
        windows(sessions, "augment.rotation=5.0")


def test_without_split_files_the_last_sessions_are_held_back(sessions: Path) -> None:
    ann, bob = find_splits(sessions)
    assert (ann.name, bob.name) == ("ann", "bob")
    assert [p.stem for p in ann.train] == ["ann-00", "ann-01", "ann-02", "ann-03"]
    assert [p.stem for p in ann.val + ann.test] == ["ann-04", "ann-05", "ann-06", "ann-07"]
    assert [p.stem for p in bob.train] == ["bob-00"]
    assert [s.name for s in find_splits(sessions, "b*")] == ["bob"]
    with pytest.raises(ConfigError, match=r"ann.*bob"):
        find_splits(sessions, "carl")


def test_split_files_say_who_is_who(sessions: Path, tmp_path: Path) -> None:
    for path in sessions.glob("*.hdf5"):
        (tmp_path / path.name).symlink_to(path)
    (tmp_path / "splits").mkdir()

    def entry(session: str) -> str:
        return f"    - user: {session[:3]}\n      session: {session}\n"

    text = "user: first\ndataset:\n  train:\n" + entry("ann-03") + entry("bob-01")
    text += "  val:\n" + entry("ann-00") + "  test:\n" + entry("bob-04")
    (tmp_path / "splits" / "first.yaml").write_text(text)
    (split,) = find_splits(tmp_path, "first")
    assert [p.stem for p in split.train] == ["ann-03", "bob-01"]
    assert [p.stem for p in split.val + split.test] == ["ann-00", "bob-04"]
    (tmp_path / "splits" / "other.yaml").write_text(text.replace("bob-04", "bob-99"))
    with pytest.raises(ConfigError, match=r"bob-99.*lacks"):
        find_splits(tmp_path, "other")
    (tmp_path / "splits" / "broken.yaml").write_text("dataset: 3")
    with pytest.raises(ConfigError, match="no split file"):
        find_splits(tmp_path, "broken")


def test_too_few_sessions_are_named(sessions: Path, tmp_path: Path) -> None:
    for path in sorted(sessions.glob("bob*.hdf5"))[:4]:
        (tmp_path / path.name).symlink_to(path)
    with pytest.raises(ConfigError, match=r"bob has 4 sessions"):
        find_splits(tmp_path)


def test_simulated_typists_come_with_their_splits(tmp_path: Path) -> None:
    argv = ["data", "simulate", "--users", "3", "--test-users", "1", "--sessions", "5"]
    argv += ["--minutes", "0.05"]
    assert main([*argv, "--out", str(tmp_path)]) == 0
    assert len(list(tmp_path.glob("*.hdf5"))) == 15
    (generic,), (personal,) = (find_splits(tmp_path, name) for name in ("generic", "*"))
    assert (generic.name, personal.name) == ("generic", "user0")
    assert {p.stem[:5] for p in generic.train + generic.val} == {"user1", "user2"}
    assert (len(generic.train), len(generic.val), len(generic.test)) == (8, 2, 2)
    assert generic.test == personal.test
    assert len(personal.train) == 1
    rec = read(personal.test[0])
    assert rec.metadata["subject"] == "user0"
    assert any(e.kind == "key" for e in rec.events)
    before = personal.test[0].stat().st_mtime_ns
    assert main([*argv, "--out", str(tmp_path)]) == 0  # what is there stays
    assert personal.test[0].stat().st_mtime_ns == before
    with pytest.raises(ValueError, match="test_users=3"):
        write_typists(tmp_path, 3, 5, 0.1, test_users=3)
    with pytest.raises(ValueError, match="sessions=4"):
        write_typists(tmp_path, 3, 4, 0.1)


def test_without_a_keyboard_people_typed_what_was_prompted() -> None:
    codec = Codec.from_preset("emg-codec")
    events = [
        Event(1.0, 3.0, "Hi ⌫é", kind="prompt"),
        Event(1.2, 1.3, "x", kind="key"),
        Event(3.0, 4.0, "rest", kind="cue"),
        Event(4.5, 6.1, "no", kind="prompt"),
    ]
    x = np.random.default_rng(0).normal(size=(32, 10_000)).astype(np.float32)
    for condition, typed, times in (
        ("on_keyboard", "x", [1.2]),
        ("in_air", "Hi ⌫en", [1.2, 1.6, 2.0, 2.4, 2.8, 4.9]),  # the rest is past the end
    ):
        facts = {"dataset": "emg2qwerty", "subject": "ann", "condition": condition}
        rec = Recording(x, 2000, montage="emg2qwerty", events=events, metadata=facts)
        (segment,) = load_segments([rec], codec)
        assert to_text(segment.keys) == typed
        assert segment.pressed.tolist() == pytest.approx(times)


def test_a_toy_task_is_learned_end_to_end(sessions: Path, tmp_path: Path) -> None:
    wanted = recipe(
        "optim.steps=200", "optim.lr=5e-3", "optim.ema=0.95", "data.batch_size=8",
        "typing.seconds=2.0", "typing.left=0.5", "typing.longest=8.0", "augment.roll=0",
        "augment.time_masks=0", "augment.band_masks=0",
    )  # fmt: skip
    model = train(wanted, tmp_path, data=sessions, cache=tmp_path / "cache")
    assert model is not None
    codec = Codec.from_pretrained(model)
    split = find_splits(sessions, "ann")[0]
    total = score_split(codec, split, {"greedy": greedy})["test"]["greedy"]
    assert total.length > 100
    assert total.rate < 0.2
    lines = [json.loads(line) for line in (tmp_path / "log.jsonl").read_text().splitlines()]
    assert lines[-1]["text"] < 0.5 * lines[0]["text"]
    assert all(0 <= line["blank"] <= 1 and line["untold"] == 0 for line in lines)
    typed = {e.label for e in read(split.test[-1]).events if e.kind == "key"}
    assert set(KEYS) <= typed
