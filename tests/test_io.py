from __future__ import annotations

import builtins
import json
import pickle
import tracemalloc
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from emgcodec.io import read, read_all
from emgcodec.montage import Montage, MontageError
from emgcodec.recording import Recording, RecordingError

h5py = pytest.importorskip("h5py")

T0 = 1_625_000_000.25  # unix seconds: float64 there resolves 0.24 µs
ROW = np.dtype([("emg_left", "<f4", (16,)), ("emg_right", "<f4", (16,)), ("time", "<f8")])


def write_corpus(
    path: Path, *, recordings: dict[str, Any] | None = None, **attributes: Any
) -> Path:
    """A corpus file; `recordings` maps an id to (counts (N, C), labels (N,), segment starts)."""
    rng = np.random.default_rng(0)
    if recordings is None:
        labels = np.repeat(np.array([0, 1, -1, 2], "i1"), [30, 40, 10, 20])
        recordings = {
            "take": (rng.integers(-500, 500, (100, 10)), labels, [0]),
            "cycle": (rng.integers(-500, 500, (100, 10)), labels, [0, 30, 80]),
        }
    facts = {
        "dataset": "3dc",
        "subject": "P01",
        "device": "armband",
        "licence": "none stated",
        "sample_rate_hz": 1000.0,
        "unit": "adc_count (volts per count not stated)",
        "scale": 1.0,
        "offset": 0.0,
        "label_names": json.dumps(["No Motion", "Power Grip", "Open Hand"]),
    }
    with h5py.File(path, "w") as file:
        file.attrs.update(facts | attributes)
        for name, (counts, labels, starts) in recordings.items():
            group = file.create_group(f"recordings/{name}")
            group.attrs.update(
                session="train", repetition=3, condition="slow", contiguous=len(starts) == 1
            )
            group.create_dataset("emg", data=np.asarray(counts, "i2"), compression="gzip")
            group["labels"] = np.asarray(labels, "i1")
            group["segment_starts"] = np.asarray(starts, "i4")
    return path


def write_session(
    path: Path, times: Any, *, typed: Any = (), shown: Any = (), **attributes: Any
) -> np.ndarray[Any, Any]:
    """An emg2qwerty session at unix times T0 + `times`; returns its rows."""
    rows = np.zeros(len(times), ROW)
    rng = np.random.default_rng(1)
    rows["time"] = T0 + np.asarray(times)
    rows["emg_left"] = rng.normal(0, 14, (len(times), 16))
    rows["emg_right"] = rng.normal(0, 14, (len(times), 16))
    shift = [
        {k: v + T0 if k in ("start", "end") and v is not None else v for k, v in item.items()}
        for item in (*typed, *shown)
    ]
    facts = {
        "session_name": "2021-06-02-1622681518",
        "user": "89335547",
        "condition": "on_keyboard",
        "keystrokes": json.dumps(shift[: len(typed)]),
        "prompts": json.dumps(shift[len(typed) :]),
    }
    with h5py.File(path, "w") as file:
        group = file.create_group("emg2qwerty")
        group.create_dataset("timeseries", data=rows, chunks=True)
        group.attrs.update(facts | attributes)
    return rows


def names(path: Path, **options: Any) -> list[str]:
    return [recording.metadata["recording"] for recording in read_all(path, **options)]


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


def damage(path: Path, change: Callable[[Any], None]) -> Path:
    with h5py.File(path, "r+") as file:
        change(file)
    return path


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
        ("prompt", "hold_still", 1.5, 1.75),
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


# Arrays


@pytest.mark.parametrize("order", ["C", "F"])
@pytest.mark.parametrize("dtype", ["<f8", "<f4", ">i2", "u1"])
def test_npy_is_read_lazily_in_any_dtype(tmp_path: Path, order: Any, dtype: str) -> None:
    x = np.random.default_rng(0).integers(0, 99, (4, 300)).astype(dtype)
    np.save(tmp_path / "x.npy", np.asarray(x, order=order))
    recording = read(tmp_path / "x.npy", sample_rate=1000, montage=Montage.ring(4), unit="adc")
    np.testing.assert_array_equal(recording.read(10, 20), x[:, 10:20])
    assert (recording.unit, recording.montage.assumed) == ("adc", False)
    assert recording.metadata == {"recording": "x", "source": "x"}
    assert len(pickle.dumps(recording)) < 4 * 300


