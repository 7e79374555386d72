"""EDF and BDF: files made by other tools, and ours there and back."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from emgcodec.codec import Codec
from emgcodec.io import read, read_all, write
from emgcodec.montage import Electrode, Montage
from emgcodec.recording import Event, Recording, RecordingError

edfio = pytest.importorskip("edfio")
mne = pytest.importorskip("mne")

SUFFIXES = [".edf", ".bdf"]


def noise(electrodes: int = 8, samples: int = 3000, scale: float = 50.0) -> np.ndarray:
    return np.random.default_rng(0).normal(0, scale, (electrodes, samples))


def save(path: Path, signals: list[dict[str, Any]], **facts: Any) -> Path:
    """A file by edfio; each signal is {data, rate, ...}."""
    bdf = path.suffix == ".bdf"
    kind = edfio.BdfSignal if bdf else edfio.EdfSignal
    made = [kind(s.pop("data"), s.pop("rate"), **s) for s in signals]
    (edfio.Bdf if bdf else edfio.Edf)(made, **facts).write(path)
    return path


@pytest.mark.parametrize("suffix", SUFFIXES)
@pytest.mark.parametrize(("unit", "scale"), [("uV", 1.0), ("mV", 1e-3), ("V", 1e-6), ("", 1.0)])
def test_files_of_another_writer_have_their_unit(
    tmp_path: Path, suffix: str, unit: str, scale: float
) -> None:
    x = noise()
    signals = [
        {"data": row * scale, "rate": 1000, "label": f"EMG{k}", "physical_dimension": unit}
        for k, row in enumerate(x)
    ]
    other = {"data": noise(1, 300)[0], "rate": 100, "label": "ACC X", "physical_dimension": "g"}
    recording = read(save(tmp_path / f"x{suffix}", [*signals, other]))
    assert recording.unit == ("uV" if unit else "adc")
    assert (recording.sample_rate, recording.num_electrodes) == (1000, 8)
    np.testing.assert_allclose(recording.emg, x, atol=0.02 if suffix == ".edf" else 1e-3)
    np.testing.assert_array_equal(recording.read(700, 2100), recording.emg[:, 700:2100])


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_mne_reads_what_we_write_and_writes_what_we_read(tmp_path: Path, suffix: str) -> None:
    events = [Event(0.5, 1.25, "fist"), Event(2.0, 2.0, "go", kind="prompt")]
    ours = Recording(noise(), 1000, montage="myo", start_time=1.5e9 + 0.25, events=events)
    write(ours, tmp_path / f"ours{suffix}")
    reader = mne.io.read_raw_edf if suffix == ".edf" else mne.io.read_raw_bdf
    raw = reader(tmp_path / f"ours{suffix}", verbose="error")
    assert raw.info["meas_date"].timestamp() == pytest.approx(1.5e9 + 0.25, abs=1)
    assert list(raw.annotations.description) == ["gesture/fist", "prompt/go"]
    tolerance = 0.01 if suffix == ".edf" else 1e-4
    np.testing.assert_allclose(raw.get_data() * 1e6, ours.emg, atol=tolerance)

    theirs = mne.io.RawArray(noise() * 1e-6, mne.create_info(8, 1000, "emg"), verbose="error")
    theirs.set_annotations(mne.Annotations([1.0], [0.5], ["pinch"]))
    path = tmp_path / f"theirs{suffix}"
    mne.export.export_raw(path, theirs, verbose="error")
    back = read(path)
    assert [(e.start, e.end, e.label, e.kind) for e in back.events] == [
        (1.0, 1.5, "pinch", "annotation")
    ]
    oracle = reader(path, verbose="error").get_data() * 1e6
    np.testing.assert_allclose(back.emg, oracle, rtol=1e-5, atol=1e-5)


@given(
    suffix=st.sampled_from(SUFFIXES),
    rate=st.sampled_from([200, 1000.0, 1259.26, 2148.1481, 519.6, 1111.11, 31250.0 / 27]),
    samples=st.integers(1, 3000),
    grid=st.sampled_from([1.0, 0.5, 3.0517578125, None]),
    start_time=st.sampled_from([0.0, 12.5, 1.6e9 + 1 / 8]),
    missing=st.booleans(),
)
def test_recordings_come_back(
    tmp_path_factory: pytest.TempPathFactory,
    suffix: str,
    rate: float,
    samples: int,
    grid: float | None,
    start_time: float,
    missing: bool,
) -> None:
    x = noise(4, samples)
    if grid:
        x = np.rint(x * 20) * grid + 1000 * grid
    if missing:
        x[1, samples // 2 :] = np.nan
        x[2] = np.inf
    unit = "adc" if grid in (1.0, 0.5) else "uV"
    events = [
        Event(0.0, samples / rate, "hold"),
        Event(0.5 * samples / rate, 0.5 * samples / rate, "a", kind="key"),
    ]
    places = (Electrode(0, 33.3), Electrode(15, 1e-6, 1e-6), Electrode(0, 359.9, -12.25))
    montage = Montage("two wards", (*places, Electrode(1, 0, 99)))
    recording = Recording(x, rate, unit=unit, start_time=start_time, events=events, montage=montage)
    path = tmp_path_factory.mktemp("edf") / f"x{suffix}"
    write(recording, path)
    back = read(path)
    same = ("sample_rate", "num_samples", "unit", "start_time")
    assert [getattr(back, n) for n in same] == [getattr(recording, n) for n in same]
    assert back.montage.electrodes == montage.electrodes
    assert [(e.label, e.kind) for e in back.events] == [("hold", "gesture"), ("a", "key")]
    expected = np.where(np.isfinite(recording.emg), recording.emg, np.nan)
    if grid in (1.0, 0.5):
        np.testing.assert_array_equal(back.emg, expected)
    else:
        span = np.nan_to_num(np.abs(expected)).max()
        found = grid and samples > 200  # a few samples do not show their grid
        step = 1e-6 * span if found or suffix == ".bdf" else 4 * span / 65536
        np.testing.assert_allclose(back.emg, expected, atol=step)


def test_writing_is_whole_or_not_at_all(tmp_path: Path) -> None:
    with pytest.raises(RecordingError, match=r"x\.edf: .*no samples"):
        write(Recording(np.zeros((2, 0)), 1000), tmp_path / "x.edf")
    with pytest.raises(RecordingError, match=r"x\.wav: suffix '\.wav': choose from \.h5"):
        write(Recording(noise(), 1000), tmp_path / "x.wav")
    with pytest.raises(RecordingError, match="has values from"):
        write(Recording(noise(2, 50, 1e12), 1000), tmp_path / "x.edf")
    with pytest.raises(RecordingError, match="has values from"):
        write(Recording(noise(2, 50, 1e-9), 1000, unit="adc"), tmp_path / "x.edf")
    with pytest.raises(RecordingError, match="cannot be written"):
        write(Recording(noise(), 1000), tmp_path / "none" / "x.edf")
    assert list(tmp_path.iterdir()) == []


def discontinuous(path: Path) -> Path:
    """EDF+D: ten data records of 0.1 s, five seconds missing behind the fourth."""
    signals = [
        {"data": noise(1, 1000)[0], "rate": 1000, "label": "EMG", "physical_dimension": "uV"}
    ]
    notes = [edfio.EdfAnnotation(0.25, None, "early"), edfio.EdfAnnotation(0.75, 0.1, "late")]
    save(path, signals, annotations=notes, data_record_duration=0.1)
    raw = path.read_bytes().replace(b"EDF+C", b"EDF+D").replace(b"BDF+C", b"BDF+D")
    raw = re.sub(rb"\+0(\.[4-9]\d*\x14\x14)", rb"+5\1", raw)
    raw = raw.replace(b"+0.75\x15", b"+5.75\x15")
    path.write_bytes(raw)
    return path


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_gaps_in_edf_plus_d_end_a_recording(tmp_path: Path, suffix: str) -> None:
    path = discontinuous(tmp_path / f"x{suffix}")
    with pytest.raises(RecordingError, match=r"x\.0, x\.1"):
        read(path)
    first, second = read_all(path)
    assert (first.num_samples, second.num_samples) == (400, 600)
    np.testing.assert_allclose(np.hstack([first.emg, second.emg]), noise(1, 1000), atol=0.02)
    assert [(e.start, e.label) for e in first.events] == [(0.25, "early")]
    assert [(round(e.start, 6), e.label) for e in second.events] == [(0.35, "late")]
    assert second.start_time - first.start_time == pytest.approx(5.4)


def test_what_is_emg_can_be_chosen_by_label(tmp_path: Path) -> None:
    signals = [
        {"data": noise(1, 100 * rate)[0], "rate": rate, "label": label, "physical_dimension": unit}
        for label, unit, rate in [("Biceps", "uV", 10), ("Force", "N", 10), ("Triceps", "mV", 20)]
    ]
    path = save(tmp_path / "x.edf", signals)
    with pytest.raises(RecordingError, match=r"several rates.*dataset=.*Biceps \(10\), Force"):
        read(path)
    assert read(path, dataset="Bi*", sample_rate=1000).num_electrodes == 1
    with pytest.raises(RecordingError, match="no EMG: choose by label"):
        read(path, dataset="biceps")
    with pytest.raises(RecordingError, match=r"units \['N', 'uV'\], of which only some"):
        read(path, dataset="[BF]*", sample_rate=1000)


@pytest.mark.parametrize("suffix", SUFFIXES)
@pytest.mark.parametrize(
    ("field", "value"),
    [
        (slice(236, 244), b"7       "),
        (slice(252, 256), b"9999"),
        (slice(252, 256), b"-1  "),
        (slice(184, 192), b"0       "),
        (slice(244, 252), b"nan     "),
        (slice(244, 252), b"0       "),
        (slice(256 + 120, 256 + 128), b"32767   "),  # digital minimum equals the maximum
        (slice(256 + 104, 256 + 112), b"words   "),  # physical minimum
        (slice(256 + 216, 256 + 224), b"-5      "),  # samples in a data record
        (slice(256 + 216, 256 + 224), b"99999999"),
        (slice(600, None), b""),
        (slice(300, None), b""),
    ],
)
def test_damaged_headers_are_refused(
    tmp_path: Path, suffix: str, field: slice, value: bytes
) -> None:
    signal = {"data": noise(1)[0], "rate": 1000, "label": "EMG", "physical_dimension": "uV"}
    path = save(tmp_path / f"x{suffix}", [signal])
    raw = bytearray(path.read_bytes())
    if field.start == 376 and suffix == ".bdf":
        value = b"8388607 "
    raw[field] = value
    path.write_bytes(raw)
    with pytest.raises(RecordingError, match=rf"x{suffix}: "):
        list(read_all(path))


def test_tokens_of_a_recording_are_those_of_its_files(tmp_path: Path) -> None:
    from emgcodec.simulate import sample

    codec = Codec.from_pretrained()
    for name in ("myo", "armband"):
        part = sample(name).crop(0, 4)  # in quarters of a unit: devices, too, have some step
        recording = Recording(
            np.rint(4 * part.emg) / 4, part.sample_rate, montage=part.montage, unit=part.unit
        )
        tokens = codec.tokenize(recording)
        for suffix in (".h5", ".bdf", ".edf"):
            write(recording, tmp_path / f"x{suffix}")
            again = codec.tokenize(tmp_path / f"x{suffix}")
            np.testing.assert_array_equal(again.codes, tokens.codes)
            np.testing.assert_array_equal(again.scale, tokens.scale)
            assert again.montage == tokens.montage


@pytest.mark.parametrize(("start", "end"), [(0.1, np.inf), (0.2, 0.1), (np.nan, 0.2), (-np.inf, 0)])
def test_events_that_no_annotation_can_say_are_refused(
    start: float, end: float, tmp_path: Path
) -> None:
    recording = Recording(np.zeros((2, 300)), 1000, events=[Event(start, end, "fist")])
    with pytest.raises(RecordingError, match=r"a\.edf: .*'fist' lasts from .* finite start"):
        write(recording, tmp_path / "a.edf")
    assert not list(tmp_path.iterdir())
