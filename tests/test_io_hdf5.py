from __future__ import annotations

import pickle
import tracemalloc
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from io_files import T0, damage, names, write_corpus, write_session

from emgcodec.io import read, read_all
from emgcodec.montage import Montage, MontageError
from emgcodec.recording import Recording, RecordingError

h5py = pytest.importorskip("h5py")

# The corpus format


def test_corpus_files_are_split_where_they_were_joined(tmp_path: Path) -> None:
    path = write_corpus(tmp_path / "3dc_P01.h5")
    assert names(path) == ["cycle.0", "cycle.1", "cycle.2", "take"]
    with h5py.File(path) as file:
        counts = file["recordings/cycle/emg"][:]
    pieces = [recording.emg for recording in read_all(path)][:3]
    assert [piece.shape for piece in pieces] == [(10, 30), (10, 50), (10, 20)]
    np.testing.assert_array_equal(np.concatenate(pieces, axis=1), counts.T)


def test_corpus_recordings_carry_what_is_known_of_them(tmp_path: Path) -> None:
    recording = read(write_corpus(tmp_path / "3dc_P01.h5"), recording="cycle.1")
    assert recording.unit == "adc"
    assert recording.sample_rate == 1000
    assert recording.montage == Montage.preset("3dc")
    assert recording.metadata == {
        "recording": "cycle.1",
        "source": "3dc_P01",
        "dataset": "3dc",
        "subject": "P01",
        "session": "train",
        "repetition": 3,
        "condition": "slow",
        "device": "armband",
        "licence": "none stated",
        "source_unit": "adc_count (volts per count not stated)",
        "bits": 16,
    }


def test_labels_become_events_relative_to_the_piece(tmp_path: Path) -> None:
    path = write_corpus(tmp_path / "a.h5")
    events = {r.metadata["recording"]: r.events for r in read_all(path)}
    spans = [(event.start, event.end, event.label, event.kind) for event in events["take"]]
    assert spans == [
        (0.0, 0.03, "No Motion", "gesture"),
        (0.03, 0.07, "Power Grip", "gesture"),
        (0.08, 0.1, "Open Hand", "gesture"),
    ]
    assert [(e.start, e.end, e.label) for e in events["cycle.1"]] == [(0.0, 0.04, "Power Grip")]


@pytest.mark.parametrize(
    ("attributes", "options", "unit", "values"),
    [
        ({"unit": "adc_count"}, {}, "adc", [11.0, 21.0]),
        ({"unit": "V at the ADC (gain not stated)"}, {}, "adc", [11.0, 21.0]),
        ({"unit": "uV"}, {}, "uV", [5.5, 10.5]),
        ({"unit": "uV", "scale_uV": 3.0}, {}, "uV", [33.0, 63.0]),
        ({"unit": "V", "scale_uV": 3.0}, {}, "uV", [33.0, 63.0]),
        ({"unit": "adc_count"}, {"unit": "mV"}, "uV", [5500.0, 10500.0]),
        ({"unit": "uV"}, {"unit": "adc"}, "adc", [11.0, 21.0]),
    ],
)
def test_counts_become_microvolts_only_where_the_unit_is_known(
    tmp_path: Path,
    attributes: dict[str, Any],
    options: dict[str, Any],
    unit: str,
    values: list[float],
) -> None:
    path = write_corpus(
        tmp_path / "a.h5",
        recordings={"r": ([[10], [20]], [0, 0], [0])},
        dataset="other",
        offset=1.0,
        scale=0.5,
        **attributes,
    )
    recording = read(path, **options)
    assert recording.unit == unit
    assert recording.emg.tolist() == [values]
    assert recording.metadata["source_unit"] == attributes["unit"]
    assert recording.montage.assumed