def test_npy_without_samples_is_an_empty_recording(tmp_path: Path) -> None:
    np.save(tmp_path / "x.npy", np.zeros((4, 0)))
    assert read(tmp_path / "x.npy", sample_rate=1000).emg.shape == (4, 0)


def test_npz_states_its_facts_and_arguments_override_them(tmp_path: Path) -> None:
    x = np.random.default_rng(0).normal(size=(4, 50)).astype(np.float32)
    path = tmp_path / "x.npz"
    np.savez(path, emg=x, other=x[:1], sample_rate=1259.26, unit="mV", start_time=12.5)
    recording = read(path)
    np.testing.assert_allclose(recording.emg, x * 1000, rtol=1e-6)
    assert (recording.sample_rate, recording.start_time) == (1259.26, 12.5)
    assert read(path, sample_rate=500).sample_rate == 500
    np.testing.assert_array_equal(read(path, unit="uV").emg, x)
    np.savez_compressed(path, anything=x)
    np.testing.assert_array_equal(read(path, sample_rate=500).emg, x)


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ({"a": np.zeros((2, 9)), "b": np.zeros((2, 9))}, "name the signal 'emg'"),
        ({"sample_rate": 1000}, "name the signal 'emg'"),
        ({"emg": np.zeros((2, 9)), "sample_rate": [1000, 2000]}, "sample_rate"),
        ({"emg": np.zeros((2, 9)), "sample_rate": "fast"}, "sample_rate"),
        ({"emg": np.zeros((2, 9)), "sample_rate": 1000, "unit": "furlong"}, "furlong"),
        ({"emg": np.zeros(9), "sample_rate": 1000}, "shape"),
    ],
)
def test_npz_that_cannot_be_is_refused(
    tmp_path: Path, arrays: dict[str, Any], message: str
) -> None:
    np.savez(tmp_path / "x.npz", **arrays)
    with pytest.raises(RecordingError, match=message):
        read(tmp_path / "x.npz")


def test_objects_are_never_unpickled(tmp_path: Path) -> None:
    class Bomb:
        def __reduce__(self) -> tuple[Any, ...]:
            return (Path.touch, (tmp_path / "exploded",))

    bomb = np.array([[Bomb()]], dtype=object)
    np.save(tmp_path / "x.npy", bomb, allow_pickle=True)
    np.savez(tmp_path / "x.npz", emg=bomb, allow_pickle=True)
    (tmp_path / "x.pkl").write_bytes(pickle.dumps(bomb))
    for name in ("x.npy", "x.npz", "x.pkl"):
        with pytest.raises(RecordingError, match=rf"{name}.*(never unpickled|never read)"):
            read(tmp_path / name, sample_rate=1000)
    assert not (tmp_path / "exploded").exists()


# Text


def table(x: np.ndarray[Any, Any], delimiter: str = ",", first: str = "") -> str:
    rows = [delimiter.join(f"{value:.9g}" for value in row) for row in x.T]
    return "\n".join([*first.splitlines(), *rows]) + "\n"


@given(
    delimiter=st.sampled_from([",", "\t", ";"]),
    header=st.booleans(),
    newline=st.sampled_from(["\n", "\r\n"]),
    bom=st.booleans(),
    samples=st.integers(1, 40),
    electrodes=st.integers(1, 5),
)
def test_tables_come_back_whatever_wrote_them(
    tmp_path_factory: pytest.TempPathFactory,
    delimiter: str,
    header: bool,
    newline: str,
    bom: bool,
    samples: int,
    electrodes: int,
) -> None:
    x = np.random.default_rng(0).normal(size=(electrodes, samples)).astype(np.float32)
    first = delimiter.join(f'"ch {k}"' for k in range(electrodes)) if header else ""
    text = table(x, delimiter, first)
    path = tmp_path_factory.mktemp("text") / "x.csv"
    path.write_text(text, encoding="utf-8-sig" if bom else "utf-8", newline=newline)
    recording = read(path, sample_rate=1000)
    np.testing.assert_array_equal(recording.emg, x)
    assert recording.unit == "uV"


