from __future__ import annotations

import json
import math
import time
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from emgcodec import (
    GESTURES,
    Electrode,
    Event,
    Montage,
    MontageError,
    Recording,
    RecordingError,
    list_montages,
)
from emgcodec.gestures import canonical_gesture


def ramp(electrodes: int = 3, samples: int = 1000, dtype: Any = np.float32) -> np.ndarray[Any, Any]:
    return np.arange(electrodes * samples, dtype=dtype).reshape(electrodes, samples)


# Recordings


@pytest.mark.parametrize(("unit", "factor"), [("uV", 1.0), ("mV", 1e3), ("V", 1e6), ("adc", 1.0)])
@pytest.mark.parametrize("dtype", ["f2", "f4", "f8", "i2", ">i4", "u1"])
def test_every_unit_becomes_microvolts_in_every_type(unit: str, factor: float, dtype: str) -> None:
    x = np.array([[0, 1, 2, 3], [100, 50, 25, 12]], dtype)
    rec = Recording(x, 1000, unit=unit)
    assert rec.unit == ("adc" if unit == "adc" else "uV")
    assert rec.emg.dtype == np.float32
    np.testing.assert_allclose(rec.emg, x.astype(float) * factor, rtol=1e-6)


def test_numbers_beyond_float32_are_infinite_and_not_an_error() -> None:
    rec = Recording(np.array([[1e300, 1.0]]), 1000, unit="V")
    np.testing.assert_array_equal(rec.emg, [[np.inf, 1e6]])


def test_an_event_holds_frames_by_their_ends_and_may_leave_out_a_reaction() -> None:
    times = np.array([0.5, 1.0, 1.5, 2.0, 2.5])
    event = Event(1.0, 2.0, "fist")
    assert event.during(times).tolist() == [False, False, True, True, False]
    assert event.during(times, reaction=0.5).tolist() == [False, False, False, True, False]
    assert not event.during(times, reaction=3.0).any()


def test_facts_of_a_recording() -> None:
    events = [Event(0.1, 0.2, "fist")]
    facts = {"subject": "P01"}
    rec = Recording(ramp(8), 2000, montage="myo", start_time=5, events=events, metadata=facts)
    facts["subject"] = "somebody else"
    assert (rec.num_electrodes, rec.num_samples, rec.duration) == (8, 1000, 0.5)
    assert (rec.montage, rec.start_time, rec.unit) == (Montage.preset("myo"), 5.0, "uV")
    assert (rec.events, rec.metadata) == (tuple(events), {"subject": "P01"})
    assert repr(rec) == "Recording(8 electrodes (myo), 0.50 s at 2000 Hz, uV, 1 events)"
    assert Recording(ramp(5), 1000).montage == Montage.ring(5, assumed=True)
    assert Recording(ramp(1, 0), 1000).emg.shape == (1, 0)


@given(st.integers(0, 700), st.floats(0.001, 2.0))
def test_blocks_are_the_whole(samples: int, seconds: float) -> None:
    rec = Recording(ramp(2, samples), 250)
    blocks = list(rec.blocks(seconds))
    assert all(0 < b.shape[1] <= max(1, round(seconds * 250)) for b in blocks)
    np.testing.assert_array_equal(np.concatenate([np.zeros((2, 0)), *blocks], axis=1), rec.emg)


class Lazy:
    """A signal that counts what is asked of it."""

    def __init__(self, shape: tuple[int, int]) -> None:
        self.shape = shape
        self.asked: list[tuple[int, int]] = []

    def read(self, start: int, stop: int) -> np.ndarray[Any, Any]:
        self.asked.append((start, stop))
        return ramp(*self.shape)[:, start:stop]


