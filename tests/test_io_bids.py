"""EMG-BIDS folders: signal files by edfio, tables as the standard has them."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from emgcodec.io import read, read_all
from emgcodec.recording import RecordingError

edfio = pytest.importorskip("edfio")

X = np.random.default_rng(0).normal(0, 50, (4, 2000))


def table(path: Path, *rows: str) -> None:
    path.write_text("\n".join("\t".join(row.split()) for row in rows) + "\n")


def dataset(root: Path, unit: str = "") -> Path:
    """One subject with two runs of three EMG electrodes and a goniometer."""
    folder = root / "sub-01" / "ses-a" / "emg"
    folder.mkdir(parents=True)
    (root / "dataset_description.json").write_text('{"Name": "x", "BIDSVersion": "1.11.0"}')
    table(root / "participants.tsv", "participant_id age", "sub-01 30")
    (root / "task-grip_emg.json").write_text(
        json.dumps({"SamplingFrequency": 1000, "ManufacturersModelName": "Band"})
    )
    for run in (1, 2):
        stem = f"sub-01_ses-a_task-grip_run-{run}"
        signals = [
            edfio.EdfSignal(row / 1e3, 1000, label=f"ch{k}", physical_dimension=unit)
            for k, row in enumerate(X)
        ]
        edfio.Edf(signals).write(folder / f"{stem}_emg.edf")
        table(
            folder / f"{stem}_events.tsv", "onset duration trial_type", "0.5 1 fist", "1.5 n/a rest"
        )
    table(
        folder / "sub-01_ses-a_task-grip_channels.tsv",
        "name type units signal_electrode",
        "ch0 EMG mV e0",
        "ch1 EMG mV e1",
        "ch2 MISC rad n/a",
        "ch3 EMG mV e2",
    )
    table(
        folder / "sub-01_ses-a_space-forearm_electrodes.tsv",
        "name x y z",
        *(f"e{k} {40 * np.cos(2.1 * k):.3f} 7 {40 * np.sin(2.1 * k):.3f}" for k in range(3)),
    )
    return folder / "sub-01_ses-a_task-grip_run-1_emg.edf"


def test_a_dataset_is_read_with_all_that_its_tables_say(tmp_path: Path) -> None:
    path = dataset(tmp_path)
    first, second = read_all(tmp_path)
    assert (first.metadata["run"], second.metadata["run"]) == ("1", "2")
    np.testing.assert_allclose(first.emg, X[[0, 1, 3]], atol=0.01)  # 16 bits, mV
    facts = {"subject": "01", "session": "a", "condition": "grip"}
    assert facts.items() <= first.metadata.items()
    assert [(e.start, e.end, e.label, e.kind) for e in first.events] == [
        (0.5, 1.5, "fist", "event"),
        (1.5, 1.5, "rest", "event"),
    ]
    angles = [electrode.angle for electrode in first.montage.electrodes]
    np.testing.assert_allclose(angles, np.rad2deg([0, 2.1, 4.2]), atol=0.5)
    assert not first.montage.assumed
    assert read(path).emg.shape == (3, 2000)


def test_the_unit_of_the_signal_file_counts_before_that_of_the_table(tmp_path: Path) -> None:
    recording = read(dataset(tmp_path, unit="V"))
    np.testing.assert_allclose(recording.emg, 1000 * X[[0, 1, 3]], rtol=1e-3, atol=5)


def test_the_nearest_table_holds(tmp_path: Path) -> None:
    path = dataset(tmp_path)
    table(path.with_name(path.name.replace("_emg.edf", "_channels.tsv")), "name type", "ch2 EMG")
    recording = read(path)
    np.testing.assert_allclose(recording.emg, X[[2]] / 1e3, atol=1e-4)
    assert recording.unit == "adc"
    second = read(path.with_name(path.name.replace("run-1", "run-2")))
    assert second.num_electrodes == 3


def test_broken_tables_are_named(tmp_path: Path) -> None:
    path = dataset(tmp_path)
    events = path.with_name(path.name.replace("_emg.edf", "_events.tsv"))
    table(events, "onset duration", "soon 1")
    with pytest.raises(RecordingError, match=r"events\.tsv .*line 2: onset 'soon' is no"):
        read(path)
    events.unlink()
    assert read(path).events == ()
    path.with_suffix(".json").write_text("{")
    with pytest.raises(RecordingError, match=r"sidecar .*run-1_emg\.json is not a JSON object"):
        read(path)


def test_tables_without_end_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = dataset(tmp_path)
    monkeypatch.setattr("emgcodec.io.bids.MAX_EVENTS", 8)
    events = path.with_name(path.name.replace("_emg.edf", "_events.tsv"))
    table(events, "onset duration", *["1 1"] * 9)
    with pytest.raises(RecordingError, match=r"events\.tsv .*line 10: .*more than 8 rows"):
        read(path)


def test_a_folder_of_a_dataset_passes_its_tables_over(tmp_path: Path) -> None:
    folder = dataset(tmp_path).parent
    assert [r.metadata["run"] for r in read_all(folder)] == ["1", "2"]


BROKEN = {
    "short row": ("channels.tsv", "name\ttype\tunits\nch0\n", "line 2: .*no cell 'type'"),
    "no unit": ("channels.tsv", "name\ttype\tunits\nch0\tEMG\n", "no cell 'units'.*n/a"),
    "long row": ("channels.tsv", "name\ttype\nch0\tEMG\tmV\n", "'mV' is in no column"),
    "no names": ("channels.tsv", "nome\ttype\nch0\tEMG\n", "no column 'name'"),
    "short event": ("events.tsv", "onset\tduration\ttrial_type\n0.5\n", "no cell 'duration'"),
    "without end": ("events.tsv", "onset\tduration\n0.5\tinf\n", "duration 'inf' is no number"),
    "negative": ("events.tsv", "onset\tduration\n0.5\t-1\n", "duration '-1' is negative"),
    "never": ("events.tsv", "onset\tduration\nn/a\t1\n", "onset 'n/a' is to be"),
    "open quote": ("events.tsv", 'onset\ttrial_type\n1\t"a\n2\tb\n', "unexpected end"),
    "place": ("electrodes.tsv", "name\tx\ty\tz\ne0\t1\tfar\t2\n", "line 2: y 'far' is no"),
    "bomb": ("emg.json", "[" * 100_000, "not a JSON object .*recursion"),
    "pairs": ("emg.json", '[["SamplingFrequency", 1000]]', "not a JSON object .*it holds"),
    "rate": ("emg.json", '{"SamplingFrequency": 2000}', "2000, the signal 1000 Hz: .*sample_rate="),
    "no rate": ("emg.json", '{"SamplingFrequency": [[]]}', r"\[\[\]\], the signal 1000 Hz"),
    "great rate": ("emg.json", '{"SamplingFrequency": 1' + 400 * "0" + "}", "the signal 1000 Hz"),
}


@pytest.mark.parametrize("name", BROKEN)
def test_what_is_broken_is_named_with_its_file(name: str, tmp_path: Path) -> None:
    path, (ending, text, words) = dataset(tmp_path), BROKEN[name]
    beside = path.with_name(path.name.replace("emg.edf", ending))
    beside.write_text(text)
    with pytest.raises(RecordingError, match=rf"{beside.name} .*{words}"):
        read(path)


def test_a_rate_that_the_caller_states_counts_before_all(tmp_path: Path) -> None:
    path = dataset(tmp_path)
    path.with_suffix(".json").write_text('{"SamplingFrequency": 2000}')
    assert read(path, sample_rate=2000).sample_rate == 2000
    for rate in ('"n/a"', "1000.4"):
        path.with_suffix(".json").write_text(f'{{"SamplingFrequency": {rate}}}')
        assert read(path).sample_rate == 1000


def test_cells_without_a_word_are_unknown(tmp_path: Path) -> None:
    path = dataset(tmp_path)
    events = path.with_name(path.name.replace("_emg.edf", "_events.tsv"))
    events.write_text("onset\tduration\ttrial_type\n0.5\t\t\n")
    assert [(e.start, e.end, e.label) for e in read(path).events] == [(0.5, 0.5, "event")]


@pytest.mark.parametrize("place", ["0 0 0", "0.1 0.1 0.1"])
def test_electrodes_in_one_place_are_no_ring(place: str, tmp_path: Path) -> None:
    path = dataset(tmp_path)
    places = path.with_name("sub-01_ses-a_space-forearm_electrodes.tsv")
    table(places, "name x y z", *(f"e{k} {place}" for k in range(3)))
    montage = read(path).montage
    assert montage.assumed
    assert len({electrode.angle for electrode in montage.electrodes}) == 3
