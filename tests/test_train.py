"""Training data, the loop and its scores, on a few simulated people."""

from __future__ import annotations

import itertools
import json
import math
import sys
from collections.abc import Sequence
from dataclasses import replace
from functools import cache
from itertools import islice
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from io_files import write_corpus
from torch import Tensor

from emgcodec import GESTURES, Codec, Event, Montage, Recording
from emgcodec.simulate import Person, gesture_recording
from emgcodec.train import loop
from emgcodec.train.data import (
    UNLABELLED,
    Segment,
    WindowSampler,
    calibrations,
    is_calibration,
    load_segments,
    rotated,
)
from emgcodec.train.loop import fit, gesture_loss, simulated_recordings, summary
from emgcodec.train.score import balanced_accuracy, score_gestures

SMALL = {
    "frontend.width": 16,
    "frontend.queries": 3,
    "encoder.dim": 32,
    "encoder.heads": 2,
    "encoder.blocks": 2,
    "quantizer.after_block": 1,
    "quantizer.dim": 16,
    "quantizer.size": 32,
}
REST, FIST, OPEN = (GESTURES.index(name) for name in ("rest", "hand_close", "hand_open"))


def small_codec() -> Codec:
    torch.manual_seed(0)
    return Codec.from_preset("student", **SMALL)


def taken(rec: Recording, dataset: str, subject: str, recording: str, **facts: str) -> Recording:
    rec.metadata = {"dataset": dataset, "subject": subject, "recording": recording} | facts
    return rec


@cache
def people() -> tuple[tuple[Segment, ...], Codec]:
    """Two data sets of two people each, three takes a person."""
    recordings = []
    for seed in range(4):
        dataset, montage = (("3dc", "3dc"), ("myo_laval", "myo"))[seed % 2]
        gestures = ("hand_close", "hand_open") if seed % 2 else ("wrist_flexion", "pronation")
        for take in range(3):
            rec = gesture_recording(
                Person.draw(seed),
                Montage.preset(montage),
                (1000.0, 200.0)[seed % 2],
                gestures=gestures,
                hold=1.3,
                rest=0.8,
                seed=take,
            )
            recordings.append(taken(rec, dataset, f"S{seed}", f"take{take}.0"))
    codec = small_codec()
    return tuple(load_segments(recordings, codec)), codec


def sampler(**changes: Any) -> WindowSampler:
    segments, codec = people()
    options: dict[str, Any] = {
        "seconds": 2.0,
        "batch_size": 4,
        "weights": {"3dc": 1.0, "myo_laval": 1.0},
    }
    return WindowSampler(segments, calibrations(segments, codec), codec, **options | changes)


# Segments and labels


def labels_of(events: Sequence[Event], dataset: str = "simulated", seconds: float = 4) -> list[int]:
    x = np.random.default_rng(0).normal(0, 30, (2, round(1000 * seconds)))
    rec = Recording(x, 1000, events=events)
    (segment,) = load_segments([taken(rec, dataset, "S", "take")], small_codec())
    return segment.labels.tolist()


def test_a_frame_has_the_label_of_its_last_sample() -> None:
    frame = 0.032  # seconds
    labels = labels_of([Event(0, 10 * frame, "No Motion"), Event(10 * frame, 20.5 * frame, "fist")])
    assert len(labels) == 125
    assert labels[:20] == [REST] * 10 + [FIST] * 10
    assert set(labels[20:]) == {UNLABELLED}


def test_cues_count_from_half_a_second_on() -> None:
    events = [Event(0, 2, "fist"), Event(2, 4, "open")]
    early = 15  # frames that end within 0.5 s
    labels = labels_of(events, "3dc")
    assert labels[: early + 1] == [UNLABELLED] * early + [FIST]
    assert labels[61:79] == [FIST] + [UNLABELLED] * 16 + [OPEN]
    assert labels[-1] == OPEN
    assert UNLABELLED not in labels_of(events, "myo_laval")


def test_only_gestures_that_are_known_are_labels() -> None:
    events = [
        Event(0, 1, "fist", kind="key"),
        Event(1, 2, "snap of the fingers"),
        Event(2, 3, "fist"),
    ]
    assert set(labels_of(events)) == {UNLABELLED, FIST}


@given(st.integers(6000, 6400), st.sampled_from([200.0, 1000.0, 1259.26, 2000.0, 2048.0]))
def test_each_frame_has_a_label_at_every_rate(samples: int, rate: float) -> None:
    codec = people()[1]
    rec = Recording(np.ones((1, samples)), rate, events=[Event(0, samples / rate, "rest")])
    (segment,) = load_segments([taken(rec, "simulated", "S", "take")], codec)
    assert len(segment.labels) == codec.num_frames(segment.x.shape[1])
    assert (segment.labels[:-1] == REST).all()