def test_sixteen_bit_rails_are_missing_samples_and_eight_bit_ones_are_not(tmp_path: Path) -> None:
    counts = [[32767, 127], [-32768, -128], [32766, 0]]
    path = write_corpus(
        tmp_path / "a.h5",
        recordings={"r": (counts, [0, 0, 0], [0])},
        dataset="other",
        unit="adc_count (signed 8-bit)",
    )
    recording = read(path)
    assert np.isnan(recording.emg[0]).tolist() == [True, True, False]
    assert recording.emg[1].tolist() == [127, -128, 0]
    assert recording.metadata["bits"] == 8


@pytest.mark.parametrize(
    ("dataset", "channels", "montage"),
    [("contraction_intensity", 8, "cuff8"), ("flexemg", 64, "flexemg"), ("myo_ciil", 8, "myo")],
)
def test_known_datasets_have_their_montage(
    tmp_path: Path, dataset: str, channels: int, montage: str
) -> None:
    counts = np.zeros((5, channels))
    path = write_corpus(
        tmp_path / "a.h5", recordings={"r": (counts, np.zeros(5), [0])}, dataset=dataset
    )
    assert read(path).montage == Montage.preset(montage)
    assert read(path, montage=Montage.ring(channels)).montage == Montage.ring(channels)
    with pytest.raises(MontageError, match=r"a\.h5: montage 'ring3' has 3 electrodes"):
        read(path, montage=Montage.ring(3))


def test_a_file_of_several_recordings_must_be_told_which(tmp_path: Path) -> None:
    path = write_corpus(tmp_path / "a.h5")
    with pytest.raises(
        RecordingError, match=r"a\.h5.*recording=.*cycle\.0, cycle\.1, cycle\.2, take"
    ):
        read(path)
    with pytest.raises(RecordingError, match=r"no recording 'cycle'.*cycle\.0"):
        read(path, recording="cycle")
    assert names(path, recording="cycle.2") == ["cycle.2"]
    with pytest.raises(RecordingError, match="no recording 'x'"):
        names(path, recording="x")


def replace_dataset(name: str, data: Any) -> Callable[[Any], None]:
    def change(file: Any) -> None:
        del file[name]
        file[name] = data

    return change


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda f: f["recordings"].pop("take/emg"), "has no 'emg'"),
        (replace_dataset("recordings", np.zeros(3)), "is a dataset where"),
        (replace_dataset("recordings/take", np.zeros(3)), "is a dataset where"),
        (lambda f: f.attrs.pop("unit"), "no attribute 'unit'"),
        (lambda f: f.attrs.update(sample_rate_hz="fast"), "expected float"),
        (lambda f: f.attrs.update(sample_rate_hz=np.nan), "finite rate"),
        (lambda f: f.attrs.update(label_names="{"), "not JSON"),
        (lambda f: f.attrs.update(label_names='["only one"]'), "label 1 has no name"),
        (replace_dataset("recordings/cycle/segment_starts", [0, 80, 30]), "segment_starts"),
        (replace_dataset("recordings/cycle/segment_starts", [5, 80]), "segment_starts"),
        (replace_dataset("recordings/cycle/segment_starts", [0, 100]), "segment_starts"),
        (replace_dataset("recordings/take/labels", np.zeros(99, "i1")), "fewer labels"),
        (replace_dataset("recordings/take/emg", np.zeros(100)), "shape"),
        (replace_dataset("recordings/take/emg", np.zeros((100, 10), "S3")), "S3"),
        (replace_dataset("recordings/take/emg", np.zeros((100, 0), "i2")), "no electrode"),
    ],
)
def test_files_that_do_not_follow_the_format_say_how(
    tmp_path: Path, change: Callable[[Any], None], message: str
) -> None:
    path = damage(write_corpus(tmp_path / "bad.h5"), change)
    with pytest.raises(RecordingError, match=message) as caught:
        names(path)
    assert "bad.h5" in str(caught.value)


