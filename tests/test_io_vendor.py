"""Text as devices and their software export it, and raw files of a Myo."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from emgcodec.io import read
from emgcodec.montage import Montage
from emgcodec.recording import RecordingError

X = np.random.default_rng(0).normal(0, 50, (300, 2)).round(3)


def rows(*columns: np.ndarray, delimiter: str = ",") -> str:
    return "\n".join(delimiter.join(f"{v:.9g}" for v in row) for row in np.column_stack(columns))


TIMES = np.arange(300) / 1000
EXPORTS = {  # text above the numbers, columns, delimiter, rate, factor to µV
    "trigno": (
        "Application:,Trigno Discover,,\nDate/Time:,1/2/2024 10:00,,\nLength (seconds):,0.3\n"
        "EMG 1 Time Series (s),EMG 1 (mV),EMG 2 Time Series (s),EMG 2 (mV)",
        (TIMES, X[:, 0], TIMES, X[:, 1]),
        ",",
        1000,
        1e3,
    ),
    "emgworks": (
        '"X[s]","L BICEPS: EMG 1 [V]","X[s].1","R BICEPS: EMG 2 [V]","X[s].2","ACC.X 1 [g]"',
        (TIMES, X[:, 0], TIMES, X[:, 1], TIMES, TIMES**0),
        ",",
        1000,
        1e6,
    ),
    "opensignals": (
        '# OpenSignals Text File Format\n# {"00:07": {"sampling rate": 1000, "resolution": [4, 1], '
        '"column": ["nSeq", "DI", "CH1", "CH2"]}}\n# EndOfHeader',
        (np.arange(300) % 16, TIMES * 0, X[:, 0], X[:, 1]),
        "\t",
        1000,
        1,
    ),
    "percent signs": (
        "%Raw EXG Data\n%Number of channels = 2\n%Sample Rate = 250 Hz\n"
        "Sample Index, EXG Channel 0, EXG Channel 1, Accel Channel 0",
        (np.arange(300) % 256, X[:, 0], X[:, 1], TIMES),
        ",",
        250,
        1,
    ),
    "noraxon": (
        "Type:;Raw\nMeasurement:;grip test\nSampling frequency: 1.5 kHz\n\n"
        "EMG left (uV);EMG right (uV)",
        (X[:, 0], X[:, 1]),
        ";",
        1500,
        1,
    ),
}


@pytest.mark.parametrize("vendor", EXPORTS)
def test_exports_have_their_rate_unit_and_electrodes(tmp_path: Path, vendor: str) -> None:
    above, columns, delimiter, rate, factor = EXPORTS[vendor]
    path = tmp_path / "x.csv"
    path.write_text(f"{above}\n{rows(*columns, delimiter=delimiter)}\n")
    recording = read(path)
    np.testing.assert_allclose(recording.emg, factor * X.T, rtol=1e-6)
    assert (recording.sample_rate, recording.unit) == (rate, "uV")
    left_out = {"emgworks": "X[s].1, X[s].2, ACC.X 1 [g]"}.get(vendor)
    assert left_out in (None, recording.metadata.get("left_out"))


def test_nothing_that_could_be_signal_is_taken_for_a_preamble(tmp_path: Path) -> None:
    path = tmp_path / "x.csv"
    path.write_text("a,b\n1,x\n3,4\n5,6\n")
    with pytest.raises(RecordingError, match="line 2: 'x' is not a number"):
        read(path, sample_rate=1000)
    path.write_text("1,2\nnow\n3,4\n5,6\n")
    with pytest.raises(RecordingError, match="line 2 has 1 columns"):
        read(path, sample_rate=1000)
    path.write_text("EMG 1 (mV),EMG 2 (%)\n1,2\n3,4\n")
    with pytest.raises(RecordingError, match="only some are voltages"):
        read(path, sample_rate=1000)
    path.write_text("rate 1: sampling rate 100\nrate 2: sampling rate 200\na,b\n1,2\n3,4\n")
    with pytest.raises(RecordingError, match="no sampling rate"):
        read(path)


COUNTS = np.random.default_rng(1).integers(-128, 128, (400, 8))


@pytest.mark.parametrize("unit", [1, 1e3, 1e6])
def test_a_myo_export_has_the_rate_of_the_armband(tmp_path: Path, unit: float) -> None:
    times = np.round((1.45e9 + np.arange(400) // 2 * 0.01 + np.arange(400) % 7 * 0.004) * unit)
    names = ",".join(["timestamp", *(f"emg{k}" for k in range(1, 9))])
    path = tmp_path / "emg-1456704054.csv"
    body = "\n".join(
        f"{t:.0f}," + ",".join(map(str, row)) for t, row in zip(times, COUNTS, strict=True)
    )
    path.write_text(f"{names}\n{body}\n")
    recording = read(path)
    np.testing.assert_array_equal(recording.emg, COUNTS.T)
    assert (recording.sample_rate, recording.unit) == (200, "adc")
    assert recording.montage == Montage.preset("myo")
    assert recording.start_time == pytest.approx(1.45e9)


def test_raw_files_of_a_myo_are_told_by_their_content(tmp_path: Path) -> None:
    path = tmp_path / "classe_0.dat"
    COUNTS.astype("<i2").tofile(path)
    recording = read(path)
    np.testing.assert_array_equal(recording.emg, COUNTS.T)
    assert (recording.sample_rate, recording.unit, recording.montage.name) == (200, "adc", "myo")
    path.write_bytes(path.read_bytes()[:-2])
    with pytest.raises(RecordingError, match=r"classe_0\.dat: is no export of a Myo"):
        read(path)
    (COUNTS * 100).astype("<i2").tofile(path)
    with pytest.raises(RecordingError, match="no known format"):
        read(path)
