"""Rivals, controls and codecs on a made-up world of people; the jobs that score them."""

from __future__ import annotations

import json
import math
import os
import signal
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from evaluation import inhabit, write_people
from scipy.signal import lfilter
from training import SMALL, small_codec

from emgcodec import GESTURES, Codec, Montage, Recording
from emgcodec.cli import build_parser, main
from emgcodec.evaluate import jobs, provenance, rows
from emgcodec.evaluate.codecs import (
    Take,
    codebook_use,
    gesture_scores,
    load_takes,
    token_tracks,
    untrained_codec,
    vectors,
)
from emgcodec.evaluate.frames import (
    Track,
    chance_of,
    cut,
    feature_tracks,
    score,
    scored,
    standardized,
    stretches,
    time_domain_features,
)
from emgcodec.evaluate.lda import Moments, summed
from emgcodec.evaluate.reconstruction import WAYS, LevelCoder, Rivals, reconstruction_scores
from emgcodec.evaluate.rivals import Task, classic, kmeans_tokens, order, shuffled
from emgcodec.evaluate.tokens import ResidualKMeans, fit_reader
from emgcodec.evidence import everyone, people
from emgcodec.train.data import UNLABELLED, Segment
from emgcodec.train.recipe import Recipe


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    with pytest.MonkeyPatch.context() as patch:
        inhabit(patch)
        yield write_people(tmp_path_factory.mktemp("world"))