def test_nothing_outside_the_file_is_followed(tmp_path: Path) -> None:
    other = write_corpus(tmp_path / "other.h5")
    external = h5py.ExternalLink(str(other), "recordings/take")
    for name, link in {"external": external, "soft": h5py.SoftLink("/recordings/take")}.items():
        path = write_corpus(tmp_path / f"{name}.h5")
        damage(path, lambda file, link=link: file["recordings"].__setitem__("aaa", link))
        with pytest.raises(RecordingError, match="links are not followed"):
            names(path)
    path = write_corpus(tmp_path / "virtual.h5")

    def borrow(file: Any) -> None:
        layout = h5py.VirtualLayout((100, 10), "i2")
        layout[:] = h5py.VirtualSource(str(other), "recordings/take/emg", (100, 10))
        del file["recordings/take/emg"]
        file.create_virtual_dataset("recordings/take/emg", layout)

    damage(path, borrow)
    with pytest.raises(RecordingError, match="in another file"):
        names(path)


def test_signals_stay_in_the_file_and_can_be_sent_to_workers(tmp_path: Path) -> None:
    path = write_corpus(tmp_path / "a.h5")
    recording = read(path, recording="cycle.1")
    whole = recording.emg
    copy: Recording = pickle.loads(pickle.dumps(recording))
    np.testing.assert_array_equal(copy.read(7, 12), whole[:, 7:12])
    assert copy.read(45, 99).shape == (10, 5)  # not one sample of the next piece
    path.unlink()  # no handle is kept, so what is gone is named
    with pytest.raises(RecordingError, match=r"a\.h5"):
        recording.read(0, 1)


# emg2qwerty


def test_sessions_give_both_bands_keys_and_prompts(tmp_path: Path) -> None:
    path = tmp_path / "session.hdf5"
    rows = write_session(
        path,
        np.arange(4000) / 2000,
        typed=[
            {"key": "a", "start": 0.5, "end": 0.6},
            {"key": "Key.space", "start": 1.9, "end": 2.5},
            {"key": "z", "start": -0.1, "end": 0.1},
            {"key": "late", "start": 2.4, "end": 2.5},
        ],
        shown=[
            {"name": "text_prompt", "start": -1.0, "end": 1.5, "payload": {"text": "hello you"}},
            {"name": "hold_still", "start": 1.5, "end": 1.75, "payload": None},
        ],
    )
    recording = read(path)
    np.testing.assert_array_equal(recording.emg[:16], rows["emg_left"].T)
    np.testing.assert_array_equal(recording.emg[16:], rows["emg_right"].T)
    assert (recording.sample_rate, recording.unit) == (2000.0, "uV")
    assert recording.montage == Montage.preset("emg2qwerty")
    assert recording.start_time == T0
    events = [(e.kind, e.label, round(e.start, 3), round(e.end, 3)) for e in recording.events]
    assert events == [
        ("prompt", "hello you", 0.0, 1.5),
        ("key", "a", 0.5, 0.6),
        ("cue", "hold_still", 1.5, 1.75),
        ("key", "Key.space", 1.9, 2.0),
    ]
    assert recording.metadata["dropped_events"] == 2
    assert recording.metadata["recording"] == recording.metadata["session"]
    assert recording.metadata["source"] == "session"
    assert recording.metadata["subject"] == "89335547"


def test_gaps_in_the_clock_end_a_recording(tmp_path: Path) -> None:
    path = tmp_path / "session.hdf5"
    times = np.concatenate([np.arange(3000) / 2000, 2.0 + np.arange(1000) / 2000])
    keys = [{"key": k, "start": t, "end": t + 0.01} for k, t in [("a", 1), ("b", 1.8), ("c", 2.25)]]
    rows = write_session(path, times, typed=keys, session_name="s")
    with pytest.raises(RecordingError, match=r"s\.0, s\.1"):
        read(path)
    first, second = read_all(path)
    np.testing.assert_array_equal(second.emg[:16], rows["emg_left"][3000:].T)
    assert first.num_samples == 3000
    assert second.start_time == pytest.approx(T0 + 2.0, abs=1e-6)
    assert [e.label for e in first.events] == ["a"]
    assert [(e.label, round(e.start, 4)) for e in second.events] == [("c", 0.25)]
    assert second.metadata["dropped_events"] == 1  # b fell into the gap


