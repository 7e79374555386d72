"""A teacher's scores and features as something to learn."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from training import SMALL, assert_same_model, people
from typing_sessions import write_sessions

from emgcodec import Codec, ConfigError, ModelError
from emgcodec.gestures import own_head
from emgcodec.io import read
from emgcodec.nn.network import CodecOutput
from emgcodec.train.data import calibrations, load_segments
from emgcodec.train.distill import Distiller
from emgcodec.train.loop import Training, train
from emgcodec.train.losses import forward
from emgcodec.train.recipe import DistillRecipe, LossRecipe, Recipe
from emgcodec.train.result import add_own_heads
from emgcodec.train.typing import TypingWindows
from emgcodec.train.windows import Batch, GestureWindows

SHAPE = {"encoder.dim": 32, "encoder.blocks": 2, "encoder.heads": 2, "encoder.conv_groups": 4,
         "encoder.conv_position": 8, "encoder.window": 32, "encoder.dropout": 0.0,
         "quantizer.after_block": 2}  # fmt: skip
CHANGES = [
    "data.split=ann", "data.batch_size=2", "optim.accumulate=1", "optim.warm_up=2",
    "typing.seconds=1.0", "typing.left=0.2", "typing.longer=0", "augment.time_masks=0",
    "run.precision=float32", "run.log_steps=1", *(f"{k}={v}" for k, v in SHAPE.items()),
]  # fmt: skip
SCORES = LossRecipe()


def small(dim: int = 32, seed: int = 0, **overrides: object) -> Codec:
    torch.manual_seed(seed)
    return Codec.from_preset("tiny", **SHAPE | {"encoder.dim": dim} | overrides)


@pytest.fixture(scope="module")
def sessions(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_sessions(tmp_path_factory.mktemp("sessions"), {"ann": 5}, seconds=5.0)


@pytest.fixture(scope="module")
def teacher(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("teacher")
    small(48, seed=7).save_pretrained(folder)
    return folder


def a_batch(sessions: Path, codec: Codec) -> Batch:
    recipe = Recipe.load("tiny", CHANGES)
    segments = load_segments([read(sessions / "ann-00.hdf5")], codec)
    return TypingWindows(segments, calibrations(segments, codec), codec, recipe).batch(0)


def test_a_student_that_is_its_teacher_has_nothing_to_learn(sessions: Path) -> None:
    codec = small().eval()
    batch = a_batch(sessions, codec)
    distiller = Distiller(small().eval(), codec, DistillRecipe("x"), SCORES)
    assert distiller(batch, forward(codec, batch))["scores"].item() == pytest.approx(0, abs=1e-6)
    other = Distiller(small(seed=1), codec, DistillRecipe("x"), SCORES)
    assert other(batch, forward(codec, batch))["scores"].item() > 1e-3


def test_scores_are_compared_frame_by_frame_within_the_core(sessions: Path) -> None:
    codec, guide = small().eval(), small(48, seed=3).eval()
    batch = a_batch(sessions, codec)
    assert batch.keys is not None
    out = forward(codec, batch)
    found = Distiller(guide, codec, DistillRecipe("x", 3.0), SCORES)(batch, out)
    wanted = forward(guide, batch)
    total, frames = 0.0, 0
    for i in range(len(batch.x)):
        core = slice(int(batch.keys.first[i]), int(batch.keys.stop[i]))
        p = torch.softmax(wanted.heads["text"][i, core] / 3.0, dim=-1)
        q = torch.log_softmax(out.heads["text"][i, core] / 3.0, dim=-1)
        total += 9.0 * float((p * (p.log() - q)).sum().detach())
        frames += len(p)
    assert found["scores"].item() == pytest.approx(total / frames, rel=1e-4)


def test_what_is_hidden_from_the_student_the_teacher_hears(sessions: Path) -> None:
    codec = small().eval()
    batch = a_batch(sessions, codec)
    shape = (*batch.labels.shape, codec.frontend.num_features)
    masked = replace(batch, hidden=torch.rand(shape) < 0.3)
    distiller = Distiller(small().eval(), codec, DistillRecipe("x"), SCORES)
    assert distiller(masked, forward(codec, batch))["scores"].item() == pytest.approx(0, abs=1e-6)
    assert distiller(masked, forward(codec, masked))["scores"].item() > 1e-4


def test_features_are_compared_behind_a_map_that_learns(sessions: Path) -> None:
    codec = small()
    batch = a_batch(sessions, codec)
    distiller = Distiller(small(48, seed=3), codec, DistillRecipe("x"), LossRecipe(features=1.0))
    out: CodecOutput = forward(codec, batch)
    terms = distiller(batch, out)
    terms["features"].backward()
    assert distiller.map is not None
    assert distiller.map.weight.shape == (48, 32)
    assert distiller.map.weight.grad is not None
    assert [n for n, _ in distiller.named_parameters()] == ["map.weight", "map.bias"]
    assert codec.frontend.project.weight.grad is not None


def test_a_student_comes_nearer_to_its_teacher(
    sessions: Path, teacher: Path, tmp_path: Path
) -> None:
    recipe = Recipe.load(
        "distill-large-tiny",
        [*CHANGES, f"distill.teacher={teacher}", "loss.text=0", "loss.features=0.1",
         "optim.steps=40", "optim.lr=3e-3", "optim.clip=1.0"],
    )  # fmt: skip
    train(recipe, tmp_path, data=sessions, cache=tmp_path / "cache")
    lines = [json.loads(line) for line in (tmp_path / "log.jsonl").read_text().splitlines()]
    first, last = lines[0], lines[-1]
    assert last["scores"] < 0.5 * first["scores"]
    assert last["features"] < first["features"]
    for line in lines:
        terms = line["scores"] + 0.1 * line["features"]
        assert line["loss"] == pytest.approx(terms, rel=1e-4)


def test_a_resumed_distillation_is_the_same(
    sessions: Path, teacher: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def recipe(steps: int) -> Recipe:
        return Recipe.load(
            "distill-large-tiny",
            [*CHANGES, f"distill.teacher={teacher}", "loss.features=0.1", f"optim.steps={steps}",
             "run.checkpoint_steps=1"],
        )  # fmt: skip

    cache = tmp_path / "cache"
    train(recipe(4), tmp_path / "a", data=sessions, cache=cache)
    original = Training.share
    with monkeypatch.context() as patch:  # as if it had been killed after two steps
        patch.setattr(Training, "share", lambda self: 1.0 if self.step == 2 else original(self))
        patch.setattr(Training, "finish", lambda self: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            train(recipe(4), tmp_path / "b", data=sessions, cache=cache)
    train(recipe(4), tmp_path / "b", data=sessions, cache=cache, resume=True)
    assert_same_model(tmp_path / "a", tmp_path / "b")


def test_a_distillation_does_not_go_on_with_another_teacher(
    sessions: Path, teacher: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    place = tmp_path / "teacher"
    shutil.copytree(teacher, place)
    recipe = Recipe.load(
        "distill-large-tiny", [*CHANGES, f"distill.teacher={place}", "optim.steps=2"]
    )
    with monkeypatch.context() as patch:
        patch.setattr(Training, "finish", lambda self: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            train(recipe, tmp_path / "out", data=sessions, cache=tmp_path / "cache")
    shutil.rmtree(place)
    small(48, seed=8).save_pretrained(place)
    with pytest.raises(ConfigError, match="another teacher"):
        train(recipe, tmp_path / "out", data=sessions, cache=tmp_path / "cache", resume=True)


def test_a_missing_teacher_is_noticed_before_any_data_is_read(tmp_path: Path) -> None:
    recipe = Recipe.load("student", ["distill.teacher=nobody"])
    with pytest.raises(ModelError, match="'nobody' is neither bundled"):
        train(recipe, tmp_path / "out", data=tmp_path / "no-data")


def test_teachers_that_do_not_fit_are_named(sessions: Path, tmp_path: Path) -> None:
    slower = small(**{"frontend.strides": [5, 2, 4], "hop_length": 40})
    with pytest.raises(ConfigError, match="hop_length"):
        Distiller(slower, small(), DistillRecipe("x"), SCORES)
    deaf = Codec.from_preset("emg-codec", hop_length=20, **{"frontend.window": 60})
    with pytest.raises(ConfigError, match="features"):
        Distiller(deaf, small(), DistillRecipe("x"), SCORES)


BOOKS = DistillRecipe("x", codebooks=True)
CODES = LossRecipe(scores=0.0, codes=1.0, latents=1.0)


def armband(seed: int, **overrides: object) -> Codec:
    torch.manual_seed(seed)
    return Codec.from_preset("student", **SMALL | overrides)


def heard(codec: Codec) -> Batch:
    recipe = Recipe.load("smoke", ["data.batch_size=4", "data.seconds=1.0"])
    weights = {"3dc": 1.0, "myo_laval": 1.0}
    recipe = replace(recipe, data=replace(recipe.data, weights=weights))
    segments, _ = people()
    known = calibrations(segments, codec)
    return GestureWindows(segments, known, {}, codec, recipe.data, recipe.augment, 0).batch(0)


def test_codes_of_a_teacher_are_learned_through_its_own_codebooks() -> None:
    teacher, student = armband(1, **{"encoder.dim": 48}).eval(), armband(2).train()
    assert teacher.quantizer is not None
    assert student.quantizer is not None
    batch = heard(student)
    distiller = Distiller(teacher, student, BOOKS, CODES)
    assert student.vocab_id == teacher.vocab_id
    out = forward(student, batch)
    terms = distiller(batch, out)
    assert student.vocab_id == teacher.vocab_id, "training moved the codebooks"
    wanted = forward(teacher, batch)
    counted = out.valid & wanted.valid
    given = student.quantizer.project_in(out.latents.mT)[counted]
    told = teacher.quantizer.project_in(wanted.latents.mT)[counted]
    spread = told.var(dim=0, correction=0).sum()
    assert terms["latents"].item() == pytest.approx(
        ((given - told) ** 2).sum(dim=1).mean().item() / spread.item(), rel=1e-4
    )
    surprise, residual = 0.0, given.detach()
    for level, book in enumerate(teacher.quantizer.codebooks):
        code = wanted.codes.mT[counted][:, level]
        score = -torch.cdist(residual, book).square() / (0.5 * spread)
        surprise -= float(torch.log_softmax(score, dim=1).gather(1, code[:, None]).mean())
        residual = residual - book[code]
    assert terms["codes"].item() == pytest.approx(surprise, rel=1e-3)
    sum(terms.values()).backward()  # type: ignore[union-attr]
    assert student.frontend.norm is not None
    assert student.quantizer.project_in.weight.grad is not None


def test_codes_are_told_apart_once_the_sharpness_is_learned() -> None:
    """Vectors that learn from the codes alone end up nearest to them, on both levels."""
    teacher, student = armband(1).eval(), armband(2).train()
    batch = heard(student)
    assert teacher.quantizer is not None
    out = forward(teacher, batch)
    told = teacher.quantizer.project_in(out.latents.mT)[out.valid].detach()
    first = told[:: len(told) // teacher.codebook_size][: teacher.codebook_size]
    left = told - first[torch.cdist(told, first).argmin(dim=1)]
    last = left[left.norm(dim=1).argsort(descending=True)[: teacher.codebook_size]]
    teacher.quantizer.set_codebooks(torch.stack([first, last]))
    codes = teacher.quantizer.lookup(told)
    distiller = Distiller(teacher, student, BOOKS, LossRecipe(scores=0.0, codes=1.0))
    assert distiller.sharpness is not None
    given = torch.nn.Parameter(told + told.std() * torch.randn_like(told))
    spread = told.var(dim=0, correction=0).sum()
    optimizer = torch.optim.Adam([given, distiller.sharpness], lr=5e-3)
    for _ in range(300):
        optimizer.zero_grad()
        distiller._surprise(given, codes, spread).backward()
        optimizer.step()
    same = (teacher.quantizer.lookup(given.detach()) == codes).float().mean(dim=0)
    assert same[0] > 0.99
    assert same[1] > 0.95
    assert (distiller.sharpness > 0.1).all()  # from where squares are as wide as all latents


def test_the_teachers_readers_are_left_out_where_nobody_asks(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    teacher, student = armband(1).eval(), armband(2).train()
    batch = heard(student)
    distiller = Distiller(teacher, student, BOOKS, CODES)
    for head in teacher.head.values():
        monkeypatch.setattr(head, "forward", lambda *_: 1 / 0)
    assert distiller(batch, forward(student, batch)).keys() == {"codes", "latents"}
    for part in (student.frontend, student.encoder):
        part.requires_grad_(False)
    monkeypatch.setattr(teacher.frontend, "forward", lambda *_: 1 / 0)
    assert student.quantizer is not None
    student.quantizer.project_in.requires_grad_(False)
    assert distiller(batch, forward(student, batch)) == {}  # an encoder that has learned


def test_those_without_labels_are_taught_all_classes() -> None:
    teacher, student = armband(1).eval(), armband(2).eval()
    batch = heard(student)
    unknown = replace(batch, classes=torch.zeros_like(batch.classes))
    distiller = Distiller(teacher, student, DistillRecipe("x"), SCORES)
    assert distiller(unknown, forward(student, batch))["scores"].item() > 1e-4


def test_a_teacher_agrees_with_itself() -> None:
    teacher, student = armband(1).eval(), armband(1).eval()
    batch = heard(student)
    distiller = Distiller(teacher, student, BOOKS, CODES)
    terms = distiller(batch, forward(student, batch))
    assert terms["latents"].item() == pytest.approx(0, abs=1e-6)
    stranger = Distiller(teacher, other := armband(3).eval(), BOOKS, CODES)
    assert stranger(batch, forward(other, batch))["codes"].item() > terms["codes"].item()


def test_a_student_without_labels_comes_to_its_teachers_codes(tmp_path: Path) -> None:
    torch.manual_seed(0)
    guide = armband(1)
    guide.save_pretrained(tmp_path / "teacher")
    overrides = [f"{name}={value}" for name, value in (SMALL | {"encoder.blocks": 1}).items()]
    recipe = Recipe.load(
        "smoke",
        [*overrides, f"distill.teacher={tmp_path / 'teacher'}", "distill.codebooks=true",
         "loss.codes=1.0", "loss.latents=1.0", "loss.scores=0.0", "loss.gesture=0.0",
         "loss.reconstruction=0.0", "loss.level=0.0", "loss.quantizer_start=0.0",
         "data.simulated=2", "data.batch_size=4", "data.seconds=1.0", "optim.steps=120",
         "optim.warm_up=10", "optim.lr=5e-3", "run.log_steps=10"],
    )  # fmt: skip
    model = train(recipe, tmp_path / "out", cache=tmp_path / "cache")
    lines = [json.loads(line) for line in (tmp_path / "out/log.jsonl").read_text().splitlines()]
    assert lines[-1]["latents"] < 0.7 * lines[0]["latents"]
    assert lines[-1]["codes"] < 0.8 * lines[0]["codes"]
    made = Codec.from_pretrained(model)
    assert made.vocab_id == guide.vocab_id
    assert made.config.provenance["teacher"]["codec_id"] == guide.codec_id


def test_codebooks_that_cannot_be_shared_are_named() -> None:
    with pytest.raises(ConfigError, match="size and dim alike"):
        Distiller(armband(1), armband(2, **{"quantizer.size": 16}), BOOKS, CODES)
    with pytest.raises(ConfigError, match="both need a quantizer"):
        Distiller(armband(1, **{"quantizer.kind": "none"}), armband(2), BOOKS, CODES)
    with pytest.raises(ConfigError, match="set distill\\.codebooks"):
        Distiller(armband(1), armband(2), DistillRecipe("x"), CODES)


def test_a_data_sets_own_head_teaches_of_that_data_set_alone() -> None:
    teacher, student = armband(1), armband(2)
    for codec in (teacher, student):
        add_own_heads(codec, people()[0])
        codec.eval()
    batch = heard(student)
    assert set(batch.datasets) == {"3dc", "myo_laval"}
    distiller = Distiller(teacher, student, DistillRecipe("x"), SCORES)
    for dataset in ("3dc", "myo_laval"):
        out = forward(student, batch)
        scores = distiller(batch, out)["scores"]
        (gradient,) = torch.autograd.grad(scores, out.heads[own_head(dataset)])
        asked = [name == dataset for name in batch.datasets]
        assert (gradient.abs().sum(dim=(1, 2)) > 0).tolist() == asked