def test_comments_state_rate_and_unit(tmp_path: Path) -> None:
    path = tmp_path / "x.tsv"
    path.write_text("# sample_rate: 2148.1\n# Unit: mV\n#\n\na\tb\n1\t2\n# later\n\n3\t\n")
    recording = read(path)
    assert recording.sample_rate == 2148.1
    assert recording.emg[0].tolist() == [1000, 3000]
    assert recording.emg[1, 0] == 2000
    assert np.isnan(recording.emg[1, 1])  # an empty cell is a missing sample


@pytest.mark.parametrize(
    ("name", "factor"),
    [("time", 1), ("Timestamp", 1), ("T", 1), ("time_s", 1), ("time (s)", 1), ("Time [ms]", 1e3)],
)
@pytest.mark.parametrize("rate", [1259.26, 2000.0, 200.0])
def test_a_time_column_gives_the_rate_and_is_no_electrode(
    tmp_path: Path, name: str, factor: float, rate: float
) -> None:
    x = np.random.default_rng(0).normal(size=(2, 1500))
    times = (12 + np.arange(1500) / rate) * factor
    path = tmp_path / "x.csv"
    path.write_text(table(np.stack([x[0], times, x[1]]), first=f"a,{name},b"))
    recording = read(path)
    np.testing.assert_allclose(recording.emg, x, rtol=1e-6)
    assert recording.sample_rate == rate
    assert recording.start_time == pytest.approx(12)
    assert read(path, sample_rate=500).sample_rate == 500


@given(rate=st.sampled_from([500, 1000, 1024, 2000, 2048]), seed=st.integers(0, 999))
def test_time_stamps_in_whole_milliseconds_still_give_the_rate(
    tmp_path_factory: pytest.TempPathFactory, rate: int, seed: int
) -> None:
    start = np.random.default_rng(seed).uniform(0, 9)
    rows = [f"{start + k / rate:.3f},{k % 7}" for k in range(3 * rate)]
    path = tmp_path_factory.mktemp("text") / "x.csv"
    path.write_text("t,emg\n" + "\n".join(rows))
    assert read(path).sample_rate == pytest.approx(rate, rel=5e-4)


def test_an_irregular_time_column_is_refused(tmp_path: Path) -> None:
    times = np.concatenate([np.arange(500), 800 + np.arange(500)]) / 1000
    path = tmp_path / "x.csv"
    path.write_text(table(np.stack([times, np.sin(times * 99)]), first="time,emg"))
    with pytest.raises(RecordingError, match=r"x\.csv: .*not regular.*sample_rate="):
        read(path)
    path.write_text("time,emg\n0,1\n0,2\n")
    with pytest.raises(RecordingError, match="does not rise"):
        read(path)
    path.write_text("# sample_rate: 500\ntime,emg\n0,1\n0.001,2\n0.002,1\n")
    with pytest.raises(RecordingError, match="500 Hz but its time column shows 1000 Hz"):
        read(path)


