"""Small files in the formats that `emgcodec.io` reads, for tests to write."""

from __future__ import annotations

import json
import struct
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from emgcodec.io import read_all
from emgcodec.montage import MontageError
from emgcodec.recording import RecordingError

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


def damage(path: Path, change: Callable[[Any], None]) -> Path:
    with h5py.File(path, "r+") as file:
        change(file)
    return path


def table(x: np.ndarray[Any, Any], delimiter: str = ",", first: str = "") -> str:
    rows = [delimiter.join(f"{value:.9g}" for value in row) for row in x.T]
    return "\n".join([*first.splitlines(), *rows]) + "\n"


def outcome(path: Path) -> int | str:
    """Numbers that a file holds, or our own error about it."""
    try:
        return sum(recording.emg.size for recording in read_all(path, sample_rate=1000))
    except (RecordingError, MontageError) as error:
        return str(error)


_XDF_CODES = {"float32": "<f4", "int16": "<i2", "double64": "<f8"}


def xdf_length(number: int) -> bytes:
    return b"\x04" + struct.pack("<I", number)


def _chunk(tag: int, content: bytes) -> bytes:
    return xdf_length(len(content) + 2) + struct.pack("<H", tag) + content


def xdf_stream(
    number: int,
    values: Any,
    times: Sequence[float],
    *,
    name: str = "Armband",
    kind: str = "EMG",
    rate: float = 1000,
    form: str = "float32",
    channels: Sequence[tuple[str, str, str]] = (),
    stated: int | None = None,
) -> bytes:
    """Header, samples (N, C) in chunks of 100, footer of a stream; channels: label, unit, type."""
    described = "".join(
        f"<channel><label>{a}</label><unit>{b}</unit><type>{c}</type></channel>"
        for a, b, c in channels
    )
    count = stated or 1 if stated or form == "string" else np.shape(values)[1]
    head = (
        f"<?xml version='1.0'?><info><name>{name}</name><type>{kind}</type>"
        f"<channel_count>{count}</channel_count><nominal_srate>{rate}</nominal_srate>"
        f"<channel_format>{form}</channel_format>"
        f"<desc><channels>{described}</channels></desc></info>"
    )
    who = struct.pack("<I", number)
    found = _chunk(2, who + head.encode())
    for start in range(0, len(times), 100):
        body = who + xdf_length(len(times[start : start + 100]))
        for time, row in zip(times[start : start + 100], values[start : start + 100], strict=True):
            body += b"\x08" + struct.pack("<d", time)
            if form == "string":
                body += xdf_length(len(row.encode())) + row.encode()
            else:
                body += np.asarray(row, _XDF_CODES[form]).tobytes()
        found += _chunk(3, body)
    footer = f"<info><sample_count>{len(times)}</sample_count></info>"
    return found + _chunk(6, who + footer.encode())


def write_xdf(path: Path, *streams: bytes) -> Path:
    header = _chunk(1, b"<?xml version='1.0'?><info><version>1.0</version></info>")
    path.write_bytes(b"XDF:" + header + b"".join(streams))
    return path


def write_dataset(root: Path, write: Callable[[Path], object]) -> Path:
    """An EMG-BIDS dataset of one signal file, which `write` makes, of EMG 1 to EMG 3."""
    folder = root / "sub-01" / "emg"
    folder.mkdir(parents=True)
    (root / "dataset_description.json").write_text('{"Name": "x", "BIDSVersion": "1.11.0"}')
    (root / "emg.json").write_text('{"SamplingFrequency": 1000, "ManufacturersModelName": "Band"}')
    write(folder / "sub-01_task-grip_emg.edf")
    tables = {
        "channels": "name type units signal_electrode,"
        "EMG+1 EMG uV e1,EMG+2 EMG uV e2,EMG+3 EMG uV e3",
        "events": "onset duration trial_type,0.05 0.1 fist,0.15 n/a rest",
        "electrodes": "name x y z,e1 4 7 0,e2 -2 7 3.5,e3 -2 7 -3.5",
    }
    for name, text in tables.items():
        cells = text.replace(" ", "\t").replace("+", " ").replace(",", "\n")
        (folder / f"sub-01_task-grip_{name}.tsv").write_text(cells + "\n")
    return root
