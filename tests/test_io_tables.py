from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from io_files import table

from emgcodec.io import read
from emgcodec.montage import Montage
from emgcodec.recording import RecordingError

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


@pytest.mark.parametrize(
    ("stated", "unit", "factor"),
    [("(nV)", "uV", 1e-3), ("[Volts]", "uV", 1e6), ("(microV)", "uV", 1.0), ("_mV", "uV", 1e3),
     ("(counts)", "adc", 1.0), ("(left)", "uV", 1.0)],
)  # fmt: skip
def test_units_in_names_are_known_however_they_are_written(
    tmp_path: Path, stated: str, unit: str, factor: float
) -> None:
    path = tmp_path / "x.csv"
    path.write_text(f"a{stated},b{stated}\n" + "1,2\n3,4\n2,1\n")
    rec = read(path, sample_rate=1000)
    assert rec.unit == unit
    np.testing.assert_allclose(rec.emg[:, 0], np.array([1.0, 2.0]) * factor, rtol=1e-6)


def test_labels_beside_electrodes_are_no_electrodes(tmp_path: Path) -> None:
    path = tmp_path / "x.csv"
    path.write_text("ch0,ch1,label\n" + "1,2,0\n3,4,0\n2,1,7\n")
    rec = read(path, sample_rate=1000)
    assert rec.num_electrodes == 2
    assert rec.metadata["left_out"] == "label"


def test_text_in_utf16_is_told_from_damage(tmp_path: Path) -> None:
    path = tmp_path / "x.csv"
    path.write_text("a,b\n1,2\n", encoding="utf-16")
    with pytest.raises(RecordingError, match="UTF-16: save it as UTF-8"):
        read(path, sample_rate=1000)


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
