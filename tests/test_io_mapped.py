"""Arrays under names: MATLAB and HDF5 files of other tools, NinaPro, emg2pose, and our own HDF5."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import scipy.io
from hypothesis import given
from hypothesis import strategies as st
from io_files import T0, damage, names, outcome

from emgcodec.io import read, read_all, write
from emgcodec.montage import Montage
from emgcodec.recording import Event, Recording, RecordingError

h5py = pytest.importorskip("h5py")

X = np.random.default_rng(0).normal(0, 50, (500, 6)).astype(np.float32)  # samples first


def save(path: Path, arrays: dict[str, Any]) -> Path:
    """MATLAB 5 by SciPy, MATLAB 7.3 (``.v73.mat``) by hdf5storage, and HDF5 by h5py."""
    if path.name.endswith(".v73.mat"):
        hdf5storage = pytest.importorskip("hdf5storage")
        path.unlink(missing_ok=True)
        hdf5storage.savemat(str(path), arrays, format="7.3", store_python_metadata=False)
    elif path.suffix == ".mat":
        scipy.io.savemat(path, arrays, do_compression=True)
    else:
        with h5py.File(path, "w") as file:
            for name, value in arrays.items():
                file[name] = value
    return path


FILES = ["x.mat", "x.v73.mat", "x.h5"]


@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize("turned", [False, True])
def test_the_longer_axis_is_time(tmp_path: Path, name: str, turned: bool) -> None:
    path = save(tmp_path / name, {"signal": X.T if turned else X, "Fs": 2000.0, "note": 7})
    recording = read(path)
    np.testing.assert_array_equal(recording.emg, X.T)
    np.testing.assert_array_equal(recording.read(100, 200), X.T[:, 100:200])
    assert (recording.sample_rate, recording.unit) == (2000, "uV")
    assert read(path, sample_rate=1000, unit="adc").sample_rate == 1000


@pytest.mark.parametrize("name", FILES)
def test_the_signal_is_named_where_several_could_be_it(tmp_path: Path, name: str) -> None:
    path = save(tmp_path / name, {"left": X, "right": 2 * X, "tiny": np.ones((3, 4))})
    with pytest.raises(RecordingError, match=r"which array is the signal: .*dataset=.*left \("):
        read(path, sample_rate=1000)
    with pytest.raises(RecordingError, match="has no 'middle'"):
        read(path, sample_rate=1000, dataset="middle")
    with pytest.raises(RecordingError, match=r"'tiny' has shape .*two axes"):
        read(path, sample_rate=1000, dataset="tiny")
    with pytest.raises(RecordingError, match="no sampling rate: pass sample_rate="):
        read(path, dataset="right")
    recording = read(path, sample_rate=1000, dataset="right", unit="mV")
    np.testing.assert_array_equal(recording.emg, 2000 * X.T)
    save(path, {"emg": X, "glove": X})
    np.testing.assert_array_equal(read(path, sample_rate=1000).emg, X.T)


@pytest.mark.parametrize("name", ["S1_E2_A1.mat", "S1_E2_A1.v73.mat"])
def test_ninapro_files_have_their_movements(tmp_path: Path, name: str) -> None:
    movement = np.repeat([0, 13, 0, 14], [100, 150, 50, 200])[:, None]
    repetition = np.repeat([0, 1, 0, 2], [100, 150, 50, 200])[:, None]
    arrays = {
        "emg": X * 1e-6,
        "stimulus": np.roll(movement, -9),
        "restimulus": movement.astype(np.int8),
        "rerepetition": repetition.astype(np.uint8),
        "glove": np.ones((500, 22)),
        "subject": 1,
        "exercise": 2,
    }
    recording = read(save(tmp_path / name, arrays), sample_rate=2000, unit="V")
    np.testing.assert_allclose(recording.emg, X.T, rtol=1e-5)
    gestures = [(e.start, e.end, e.label) for e in recording.events if e.kind == "gesture"]
    assert gestures == [
        (0, 0.05, "rest"),
        (0.05, 0.125, "13"),
        (0.125, 0.15, "rest"),
        (0.15, 0.25, "14"),
    ]
    repeated = [(e.start, e.label) for e in recording.events if e.kind == "repetition"]
    assert repeated == [(0.05, "1"), (0.15, "2")]
    if name == "S1_E2_A1.mat":
        assert (recording.metadata["subject"], recording.metadata["exercise"]) == ("1", "2")


def test_attributes_of_hdf5_state_rate_and_unit(tmp_path: Path) -> None:
    path = save(tmp_path / "x.h5", {"run/1/data": X})

    def state(file: Any) -> None:
        file.attrs["sampling_rate"] = 1259.26
        file["run/1/data"].attrs["units"] = "mV"

    recording = read(damage(path, state))
    assert recording.sample_rate == 1259.26
    np.testing.assert_array_equal(recording.emg, 1000 * X.T)
    damage(path, lambda file: file.attrs.update(sampling_rate="fast"))
    with pytest.raises(RecordingError, match="sampling rate of 'fast'"):
        read(path)


@pytest.mark.parametrize(
    ("stated", "unit", "one"),
    [("adc", "adc", 1.0), ("Counts", "adc", 1.0), ("mV", "uV", 1000.0), ("", "uV", 1.0)],
)
def test_a_unit_is_what_the_file_states(tmp_path: Path, stated: str, unit: str, one: float) -> None:
    path = save(tmp_path / "x.h5", {"emg": np.ones((2, 3000))})
    with pytest.importorskip("h5py").File(path, "a") as file:
        file["emg"].attrs["unit"] = stated
    rec = read(path, sample_rate=1000)
    assert (rec.unit, rec.emg[0, 0]) == (unit, one)


@pytest.mark.parametrize("stated", ["nV", "furlong"])
def test_a_unit_that_cannot_be_taken_is_no_microvolt(tmp_path: Path, stated: str) -> None:
    path = save(tmp_path / "x.h5", {"emg": np.ones((2, 3000))})
    with pytest.importorskip("h5py").File(path, "a") as file:
        file["emg"].attrs["unit"] = stated
    with pytest.raises(RecordingError, match=rf"x\.h5: states the unit '{stated}': pass unit="):
        read(path, sample_rate=1000)


def test_labels_that_do_not_fit_are_left_out_or_refused(tmp_path: Path) -> None:
    emg, labels = np.ones((2, 3000)), np.zeros(3000)
    labels[1000:2000], labels[2500:] = 3, np.inf
    short = read(
        save(tmp_path / "a.mat", {"emg": emg, "restimulus": labels[:2700]}), sample_rate=1e3
    )
    assert (short.events, short.metadata["left_out"]) == ((), "restimulus")
    whole = read(save(tmp_path / "b.mat", {"emg": emg, "restimulus": labels}), sample_rate=1e3)
    assert [event.label for event in whole.events] == ["rest", "3", "rest"]
    labels[0] = 1e300
    with pytest.raises(RecordingError, match=r"'restimulus' holds 1e\+300"):
        read(save(tmp_path / "c.mat", {"emg": emg, "restimulus": labels}), sample_rate=1e3)


@pytest.mark.parametrize(
    ("emg", "message"),
    [
        (np.ones((100, 8)), "'emg' has shape"),
        ({"data": np.ones((8, 3000))}, "structs, cells and text are not looked into"),
    ],
)
def test_what_no_signal_can_be_made_of_is_said(tmp_path: Path, emg: Any, message: str) -> None:
    scipy.io.savemat(tmp_path / "x.mat", {"emg": emg})
    with pytest.raises(RecordingError, match=message):
        read(tmp_path / "x.mat", sample_rate=1000)


def test_an_old_matlab_file_is_told_from_damage(tmp_path: Path) -> None:
    scipy.io.savemat(tmp_path / "x.mat", {"emg": np.ones((8, 3000))}, format="4")
    with pytest.raises(RecordingError, match="version 4: save it with -v7"):
        read(tmp_path / "x.mat", sample_rate=1000)


def bomb(path: Path) -> Path:
    with h5py.File(path, "w") as file:
        file.create_dataset("emg", (1 << 40, 8), "f4", chunks=(1024, 8), compression="gzip")
        file.attrs["fs"] = 1000
    return path


def test_files_larger_than_they_are_end_in_an_error(tmp_path: Path) -> None:
    with pytest.raises(RecordingError, match="never filled"):
        read(bomb(tmp_path / "x.h5"))
    with h5py.File(tmp_path / "x.h5", "w") as file:
        file.create_dataset("emg", (1 << 30, 8), "f4", chunks=(1 << 28, 1), compression="gzip")
    with pytest.raises(RecordingError, match="repack"):
        read(tmp_path / "x.h5", sample_rate=1000)
    scipy.io.savemat(
        tmp_path / "x.mat", {"emg": np.zeros((2_000_000, 70), "i1")}, do_compression=True
    )
    assert (tmp_path / "x.mat").stat().st_size < 1e6
    with pytest.raises(RecordingError, match="numbers, which its format has us read at once"):
        read(tmp_path / "x.mat", sample_rate=1000)


@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize("kind", ["i1", "u1", "i2", "u2", "i4", "u4", "i8", "u8", "f4", "f8"])
def test_matlab_numbers_of_every_kind_are_those_that_scipy_wrote(
    tmp_path: Path, kind: str, packed: bool
) -> None:
    x = np.random.default_rng(0).integers(0, 99, (5, 300)).astype(kind)
    others = {"z": X + 1j, "s": "words", "c": {"field": X}, "o": np.array([X, "a"], dtype=object)}
    scipy.io.savemat(tmp_path / "x.mat", {**others, "a_long_name": x}, do_compression=packed)
    recording = read(tmp_path / "x.mat", sample_rate=1000)
    np.testing.assert_array_equal(recording.emg, x)


@given(data=st.data())
def test_damaged_matlab_files_raise_nothing_but_our_errors(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    path = save(tmp_path_factory.mktemp("mat") / "x.mat", {"emg": X[:200], "fs": 1000.0})
    raw = bytearray(path.read_bytes())
    for _ in range(data.draw(st.integers(1, 5))):
        raw[data.draw(st.integers(0, len(raw) - 1))] = data.draw(st.integers(0, 255))
    path.write_bytes(raw[: data.draw(st.integers(0, 2 * len(raw)))])
    got = outcome(path)
    assert isinstance(got, int) or "x.mat" in got


def write_pose(path: Path, times: np.ndarray, **attributes: Any) -> np.ndarray:
    row = np.dtype([("time", "<f8"), ("joint_angles", "<f4", (20,)), ("emg", "<f4", (16,))])
    rows = np.zeros(len(times), row)
    rows["time"] = T0 + times
    rows["emg"] = np.random.default_rng(0).normal(0, 5, (len(times), 16))
    with h5py.File(path, "w") as file:
        group = file.create_group("emg2pose")
        group.create_dataset("timeseries", data=rows, chunks=True)
        group.attrs.update({"user": "ab12", "stage": "Fist", "side": "left"} | attributes)
    return rows


def test_emg2pose_files_are_one_wristband(tmp_path: Path) -> None:
    path = tmp_path / "pose.hdf5"
    rows = write_pose(path, np.r_[np.arange(3000), 9000 + np.arange(500)] / 2000)
    first, second = read_all(path)
    np.testing.assert_array_equal(first.emg, rows["emg"][:3000].T)
    np.testing.assert_array_equal(second.read(100, 300), rows["emg"][3100:3300].T)
    assert (first.sample_rate, first.unit, first.montage) == (
        2000,
        "adc",
        Montage.preset("emg2pose"),
    )
    assert second.start_time == pytest.approx(T0 + 4.5)
    facts = {"recording": "pose.0", "subject": "ab12", "condition": "Fist", "side": "left"}
    assert facts.items() <= first.metadata.items()
    assert read(path, recording="pose.1", unit="uV").unit == "uV"


def test_our_hdf5_keeps_everything(tmp_path: Path) -> None:
    x = X.T.copy()
    x[2, 50:90] = np.nan
    recording = Recording(
        x,
        1259.26,
        montage=Montage.ring(3, bands=2),
        unit="adc",
        start_time=1.5e9 + 1 / 3,
        events=[Event(0.1, 0.2, "fist", 0.75), Event(0.1, 0.1, "é", kind="key")],
        metadata={"subject": "P1", "bits": 12, "list": [1, "a"]},
    )
    write(recording, tmp_path / "x.h5")
    back = read(tmp_path / "x.h5")
    np.testing.assert_array_equal(back.emg, recording.emg)
    for name in ("sample_rate", "montage", "unit", "start_time", "events"):
        assert getattr(back, name) == getattr(recording, name)
    assert back.metadata == recording.metadata | {"recording": "x", "source": "x"}
    write(back, tmp_path / "y.hdf5")
    assert names(tmp_path / "y.hdf5") == ["y"]
    empty = Recording(x[:, :0], 1000)
    write(empty, tmp_path / "empty.h5")
    assert read(tmp_path / "empty.h5").emg.shape == (6, 0)


@pytest.mark.parametrize(
    "change",
    [
        lambda facts: facts.pop("montage"),
        lambda facts: facts.update(events=[{"start": 0}]),
        lambda facts: facts.update(metadata=[1]),
        lambda facts: facts.update(sample_rate="fast"),
        lambda facts: facts.update(unit="furlong"),
        None,
    ],
)
def test_our_hdf5_is_read_strictly(tmp_path: Path, change: Any) -> None:
    path = tmp_path / "x.h5"
    write(Recording(X.T, 1000), path)

    def tamper(file: Any) -> None:
        facts = json.loads(file.attrs["emgcodec"])
        if change:
            change(facts)
        file.attrs["emgcodec"] = json.dumps(facts) if change else "{"

    damage(path, tamper)
    with pytest.raises(RecordingError, match=r"x\.h5: "):
        read(path)
