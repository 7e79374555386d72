"""What learns behind the codes: heads of their own for data sets, and the part that is theirs."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from training import assert_same_model, recipe, small_codec, tensors

from emgcodec import GESTURES, Codec, Montage
from emgcodec.config import ConfigError, LabelHeadConfig
from emgcodec.gestures import own_head
from emgcodec.train.loop import train
from emgcodec.train.losses import gesture_loss, own_gesture_loss
from emgcodec.train.recipe import Recipe
from emgcodec.train.result import add_own_heads
from emgcodec.train.windows import Batch, GestureWindows

pytest.importorskip("lightning")

OWN = ("model.own_heads=true",)
PARTS = (*OWN, "decoder.steps=5", "decoder.seconds=1.5", "decoder.batch_size=2")
BEFORE_CODES = ("frontend.", "encoder.", "quantizer.project_in.", "quantizer.codebooks")


@pytest.fixture(scope="module")
def straight(corpus: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("straight")
    train(recipe(out, *PARTS), out, **corpus)
    return out


def test_each_data_set_has_a_head_for_what_it_shows(straight: Path) -> None:
    codec = Codec.from_pretrained(straight / "model")
    assert codec.heads == ("signal", "gesture", "gesture-3dc", "gesture-myo_ciil")
    assert codec.labels("gesture") == GESTURES
    assert set(codec.labels("gesture-3dc")) < set(GESTURES)


def test_heads_that_are_there_stay() -> None:
    codec = small_codec()
    segment: Any = SimpleNamespace(dataset="3dc", labels=torch.tensor([-100, 2, 1, 2]))
    for expected in (False, True):
        kept = codec.head["gesture-3dc"] if expected else None
        add_own_heads(codec, [segment])
        assert codec.labels("gesture-3dc") == (GESTURES[1], GESTURES[2])
        assert (codec.head["gesture-3dc"] is kept) == expected


def test_the_last_part_leaves_the_codes_alone(
    straight: Path, corpus: dict[str, Path], tmp_path: Path
) -> None:
    """What makes codes is what it would be without the part; all behind them goes on learning."""
    train(recipe(tmp_path, *OWN), tmp_path, **corpus)
    first, both = tensors(tmp_path), tensors(straight)
    for name in both:
        same = torch.equal(first[name], both[name])
        assert same == name.startswith(BEFORE_CODES), name
    a, b = (Codec.from_pretrained(out / "model") for out in (tmp_path, straight))
    assert a.vocab_id == b.vocab_id
    assert a.codec_id != b.codec_id


@pytest.mark.parametrize("step", [7, 8, 9, 12])
def test_a_killed_training_goes_on_in_either_part(
    straight: Path,
    corpus: dict[str, Path],
    tmp_path: Path,
    step: int,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    batch = GestureWindows.batch
    changes = (*PARTS, "run.checkpoint_steps=1")

    def killed(self: GestureWindows, number: int, part: int = 0) -> Any:
        if number == step:
            raise MemoryError
        return batch(self, number, part)

    monkeypatch.setattr(GestureWindows, "batch", killed)
    with pytest.raises(MemoryError):
        train(recipe(tmp_path, *changes), tmp_path, **corpus)
    monkeypatch.undo()
    train(recipe(tmp_path, *changes), tmp_path, resume=True, **corpus)
    assert_same_model(tmp_path, straight)


def test_the_last_part_takes_longer_windows_and_a_rate_of_its_own(
    corpus: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lengths: dict[int, tuple[int, int]] = {}
    batch = GestureWindows.batch

    def noted(self: GestureWindows, number: int, part: int = 0) -> Any:
        found = batch(self, number, part)
        lengths[number] = (len(found.x), int(found.lengths.max()))
        return found

    monkeypatch.setattr(GestureWindows, "batch", noted)
    changes = (*PARTS, "run.log_steps=1", "decoder.lr=0.123")
    train(recipe(tmp_path, *changes), tmp_path, **corpus)
    assert [lengths[n] for n in (0, 7, 8, 12)] == [(3, 2000), (3, 2000), (2, 3000), (2, 3000)]
    rows = [json.loads(line) for line in (tmp_path / "log.jsonl").read_text().splitlines()]
    rates = {row["step"]: row["lr"] for row in rows}
    assert rates[8] < 1e-4
    assert rates[9] == pytest.approx(0.123 / 3)  # the first of three steps of warm-up
    assert rates[13] < 0.123 / 5


def test_an_own_head_hears_its_data_set_alone() -> None:
    torch.manual_seed(0)
    codec = small_codec()
    for dataset, labels in (("a", GESTURES[:3]), ("b", GESTURES[1:5])):
        codec.add_label_head(own_head(dataset), LabelHeadConfig("frame", labels))
    heads = {
        own_head(name): torch.randn(3, 4, size, requires_grad=True)
        for name, size in (("a", 3), ("b", 4))
    }
    valid = torch.ones(3, 4, dtype=torch.bool)
    out: Any = SimpleNamespace(decoded=torch.zeros(3, 8, 4), heads=heads, valid=valid)
    classes = torch.zeros(3, len(GESTURES), dtype=torch.bool)
    classes[0, :3] = classes[1, 1:5] = classes[2, :] = True
    labels = torch.tensor([[0, 1, 2, 0], [1, 4, 3, 2], [9, 9, 9, 9]])
    datasets, montages = ["a", "b", "simulated"], [Montage.ring(1)] * 3
    batch = Batch(valid, valid, valid, montages, [None] * 3, labels, datasets, classes)
    loss = own_gesture_loss(codec, out, batch)
    loss.backward()
    for i, name in enumerate("ab"):
        gradient = heads[own_head(name)].grad
        assert gradient is not None
        heard = gradient.abs().sum(dim=(1, 2)) > 0
        assert heard.tolist() == [k == i for k in range(3)]
    scores = torch.zeros(2, 4, len(GESTURES))
    scores[0, :, :3], scores[1, :, 1:5] = heads["gesture-a"][0], heads["gesture-b"][1]
    known: Any = SimpleNamespace(labels=labels[:2], classes=classes[:2])
    assert loss.item() == pytest.approx(gesture_loss(scores, known, valid[:2]).item(), rel=1e-6)


def test_what_cannot_be_is_an_error(corpus: dict[str, Path], tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"decoder\.steps=3.*optim\.minutes=0"):
        Recipe.load("smoke", ["decoder.steps=3", "optim.minutes=2.0"])
    with pytest.raises(ConfigError, match=r"decoder\.lr=0"):
        Recipe.load("smoke", ["decoder.lr=0.0"])
    typing = Recipe.load("emg-codec", ["model.own_heads=true", "data.weights={ emg2qwerty = 1.0 }"])
    with pytest.raises(ConfigError, match=r"model\.own_heads=True.*reads text"):
        train(typing, tmp_path / "out", **corpus)