def test_a_source_is_read_only_when_and_where_it_is_needed() -> None:
    source = Lazy((4, 1000))
    rec = Recording(source, 100, unit="mV").with_montage(Montage.grid(2, 2))
    assert (rec.num_electrodes, rec.duration, source.asked) == (4, 10.0, [])
    np.testing.assert_array_equal(rec.read(10, 20), ramp(4)[:, 10:20] * 1000)
    np.testing.assert_array_equal(rec.read(990, 5000), ramp(4)[:, 990:] * 1000)
    assert source.asked == [(10, 20), (990, 1000)]
    with pytest.raises(RecordingError, match="electrodes first"):
        Recording(Lazy((1000, 4)), 100)


def test_the_next_block_is_read_while_one_is_worked_on() -> None:
    source = Lazy((2, 950))
    rec = Recording(source, 100)
    blocks = rec.blocks(1.0)
    first = next(blocks)
    wanted = [(start, min(start + 100, 950)) for start in range(0, 950, 100)]
    for _ in range(1000):
        if source.asked == wanted[:2]:
            break
        time.sleep(0.005)
    assert source.asked == wanted[:2]  # and not further: memory is bounded
    np.testing.assert_array_equal(np.concatenate([first, *blocks], axis=1), ramp(2, 950))
    assert source.asked == wanted


def test_a_source_that_fails_ahead_fails_at_its_block() -> None:
    class Torn(Lazy):
        def read(self, start: int, stop: int) -> np.ndarray[Any, Any]:
            if start >= 300:
                raise RecordingError("torn")
            return super().read(start, stop)

    blocks = Recording(Torn((2, 950)), 100).blocks(1.0)
    assert [next(blocks).shape for _ in range(3)] == 3 * [(2, 100)]
    with pytest.raises(RecordingError, match="torn"):
        next(blocks)
    given_up = Recording(Torn((2, 950)), 100).blocks(1.0)
    next(given_up)
    given_up.close()  # type: ignore[attr-defined]


def test_with_montage_leaves_the_first_recording_alone() -> None:
    rec = Recording(ramp(8), 1000, montage="myo")
    assert rec.with_montage("cuff8").montage.name == "cuff8"
    assert rec.montage.name == "myo"
    with pytest.raises(MontageError, match="3dc"):
        rec.with_montage("3dc")


def test_what_is_said_of_a_recording_is_its_own() -> None:
    rec = Recording(np.ones((8, 100)), 1000, montage="myo", metadata={"subject": "A"})
    for twin in (rec.with_montage(Montage.ring(8)), rec.remap("myo"), rec.crop(0, 0.05)):
        twin.metadata["subject"] = "B"
    assert rec.metadata == {"subject": "A"}


def test_crop_shifts_signal_clock_and_events() -> None:
    events = [
        Event(0, 2, "before"),
        Event(1, 3, "into"),
        Event(2, 2, "at the start", kind="key"),
        Event(2.5, 3, "within", score=0.5),
        Event(3.5, 9, "out of"),
        Event(4, 5, "behind"),
        Event(4, 4, "at the end", kind="key"),
    ]
    rec = Recording(ramp(2), 100, montage=Montage.ring(2), start_time=7.0, events=events, unit="mV")
    part = rec.crop(2, 4)
    np.testing.assert_array_equal(part.emg, rec.emg[:, 200:400])
    assert (part.start_time, part.unit, part.montage) == (9.0, "uV", rec.montage)
    assert part.events == (
        Event(0, 1, "into"),
        Event(0, 0, "at the start", kind="key"),
        Event(0.5, 1, "within", score=0.5),
        Event(1.5, 2, "out of"),
    )


@given(st.floats(-3, 12), st.floats(-3, 12))
def test_crops_never_leave_the_recording(start: float, end: float) -> None:
    rec = Recording(ramp(2), 100, events=[Event(k, k + 1, str(k)) for k in range(10)])
    part = rec.crop(start, end)
    assert part.start_time >= 0
    assert part.duration <= max(0.0, min(end, 10) - max(start, 0)) + 0.011  # a sample
    for event in part.events:
        assert 0 <= event.start < event.end <= part.duration + 1e-9
        assert rec.crop(start, end).emg[0, round(event.start * 100)] // 100 == int(event.label)