def test_the_length_that_lost_a_frame() -> None:
    codec = people()[1]
    rec = taken(Recording(np.ones((1, 6095)), 2048), "simulated", "S", "take")
    (segment,) = load_segments([rec], codec)
    assert len(segment.labels) == codec.num_frames(segment.x.shape[1]) == 94


def test_segments_are_centred_and_at_the_rate_of_the_codec() -> None:
    x = np.random.default_rng(0).normal(0, 30, (3, 2000)) + np.array([[9000], [-50], [0]])
    rec = taken(
        Recording(x, 1000, montage=Montage.grid(3, 1)), "flexemg", "S1", "day.3", session="2"
    )
    (segment,) = load_segments([rec], small_codec())
    assert segment.x.shape == (3, 4000)
    assert segment.x.dtype == np.float32
    assert np.abs(np.median(segment.x, axis=1)).max() < 3
    assert segment.montage == Montage.grid(3, 1)
    facts = (segment.dataset, segment.subject, segment.wearing, segment.block)
    assert facts == ("flexemg", "flexemg/S1", "flexemg/S1/2", "day")


# Calibration


def test_the_first_block_of_each_wearing_calibrates_it() -> None:
    codec = small_codec()
    rng = np.random.default_rng(0)
    takes = [
        ("A", "1", "x.0"), ("A", "1", "x.1"), ("A", "1", "y.0"), ("A", "2", "y.0"), ("A", "2", "z"),
        ("B", "1", "y.7"), ("A", "1", "x.2"),
    ]  # fmt: skip
    segments = load_segments(
        (
            taken(Recording(rng.normal(0, 9, (2, 3000)), 1000), "s", subject, name, session=session)
            for subject, session, name in takes
        ),
        codec,
    )
    first = [is_calibration(s, segments) for s in segments]
    assert first == [True, True, False, True, False, True, True]
    known = calibrations(segments, codec)
    assert sorted(known) == ["s/A/1", "s/A/2", "s/B/1"]
    expected = codec.calibrate(
        Recording(segments[k].x, codec.sample_rate, montage=segments[k].montage, unit="adc")
        for k in (0, 1, 6)
    )
    assert known["s/A/1"] == expected


# Windows


@cache
def marked() -> tuple[tuple[Segment, ...], Codec]:
    """Segments whose windows can be told from one another: each frame has a level of its own."""
    segments, codec = people()
    rng = np.random.default_rng(0)
    found = []
    for s in segments:
        levels = rng.uniform(1, 2, len(s.labels)).repeat(codec.hop_length)[: s.x.shape[1]]
        found.append(replace(s, x=np.broadcast_to(levels, s.x.shape).astype(np.float32)))
    return tuple(found), codec


