"""Simulated typing: texts, keys, muscles, and sessions as files."""

from __future__ import annotations

import json
import string
from dataclasses import replace
from itertools import islice, pairwise
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from emgcodec import Event, Montage, Recording, RecordingError, read
from emgcodec.io import write_session
from emgcodec.simulate import Person, SimulationError, gesture_recording, typing_recording
from emgcodec.simulate.words import sentences
from emgcodec.text import BACKSPACE, ENTER, apply_backspace, labels, to_ids, to_text

Array = npt.NDArray[np.float64]


@pytest.fixture(scope="module")
def typists() -> list[Recording]:
    return [typing_recording(Person.draw(seed), seconds=40, seed=1) for seed in range(5)]


def keys(rec: Recording) -> list[Event]:
    return [event for event in rec.events if event.kind == "key"]


def prompts(rec: Recording) -> list[Event]:
    return [event for event in rec.events if event.kind == "prompt"]


def typed(rec: Recording) -> str:
    ids = to_ids([event.label for event in keys(rec)])
    assert ids.dropped == 0
    return to_text(ids.ids)


def test_the_screen_shows_the_prompts_in_the_end(typists: list[Recording]) -> None:
    for rec in typists:
        wanted = "".join(prompt.label + ENTER for prompt in prompts(rec))
        assert apply_backspace(typed(rec)) == wanted
    assert sum(typed(rec).count(BACKSPACE) for rec in typists) > 10
    assert any(typed(rec).count(BACKSPACE) / len(typed(rec)) < 0.05 for rec in typists)


def test_events_are_in_order_and_inside_the_recording(typists: list[Recording]) -> None:
    for rec in typists:
        assert rec.num_electrodes == 32
        assert rec.sample_rate == 2000
        assert 40 <= rec.duration < 70
        starts = [event.start for event in rec.events]
        assert starts == sorted(starts)
        assert all(0 < e.start < e.end < rec.duration for e in rec.events)
        assert all(a.end < b.start for a, b in pairwise(prompts(rec)))
        for prompt in prompts(rec):
            assert len([e for e in keys(rec) if prompt.start < e.start < prompt.end]) > len(
                prompt.label
            )
        for name in {event.label for event in keys(rec)}:
            down = [event for event in keys(rec) if event.label.lower() == name.lower()]
            assert all(a.end < b.start for a, b in pairwise(down)), "up before it goes down again"


def test_people_type_at_a_pace_of_their_own(typists: list[Recording]) -> None:
    speed = [len(keys(rec)) / rec.duration for rec in typists]
    assert all(2 < s < 7 for s in speed)
    assert max(speed) > 1.15 * min(speed)
    overlap = np.mean([b.start < a.end for rec in typists for a, b in pairwise(keys(rec))])
    assert 0.03 < overlap < 0.4
    held = np.concatenate([[e.end - e.start for e in keys(rec)] for rec in typists])
    assert 0.05 < np.median(held) < 0.15


def test_every_key_of_the_board_can_be_typed() -> None:
    board = [string.ascii_lowercase, string.ascii_uppercase, string.digits, string.punctuation]
    rec = typing_recording(Person.draw(0), prompts=[*board, "a b"])
    assert [prompt.label for prompt in prompts(rec)] == [*board, "a b"]
    assert set(range(94)) | {95, 96, 97} <= set(to_ids([e.label for e in keys(rec)]).ids.tolist())
    events = keys(rec)
    for index, event in enumerate(events):
        shifted = event.label in (*string.ascii_uppercase, *'~!@#$%^&*()_+{}|:"<>?')
        down = [e for e in events[max(0, index - 3) : index] if e.label.startswith("Key.shift")]
        assert shifted == any(e.start < event.start < e.end for e in down)


def test_texts_are_endless_varied_and_typeable() -> None:
    texts = list(islice(sentences(0, 1), 300))
    assert texts == list(islice(sentences(0, 1), 300))
    assert texts[:20] != list(islice(sentences(0, 2), 20))
    assert all(to_ids(text).dropped == 0 and len(text) > 2 for text in texts)
    words = {word.strip(".,!?").lower() for text in texts for word in text.split()}
    assert len(words) > 500
    assert set(string.ascii_lowercase + string.digits) <= set("".join(words))