@pytest.mark.parametrize("rate", [0, -5, math.nan, math.inf, 50, 99.99, "2k", None, True, [1000]])
def test_rates_that_cannot_be(rate: Any) -> None:
    with pytest.raises(RecordingError, match="sample_rate="):
        Recording(ramp(), rate)


@pytest.mark.parametrize(
    ("emg", "words"),
    [
        (np.zeros((1000, 8)).T[:, :, None], "shape"),
        (np.zeros((2, 3, 4, 5)), "shape"),
        (np.zeros(1000), r"x\[None\]"),
        (np.zeros((0, 1000)), "no electrode"),
        (np.zeros((1000, 8)), "electrodes first"),
        (np.zeros((8, 10), complex), "complex"),
        (np.zeros((8, 10), bool), "real numbers"),
        (np.full((8, 10), "a"), "real numbers"),
        (np.full((8, 10), None), "real numbers"),
    ],
)
def test_arrays_that_cannot_be(emg: Any, words: str) -> None:
    with pytest.raises(RecordingError, match=words):
        Recording(emg, 1000)


def test_units_that_cannot_be() -> None:
    with pytest.raises(RecordingError, match=r"unit='volt'.*'mV'"):
        Recording(ramp(), 1000, unit="volt")


def test_events_read_well() -> None:
    assert str(Event(0.5, 12.25, "fist", 0.876)) == "    0.50 -    12.25 s  fist  0.88"
    assert str(Event(1, 1, "a", kind="key")).endswith("s  a")


# Montages


@pytest.mark.parametrize(
    ("name", "count", "bands", "rows"),
    [
        ("emg2qwerty", 32, 2, 1),
        ("emg2pose", 16, 1, 1),
        ("myo", 8, 1, 1),
        ("3dc", 10, 1, 1),
        ("cuff8", 8, 1, 1),
        ("flexemg", 64, 1, 4),
    ],
)
def test_devices(name: str, count: int, bands: int, rows: int) -> None:
    montage = Montage.preset(name)
    assert name in list_montages()
    assert (montage.name, len(montage), montage.assumed) == (name, count, False)
    assert len({e.band for e in montage.electrodes}) == bands
    assert len({e.row for e in montage.electrodes}) == rows
    assert len(set(montage.electrodes)) == count


def test_a_pair_of_wristbands_mirrors_one_another() -> None:
    left, right = np.split(np.array([e.angle for e in Montage.preset("emg2qwerty").electrodes]), 2)
    np.testing.assert_allclose((left + right) % 360, 0)
    np.testing.assert_allclose(np.diff(left), 22.5)


def test_rings_close_and_open_grids_reach_both_ends() -> None:
    assert [e.angle for e in Montage.ring(4).electrodes] == [0, 90, 180, 270]
    assert [e.angle for e in Montage.grid(4, 1).electrodes] == [0, 90, 180, 270]
    assert [e.angle for e in Montage.grid(4, 1, span=90).electrodes] == [0, 30, 60, 90]
    grid = Montage.grid(2, 3)
    assert [(e.angle, e.row) for e in grid.electrodes[:3]] == [(0, 0), (180, 0), (0, 1)]
    assert (grid.name, Montage.ring(3, bands=2).name) == ("grid2x3", "ring2x3")
    assert Montage.grid(1, 2, span=90).electrodes[1] == Electrode(0, 0, 1)


def test_positions_are_features_of_angle_row_and_band() -> None:
    montage = Montage("two", (Electrode(0, 90, 0.5), Electrode(1, -90, 2)))
    expected = [[1, 0, 0.5, 0], [-1, 0, 2, 1]]
    np.testing.assert_allclose(montage.positions(), expected, atol=1e-7)


@given(st.floats(-1e6, 1e6), st.integers(-3, 3))
def test_angles_wrap_around_the_limb(angle: float, turns: int) -> None:
    electrode = Electrode(0, angle)
    assert 0 <= electrode.angle < 360
    apart = abs(Electrode(0, angle + 360 * turns).angle - electrode.angle)
    assert min(apart, 360 - apart) <= 2e-6