@given(seed=st.integers(0, 2**32 - 1), rate=st.sampled_from([2000, 1000, 500]))
def test_jitter_neither_splits_nor_changes_the_rate(
    tmp_path_factory: pytest.TempPathFactory, seed: int, rate: int
) -> None:
    jitter = np.random.default_rng(seed).uniform(-0.4, 0.4, 3000) / rate
    path = tmp_path_factory.mktemp("session") / "s.hdf5"
    write_session(path, np.arange(3000) / rate + jitter)
    assert read(path).sample_rate == rate


def test_a_clock_that_runs_slow_moves_the_keys_with_the_samples(tmp_path: Path) -> None:
    path = tmp_path / "s.hdf5"  # 0.5 % slow: within what counts as 2000 Hz
    times = np.arange(40_000) / 2000 * 1.005
    write_session(path, times, typed=[{"key": "a", "start": times[30_000], "end": times[30_100]}])
    recording = read(path)
    assert recording.sample_rate == 2000
    assert recording.events[0].start == pytest.approx(30_000 / 2000, abs=1e-3)


def test_an_explicit_rate_overrides_the_clock(tmp_path: Path) -> None:
    path = tmp_path / "s.hdf5"
    write_session(path, np.zeros(100))
    with pytest.raises(RecordingError, match="do not rise: pass sample_rate="):
        read(path)
    assert read(path, sample_rate=1000).sample_rate == 1000


@pytest.mark.parametrize(
    ("attributes", "message"),
    [
        ({"keystrokes": "[{"}, "not JSON"),
        ({"keystrokes": '["a"]'}, "list of objects"),
        ({"prompts": '[{"name": "p", "start": "noon"}]'}, "expected seconds"),
    ],
)
def test_broken_session_labels_are_named(
    tmp_path: Path, attributes: dict[str, str], message: str
) -> None:
    path = tmp_path / "s.hdf5"
    write_session(path, np.arange(10) / 2000, **attributes)
    with pytest.raises(RecordingError, match=message):
        read(path)


def test_sessions_without_samples_or_with_other_fields_are_refused(tmp_path: Path) -> None:
    write_session(tmp_path / "empty.hdf5", [])
    with pytest.raises(RecordingError, match="no samples"):
        read(tmp_path / "empty.hdf5")
    write_session(tmp_path / "nan.hdf5", [0.0, np.nan, 0.001])
    with pytest.raises(RecordingError, match="not finite"):
        read(tmp_path / "nan.hdf5")
    with h5py.File(tmp_path / "other.hdf5", "w") as file:
        file["emg2qwerty/timeseries"] = np.zeros(5, [("emg", "f4", (16,)), ("time", "f8")])
    with pytest.raises(RecordingError, match="emg_left"):
        read(tmp_path / "other.hdf5")


def test_long_sessions_lose_nothing_at_the_borders_of_blocks(tmp_path: Path) -> None:
    path = tmp_path / "s.hdf5"
    times = np.arange(150_000) / 2000
    times[130_000:] += 1
    rows = write_session(path, times)
    first, second = read_all(path)
    for recording, part in ((first, rows[:130_000]), (second, rows[130_000:])):
        np.testing.assert_array_equal(recording.emg[:16], part["emg_left"].T)
        np.testing.assert_array_equal(recording.emg[16:], part["emg_right"].T)


def test_long_sessions_are_read_in_constant_memory(tmp_path: Path) -> None:
    def peak(seconds: int) -> int:
        path = tmp_path / f"{seconds}.hdf5"
        write_session(path, np.arange(seconds * 2000) / 2000)
        tracemalloc.start()
        total = sum(block.shape[1] for block in read(path).blocks())
        used = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert total == seconds * 2000
        return used

    short, long = peak(120), peak(300)
    assert long < 1.1 * short