@pytest.fixture(scope="module")
def noise(world: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same people, whose gestures cannot be told."""
    return write_people(tmp_path_factory.mktemp("noise"), told=0.0)


def tracks(data: Path, corpus: str = "3dc", *, whole: bool = False) -> list[Track]:
    found = feature_tracks(data, corpus, rows.reference())
    return list(found) if whole else cut(found)


def task(data: Path, corpus: str = "3dc", *, fold: int = 0, calibrated: bool = True) -> Task:
    return Task(tracks(data, corpus), fold, calibrated, rows.reference())


def track(labels: list[int], x: Any = None, **facts: Any) -> Track:
    vectors = np.zeros((len(labels), 1)) if x is None else np.asarray(x)
    known = {"subject": "3dc/P0", "wearing": "3dc/P0/s", "calibrates": False} | facts
    return Track(labels=np.array(labels), x=vectors.astype(np.float32), **known)


# Frames


def test_classic_features_by_hand() -> None:
    zigzag = np.tile([1.0, -1.0], 50)
    stairs = np.tile([1.0, 1.0, -1.0, -1.0], 25)
    found = time_domain_features(Recording(np.stack([zigzag, stairs]) * 50, 200), 15, 31.25)
    assert found.shape == (15, 8)
    np.testing.assert_allclose(found[-1, :4], [50, 100, 1, 1])  # level, length, crossings, turns
    np.testing.assert_allclose(found[-1, 4:6], [50, 50])
    np.testing.assert_allclose(found[-1, 6], 0.5)


def test_classic_features_know_nothing_of_what_follows_and_drop_an_offset() -> None:
    x = np.random.default_rng(0).normal(0, 50, (2, 2000))
    later = x.copy()
    later[:, 1024:] *= 9  # frame 31 ends with sample 1024
    a, b, c = (time_domain_features(Recording(y, 1000), 62, 31.25) for y in (x, later, x + 5000))
    np.testing.assert_allclose(a[:32], b[:32], rtol=0.05)  # the median may move a little
    assert (b[40] > 2 * a[40])[[0, 1, 4, 5]].all()
    np.testing.assert_allclose(a, c, rtol=1e-3, atol=1e-2)


def test_recordings_of_several_gestures_are_cut() -> None:
    none = UNLABELLED
    assert stretches(np.array([none, 1, 1, none])) == [slice(0, 4)]
    assert stretches(np.array([none, 1, 1, none, 0, 2])) == [slice(1, 3), slice(4, 5), slice(5, 6)]
    script = track([0, 0, none, 1])
    assert [t.labels.tolist() for t in cut([script])] == [[0, 0], [1]]
    assert cut([replace(script, calibrates=True)])[0].labels.tolist() == [0, 0, none, 1]


def test_z_scores_come_from_the_calibration_block_alone(world: Path) -> None:
    found = tracks(world)
    train = [t for t in found if t.subject in people(0, "train")]
    for t in standardized([t for t in found if t.calibrates], train, calibrated=True):
        assert t.x.shape[1] == 40
    block = np.concatenate(
        [t.x for t in standardized(found, train, True) if t.calibrates and t.subject == "3dc/P0"]
    )
    np.testing.assert_allclose(block.mean(axis=0), 0, atol=1e-4)
    np.testing.assert_allclose(block.std(axis=0), 1, atol=1e-4)
    changed = [t if t.calibrates else replace(t, x=t.x + 7) for t in found]
    a, b = standardized(found, train, True), standardized(changed, train, True)
    for t, u in zip(a, b, strict=True):
        assert t.calibrates == np.array_equal(t.x, u.x)
    cold = np.concatenate([t.x for t in standardized(train, train, False)])
    np.testing.assert_allclose(cold.mean(axis=0), 0, atol=1e-3)


def test_scores_count_people_and_labelled_frames() -> None:
    none = UNLABELLED
    pairs = [
        (track([0, 0, none]), np.array([0, 1, 1])),
        (track([2, 2]), np.array([2, 2])),
        (track([none], subject="3dc/P1"), np.array([0])),
    ]
    assert score(pairs) == {"3dc/P0": 0.75}
    assert chance_of([t for t, _ in pairs]) == {"3dc/P0": 0.5}
    calibrating = [track([0], calibrates=True), track([1]), track([1], subject="3dc/P1")]
    assert scored(calibrating, ["3dc/P0"]) == [calibrating[1]]


# Discriminants


def test_a_discriminant_is_the_posterior_of_two_gaussians() -> None:
    corners = np.array([[1.0, 2.0], [1.0, -2.0], [-1.0, 2.0], [-1.0, -2.0]])
    means = np.array([[0.0, 0.0], [3.0, 1.0]])
    parts = [track([label] * 4, corners + mean) for label, mean in zip([4, 7], means, strict=True)]
    moments = Moments.of(parts)
    np.testing.assert_allclose(moments.means, means)
    np.testing.assert_allclose(moments.covariance, np.diag([1.0, 4.0]), atol=1e-12)
    x = np.array([[0.5, 0.3], [2.0, -1.0]], np.float32)
    distance = np.square((x[:, None] - means) / [1.0, 2.0]).sum(axis=2)
    likelihood = np.exp(-distance / 2)
    expected = np.log(likelihood / likelihood.sum(axis=1, keepdims=True))
    got = moments.discriminant(0.0).log_posteriors(x)
    np.testing.assert_allclose(got, expected, atol=1e-5)
    round_ = np.square(x[:, None] - means).sum(axis=2) / 2.5  # the mean variance
    np.testing.assert_allclose(
        np.diff(moments.discriminant(1.0).log_posteriors(x)), -np.diff(round_) / 2, atol=1e-5
    )
    assert moments.classes.tolist() == [4, 7]


def test_evidence_is_summed_over_the_last_frames() -> None:
    values = np.array([[1.0], [2.0], [4.0], [8.0]])
    assert summed(values, 2)[:, 0].tolist() == [1, 3, 6, 12]
    assert summed(values, 99)[:, 0].tolist() == [1, 3, 7, 15]


# Rivals and controls


@pytest.mark.parametrize("calibrated", [False, True])
@pytest.mark.parametrize("corpus", ["3dc", "myo_readings"])
def test_rivals_read_what_can_be_read(world: Path, corpus: str, calibrated: bool) -> None:
    at = task(world, corpus, calibrated=calibrated)
    (now,), (ever,) = (classic(at, context=c, logarithm=True)[0].values() for c in (False, True))
    assert now > 0.8
    assert ever > 0.9
    scores, chosen = kmeans_tokens(at)
    assert min(scores.values()) > 0.8
    assert len(chosen["perplexity"]) == rows.reference().num_codebooks


def test_nothing_is_read_where_there_is_nothing(noise: Path) -> None:
    found: dict[str, list[float]] = {"classic": [], "tokens": []}
    for fold in range(5):
        at = task(noise, fold=fold)
        found["classic"] += classic(at, context=True, logarithm=False)[0].values()
        found["tokens"] += kmeans_tokens(at)[0].values()
    for values in found.values():
        assert len(values) == 5
        assert abs(np.mean(values) - 1 / 3) < 0.2


def test_controls_stay_at_chance(world: Path) -> None:
    for corpus, chance in (("3dc", 1 / 3), ("myo_readings", 1 / 3)):
        for control in (shuffled, order):
            means = [
                np.mean(list(control(task(world, corpus, fold=fold))[0].values()))
                for fold in range(5)
            ]
            assert abs(np.mean(means) - chance) < 0.12, (corpus, control)


def test_a_script_is_seen_where_recordings_stay_whole(world: Path) -> None:
    whole = Task(tracks(world, "myo_readings", whole=True), 0, True, rows.reference())
    assert order(whole)[0]["myo_readings/R0"] > 0.9


def test_nothing_is_learned_or_chosen_on_those_who_test(world: Path) -> None:
    at = task(world)
    test = people(0, "test")
    wrong = [
        replace(t, labels=np.where(t.labels >= 0, 0, t.labels)) if t.subject in test else t
        for t in at.tracks
    ]
    for rival in (lambda t: classic(t, context=True, logarithm=False), kmeans_tokens):
        assert rival(at)[1] == rival(replace(at, tracks=wrong))[1]


def test_where_nobody_selects_settings_come_from_training(world: Path) -> None:
    at = task(world)
    alone = [t for t in at.tracks if t.subject not in people(0, "validation")]
    scores, chosen = kmeans_tokens(replace(at, tracks=alone))
    assert chosen["reader"] == "discriminant"
    assert min(scores.values()) > 0.8


def test_residual_k_means_halves_what_is_left_over_level_by_level() -> None:
    rows_ = np.random.default_rng(0).normal(size=(500, 3)).astype(np.float32)
    errors = []
    for levels in (1, 2, 3):
        found = ResidualKMeans.fit(rows_, levels, 16, seed=0)
        codes = found.encode(rows_)
        assert codes.shape == (levels, 500)
        assert 0 <= codes.min() <= codes.max() < 16
        errors.append(float(np.square(found.decode(codes) - rows_).mean()))
    assert errors[0] > 1.8 * errors[1] > 3.2 * errors[2]


def test_a_reader_learns_what_only_the_past_tells() -> None:
    rng = np.random.default_rng(0)

    def sample(i: int) -> Track:
        first = int(rng.integers(2))  # the gesture shows in the first frame only
        x = np.zeros((20, 2))
        x[0, first] = 4.0
        return track([UNLABELLED] + [1 + first] * 19, x + rng.normal(0, 0.1, x.shape))

    answer = fit_reader([sample(i) for i in range(2400)], small_codec().config, seed=0)
    for t in map(sample, range(10)):
        assert (answer(t)[1:] == t.labels[1:]).mean() > 0.9


# Codecs


class Oracle:
    """Stands in for a codec: answers what the test wants, and remembers what it was asked."""

    heads, quantizer = ("gesture",), True

    def __init__(self, scores: torch.Tensor) -> None:
        self.scores = scores
        self.asked: list[tuple[int, Any]] = []

    def labels(self, head: str) -> tuple[str, ...]:
        return GESTURES

    def encode(self, x: torch.Tensor, *, montage: Montage, **options: Any) -> torch.Tensor:
        self.asked.append((int(x[0, 0, 0]), options["calibration"]))
        return torch.zeros(1, 1, x.shape[2] // 64, dtype=torch.long)

    def predict(self, codes: torch.Tensor, head: str) -> torch.Tensor:
        return self.scores.expand(1, codes.shape[2], -1)


def take(number: int, subject: str, calibrates: bool, labels: list[int]) -> Take:
    x = np.full((1, 64 * len(labels)), number, np.float32)
    known: Any = SimpleNamespace(mains=None, of=subject)
    of = (subject.split("/")[0], subject, f"{subject}/1", str(number), Montage.ring(1))
    return Take(Segment(*of, 2000.0, "uV", x, np.array(labels)), calibrates, known)


def test_scores_leave_out_what_calibrates_and_answer_within_the_data_set() -> None:
    no = UNLABELLED
    takes = [
        take(0, "a/1", True, [0, 0, 0]),
        take(1, "a/1", False, [0, no, 5]),
        take(2, "a/1", False, [0, 0, 0]),
        take(3, "a/1", False, [no, no]),
        take(4, "a/2", True, [0, 0, 5]),
        take(5, "a/2", False, [5, 5, 5]),
    ]
    scores = torch.zeros(1, 1, len(GESTURES))
    scores[..., 3], scores[..., 5] = 9, 5  # 3 is no gesture of this data set
    oracle: Any = Oracle(scores)
    assert gesture_scores(oracle, takes, "cold") == {"a/1": 0.5, "a/2": 1.0}
    assert oracle.asked == [(1, None), (2, None), (5, None)]
    oracle.asked.clear()
    assert gesture_scores(oracle, takes, "calibrated") == {"a/1": 0.5, "a/2": 1.0}
    assert [(n, known.of) for n, known in oracle.asked] == [(1, "a/1"), (2, "a/1"), (5, "a/2")]


def test_a_twin_without_codebooks_is_scored_as_well(world: Path) -> None:
    torch.manual_seed(0)
    twin = Codec.from_preset("student", **SMALL | {"quantizer.kind": "none"})
    result = rows.score_model(twin, 0, world)
    assert set(result["scores"]["cold"]) == {"3dc", "myo_readings"}
    assert "usage" not in result


@pytest.mark.parametrize("through", [[], ["teacher"], ["teacher", "started_from"]])
def test_a_codec_is_not_scored_on_people_whom_it_or_its_teacher_has_met(
    world: Path, through: list[str]
) -> None:
    codec = small_codec()
    provenance: dict[str, Any] = {"data": {"3dc": {"people": ["P1", "P4"]}}}
    for name in through:
        provenance = {"data": {"3dc": {"people": ["P3"]}}, name: provenance}
    codec.config = codec.config.replace(provenance=provenance)
    assert rows.score_model(codec, 0, world, ["3dc"])
    with pytest.raises(ValueError, match=r"trained on \['3dc/P1'\]"):
        rows.score_model(codec, 1, world)


def test_a_codec_without_gestures_is_refused(world: Path) -> None:
    codec = Codec.from_preset("student", **SMALL, heads={})
    with pytest.raises(ValueError, match="gestures"):
        gesture_scores(codec, [], "cold")


def test_an_untrained_codec_gets_codebooks_on_its_own_latents(world: Path) -> None:
    config = rows.reference().config
    takes = load_takes(world, "3dc", everyone("3dc"), rows.reference())
    codec = untrained_codec(config, lambda c: (vectors(c, t, True) for t in takes), seed=0)
    use = codebook_use(codec, takes)
    assert min(use["perplexity"]) > 8  # of 32
    found = token_tracks(codec, takes, "calibrated")
    assert len(found) == len(takes)
    latents = np.concatenate([vectors(codec, t, True) for t in takes])
    rounded = np.concatenate([t.x for t in found])
    assert np.square(rounded - latents).mean() < 0.6 * latents.var()


def test_levels_in_bits() -> None:
    rng = np.random.default_rng(0)
    levels = rng.normal(size=(2000, 2)) @ rng.normal(size=(2, 6)) + 3.0  # two things in six
    errors = []
    for bits in (2, 8, 14):
        coder = LevelCoder.fit(levels, bits)
        assert math.prod(map(len, coder.grids)) <= 2**bits
        assert len(coder.grids) <= 2
        errors.append(float(np.square(coder.round_trip(levels) - levels).mean()))
    assert errors[0] > 4 * errors[1] > 16 * errors[2]


def test_reconstruction_is_set_beside_three_rivals(world: Path) -> None:
    codec = rows.reference()
    first = load_takes(world, "3dc", ["3dc/P0"], codec)[0]
    segment = first.segment
    loud = np.repeat(np.tile([1.0, 5.0], 8), 200)  # 100 ms each
    low = lfilter([1.0], [1.0, -0.9], np.random.default_rng(0).normal(0, 50, (10, 3200)))
    x = (low * loud).astype(np.float32)
    take = replace(first, segment=replace(segment, x=x), calibrates=False)
    rivals = Rivals.fit(codec, [take])
    assert rivals.spectrum.sum() == pytest.approx(1.0)
    found = reconstruction_scores(codec, rivals, [take, replace(take, calibrates=True)])
    assert set(found) == {"envelope_correlation", "log_spectral_distance"}
    for ways in found.values():
        assert set(ways) == set(WAYS)
        assert all(set(scores) == {segment.subject} for scores in ways.values())
    like = {way: scores[segment.subject] for way, scores in found["envelope_correlation"].items()}
    assert like["mean_spectrum"] > 0.7 > 0.3 > abs(like["noise"])
    far = {way: scores[segment.subject] for way, scores in found["log_spectral_distance"].items()}
    assert far["mean_spectrum"] < far["noise"]


# Jobs


def evaluate(*argv: str | Path) -> int:
    return main(["evaluate", *map(str, argv)])


def test_jobs_are_done_once_and_go_on_after_an_interruption(
    world: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    argv = ["run", "--row", "lda", "--row", "order", "--data", world, "--results", tmp_path]
    work, done = rows.run_job, []

    def job(name: str, fold: int, *rest: Any) -> dict[str, Any]:
        if len(done) == 3:
            os.kill(os.getpid(), signal.SIGTERM)
        done.append((name, fold))
        return work(name, fold, *rest)

    monkeypatch.setattr(rows, "run_job", job)
    assert evaluate(*argv) == 130
    assert [p.name for p in sorted(tmp_path.iterdir())] == [f"lda.{f}.json" for f in range(3)]
    monkeypatch.setattr(rows, "run_job", lambda *a: done.append(a[:2]) or work(*a))  # type: ignore[func-returns-value]
    assert evaluate(*argv) == 0
    assert done == [(row, fold) for row in ("lda", "order") for fold in range(5)]
    assert "there already" in capsys.readouterr().out

    result = json.loads((tmp_path / "lda.2.json").read_text())
    assert result["command"] == "emgcodec evaluate run --row lda --fold 2 --data $EMGCODEC_DATA"
    assert build_parser().parse_args(result["command"].split()[1:]).fold == [2]
    assert result["people"]["test"] == ["3dc/P2", "myo_readings/R2"]
    assert set(result["scores"]["calibrated"]["3dc"]) == {"3dc/P2"}
    assert result["chance"]["3dc"] == {"3dc/P2": 1 / 3}
    assert str(world) not in (tmp_path / "lda.2.json").read_text()


def test_a_row_that_needs_a_model_trains_it_first(
    world: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    commands = []

    def train(argv: list[str], **options: Any) -> SimpleNamespace:
        args = build_parser().parse_args(argv[3:])
        commands.append(args)
        overrides = SMALL | dict(Recipe.load(args.recipe, args.changes).model.overrides)
        torch.manual_seed(0)
        codec = Codec.from_preset("student", **overrides)
        if teacher := Recipe.load(args.recipe, args.changes).distill.teacher:
            told = {"recipe": {"distill": {"teacher": teacher}}}
            state = codec.state_dict()
            state["quantizer.codebooks"][1] = state["quantizer.codebooks"][1].roll(1, dims=0)
            codec = Codec(codec.config.replace(provenance=told))
            codec.load_state_dict(state)
        codec.eval().save_pretrained(args.out / "model")
        (args.out / "log.jsonl").write_text('{"minutes": 1.0}\n{"minutes": 2.5}\n')
        return SimpleNamespace(returncode=0)

    monkeypatch.setattr(jobs.subprocess, "run", train)
    monkeypatch.setattr(provenance, "_commit", lambda: "abc")
    argv = ["--data", world, "--results", tmp_path, "--runs", tmp_path / "runs", "--fold", "1"]
    argv += ["--set", "optim.lr=3e-4"]
    assert evaluate("run", "--row", "student", "--row", "twin", *argv) == 0
    for args, row in zip(commands, ("teacher", "student", "twin"), strict=True):
        recipe = Recipe.load(args.recipe, args.changes)
        teacher = str(tmp_path / "runs" / "teacher-1" / "model") if row == "student" else ""
        assert recipe.distill.teacher == teacher
        lr = 1e-3 if row == "teacher" else 3e-4  # changes are the row's own
        assert (recipe.data.fold, recipe.run.seed, recipe.optim.lr) == (1, 1, lr)
        assert args.out == tmp_path / "runs" / f"{row}-1"
        assert args.resume
        assert args.data == world
    student = json.loads((tmp_path / "student.1.json").read_text())
    assert student["command"].endswith("$EMGCODEC_DATA --set optim.lr=3e-4")
    assert set(student["usage"]) == {"frames", "size", "used", "perplexity"}
    assert set(student["reconstruction"]) == {"3dc", "myo_readings"}
    assert student["bit_rate"]["3dc"] > 2 * 5 * 31.25
    agreed = student["agreement"]["all"]
    assert (agreed["level 1"]["3dc/P1"], agreed["level 2"]["3dc/P1"]) == (1.0, 0.0)
    assert student["model"]["trained"] == {
        "recipe": {"distill": {"teacher": "$RUNS/teacher-1/model"}},
        "minutes": 2.5,
    }
    twin = json.loads((tmp_path / "twin.1.json").read_text())
    assert twin["model"]["parameters"] < student["model"]["parameters"]

    assert evaluate("run", "--row", "student-read", *argv) == 0
    assert commands.pop().out == tmp_path / "runs" / "student-1"
    read = json.loads((tmp_path / "student-read.1.json").read_text())
    assert set(read["scores"]["calibrated"]) == {"3dc", "myo_readings"}
    assert read["chosen"]["cold"]["3dc"]["reader"] in ("decoder", "discriminant")

    monkeypatch.setattr(jobs.subprocess, "run", lambda *a, **k: SimpleNamespace(returncode=2))
    assert evaluate("run", "--row", "student-open", *argv) == 2
    again = ("--set", "distill.teacher=other", "--results", tmp_path / "others")
    assert evaluate("run", "--row", "student", *argv, *again) == 2
    assert "row 'student' says who teaches (teacher)" in capsys.readouterr().err


def test_the_random_row_runs(world: Path, tmp_path: Path) -> None:
    argv = ["--row", "random", "--fold", "0", "--data", world, "--results", tmp_path]
    assert evaluate("run", *argv) == 0
    result = json.loads((tmp_path / "random.0.json").read_text())
    for mode in ("cold", "calibrated"):
        assert set(result["scores"][mode]) == {"3dc", "myo_readings"}
        assert result["chosen"][mode]["3dc"]["reader"] in ("decoder", "discriminant")


def test_any_model_can_be_scored(
    world: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    small_codec().save_pretrained(tmp_path / "model")
    argv = ["model", tmp_path / "model", "--fold", "3", "--data", world, "--corpus", "3dc"]
    assert evaluate(*argv, "--json", tmp_path / "result.json") == 0
    assert "3dc" in capsys.readouterr().out
    assert set(json.loads((tmp_path / "result.json").read_text())["scores"]["cold"]) == {"3dc"}


@pytest.mark.parametrize("argv", [["--row", "ldb"], ["--fold", "7"], ["--row", "lda"]])
def test_what_is_unknown_or_missing_is_named(
    argv: list[str], world: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert evaluate("run", *argv, "--data", tmp_path / "nowhere", "--results", tmp_path / "r") == 2
    assert any(word in capsys.readouterr().err for word in ("unknown", "missing"))


def test_a_row_without_a_training_takes_no_changes(
    world: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    argv = ["--row", "lda", "--fold", "0", "--set", "optim.lr=1", "--data", world]
    assert evaluate("run", *argv, "--results", tmp_path / "r") == 2
    assert "has no training to change" in capsys.readouterr().err