def test_a_clock_without_a_name_is_not_taken_for_an_electrode(tmp_path: Path) -> None:
    x = np.stack([np.arange(300) / 1000, np.random.default_rng(0).normal(size=300)])
    path = tmp_path / "x.csv"
    path.write_text(table(x))
    with pytest.raises(RecordingError, match="column 1 of the signal rises at every row"):
        read(path, sample_rate=1000)
    path.write_text(table(x, first=",emg"))
    with pytest.raises(RecordingError, match="line 1: column 1 has no name"):
        read(path, sample_rate=1000)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a,b\n", "no rows"),
        ("# only words\n", "no rows"),
        ("1,2\n3\n", "line 2 has 1 columns"),
        ("a,b\n1,2\n3,x\n", "line 3: 'x' is not a number"),
        ("a;b\n1,5;2,5\n", "line 2: '1,5' is not a number.*decimal points"),
        ("2024-01-01 10:00:00,1\n2024-01-01 10:00:01,1\n", "line 2: '2024"),
        ("# sample_rate: fast\n1,2\n", "'fast'"),
        ("# unit: furlong\n1,2\n", "furlong"),
    ],
)
def test_tables_that_cannot_be_read_name_the_line(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "x.csv"
    path.write_text(text)
    with pytest.raises(RecordingError, match=message) as caught:
        read(path, sample_rate=None if "fast" in text else 1000)
    assert "x.csv" in str(caught.value)


def test_long_tables_are_read_in_blocks(tmp_path: Path) -> None:
    x = np.random.default_rng(0).integers(-99, 99, (2, 40_000)).astype(np.float32)
    text = table(x)
    lines = text.splitlines()
    lines[100] += "\n\n# a note"
    lines[35_000] = "bad,1"
    (tmp_path / "good.csv").write_text(text)
    (tmp_path / "bad.csv").write_text("\n".join(lines))
    np.testing.assert_array_equal(read(tmp_path / "good.csv", sample_rate=1000).emg, x)
    with pytest.raises(RecordingError, match="line 35003: 'bad'"):
        read(tmp_path / "bad.csv", sample_rate=1000)


# Files of any sort


@pytest.mark.parametrize("name", ["x.npy", "x.npz", "x.csv"])
def test_arrays_and_text_without_a_rate_ask_for_it(tmp_path: Path, name: str) -> None:
    x = np.ones((2, 5))
    np.save(tmp_path / "x.npy", x)
    np.savez(tmp_path / "x.npz", x)
    np.savetxt(tmp_path / "x.csv", x.T, delimiter=",")
    with pytest.raises(RecordingError, match=rf"{name}: .*sample_rate="):
        read(tmp_path / name)


def test_content_decides_and_not_the_suffix(tmp_path: Path) -> None:
    np.save(tmp_path / "x.npy", np.ones((2, 5)))
    (tmp_path / "x.npy").rename(tmp_path / "x.h5")
    assert read(tmp_path / "x.h5", sample_rate=1000).num_electrodes == 2
    write_corpus(tmp_path / "corpus.dat")
    assert len(names(tmp_path / "corpus.dat")) == 4
    (tmp_path / "numbers").write_text("1,2\n3,4\n")
    assert read(tmp_path / "numbers", sample_rate=1000).num_samples == 2


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("x.h5", b"", "is empty"),
        ("x.h5", b"plain words", "suffix promises"),
        ("x.csv", b"\x00\x01\x02", "suffix promises"),
        ("x.npz", b"PK\x03\x04 a spreadsheet", "suffix promises"),
        ("x.bin", b"\x00\x01\x02", "no known format"),
        ("x.h5", b"\x89HDF\r\n\x1a\n and no more", "truncated or damaged"),
        ("x.npy", b"\x93NUMPY and no more", "truncated or damaged"),
        ("x.mat", None, "neither in the corpus format nor an emg2qwerty session.*'signal'"),
        ("none.h5", None, "holds no recordings"),
        ("missing.csv", None, "No such file"),
    ],
)
def test_unknown_and_broken_files_are_named(
    tmp_path: Path, name: str, content: bytes | None, message: str
) -> None:
    path = tmp_path / name
    if content is not None:
        path.write_bytes(content)
    elif name == "none.h5":
        write_corpus(path, recordings={})
        damage(path, lambda file: file.create_group("recordings"))
    elif name == "x.mat":
        with h5py.File(path, "w") as file:
            file["signal"] = np.zeros((2, 5))
    with pytest.raises(RecordingError, match=message) as caught:
        names(path, sample_rate=1000)
    assert name in str(caught.value)


def _samples(folder: Path) -> dict[str, bytes]:
    write_corpus(folder / "corpus.h5")
    write_session(folder / "session.hdf5", np.arange(60) / 2000)
    x = np.random.default_rng(0).normal(size=(3, 40))
    np.save(folder / "array.npy", x)
    np.savez_compressed(folder / "arrays.npz", emg=x, sample_rate=1000)
    (folder / "table.csv").write_text(table(x, first="# unit: uV\na,b,c"))
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir())}


def outcome(path: Path) -> int | str:
    """Numbers that a file holds, or our own error about it."""
    try:
        return sum(recording.emg.size for recording in read_all(path, sample_rate=1000))
    except (RecordingError, MontageError) as error:
        return str(error)