@pytest.mark.parametrize("seconds", [1.0, 2.0, 60.0])
def test_windows_stay_within_a_recording_and_keep_their_labels(
    seconds: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    segments, codec = marked()
    known = calibrations(people()[0], codec)
    weights = {"3dc": 1.0, "myo_laval": 1.0}
    windows = WindowSampler(
        segments, known, codec, seconds=seconds, batch_size=5, weights=weights, seed=3
    )
    hop = codec.hop_length
    for batch in islice(windows, 8):
        assert batch.x.shape[0] == len(batch.lengths) == 5
        assert batch.x.shape[2] <= codec.num_frames(round(seconds * 2000)) * hop
        assert batch.labels.shape == (5, codec.num_frames(batch.x.shape[2]))
        for x, length, labels in zip(batch.x, batch.lengths.tolist(), batch.labels, strict=True):
            assert (x[:, length:] == 0).all()
            shape = (x[:, :length] / x[:, :1]).numpy()  # each electrode has a gain of its own
            ((s, frame),) = (
                (s, frame)
                for s in segments
                for frame in range((s.x.shape[1] - length) // hop + 1)
                if len(s.montage) == len(x)
                and np.allclose(s.x[:, frame * hop :][:, :length] / s.x[0, frame * hop], shape)
            )
            frames = codec.num_frames(length)
            assert labels[:frames].tolist() == s.labels[frame : frame + frames].tolist()
            assert (labels[frames:] == UNLABELLED).all()


def test_batches_are_of_one_data_set_and_know_its_classes() -> None:
    segments = people()[0]
    classes = {}
    for dataset in ("3dc", "myo_laval"):
        seen = np.concatenate([s.labels for s in segments if s.dataset == dataset])
        classes[10 if dataset == "3dc" else 8] = np.unique(seen[seen >= 0]).tolist()
    assert classes[10] != classes[8]
    counts = set()
    for batch in islice(sampler(), 12):
        electrodes = batch.x.shape[1]
        counts.add(electrodes)
        for row in batch.classes:
            assert row.nonzero()[:, 0].tolist() == classes[electrodes]
        assert set(batch.labels.unique().tolist()) <= {UNLABELLED, *classes[electrodes]}
        assert {len(montage) for montage in batch.montages} == {electrodes}
        assert batch.mask.any(dim=1).all()
    assert counts == {8, 10}


def test_weights_choose_the_data_set_and_seeds_repeat() -> None:
    only = islice(sampler(weights={"3dc": 0.0, "myo_laval": 2.0}), 6)
    assert {batch.x.shape[1] for batch in only} == {8}
    for a, b, c in zip(*(islice(sampler(seed=s), 3) for s in (1, 1, 2)), strict=True):
        assert torch.equal(a.x, b.x)
        assert a.montages == b.montages
        assert a.x.shape != c.x.shape or not torch.equal(a.x, c.x)


@pytest.mark.parametrize("share", [0.0, 1.0])
def test_calibrated_windows_carry_the_calibration_for_their_montage(share: float) -> None:
    for batch in islice(sampler(calibrated=share), 4):
        assert all((known is not None) == bool(share) for known in batch.calibrations)
        for known, montage in zip(batch.calibrations, batch.montages, strict=True):
            assert known is None or known.montage == montage


def test_turning_a_montage_keeps_all_but_the_angles() -> None:
    montage = Montage.grid(4, 2)
    turned = rotated(rotated(montage, 350), 20)
    assert [e.angle for e in turned.electrodes] == [
        (e.angle + 10) % 360 for e in montage.electrodes
    ]
    assert [e.row for e in turned.electrodes] == [e.row for e in montage.electrodes]
    assert rotated(turned, -10) == montage


# The loss and the loop


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
    assert losses[0] == pytest.approx(math.log(3) * (0.95 + 0.05 * 2 / 3), rel=0.05)


@pytest.fixture
def _clock(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each look at the clock takes a second, so that steps are counted and not timed."""
    ticks = itertools.count()
    monkeypatch.setattr(loop, "time", SimpleNamespace(monotonic=lambda: next(ticks)))


@pytest.mark.usefixtures("_clock")
def test_steps_train_every_part_and_leave_an_honest_log() -> None:
    codec = small_codec()
    before = {name: tensor.clone() for name, tensor in codec.state_dict().items()}
    torch.manual_seed(1)
    log = fit(codec, sampler(), minutes=4 / 60, rate=1e-2)
    assert [entry["step"] for entry in log] == [0, 3]  # every 25th, and the last
    assert not codec.training
    assert {"gesture", "reconstruction", "commitment"} <= log[0].keys()
    assert all(math.isfinite(value) for entry in log for value in entry.values())
    after = codec.state_dict()
    assert all(tensor.isfinite().all() for tensor in after.values())
    for part in ("frontend", "encoder", "quantizer", "head"):
        names = [name for name in before if name.startswith(part)]
        assert names
        assert any(not torch.equal(before[name], after[name]) for name in names), part


@pytest.mark.usefixtures("_clock")
def test_some_steps_lower_the_loss() -> None:
    codec = small_codec()
    batch = next(iter(sampler(seconds=4.0)))
    repeated: Any = itertools.repeat(batch)
    torch.manual_seed(1)
    log = fit(codec, repeated, minutes=51 / 60, rate=1e-2)
    assert [entry["step"] for entry in log] == [0, 25, 50]
    assert log[-1]["gesture"] < 0.9 * log[0]["gesture"]


def test_simulated_people_come_on_many_montages_in_two_takes_each() -> None:
    recs = list(islice(simulated_recordings(2), 4))
    facts = [(r.metadata["dataset"], r.metadata["subject"], r.metadata["recording"]) for r in recs]
    assert facts == [("simulated", str(n), f"take{k}") for n in range(2) for k in range(2)]
    assert {e.label for r in recs for e in r.events} == set(GESTURES)
    assert len({r.montage for r in recs}) == 2


@pytest.mark.usefixtures("_clock")
def test_the_whole_program(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    rng = np.random.default_rng(0)
    labels = np.repeat([0, 1, 2], 1000)
    takes = {f"take{k}": (rng.normal(0, 99, (3000, 10)), labels, [0]) for k in range(2)}
    for subject in ("A", "B"):
        write_corpus(tmp_path / f"{subject}.h5", recordings=takes, subject=subject)
    splits = {"train": ["A.h5"], "validation": ["B.h5"]}
    (tmp_path / "splits.json").write_text(json.dumps(splits))
    monkeypatch.setattr(loop, "simulated_recordings", lambda people: ())  # minutes of work
    out = tmp_path / "model"
    argv = [
        "loop",
        "--data",
        tmp_path,
        "--out",
        out,
        "--minutes",
        3 / 60,
        "--preset",
        "student-small",
    ]
    monkeypatch.setattr(sys, "argv", [*map(str, argv), "--batch-size", "2"])
    loop.main()
    codec = Codec.from_pretrained(out)
    scores = codec.config.provenance["scores"]
    assert json.loads(capsys.readouterr().out) == scores
    for start in ("cold", "calibrated"):
        assert scores[start]["3dc"]["people"] == 1
        assert 0 <= scores[start]["3dc"]["mean"] <= 1
    assert codec.config.provenance["data"].startswith("train people")
    assert codec.config.weights_license
    assert json.loads((out / "log.jsonl").read_text().splitlines()[0])["step"] == 0


# Scores


class Oracle:
    """Stands in for a codec: answers what the test wants, and remembers what it was asked."""

    def __init__(self, scores: Tensor) -> None:
        self.scores = scores
        self.asked: list[tuple[int, Any]] = []

    def encode(self, x: Tensor, *, montage: Montage, calibration: Any) -> Tensor:
        self.asked.append((int(x[0, 0, 0]), calibration))
        return torch.zeros(1, 1, x.shape[2] // 64, dtype=torch.long)

    def predict(self, codes: Tensor, head: str) -> Tensor:
        assert head == "gesture"
        return self.scores.expand(1, codes.shape[2], -1)


def segment(number: int, subject: str, block: str, labels: Sequence[int]) -> Segment:
    dataset = subject.split("/")[0]
    x = np.full((1, 64 * len(labels)), number, np.float32)
    montage = Montage.ring(1)
    return Segment(dataset, subject, f"{subject}/1", block, montage, x, np.array(labels))


def test_scores_leave_out_what_calibrates_and_answer_within_the_data_set() -> None:
    no = UNLABELLED
    segments = [
        segment(0, "a/1", "first", [0, 0, 0]),
        segment(1, "a/1", "first", [5, 5, 5]),
        segment(2, "a/1", "second", [0, no, 5]),
        segment(3, "a/1", "third", [0, 0, 0]),
        segment(4, "a/2", "first", [0, 0, 5]),
        segment(5, "a/2", "second", [5, 5, 5]),
        segment(6, "b/1", "first", [1, 1]),
        segment(7, "b/1", "second", [1, 2, no]),
    ]
    scores = torch.zeros(1, 1, len(GESTURES))
    scores[..., 3], scores[..., 5], scores[..., 2] = 9, 5, 4  # 3 is a gesture of neither
    oracle: Any = Oracle(scores)
    found = score_gestures(oracle, segments, None)
    assert found == {"a": {"a/1": 0.5, "a/2": 1.0}, "b": {"b/1": 0.5}}
    assert oracle.asked == [(2, None), (3, None), (5, None), (7, None)]
    known: Any = {name: SimpleNamespace(mains=None) for name in ("a/1/1", "a/2/1", "b/1/1")}
    oracle.asked.clear()
    assert score_gestures(oracle, segments, known) == found
    wearings = ["a/1/1", "a/1/1", "a/2/1", "b/1/1"]
    assert oracle.asked == [(n, known[w]) for n, w in zip((2, 3, 5, 7), wearings, strict=True)]


def test_scores_of_a_codec_are_those_of_its_codes() -> None:
    segments, codec = people()
    found = score_gestures(codec, segments, calibrations(segments, codec))
    assert {name: sorted(scores) for name, scores in found.items()} == {
        "3dc": ["3dc/S0", "3dc/S2"],
        "myo_laval": ["myo_laval/S1", "myo_laval/S3"],
    }
    assert all(0 <= score <= 1 for scores in found.values() for score in scores.values())


def test_balanced_accuracy_by_hand() -> None:
    truth = np.array([0, 0, 0, 0, 1, 1, 7])
    guess = np.array([0, 0, 0, 1, 1, 7, 7])
    assert balanced_accuracy(truth, guess) == pytest.approx((3 / 4 + 1 / 2 + 1) / 3)
    assert balanced_accuracy(truth, truth) == 1.0
    assert math.isnan(balanced_accuracy(truth[:0], guess[:0]))


def test_the_summary_is_over_people() -> None:
    scores = {"b": {"b/1": 0.5}, "a": {"a/1": 0.2, "a/2": 0.6}}
    found = summary(scores)
    assert list(found) == ["a", "b"]
    assert found["a"] == pytest.approx({"mean": 0.4, "sd": 0.2, "people": 2})
    assert found["b"] == pytest.approx({"mean": 0.5, "sd": 0.0, "people": 1})
