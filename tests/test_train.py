"""The training loop and the scores, on a few made-up people."""

from __future__ import annotations

import importlib.util
import itertools
import json
import math
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor
from training import SMALL, assert_same_model, recipe, tensors, write_people, write_recipe

from emgcodec import Codec, Montage
from emgcodec.cli import main
from emgcodec.config import ConfigError
from emgcodec.nn.quantizer import CodebookTrainer, Quantizer
from emgcodec.train import loop
from emgcodec.train.checkpoint import Checkpoint
from emgcodec.train.data import UNLABELLED
from emgcodec.train.loop import TrainingError, train
from emgcodec.train.losses import gesture_loss
from emgcodec.train.processes import interrupts
from emgcodec.train.recipe import Recipe
from emgcodec.train.windows import GestureWindows

pytest.importorskip("lightning")

ROOT = Path(__file__).parents[1]
ENVIRONMENT = {**os.environ, "PYTHONPATH": f"{ROOT / 'src'}"}

# The loss


def loss_of(scores: Tensor, labels: Tensor, classes: Tensor, valid: Tensor | None = None) -> Tensor:
    batch: Any = SimpleNamespace(labels=labels, classes=classes)
    return gesture_loss(
        scores, batch, torch.ones(labels.shape, dtype=bool) if valid is None else valid
    )


def test_the_loss_hears_only_classes_of_the_data_set_and_labelled_valid_frames() -> None:
    torch.manual_seed(0)
    scores = torch.randn(2, 6, 4, requires_grad=True)
    labels = torch.tensor([[0, 1, UNLABELLED, 1, 0, 2], [2, 2, 1, 0, UNLABELLED, 1]])
    classes = torch.tensor([[True, True, True, False]]).expand(2, -1)
    valid = torch.ones(2, 6, dtype=torch.bool)
    valid[0, 5] = False
    loss_of(scores, labels, classes, valid).backward()
    assert scores.grad is not None
    heard = (scores.grad != 0).any(dim=2)
    assert torch.equal(heard, (labels >= 0) & valid)
    assert (scores.grad[..., 3] == 0).all()


def test_the_loss_of_a_batch_without_labels_is_nothing() -> None:
    scores = torch.randn(2, 3, 4, requires_grad=True)
    labels = torch.full((2, 3), UNLABELLED)
    loss = loss_of(scores, labels, torch.ones(2, 4, dtype=torch.bool))
    assert loss.item() == 0.0
    loss.backward()
    assert scores.grad is not None
    assert (scores.grad == 0).all()


def test_better_scores_are_less_loss() -> None:
    labels = torch.tensor([[0, 1, 1, 1]])
    classes = torch.ones(1, 3, dtype=torch.bool)
    right = torch.nn.functional.one_hot(labels, 3).float()
    losses = [float(loss_of(k * right, labels, classes)) for k in (0, 1, 3)]
    assert losses == sorted(losses, reverse=True)
    assert losses[0] == pytest.approx(math.log(3))


def test_smoothing_stays_within_the_classes_of_the_data_set() -> None:
    """Data sets of unlike classes in one batch: each item's loss is what it would be alone."""
    torch.manual_seed(0)
    scores, labels = torch.randn(2, 1, 5), torch.tensor([[0], [4]])
    classes = torch.tensor([[True, True, False, False, False], [False, False, True, True, True]])
    found = float(loss_of(scores, labels, classes))
    wanted = [
        torch.nn.functional.cross_entropy(
            scores[i, :, row], labels[i] - int(row.nonzero()[0]), label_smoothing=0.05
        )
        for i, row in enumerate(classes)
    ]
    assert found == pytest.approx(float(sum(wanted)) / 2)


# The loop