@given(data=st.data())
def test_a_file_cut_off_anywhere_is_refused_or_shorter(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    folder = tmp_path_factory.mktemp("cut")
    files = _samples(folder)
    name = data.draw(st.sampled_from(sorted(files)))
    whole = outcome(folder / name)
    size = data.draw(st.integers(0, len(files[name]) - 1))
    (folder / name).write_bytes(files[name][:size])
    got = outcome(folder / name)
    if name == "table.csv" and isinstance(got, int):  # text cannot know its end
        assert isinstance(whole, int)
        assert got <= whole
    else:
        assert name in str(got)


@given(data=st.data())
def test_damaged_arrays_and_tables_raise_nothing_but_our_errors(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    folder = tmp_path_factory.mktemp("damaged")
    files = _samples(folder)
    name = data.draw(st.sampled_from(["array.npy", "arrays.npz", "table.csv"]))
    content = bytearray(files[name])
    for _ in range(data.draw(st.integers(1, 6))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    (folder / name).write_bytes(content)
    got = outcome(folder / name)
    assert isinstance(got, int) or name in got


def test_folders_are_read_in_order_and_notes_are_passed_over(tmp_path: Path) -> None:
    with pytest.raises(RecordingError, match="holds no recordings"):
        names(tmp_path)
    write_corpus(tmp_path / "b.h5")
    np.savez(tmp_path / "a.npz", emg=np.ones((2, 5)), sample_rate=1000)
    (tmp_path / "README.md").write_text("notes")
    (tmp_path / "manifest.csv").write_text("file,subject\nb.h5,P01\n")
    (tmp_path / ".hidden.csv").write_text("?")
    (tmp_path / "folder.h5").mkdir()
    assert names(tmp_path) == ["a", "cycle.0", "cycle.1", "cycle.2", "take"]
    assert names(tmp_path, recording="take") == ["take"]
    with pytest.raises(RecordingError, match="read_all"):
        read(tmp_path)
    (tmp_path / "c.npy").write_bytes(b"")
    recordings = read_all(tmp_path)
    assert [next(recordings).metadata["source"] for _ in range(5)] == ["a", *4 * ["b"]]
    with pytest.raises(RecordingError, match=r"c\.npy: is empty"):
        next(recordings)


def test_hdf5_without_h5py_says_what_to_install(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write_corpus(tmp_path / "a.h5")
    real = builtins.__import__

    def without(name: str, *args: Any, **kwargs: Any) -> Any:
        if name == "h5py":
            raise ImportError(name)
        return real(name, *args, **kwargs)

    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(RecordingError, match=r"a\.h5: .*pip install 'emgcodec\[io\]'"):
        read(path)


# Real recordings

RATES = {"flexemg": 1000, "3dc": 1000, "contraction_intensity": 1000}


def test_the_whole_corpus_is_read(data_dir: Path) -> None:
    for path in sorted(data_dir.glob("*.h5")):
        with h5py.File(path) as file:
            dataset, channels = str(file.attrs["dataset"]), int(file.attrs["channels"])
            known = set(json.loads(file.attrs["label_names"]))
            groups = file["recordings"].values()
            pieces = sum(len(group["segment_starts"]) for group in groups)
            samples = sum(len(group["emg"]) for group in groups)
        found = list(read_all(path))
        assert len(found) == pieces, path.name
        assert sum(r.num_samples for r in found) == samples
        assert {r.num_electrodes for r in found} == {channels}
        assert {r.sample_rate for r in found} == {RATES.get(dataset, 200)}
        assert {r.unit for r in found} == {"uV" if dataset == "flexemg" else "adc"}
        assert not any(r.montage.assumed for r in found)
        assert {e.label for r in found for e in r.events} <= known
        for recording in found[:2]:
            covered = sum(e.end - e.start for e in recording.events)
            assert covered == pytest.approx(recording.duration)


def test_real_signals_are_the_stored_integers(data_dir: Path) -> None:
    path = data_dir / "3dc_P01.h5"
    with h5py.File(path) as file:
        group = file["recordings/train_rep0"]
        start, stop = group["segment_starts"][3:5]
        counts = group["emg"][start:stop]
    recording = read(path, recording="train_rep0.3")
    np.testing.assert_array_equal(recording.emg, counts.T)
    assert [event.label for event in recording.events] == ["Ulnar Deviation"]