electrodes = st.builds(Electrode, st.integers(0, 15), st.floats(-720, 720), st.floats(-9, 9))
montages = st.builds(
    Montage, st.text(max_size=8), st.lists(electrodes, min_size=1, max_size=12), st.booleans()
)


@given(montages)
def test_montages_survive_json(montage: Montage) -> None:
    again = Montage.from_dict(json.loads(json.dumps(montage.to_dict())))
    assert again == montage
    assert again.digest() == montage.digest()


@given(montages, st.randoms(use_true_random=False))
def test_order_for_undoes_any_order(montage: Montage, chance: Any) -> None:
    mixed = list(range(len(montage)))
    chance.shuffle(mixed)
    other = montage.select(mixed)
    order = other.order_for(montage)
    assert sorted(order) == list(range(len(montage)))  # each once, twins at one place too
    assert other.select(order).electrodes == montage.electrodes


def test_order_for_names_what_is_missing() -> None:
    with pytest.raises(MontageError, match=r"\(band 0, 36 deg, row 0\).*and 2 more"):
        Montage.preset("myo").order_for(Montage.preset("3dc"))
    with pytest.raises(MontageError, match="missing none"):
        Montage.ring(8).order_for(Montage.ring(4))


def test_the_digest_is_of_positions_and_their_order() -> None:
    ring = Montage.ring(5)
    assert Montage.ring(5, name="other", assumed=True).digest() == ring.digest()
    assert ring.select([1, 0, 2, 3, 4]).digest() != ring.digest()


@pytest.mark.parametrize(
    "make",
    [
        lambda: Montage.ring(0),
        lambda: Montage.ring(129),
        lambda: Montage.ring(65, bands=2),
        lambda: Montage.grid(0, 4),
        lambda: Montage.grid(4, 0),
        lambda: Montage.grid(16, 9),
        lambda: Montage.preset("watch"),
        lambda: Electrode(0, math.nan),
        lambda: Electrode(0, 0, math.inf),
        lambda: Electrode(math.nan),  # type: ignore[arg-type]
        lambda: Electrode(0.5),  # type: ignore[arg-type]
        lambda: Electrode(-1),
        lambda: Electrode(16),
        lambda: Recording(ramp(3), 1000, montage=8),  # type: ignore[arg-type]
    ],
)
def test_montages_that_cannot_be(make: Any) -> None:
    with pytest.raises(MontageError):
        make()


@pytest.mark.parametrize(
    "stored",
    [
        [],
        {},
        {"name": "a"},
        {"name": "a", "electrodes": 3},
        {"name": "a", "electrodes": []},
        {"name": "a", "electrodes": "ab"},
        {"name": "a", "electrodes": [[0, "1", 0]]},
        {"name": "a", "electrodes": [["x", 1, 0]]},
        {"name": "a", "electrodes": [[0, 1, 0, 4]]},
        {"name": "a", "electrodes": [[math.inf, 0, 0]]},
        {"name": "a", "electrodes": [[0, 10**400, 0]]},
    ],
)
def test_damaged_stored_montages_are_named(stored: Any) -> None:
    with pytest.raises(MontageError):
        Montage.from_dict(stored)


# Gestures


@pytest.mark.parametrize(
    ("label", "name"),
    [
        ("No Motion", "rest"),
        ("Power Grip", "hand_close"),
        ("  wrist-flexion ", "wrist_flexion"),
        ("Chuck Grip", "chuck_grip"),
        ("raise", "wrist_extension"),
        ("index_point", None),
        ("", None),
    ],
)
def test_labels_of_corpora_have_canonical_names(label: str, name: str | None) -> None:
    assert canonical_gesture(label) == name


def test_canonical_names_stay_what_they_are() -> None:
    assert [canonical_gesture(name) for name in GESTURES] == list(GESTURES)
    assert GESTURES[0] == "rest"
    assert len(set(GESTURES)) == len(GESTURES) == 11
