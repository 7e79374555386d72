"""Studies: variants are trained and scored once, and their page tells what each costs."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from evaluation import inhabit, write_people
from training import SMALL
from typing_sessions import write_sessions

from emgcodec import Codec
from emgcodec.cli import build_parser, main
from emgcodec.evaluate import jobs, provenance, reconstruction, studies, study_scores
from emgcodec.evaluate.study_tables import write_studies
from emgcodec.evidence import people
from emgcodec.presets import preset
from emgcodec.train.recipe import Recipe

TDS = {"hop_length": 64, "frontend.window": 128, "frontend.mlp_dim": 8, "encoder.channels": 4,
       "encoder.blocks": 2, "encoder.kernel": 8}  # fmt: skip


@pytest.fixture
def world(tmp_path: Path) -> Iterator[Path]:
    with pytest.MonkeyPatch.context() as patch:
        inhabit(patch)
        yield write_people(tmp_path / "data")


@pytest.fixture
def trainings(monkeypatch: pytest.MonkeyPatch) -> list[Recipe]:
    """Recipes of the trainings that were asked for; what they leave is an untrained codec."""
    asked = []

    def train(argv: list[str], **options: Any) -> SimpleNamespace:
        args = build_parser().parse_args(argv[3:])
        recipe = Recipe.load(args.recipe, args.changes)
        asked.append(recipe)
        preset = recipe.model.preset
        shape = dict(SMALL if preset in ("student", "teacher") else TDS) | dict(
            recipe.model.overrides
        )
        torch.manual_seed(len(asked) if recipe.distill.teacher == "" else 1)
        met = {"data": {"myo_readings": {"people": []}}}
        Codec.from_preset(preset, **shape, provenance=met).save_pretrained(args.out / "model")
        return SimpleNamespace(returncode=0)

    monkeypatch.setattr(jobs.subprocess, "run", train)
    monkeypatch.setattr(provenance, "_commit", lambda: "abc")
    return asked


def study(name: str, out: Path, *argv: str | Path) -> int:
    folders = ["--runs", out / "runs", "--studies", out / "studies"]
    return main(["evaluate", "study", name, *map(str, [*folders, *argv])])


def test_variants_are_trained_and_scored_once(
    world: Path, trainings: list[Recipe], tmp_path: Path
) -> None:
    argv = ["--data", world, "--fold", "1", "--variant", "none", "--variant", "rvq 4x32"]
    for _ in range(2):
        assert study("bottleneck-gestures", tmp_path, *argv) == 0
    assert [(r.data.fold, r.run.seed, dict(r.data.weights)) for r in trainings] == [
        (1, 1, {"3dc": 1.0})
    ] * 2
    found = {
        path.name: json.loads(path.read_text())
        for path in (tmp_path / "studies" / "bottleneck-gestures").iterdir()
    }
    assert set(found) == {"none.1.json", "rvq-4x32.1.json"}
    assert found["none.1.json"]["bits_per_frame"] == 0
    result = found["rvq-4x32.1.json"]
    assert result["bits_per_frame"] == 20
    assert len(result["usage"]["perplexity"]) == 4
    assert set(result["scores"]["cold"]) == {"3dc"}
    assert set(result["scores"]["calibrated"]["3dc"]) == {"3dc/P1"}
    assert result["command"].endswith("--variant 'rvq 4x32' --fold 1 --data $EMGCODEC_DATA")


def test_typing_is_scored_for_each_person(
    trainings: list[Recipe], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sessions = write_sessions(tmp_path / "s", {"user0": 5, "user1": 5}, seconds=4.0)
    toy = replace(
        studies.STUDIES["bottleneck-typing"], simulated=lambda runs: sessions, folds=range(1)
    )
    monkeypatch.setitem(studies.STUDIES, "bottleneck-typing", toy)
    assert study("bottleneck-typing", tmp_path, "--variant", "vq 1024", "--set", "optim.lr=1") == 0
    assert trainings[0].model.overrides["quantizer.kind"] == "vq"
    path = tmp_path / "studies" / "bottleneck-typing" / "vq-1024.0.json"
    result = json.loads(path.read_text())
    assert set(result["scores"]["cold"]["simulated typing"]) == {"user0", "user1"}
    assert min(errors["length"] for errors in result["errors"].values()) > 10
    assert len(result["usage"]["perplexity"]) == 1
    assert "--data" not in result["command"]


def test_the_page_tells_what_is_lost(tmp_path: Path) -> None:
    tmp_path /= "studies"

    def write(
        name: str, variant: str, score: float, mode: str, corpus: str, seconds: int = 1800
    ) -> None:
        folder = tmp_path / name
        folder.mkdir(exist_ok=True, parents=True)
        people = {f"P{i}": score + 0.1 * i for i in range(5)}
        result = {"row": variant, "fold": 0, "commit": "abc", "seconds": seconds,
                  "trained": {"minutes": 20.0},
                  "command": f"emgcodec evaluate study {name} --data $EMGCODEC_DATA",
                  "bits_per_frame": 20, "encoder_parameters": 70_000,
                  "scores": {mode: {corpus: people}},
                  "errors": {"P0": {"missed": 3, "spurious": 2, "substituted": 5, "length": 20}},
                  "usage": {"perplexity": [8.0, 16.0], "size": 32}}  # fmt: skip
        (folder / f"{variant}.0.json").write_text(json.dumps(result))

    for name, mode, corpus in (
        ("bottleneck-gestures", "calibrated", "3dc"),
        ("bottleneck-typing", "cold", "simulated typing"),
    ):
        write(name, "none", 0.50, mode, corpus, seconds=600)  # its training was there before
        write(name, "rvq 2x1024", 0.45, mode, corpus)
    (tmp_path / "bottleneck-gestures" / "reading.md").write_text("It costs little.\n")
    (tmp_path / "did-not-work.md").write_text("Wishing.\n")
    write_studies(tmp_path, tmp_path / "page.md")
    page = (tmp_path / "page.md").read_text()
    gestures, typing = page.split("simulated typing", 1)
    assert "+5.0 (at most +5.0)" in gestures  # less accurate
    assert "-5.0 (at most -5.0)" in typing  # fewer errors
    assert "15 / 10 / 25" in typing
    assert "0.25, 0.50" in gestures
    assert "1 of 5" in gestures
    assert "| vq 1024 |" in gestures
    assert "not run" in gestures
    assert "2 jobs, 1.0 core-hours, the longest 30 min" in gestures
    assert "is shown for: none. Not shown for: rvq 2x1024." in gestures
    assert "cold simulated typing, is shown for: rvq 2x1024. Not shown for: none." in page
    assert page.endswith("## What did not work\n\nWishing.\n")
    assert "It costs little." not in page  # before all of it was run
    for variant in studies.STUDIES["bottleneck-gestures"].variants:
        write("bottleneck-gestures", variant, 0.45, "calibrated", "3dc")
    write_studies(tmp_path, tmp_path / "page.md")
    page = (tmp_path / "page.md").read_text()
    assert "\n\nIt costs little.\n\n`emgcodec" in page
    assert "Made again at" not in page
    write("../again/bottleneck-gestures", "none", 0.40, "calibrated", "3dc")
    write_studies(tmp_path, tmp_path / "page.md")
    page = (tmp_path / "page.md").read_text()
    assert "'none' of fold 0: of 1 means none is more than 5.00 points from the first" in page
    assert "people are 15.8 to 15.8.\n" in page


@pytest.mark.parametrize("argv", [["bottle"], ["bottleneck-typing", "--variant", "pq"],
                                  ["bottleneck-typing", "--fold", "3"]])  # fmt: skip
def test_what_is_unknown_is_named(
    argv: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert study(argv[0], tmp_path, *argv[1:]) == 2
    assert "unknown: choose from" in capsys.readouterr().err


def test_students_are_held_against_their_teacher(
    world: Path, trainings: list[Recipe], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    small = tuple(f"{name}={value}" for name, value in SMALL.items())
    shared = ("distill.teacher=$RUNS/distillation-gestures/teacher-$FOLD/model",
              "distill.codebooks=true")  # fmt: skip
    toy = replace(
        studies.STUDIES["distillation-gestures"],
        variants={"teacher": small, "1/9 all": small + shared, "1/9 alone": small},
        baselines=("teacher", "1/9 alone"),
        score=study_scores.gestures("3dc"),
        compare=study_scores.agreement_with_teacher("3dc"),
    )
    monkeypatch.setitem(studies.STUDIES, "distillation-gestures", toy)
    monkeypatch.setattr(study_scores, "_SEQUENCE_STEPS", 60)
    early = ("--data", world, "--fold", "1", "--variant", "1/9 all")
    assert study("distillation-gestures", tmp_path, *early) == 2  # its teacher is not there yet
    assert study("distillation-gestures", tmp_path, "--data", world, "--fold", "1") == 0
    folder = tmp_path / "studies" / "distillation-gestures"
    teacher, student, alone = (
        json.loads((folder / f"{v}.1.json").read_text())
        for v in ("teacher", "1-9-all", "1-9-alone")
    )
    assert "agreement" not in teacher
    assert "agreement" not in alone
    assert student["agreement"]["all"]["level 1"] == {"3dc/P1": 1.0}  # it is its teacher
    assert 0 < student["agreement"]["gestures"]["chance 2"]["3dc/P1"] < 1
    assert student["read by teacher"]["3dc"] == teacher["scores"]["calibrated"]["3dc"]
    read = student["sequence model"]
    assert read["student's"] == read["teacher's"]
    assert 0.2 < read["teacher's"]["accuracy"]["3dc/P1"] <= 1
    assert 1 < read["teacher's"]["perplexity"]["3dc/P1"] < 32
    write_studies(tmp_path / "studies", tmp_path / "page.md")
    page = (tmp_path / "page.md").read_text()
    assert "| 1/9 all | gestures | 100.0" in page
    assert "| +0.0 (few people) | 1.00 | +0.0 (few people) |" in page


def test_who_teaches_is_chosen_on_people_who_select(
    world: Path, trainings: list[Recipe], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    each = studies.STUDIES["teachers"]
    small = tuple(f"{name}={value}" for name, value in SMALL.items())
    toy = replace(each, variants={"toy": small}, baselines=("toy",))
    monkeypatch.setitem(studies.STUDIES, "teachers", toy)
    assert study("teachers", tmp_path, "--data", world, "--fold", "0") == 0
    result = json.loads((tmp_path / "studies" / "teachers" / "toy.0.json").read_text())
    scored = {name for corpora in result["scores"].values() for c in corpora for name in corpora[c]}
    assert scored
    assert scored <= people(0, "validation")


def small_study(name: str, monkeypatch: pytest.MonkeyPatch, **changes: Any) -> None:
    toy = replace(studies.STUDIES[name], variants={"toy": ()}, fixed=(), **changes)
    monkeypatch.setitem(studies.STUDIES, name, toy)


def test_levels_are_scored_one_after_the_other(
    world: Path, trainings: list[Recipe], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    small_study("rates", monkeypatch, score=study_scores.by_levels("myo_readings"))
    monkeypatch.setattr(reconstruction, "_SHORTEST", 0.3)
    assert study("rates", tmp_path, "--data", world, "--fold", "1") == 0
    result = json.loads((tmp_path / "studies" / "rates" / "toy.1.json").read_text())
    assert list(result["scores"]) == ["1 level", "2 levels"]
    one, two = (result["bit_rate"][mode]["myo_readings"] for mode in result["scores"])
    assert two - one == pytest.approx(5 * 31.25)  # 32 codes
    for mode in result["scores"]:
        assert set(result["scores"][mode]["myo_readings"]) == {"myo_readings/R1"}
        likeness = result["reconstruction"][mode]["myo_readings"]
        assert set(likeness["envelope_correlation"]) == {"codec"}
    one, two = result["flops"].values()
    assert two - one == pytest.approx(2 * 32 * 16 * 31.25, rel=0.3)  # to each code, in each frame
    assert one > 1e5
    write_studies(tmp_path / "studies", tmp_path / "page.md")
    page = (tmp_path / "page.md").read_text()
    bits = result["bit_rate"]["2 levels"]["myo_readings"]
    assert f"| toy | 2 | 62.5 | 312.5 | {bits:.0f} |" in page


def test_calibration_hears_more_and_more(
    world: Path, trainings: list[Recipe], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    small_study("calibration", monkeypatch, score=study_scores.by_calibration("3dc"))
    heard, pieces = [], []
    original = Codec.calibrate

    def calibrate(self: Codec, recordings: Any, **options: Any) -> Any:
        recordings = list(recordings)
        heard.append(sum(rec.duration for rec in recordings))
        pieces.append(len(recordings))
        return original(self, recordings, **options)

    monkeypatch.setattr(Codec, "calibrate", calibrate)
    assert study("calibration", tmp_path, "--data", world, "--fold", "1") == 0
    assert len(trainings) == 1
    result = json.loads((tmp_path / "studies" / "calibration" / "toy.1.json").read_text())
    modes = list(result["scores"])
    assert modes == ["cold", "other people", "first 5 s", "5 s of the whole block", "first 20 s",
                     "one block", "all, what is scored too"]  # fmt: skip
    block = 3 * 0.8  # the world's takes
    others, short, spread, *rest = heard[-6:]
    assert others == pytest.approx(3 * block, rel=1e-3)
    assert [short, spread] == pytest.approx([block, block], rel=1e-3)  # which has no five seconds
    assert rest == pytest.approx([block, block, 4 * block], rel=1e-3)
    heard.clear()
    first, spread = (study_scores._HEARD[m][0] for m in ("first 20 s", "5 s of the whole block"))
    ways = {"short": (first, 1.0, False), "long": (first, 3.0, True), "thin": (spread, 1.0, False)}
    monkeypatch.setattr(study_scores, "_HEARD", ways)
    monkeypatch.setattr(study_scores, "_APART", 0.4)
    assert study("calibration", tmp_path / "more", "--data", world, "--fold", "1") == 0
    assert heard[-3:] == pytest.approx([1.0, 3.0, 1.0], rel=2e-3)
    assert pieces[-1] == 6  # two of each take


def test_a_probe_reads_codes_of_a_device_that_the_codec_never_met(
    world: Path, trainings: list[Recipe], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    small_study("devices", monkeypatch, score=study_scores.probes("3dc"))
    assert study("devices", tmp_path, "--data", world, "--fold", "1") == 0
    result = json.loads((tmp_path / "studies" / "devices" / "toy.1.json").read_text())
    assert set(result["scores"]) == {"its codes", "random weights' codes", "k-means codes"}
    for corpora in result["scores"].values():
        assert 0 < corpora["3dc"]["3dc/P1"] <= 1
    assert result["scores"]["k-means codes"]["3dc"]["3dc/P1"] > 0.5  # of three gestures, told apart
    write_studies(tmp_path / "studies", tmp_path / "page.md")
    page = (tmp_path / "page.md").read_text()
    line = next(line for line in page.splitlines() if line.startswith("| toy | 3dc (1) |"))
    ours, random, kmeans = (100 * result["scores"][m]["3dc"]["3dc/P1"] for m in result["scores"])
    assert f"| {ours - kmeans:+.1f} (few people) |" in line
    assert f"| {ours - random:+.1f} (few people) | 1 of 3 |" in line


@pytest.mark.parametrize("name", studies.STUDIES)
def test_variants_are_recipes_of_codecs(name: str) -> None:
    each = studies.STUDIES[name]
    assert set(each.baselines) <= set(each.variants)
    for changes in each.variants.values():
        recipe = Recipe.load(each.recipe, [*each.fixed, *changes])
        preset(recipe.model.preset).replace(**recipe.model.overrides)
