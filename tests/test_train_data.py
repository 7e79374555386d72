"""Training data: segments, labels, calibration, windows and the cache of prepared recordings."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from training import people, small_codec, taken, write_people

from emgcodec import GESTURES, Codec, Event, Montage, Recording, evidence
from emgcodec.config import ConfigError
from emgcodec.train import prepared
from emgcodec.train.data import (
    UNLABELLED,
    Segment,
    calibrations,
    is_calibration,
    load_segments,
    usual_calibrations,
)
from emgcodec.train.prepared import load_prepared, sources
from emgcodec.train.recipe import AugmentRecipe, DataRecipe
from emgcodec.train.windows import GestureWindows

REST, FIST, OPEN = (GESTURES.index(name) for name in ("rest", "hand_close", "hand_open"))
PLAIN = AugmentRecipe(rotation=0, dropout_share=0, gain=0)


def windows(
    segments: Sequence[Segment] | None = None,
    recipe: AugmentRecipe = PLAIN,
    seed: int = 0,
    **changes: Any,
) -> GestureWindows:
    usual, codec = people()
    options: dict[str, Any] = {
        "seconds": 2.0,
        "batch_size": 4,
        "weights": {"3dc": 1.0, "myo_laval": 1.0},
    }
    known = calibrations(usual, codec)
    chosen = usual if segments is None else segments
    devices = usual_calibrations(usual, codec)
    return GestureWindows(
        chosen, known, devices, codec, DataRecipe(**options | changes), recipe, seed
    )


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
def marked() -> tuple[Segment, ...]:
    """Segments whose samples say which one they are of, and where in it."""
    return tuple(
        replace(s, x=np.tile(np.arange(s.x.shape[1], dtype=np.float32), (len(s.x), 1)) + 65536 * i)
        for i, s in enumerate(people()[0])
    )


@pytest.mark.parametrize("seconds", [1.0, 2.03, 60.0])
def test_windows_stay_within_a_recording_and_keep_their_labels(seconds: float) -> None:
    hop = 64
    drawn = windows(marked(), seconds=seconds, calibrated=0.0)
    starts = set()
    for step in range(8):
        batch = drawn.batch(step)
        for x, length, labels in zip(batch.x, batch.lengths.tolist(), batch.labels, strict=True):
            s = marked()[int(x[0, 0]) // 65536]
            start = int(x[0, 0]) % 65536
            starts.add(start % hop)
            assert length == min(round(2000 * seconds), s.x.shape[1])
            np.testing.assert_array_equal(x[: len(s.x), :length], s.x[:, start : start + length])
            assert (x[len(s.x) :] == 0).all()
            assert (x[:, length:] == 0).all()
            frames = -(-length // hop)
            own = s.labels[round(start / hop) :][:frames]
            assert labels[: len(own)].tolist() == own.tolist()
            assert (labels[len(own) :] == UNLABELLED).all()
    assert len(starts) > 4 or seconds == 60.0  # windows start at any sample


def test_batches_mix_data_sets_and_know_the_classes_of_each() -> None:
    classes = {}
    for dataset in ("3dc", "myo_laval"):
        seen = np.concatenate([s.labels for s in people()[0] if s.dataset == dataset])
        classes[10 if dataset == "3dc" else 8] = np.unique(seen[seen >= 0]).tolist()
    assert classes[10] != classes[8]
    mixed = 0
    for step in range(8):
        batch = windows().batch(step)
        counts = [len(montage) for montage in batch.montages]
        mixed += len(set(counts)) > 1
        assert batch.x.shape[1] == max(counts)
        assert batch.mask.sum(dim=1).tolist() == counts
        for count, mask, row, labels in zip(
            counts, batch.mask, batch.classes, batch.labels, strict=True
        ):
            assert mask[:count].all()
            assert row.nonzero()[:, 0].tolist() == classes[count]
            assert set(labels.unique().tolist()) <= {UNLABELLED, *classes[count]}
    assert mixed > 2


def test_what_fills_a_batch_up_changes_no_code() -> None:
    codec = people()[1]
    for step in range(20):
        batch = windows(calibrated=0.5).batch(step)
        counts = [len(montage) for montage in batch.montages]
        if len(set(counts)) > 1:
            break
    lengths, known = batch.lengths, batch.calibrations
    together = codec.encode_latent(
        batch.x, lengths, montage=batch.montages, mask=batch.mask, calibration=known
    )
    for i, count in enumerate(counts):
        alone = codec.encode_latent(
            batch.x[i : i + 1, :count, : lengths[i]],
            montage=batch.montages[i],
            calibration=known[i],
        )
        frames = alone.shape[2]
        torch.testing.assert_close(together[i, :, :frames], alone[0], rtol=1e-3, atol=1e-3)


def test_short_recordings_come_in_batches_of_their_own() -> None:
    segments = [
        s if s.dataset == "myo_laval" else replace(s, x=s.x[:, :1500], labels=s.labels[:24])
        for s in people()[0]
    ]
    drawn = windows(segments, seconds=2.0)
    shapes = {tuple(drawn.batch(step).x.shape) for step in range(12)}
    assert shapes == {(8, 10, 1500), (4, 8, 4000)}


def test_many_electrodes_come_in_batches_of_their_own() -> None:
    segments = list(people()[0])
    wide = Montage.grid(16, 2)
    for i, s in enumerate(segments):
        if s.dataset == "3dc":
            segments[i] = replace(s, x=np.tile(s.x[:1], (32, 1)), montage=wide)
    drawn = windows(segments, calibrated=0.0)
    assert {drawn.batch(step).x.shape[1] for step in range(8)} == {8, 32}


def test_weights_share_out_the_time() -> None:
    only = windows(weights={"3dc": 0.0, "myo_laval": 2.0})
    assert {only.batch(step).x.shape[1] for step in range(6)} == {8}
    drawn = windows(weights={"3dc": 1.0, "myo_laval": 3.0}, batch_size=16)
    counts = [len(montage) for step in range(40) for montage in drawn.batch(step).montages]
    assert counts.count(8) / len(counts) == pytest.approx(0.75, abs=0.06)


def test_a_batch_is_a_function_of_seed_step_and_part() -> None:
    one, other, third = windows(seed=1), windows(seed=1), windows(seed=2)
    assert torch.equal(one.batch(5).x, other.batch(5).x)
    assert not torch.equal(one.batch(5).x, one.batch(6).x)
    assert not torch.equal(one.batch(5).x, one.batch(5, 1).x)
    assert not torch.equal(one.batch(5).x, third.batch(5).x)


def test_parts_of_a_step_are_one_large_batch() -> None:
    small, large = windows(batch_size=2, seconds=1.0), windows(batch_size=6, seconds=1.0)
    for step in range(4):
        parts = [small.batch(step, part) for part in range(3)]
        whole = large.batch(step)
        assert [m for part in parts for m in part.montages] == whole.montages
        for i, x in enumerate(x for part in parts for x in part.x):
            assert torch.equal(whole.x[i, : len(x)], x)


@pytest.mark.parametrize("share", [0.0, 1.0])
def test_calibrated_windows_carry_the_calibration_for_their_montage(share: float) -> None:
    drawn = windows(recipe=AugmentRecipe(), calibrated=share)
    for step in range(4):
        batch = drawn.batch(step)
        assert all((known is not None) == bool(share) for known in batch.calibrations)
        for known, montage in zip(batch.calibrations, batch.montages, strict=True):
            assert known is None or known.montage == montage


def test_labels_may_jitter() -> None:
    still, moved = windows(), windows(recipe=replace(PLAIN, label_jitter=0.1))
    differ = 0
    for step in range(6):
        a, b = still.batch(step), moved.batch(step)
        assert torch.equal(a.x, b.x)
        differ += not torch.equal(a.labels, b.labels)
    assert differ > 3


# The cache


def test_prepared_recordings_are_those_of_the_file(tmp_path: Path) -> None:
    codec = small_codec()
    found = sources(DataRecipe({"3dc": 1.0, "myo_ciil": 1.0}), write_people(tmp_path / "data"))
    assert [(s.dataset, s.subject) for s in found] == [("3dc", "A"), ("myo_ciil", "C")]
    cached = load_prepared(found, codec, tmp_path / "cache")
    plain = load_segments((rec for source in found for rec in source.recordings()), codec)
    assert len(cached) == len(plain) == 4
    for a, b in zip(cached, plain, strict=True):
        np.testing.assert_array_equal(a.x, b.x)
        np.testing.assert_array_equal(a.labels, b.labels)
        facts = ("dataset", "subject", "wearing", "block", "montage")
        assert [getattr(a, name) for name in facts] == [getattr(b, name) for name in facts]


def test_what_is_prepared_once_is_not_prepared_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    codec, data = small_codec(), write_people(tmp_path / "data")
    calls: list[str] = []
    prepare = prepared.prepare

    def counted(rec: Recording, *rest: Any) -> Segment:
        calls.append(rec.metadata["subject"])
        return prepare(rec, *rest)

    monkeypatch.setattr(prepared, "prepare", counted)

    def load(**changes: Any) -> None:
        found = sources(DataRecipe({"3dc": 1.0}, people="all"), data)
        load_prepared(found, changes.get("codec", codec), tmp_path / "cache")

    load()
    load()
    assert calls == ["A", "A", "B", "B"]
    (data / "3dc_B.h5").write_bytes((data / "3dc_A.h5").read_bytes())
    load()
    assert calls[4:] == ["A", "A"]  # what the changed file now holds
    load(codec=Codec.from_preset("student", hop_length=32))
    assert len(calls) == 10  # other frames


def test_the_people_are_those_of_the_recipe(tmp_path: Path) -> None:
    data = write_people(tmp_path)

    def names(**fields: Any) -> list[str]:
        return [f"{s.dataset}/{s.subject}" for s in sources(DataRecipe(**fields), data)]

    assert names(weights={"3dc": 1.0}) == ["3dc/A"]
    assert names(weights={"3dc": 1.0}, people="all") == ["3dc/A", "3dc/B"]
    assert names(weights={"3dc": 0.0, "myo_ciil": 1.0}) == ["myo_ciil/C"]
    both = names(weights={"simulated": 1.0, "3dc": 1.0}, simulated=2)
    assert both == ["3dc/A", "simulated/0", "simulated/1"]


@pytest.mark.parametrize("fold", range(5))
def test_a_fold_trains_on_its_training_people(fold: int, tmp_path: Path) -> None:
    everyone = {name for part in evidence.folds() for name in part}
    for name in everyone:
        (tmp_path / f"{name.replace('/', '_')}.h5").touch()
    weights = dict.fromkeys({name.split("/")[0] for name in everyone}, 1.0)
    found = sources(DataRecipe(weights, fold=fold), tmp_path)
    assert {f"{s.dataset}/{s.subject}" for s in found} == evidence.people(fold, "train")


def test_data_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="--data"):
        sources(DataRecipe({"3dc": 1.0}), None)
    with pytest.raises(ConfigError, match=r"flexemg_\*.h5"):
        sources(DataRecipe({"flexemg": 1.0}), write_people(tmp_path))
    for text in ("[" * 100_000, "[]"):
        (tmp_path / "splits.json").write_text(text)
        with pytest.raises(ValueError, match=r"splits\.json is not a JSON object"):
            sources(DataRecipe({"3dc": 1.0}), tmp_path)
    (tmp_path / "splits.json").unlink()
    with pytest.raises(ConfigError, match=r"splits\.json"):
        sources(DataRecipe({"3dc": 1.0}), tmp_path)


def test_simulated_people_come_on_many_montages_in_two_takes_each() -> None:
    found = sources(DataRecipe({"simulated": 1.0}, simulated=2), None)
    recs = [rec for source in found for rec in source.recordings()]
    facts = [(r.metadata["dataset"], r.metadata["subject"], r.metadata["recording"]) for r in recs]
    assert facts == [("simulated", str(n), f"take{k}") for n in range(2) for k in range(2)]
    assert {e.label for r in recs for e in r.events} == set(GESTURES)
    assert len({r.montage for r in recs}) == 2


def test_a_device_is_known_by_the_first_blocks_of_all_who_wore_it() -> None:
    segments, codec = people()
    found = usual_calibrations(segments, codec)
    assert set(found) == {"3dc", "myo"}
    assert (found["3dc"].sample_rate, found["myo"].sample_rate) == (1000.0, 200.0)
    first = [s for s in segments if s.montage.name == "myo" and is_calibration(s, segments)]
    assert {s.subject for s in first} == {"myo_laval/S1", "myo_laval/S3"}
    own = [codec.calibrate([(s.x, codec.sample_rate)]) for s in first]
    frames = sum(c.frames[0] for c in own)
    mean = sum(c.mean[0] * c.frames[0] for c in own) / frames
    assert found["myo"].mean[0] == pytest.approx(mean, abs=0.05)
    assert usual_calibrations([replace(s, dataset="simulated") for s in segments], codec) == {}
    short = usual_calibrations(segments, codec, 0.5)
    assert short["myo"].frames[0] < found["myo"].frames[0]
    counts = [replace(s, unit="adc") if s.subject == "myo_laval/S1" else s for s in segments]
    assert set(usual_calibrations(counts, codec)) == {"3dc"}  # a name of two devices tells nothing


def test_windows_start_from_the_wearing_from_the_device_or_cold() -> None:
    segments, codec = people()
    usual = usual_calibrations(segments, codec)
    own = calibrations(segments, codec)
    found: Counter[str] = Counter()
    some = windows(calibrated=0.3, usual=0.4)
    for step in range(40):
        for known in some.batch(step).calibrations:
            if known is None:
                found["cold"] += 1
                continue
            found["device"] += any(np.array_equal(c.mean, known.mean) for c in usual.values())
            found["own"] += any(np.array_equal(c.mean, known.mean) for c in own.values())
    total = sum(found.values())
    assert {kind: round(n / total, 1) for kind, n in found.items()} == {
        "own": 0.3, "device": 0.4, "cold": 0.3
    }  # fmt: skip
    with pytest.raises(ConfigError, match=r"data\.usual=0\.8"):
        DataRecipe(calibrated=0.3, usual=0.8)