def test_muscles_move_the_finger_before_the_key_goes_down() -> None:
    person = replace(Person.draw(1), noise=0.0, mains=0.0)
    rec = typing_recording(person, prompts=["a", "s", "d", "f"] * 8)
    left = rec.emg[:16].astype(float)
    for key in "asdf":
        strikes = [round(2000 * e.start) for e in keys(rec) if e.label == key]
        around = np.array([left[:, at - 1000 : at + 300] for at in strikes])
        power = (around**2).reshape(len(strikes), 16, -1, 20).mean(axis=(0, 3))  # each 10 ms
        burst = np.sqrt(power.max(axis=1) / power[:, :30].mean(axis=1))
        assert burst.max() > 3
        peak = np.argmax(power[np.argmax(burst)])
        assert 34 <= peak < 50, "within 160 ms before"


def finger(label: str) -> int | None:
    columns = ("qaz", "wsx", "edc", "rfvtgb", "yhnujm", "ik", "ol", "p")
    found = [i for i, column in enumerate(columns) if label.lower() in column]
    return found[0] if found and len(label) == 1 else None


def test_fingers_are_told_apart_by_their_muscles() -> None:
    def features(seed: int) -> tuple[Array, npt.NDArray[np.intp]]:
        rec = typing_recording(Person.draw(0), seconds=100, seed=seed)
        power = np.cumsum(rec.emg.astype(float) ** 2, axis=1)
        known = [(round(2000 * e.start), finger(e.label)) for e in keys(rec)]
        at = np.array([start for start, which in known if which is not None])
        rows = [np.log(power[:, at - b] - power[:, at - a]) for a, b in ((320, 160), (160, 20))]
        return np.concatenate(rows).T, np.array([f for _, f in known if f is not None])

    x, y = features(0)
    means = np.array([x[y == f].mean(axis=0) for f in range(8)])
    inside = np.linalg.inv(np.cov((x - means[y]).T) + 0.05 * np.eye(x.shape[1]))
    x, y = features(1)
    away = x[:, None] - means
    found = np.argmin(np.einsum("nfi,ij,nfj->nf", away, inside, away), axis=1)
    balanced = np.mean([np.mean(found[y == f] == f) for f in np.unique(y)])
    assert balanced > 0.45, "chance is 1/8"


def test_the_seed_is_the_performance() -> None:
    one, again, other, session = (
        typing_recording(Person.draw(1), seconds=8, **which)
        for which in ({}, {}, {"seed": 1}, {"session": 1})
    )
    np.testing.assert_array_equal(one.emg, again.emg)
    assert one.events == again.events
    assert one.events != other.events
    assert one.events != session.events
    assert session.metadata["session"] == "1"


def test_other_montages_and_rates() -> None:
    rec = typing_recording(
        Person.draw(1), prompts=["it is"], montage=Montage.ring(12), sample_rate=1259.26
    )
    assert rec.num_electrodes == 12
    assert rec.sample_rate == 1259.26
    assert rec.emg.std() > 2


@pytest.mark.parametrize(
    ("wrong", "word"),
    [
        ({"seconds": 0.0}, "seconds"),
        ({"seconds": float("nan")}, "seconds"),
        ({"seconds": float("inf")}, "seconds"),
        ({"prompts": []}, "nothing"),
        ({"prompts": ["fine", ""]}, "''"),
        ({"prompts": ["naïve"]}, "naïve"),
        ({"prompts": ["two\nlines"]}, "line"),
        ({"seed": -1}, "seed"),
        ({"session": "a"}, "session"),
        ({"montage": "headband"}, "headband"),
        ({"sample_rate": 9}, "sample_rate"),
        ({"person": 3}, "Person.draw"),
    ],
)
def test_bad_arguments_are_named(wrong: dict[str, Any], word: str) -> None:
    with pytest.raises(ValueError, match=word):
        typing_recording(**{"person": Person.draw(0), "seconds": 5, **wrong})