@pytest.fixture(scope="session")
def straight(corpus: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A training that nothing interrupted."""
    out = tmp_path_factory.mktemp("straight")
    model = train(recipe(out), out, **corpus)
    assert model == out / "model"
    return out


def log(out: Path) -> list[dict[str, float]]:
    return [json.loads(line) for line in (out / "log.jsonl").read_text().splitlines()]


def stop_at(monkeypatch: pytest.MonkeyPatch, step: int, how: Any) -> None:
    """Something happens while the windows of a step are drawn."""
    batch = GestureWindows.batch

    def interrupted(self: GestureWindows, number: int, part: int = 0) -> Any:
        if number == step:
            how()
        return batch(self, number, part)

    monkeypatch.setattr(GestureWindows, "batch", interrupted)


def test_steps_train_every_part(straight: Path) -> None:
    codec = Codec.from_pretrained(straight / "model")
    torch.manual_seed(0)
    before = Codec.from_preset("student", **SMALL).state_dict()
    after = codec.state_dict()
    for part in ("frontend", "encoder", "quantizer", "decoder", "head"):
        names = [name for name in before if name.startswith(part)]
        assert names
        assert any(not torch.equal(before[name], after[name]) for name in names), part


def test_the_model_says_what_it_was_made_of(straight: Path) -> None:
    config = Codec.from_pretrained(straight / "model").config
    facts = config.provenance
    assert config.weights_license == "none"
    assert Recipe.from_dict(facts["recipe"]) == recipe(straight)
    assert facts["steps"] == 8
    assert facts["data"]["3dc"] == {"people": ["A"], "recordings": 2, "samples": 7200}
    assert facts["data"]["myo_ciil"]["people"] == ["C"]


def test_the_log_is_honest(straight: Path) -> None:
    lines = log(straight)
    assert [line["step"] for line in lines] == [3, 6, 8]
    assert all(math.isfinite(value) for line in lines for value in line.values())
    usual = {
        "loss",
        "gesture",
        "reconstruction",
        "commitment",
        "gradient_norm",
        "lr",
        "speed",
        "step_seconds",
        "peak_gib",
    }
    assert all(usual <= line.keys() for line in lines)
    assert "perplexity_0" not in lines[0]  # no codebooks yet
    for level in range(2):
        assert 1 <= lines[-1][f"perplexity_{level}"] <= 32
        assert 0 < lines[-1][f"used_{level}"] <= 1
        assert lines[-1][f"dead_{level}"] >= 0
    for line in lines:
        spectrum = 0.5 * (line["reconstruction"] + line["level"])
        terms = line["gesture"] + spectrum + line["commitment"]
        assert line["loss"] == pytest.approx(terms, rel=1e-4)
    # Half a cosine over the training, after a rise over three steps.
    assert lines[0]["lr"] == pytest.approx(1e-3 * 0.5 * (1 + math.cos(math.pi * 2 / 8)), rel=1e-4)
    assert lines[-1]["share"] == 1.0
    assert lines[-1]["lr"] == pytest.approx(1e-3 * 0.5 * (1 + math.cos(math.pi * 7 / 8)), rel=1e-4)


@pytest.mark.parametrize("step", [1, 2, 5, 7])
def test_resumed_training_is_uninterrupted_training(
    step: int,
    straight: Path,
    corpus: dict[str, Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def die() -> None:
        raise RuntimeError("power cut")

    wanted = recipe(tmp_path, "run.checkpoint_steps=1")
    with monkeypatch.context() as patch:
        stop_at(patch, step, die)
        with pytest.raises(RuntimeError, match="power cut"):
            train(wanted, tmp_path, **corpus)
    drawn: list[int] = []
    stop_at(monkeypatch, step, lambda: drawn.append(step))
    train(wanted, tmp_path, **corpus, resume=True)
    assert drawn == [step]
    assert_same_model(tmp_path, straight)
    assert [line["step"] for line in log(tmp_path)] == [3, 6, 8]


@pytest.fixture
def _interruptible() -> Iterator[None]:
    before = signal.signal(signal.SIGINT, signal.default_int_handler)  # jobs may ignore it
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.usefixtures("_interruptible")
def test_an_interrupt_leaves_a_checkpoint(
    straight: Path,
    corpus: dict[str, Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    argv = ["train", str(write_recipe(tmp_path)), "--out", str(tmp_path / "out")]
    argv += [f"--{name}={path}" for name, path in corpus.items()]
    with monkeypatch.context() as patch:
        stop_at(patch, 4, lambda: os.kill(os.getpid(), signal.SIGINT))
        assert main(argv) == 130
    assert "--resume" in capsys.readouterr().err
    assert Checkpoint.load(tmp_path / "out" / "checkpoint.safetensors").step == 5
    assert not (tmp_path / "out" / "model").exists()
    assert main(argv) == 2  # nothing is lost by forgetting the word
    assert "resume" in capsys.readouterr().err
    assert main([*argv, "--resume"]) == 0
    assert capsys.readouterr().out.strip() == str(tmp_path / "out" / "model")
    assert_same_model(tmp_path / "out", straight)


def test_a_training_of_an_older_recipe_goes_on(
    straight: Path, corpus: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    wanted = recipe(tmp_path, "run.checkpoint_steps=1")
    with monkeypatch.context() as patch:
        stop_at(patch, 4, lambda: os.kill(os.getpid(), signal.SIGTERM))
        assert train(wanted, tmp_path, **corpus) is None
    path = tmp_path / "checkpoint.safetensors"
    saved = Checkpoint.load(path)
    older = saved.recipe.to_dict()
    del older["codebooks"], older["run"]["precision"]
    with monkeypatch.context() as patch:
        patch.setattr(Recipe, "to_dict", lambda _: older)
        saved.save(path)
    assert train(wanted, tmp_path, **corpus, resume=True)
    assert_same_model(tmp_path, straight)


@pytest.mark.usefixtures("_interruptible")
def test_signals_that_are_ignored_stay_so() -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    with interrupts() as asked:
        os.kill(os.getpid(), signal.SIGINT)
        assert not asked.is_set()
        os.kill(os.getpid(), signal.SIGTERM)
        assert asked.is_set()
    assert signal.getsignal(signal.SIGINT) == signal.SIG_IGN


def test_a_finished_training_is_not_repeated(
    straight: Path, corpus: dict[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(GestureWindows, "batch", lambda *_: pytest.fail("it trains"))
    assert train(recipe(straight), straight, **corpus) == straight / "model"
    assert train(recipe(straight, "run.log_steps=1"), straight) == straight / "model"
    with pytest.raises(ConfigError, match=r"optim\.lr"):
        train(recipe(straight, "optim.lr=0.1"), straight, **corpus, resume=True)


def test_one_training_a_folder(
    straight: Path, corpus: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    wanted = recipe(tmp_path, "run.checkpoint_steps=1")

    def second() -> None:
        before = sorted(tmp_path.rglob("*"))
        with pytest.raises(TrainingError, match="another process"):
            train(wanted, tmp_path, **corpus, resume=True)
        assert sorted(tmp_path.rglob("*")) == before

    stop_at(monkeypatch, 3, second)
    train(wanted, tmp_path, **corpus)
    assert_same_model(tmp_path, straight)


KILLED = """
import os, signal, sys
import emgcodec.train.checkpoint as checkpoint
from emgcodec.cli import main

save_file, count = checkpoint.save_file, 0

def half_a_file(tensors, path, metadata):
    global count
    count += 1
    save_file(tensors, path, metadata)
    if count == 5:
        os.truncate(path, os.path.getsize(path) // 2)
        os.kill(os.getpid(), signal.SIGKILL)

checkpoint.save_file = half_a_file
main(sys.argv[1:])
"""


def test_kill_9_while_a_checkpoint_is_written(
    straight: Path, corpus: dict[str, Path], tmp_path: Path
) -> None:
    argv = ["train", str(write_recipe(tmp_path)), "--out", str(tmp_path / "out")]
    argv += [f"--{name}={path}" for name, path in corpus.items()]
    argv += ["--set", "run.checkpoint_steps=1"]
    done = subprocess.run([sys.executable, "-c", KILLED, *argv], env=ENVIRONMENT, check=False)
    assert done.returncode == -signal.SIGKILL
    left = sorted(path.name for path in (tmp_path / "out").iterdir())
    assert sum(name.startswith(".checkpoint") for name in left) == 1
    assert Checkpoint.load(tmp_path / "out" / "checkpoint.safetensors").step == 4
    assert main([*argv, "--resume"]) == 0
    assert_same_model(tmp_path / "out", straight)
    assert not list((tmp_path / "out").glob(".*"))


def test_two_processes_share_gradients_and_codebooks(
    corpus: dict[str, Path], tmp_path: Path
) -> None:
    changes = ["--set", "model.overrides.quantizer.dead_below=0.8", "--set", "run.log_steps=1"]
    # Heads of their own learn in the process alone that drew their people.
    changes += ["--set", "model.own_heads=true", "--set", "data.batch_size=2"]
    argv = ["train", str(write_recipe(tmp_path)), "--out", str(tmp_path / "out"), *changes]
    argv += [f"--{name}={path}" for name, path in corpus.items()]
    script = Path(__file__).with_name("two_processes.py")
    command = [sys.executable, script, tmp_path, "2", *argv, "--set", "run.processes=2"]
    subprocess.run(list(map(str, command)), env=ENVIRONMENT, check=True, timeout=300)
    for name in ("early", "late"):
        one, two = (load_file(tmp_path / f"{name}-{rank}.safetensors") for rank in range(2))
        averages = [key for key in one if key.startswith("trainer.") and "embed" in key]
        assert bool(averages) == (name == "late")
        assert [key for key in one if not torch.equal(one[key], two[key])] == []
    lines = log(tmp_path / "out")
    assert sum(line.get("dead_0", 0) + line.get("dead_1", 0) for line in lines) > 0
    # Before the codebooks start, two processes are one that takes two batches for a step.
    alone = recipe(tmp_path, *changes[1::2], "optim.accumulate=2", "loss.quantizer_start=1.0")
    train(alone, tmp_path / "alone", **corpus)
    for ours, theirs in zip(lines[:3], log(tmp_path / "alone"), strict=False):
        assert ours["gradient_norm"] == pytest.approx(theirs["gradient_norm"], rel=1e-3)


def test_accumulated_batches_are_one_large_batch(tmp_path: Path) -> None:
    data = write_people(tmp_path / "data", sample_rate_hz=2000.0)
    plain = [f"augment.{n}=0" for n in ("shift", "noise", "mains", "time_masks", "band_masks")]
    plain += ["loss.gesture=0", "loss.quantizer_start=1.0", "optim.steps=1", "augment.dropout=0"]
    plain += ["data.weights.myo_ciil=0"]  # as many electrodes in each window
    moments = []
    for size, parts in ((4, 1), (1, 4)):
        out = tmp_path / f"{size}"
        changes = [*plain, f"data.batch_size={size}", f"optim.accumulate={parts}"]
        train(recipe(tmp_path, *changes), out, data=data, cache=tmp_path / "cache")
        state = Checkpoint.load(out / "checkpoint.safetensors").part("optimizer")
        moments.append({k: t for k, t in state.items() if k.endswith("exp_avg")})
    large, small = moments
    assert max(float(t.abs().max()) for t in large.values()) > 1e-3
    for name, tensor in large.items():
        torch.testing.assert_close(small[name], tensor, rtol=1e-3, atol=1e-6)


def test_bf16_leaves_statistics_and_codebooks_exact(
    straight: Path, corpus: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows: list[Tensor] = []
    latents: list[torch.dtype] = []
    step, quantize = CodebookTrainer.step, Quantizer.forward

    def seen(self: CodebookTrainer, vectors: Tensor) -> Tensor:
        rows.append(vectors)
        return step(self, vectors)

    def taken(self: Quantizer, vectors: Tensor, *rest: Any) -> Any:
        latents.append(vectors.dtype)
        return quantize(self, vectors, *rest)

    monkeypatch.setattr(CodebookTrainer, "step", seen)
    monkeypatch.setattr(Quantizer, "forward", taken)
    train(recipe(tmp_path, "run.precision=bf16"), tmp_path, **corpus)
    assert torch.bfloat16 in latents  # it was indeed in lower precision
    assert all(r.dtype == torch.float32 for r in rows)
    assert any(not torch.equal(r, r.bfloat16().float()) for r in rows)
    state = Checkpoint.load(tmp_path / "checkpoint.safetensors").tensors
    assert all(t.isfinite().all() for t in state.values())
    assert state["model.quantizer.codebooks"].dtype == torch.float32
    # Targets and normalisation are measured in full: the loss differs by the encoder's rounding.
    ours, theirs = log(tmp_path)[0], log(straight)[0]
    assert ours["loss"] == pytest.approx(theirs["loss"], rel=0.02)


def test_minutes_count_over_resumes(
    corpus: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ticks = itertools.count()  # each look at the clock takes a second
    monkeypatch.setattr(loop, "time", SimpleNamespace(monotonic=lambda: next(ticks)))
    wanted = recipe(tmp_path, "optim.steps=0", "optim.minutes=1", "run.log_steps=1")
    with monkeypatch.context() as patch:
        stop_at(patch, 4, lambda: os.kill(os.getpid(), signal.SIGTERM))
        assert train(wanted, tmp_path, **corpus) is None
    first = Checkpoint.load(tmp_path / "checkpoint.safetensors")
    assert first.step == 5
    assert 15 <= first.seconds <= 25
    next(itertools.islice(ticks, 1000, None))  # time between the two is not training
    assert train(wanted, tmp_path, **corpus, resume=True)
    last = Checkpoint.load(tmp_path / "checkpoint.safetensors")
    assert 60 <= last.seconds <= 64
    shares = [line["share"] for line in log(tmp_path)]
    assert len(shares) == last.step
    assert np.allclose(np.diff(shares)[:-1], shares[0], atol=0.03)
    assert shares[-1] == 1.0
    for line, share in zip(log(tmp_path)[3:], [*shares[2:]], strict=False):
        assert line["lr"] == pytest.approx(1e-3 * 0.5 * (1 + math.cos(math.pi * share)), abs=1e-6)


def test_what_is_not_installed_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    argv = ["train", str(write_recipe(tmp_path)), "--out", str(tmp_path / "out")]
    if not torch.cuda.is_available() and not torch.backends.mps.is_available():
        assert main([*argv, "--set", "run.accelerator=gpu"]) == 2
        assert "run.accelerator='gpu'" in capsys.readouterr().err
    monkeypatch.setitem(sys.modules, "lightning.fabric", None)
    assert main(argv) == 2
    assert "pip install 'emgcodec[train]'" in capsys.readouterr().err


def test_tensorboard_is_welcome_but_not_needed(
    straight: Path,
    corpus: dict[str, Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", None)
    train(recipe(tmp_path, "optim.steps=1"), tmp_path, **corpus)
    assert capsys.readouterr().err.count("tensorboard is not installed") == 1
    assert not (tmp_path / "tensorboard").exists()
    assert len(log(tmp_path)) == 1
    if importlib.util.find_spec("tensorboard"):
        assert list((straight / "tensorboard").iterdir())


def test_a_gradient_that_is_not_finite_stops_the_training(
    corpus: dict[str, Path], tmp_path: Path
) -> None:
    wanted = recipe(tmp_path, "optim.lr=1e30", "run.checkpoint_steps=1")
    with pytest.raises(TrainingError, match=r"optim\.lr"):
        train(wanted, tmp_path, **corpus)
    state = Checkpoint.load(tmp_path / "checkpoint.safetensors")
    assert 0 < state.step < 8


def test_other_recordings_are_not_resumed_on(
    corpus: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        stop_at(patch, 1, lambda: os.kill(os.getpid(), signal.SIGTERM))
        assert train(recipe(tmp_path), tmp_path, **corpus) is None
    other = write_people(tmp_path / "data", subject="Z")
    with pytest.raises(ConfigError, match="other recordings"):
        train(recipe(tmp_path), tmp_path, data=other, cache=corpus["cache"], resume=True)


def test_what_is_no_checkpoint_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "checkpoint.safetensors"
    path.write_bytes(b"nothing")
    with pytest.raises(ConfigError, match="no checkpoint"):
        train(recipe(tmp_path), tmp_path, resume=True)


def test_codecs_learn_from_what_their_heads_are_for(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="emg2qwerty alone"):
        train(recipe(tmp_path, "model.preset=tiny", "model.overrides={}"), tmp_path)
    with pytest.raises(ConfigError, match="gestures"):
        train(recipe(tmp_path, "data.weights={emg2qwerty = 1.0}"), tmp_path)


def test_twins_without_codebooks_or_heads_train_as_well(
    corpus: dict[str, Path], tmp_path: Path
) -> None:
    changes = ["optim.steps=2", "model.overrides.quantizer.kind=none"]
    train(recipe(tmp_path, *changes), tmp_path / "none", **corpus)
    assert Codec.from_pretrained(tmp_path / "none" / "model").num_codebooks == 0
    assert "commitment" not in log(tmp_path / "none")[0]
    heads = "model.overrides.heads="
    signal_only = recipe(
        tmp_path, "optim.steps=2", heads + '{signal = {kind = "signal", rank = 8}}'
    )
    train(signal_only, tmp_path / "signal", **corpus)
    assert Codec.from_pretrained(tmp_path / "signal" / "model").heads == ("signal",)
    assert "gesture" not in log(tmp_path / "signal")[0]
    foreign = heads + '{gesture = {kind = "frame", labels = ["rest", "wave"]}}'
    with pytest.raises(ConfigError, match="labels"):
        train(recipe(tmp_path, foreign), tmp_path / "gesture", **corpus)


def test_a_model_can_be_trained_further(
    straight: Path, corpus: dict[str, Path], tmp_path: Path
) -> None:
    changes = [f"model.init={straight / 'model'}", "optim.lr=1e-9", "model.name=second"]
    changes += ["optim.steps=2", "loss.quantizer_start=0.0", "model.overrides={}"]
    train(recipe(tmp_path, *changes), tmp_path, **corpus)
    config = Codec.from_pretrained(tmp_path / "model").config
    assert config.name == "second"
    assert config.provenance["started_from"]["steps"] == 8
    old, new = tensors(straight), tensors(tmp_path)
    for name in old:
        if name == "quantizer.codebooks":  # they move on from where they were
            assert 0 < float((old[name] - new[name]).norm() / old[name].norm()) < 0.2
        elif name != "head.signal.correction":
            assert torch.equal(old[name], new[name]), name


def test_the_smoke_recipe_runs(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    argv = ["train", "smoke", "--out", str(tmp_path / "out"), "--cache", str(tmp_path / "cache")]
    for change in ("optim.steps=3", "data.simulated=1", "data.batch_size=2", "data.seconds=2"):
        argv += ["--set", change]
    assert main(argv) == 0
    shown = capsys.readouterr()
    assert shown.out.strip() == str(tmp_path / "out" / "model")
    assert "100%" in shown.err
    codec = Codec.from_pretrained(tmp_path / "out" / "model")
    assert codec.config.name == "smoke"
    assert codec.config.weights_license == "Apache-2.0"
    assert codec.config.provenance["data"]["simulated"]["people"] == ["0"]
    codes = codec.encode(torch.randn(1, 12, 4000) * 30, montage=Montage.ring(12))
    assert codes.shape == (1, 2, 63)
