from __future__ import annotations

import builtins
import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from io_files import (
    damage,
    names,
    outcome,
    table,
    write_corpus,
    write_session,
    write_xdf,
    xdf_stream,
)
from scipy.io import savemat

from emgcodec.io import entry, read, read_all, write
from emgcodec.montage import Montage
from emgcodec.recording import Event, Recording, RecordingError

h5py = pytest.importorskip("h5py")

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
        ("x.mat", None, r"which array is the signal.*dataset=.*signal \(2, 5\)"),
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
    vendor = "Export:,1\nSampling Rate: 1000 Hz\nTime [s],EMG 1 (mV),ACC X (g)"
    (folder / "export.csv").write_text(
        table(np.stack([np.arange(40) / 1000, *x[:2]]), first=vendor)
    )
    recording = Recording(50 * x, 1000, montage=Montage.ring(3), events=[Event(0, 0.01, "a")])
    for name in ("plain.edf", "plain.bdf", "ours.h5"):
        write(recording, folder / name)
    savemat(folder / "matlab.mat", {"emg": np.tile(x.T, (5, 1)), "fs": 1000.0})
    np.rint(9 * np.tile(x, (1, 8)).T).astype("<i2").tofile(folder / "myo.dat")
    write_xdf(folder / "lab.xdf", xdf_stream(1, x.T, (np.arange(40) / 1000).tolist()))
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir())}


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
    # Text and bare numbers cannot know their end; XDF may end after any chunk.
    if name in ("table.csv", "export.csv", "myo.dat", "lab.xdf") and isinstance(got, int):
        assert isinstance(whole, int)
        assert got <= whole
    else:
        assert name in str(got)


@given(data=st.data())
def test_damaged_files_raise_nothing_but_our_errors(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    folder = tmp_path_factory.mktemp("damaged")
    files = _samples(folder)
    name = data.draw(st.sampled_from([name for name in sorted(files) if not name.endswith("5")]))
    content = bytearray(files[name])
    for _ in range(data.draw(st.integers(1, 6))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    (folder / name).write_bytes(content)
    got = outcome(folder / name)
    assert isinstance(got, int) or name in got


def test_pipes_and_impossible_names_are_refused(tmp_path: Path) -> None:
    pipe = tmp_path / "x.csv"
    os.mkfifo(pipe)
    with pytest.raises(RecordingError, match=r"x\.csv: is a pipe, device or folder"):
        read(pipe)
    for reader in (read, lambda path: list(read_all(path))):
        with pytest.raises(RecordingError, match="null byte"):
            reader("f\0x.csv")


def test_as_many_events_as_are_allowed_are_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The limits are small here; those of the bombs are the real ones."""
    monkeypatch.setattr(entry, "MAX_EVENTS", 40)
    monkeypatch.setattr(entry, "MAX_STRETCHES", 3)
    labels = np.arange(200) // 5 % 2  # 40 runs
    facts = {"fs": 1000.0, "emg": np.zeros((1, 200)), "restimulus": labels[None]}
    savemat(tmp_path / "x.mat", facts)
    assert len(read(tmp_path / "x.mat").events) == 40
    savemat(tmp_path / "x.mat", facts | {"rerepetition": np.zeros((1, 200))})
    with pytest.raises(RecordingError, match=r"x\.mat: holds at least 41 events .*40 at most"):
        read(tmp_path / "x.mat")
    takes = {"a": (np.zeros((200, 10)), labels, [0, 9]), "b": (np.zeros((9, 10)), labels[:9], [0])}
    assert len(names(write_corpus(tmp_path / "c.h5", recordings=takes))) == 3
    takes["c"] = takes["b"]
    with pytest.raises(RecordingError, match=r"c\.h5: holds at least 4 .*3 at most"):
        read(write_corpus(tmp_path / "c.h5", recordings=takes), recording="b")
    session, typed = tmp_path / "x.hdf5", [{"key": "a", "start": 0.01, "end": 0.02}] * 40
    write_session(session, np.arange(100) / 2000, typed=typed)
    assert len(read(session).events) == 40
    write_session(session, np.arange(100) / 2000, typed=typed, shown=[{"name": "p", "start": 0.0}])
    with pytest.raises(RecordingError, match=r"x\.hdf5: holds at least 41 events"):
        read(session)
    ours = tmp_path / "ours.h5"
    write(Recording(np.zeros((1, 9)), 1000, events=[Event(0.0, 0.0, "a")] * 41), ours)
    with pytest.raises(RecordingError, match=r"ours\.h5: holds at least 41 events"):
        read(ours)


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