def test_a_string_is_not_taken_for_a_list_of_prompts() -> None:
    with pytest.raises(SimulationError, match="list"):
        typing_recording(Person.draw(0), prompts="hello")


def same(one: Recording, other: Recording) -> None:
    np.testing.assert_array_equal(one.emg, other.emg)
    assert len(one.events) == len(other.events)
    for a, b in zip(one.events, other.events, strict=True):
        assert (a.label, a.kind) == (b.label, b.kind)
        assert (a.start, a.end) == pytest.approx((b.start, b.end), abs=1e-6)
    assert one.montage == other.montage
    assert one.start_time == other.start_time
    assert one.metadata.items() <= other.metadata.items()


@pytest.mark.parametrize("start_time", [0.0, 1_625_000_000.25])
def test_a_session_file_gives_the_recording_back(
    start_time: float, tmp_path: Path, typists: list[Recording]
) -> None:
    rec = typists[0]
    rec = Recording(
        rec.emg,
        2000,
        montage=rec.montage,
        start_time=start_time,
        events=rec.events,
        metadata=rec.metadata,
    )
    write_session(rec, tmp_path / "one.hdf5")
    back = read(tmp_path / "one.hdf5")
    same(rec, back)
    assert back.metadata["subject"] == "simulated-0"
    assert back.metadata["condition"] == "on_keyboard"
    assert back.metadata["licence"] == "Apache-2.0"
    assert back.metadata["dropped_events"] == 0
    write_session(back, tmp_path / "two.hdf5")
    twice = read(tmp_path / "two.hdf5")
    assert twice.metadata["source"] == "two"
    np.testing.assert_array_equal(twice.emg, rec.emg)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["one.hdf5", "two.hdf5"]


def test_session_files_follow_the_schema(tmp_path: Path) -> None:
    h5py = pytest.importorskip("h5py")
    rec = typing_recording(Person.draw(4), prompts=["No."])
    write_session(rec, tmp_path / "one.hdf5")
    with h5py.File(tmp_path / "one.hdf5") as file:
        group = file["emg2qwerty"]
        rows = group["timeseries"]
        assert rows.dtype["emg_left"] == rows.dtype["emg_right"] == np.dtype(("<f4", (16,)))
        np.testing.assert_array_equal(rows["emg_left"].T, rec.emg[:16])
        np.testing.assert_allclose(np.diff(rows["time"]), 1 / 2000)
        pressed = json.loads(group.attrs["keystrokes"])
        assert [item["key"] for item in pressed] == [event.label for event in keys(rec)]
        assert {item["key"] for item in pressed} <= {*labels(), "Key.shift_r"}
        assert set(pressed[0]) == {"key", "start", "end"}
        (shown,) = json.loads(group.attrs["prompts"])
        assert shown["name"] == "text_prompt"
        assert shown["payload"] == {"text": "No."}
        assert group.attrs["user"] == "simulated-4"
        assert group.attrs["duration_mins"] == rec.duration / 60


def test_long_sessions_keep_all_their_keys(tmp_path: Path) -> None:
    events = [Event(0.1 * i, 0.1 * i + 0.05, "a", kind="key") for i in range(5000)]
    rec = Recording(np.zeros((32, 1_000_001)), 2000, montage="emg2qwerty", events=events)
    write_session(rec, tmp_path / "long.hdf5")
    back = read(tmp_path / "long.hdf5")
    assert len(back.events) == 5000
    assert back.num_samples == 1_000_001


def test_what_a_session_cannot_hold_is_refused(tmp_path: Path) -> None:
    zeros, band = np.zeros((32, 100)), "emg2qwerty"
    wrong = {
        "2000 Hz": Recording(zeros, 1000, montage=band),
        "in adc": Recording(zeros, 2000, montage=band, unit="adc"),
        "electrodes": Recording(zeros, 2000),
        "no samples": Recording(zeros[:, :0], 2000, montage=band),
        "gesture": gesture_recording(Person.draw(0), band, 2000, gestures=("rest",), hold=0.2),
    }
    for word, rec in wrong.items():
        with pytest.raises(RecordingError, match=word):
            write_session(rec, tmp_path / "no.hdf5")
    assert list(tmp_path.iterdir()) == []
