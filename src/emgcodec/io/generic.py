"""HDF5 files of no known format, MATLAB 7.3 among them, and the ones that `write` makes.

See `emgcodec.io.mapping` for how the signal is found. Files of our own say all else in JSON, in
the attribute ``emgcodec``, beside ``emg`` (C, N).
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from emgcodec.io.entry import Entry, Options, check_events, naming
from emgcodec.io.hdf5 import find_dataset, import_h5py, open_hdf5, stored_json, written_hdf5
from emgcodec.io.mapping import Shape, find_signal, mapped_recording, samples_first
from emgcodec.montage import Montage
from emgcodec.recording import Event, Recording, RecordingError

OURS = "emgcodec"
"""Attribute of a file that `write_recording` made."""

_OF_A_FILE = ("recording", "source")  # metadata that each file has of its own


@dataclass(frozen=True)
class DatasetSignal:
    """A `SignalSource` over a dataset; the file is open only while it is read.

    Attributes:
        path: The file.
        dataset: Path of the dataset in it.
        shape: (C, N).
        turned: Whether the dataset is (N, C).
    """

    path: Path
    dataset: str
    shape: tuple[int, int]
    turned: bool

    def read(self, start: int, stop: int) -> npt.NDArray[Any]:
        """Samples start to stop, (C, stop - start)."""
        with naming(self.path), open_hdf5(self.path) as file:
            data = find_dataset(file, self.dataset, kinds="iuf", ndim=2)
            part: npt.NDArray[Any] = data[start:stop].T if self.turned else data[:, start:stop]
        return part


def entries(path: Path, options: Options) -> list[Entry]:
    """The one recording of a file, named after it."""
    return [Entry(path.stem, partial(_load, path, options))]


def _load(path: Path, options: Options) -> Recording:
    h5py = import_h5py()
    shapes: dict[str, Shape] = {}

    def note(name: str, node: Any) -> None:
        if isinstance(node, h5py.Dataset) and node.dtype.kind in "iuf" and node.shape is not None:
            shapes[name] = node.shape

    with open_hdf5(path) as file:
        if OURS in file.attrs:
            return _ours(path, file, options)
        file.visititems(note)  # hard links only
        name = find_signal(shapes, options.dataset and options.dataset.strip("/"))
        turned = samples_first(name, shapes[name])
        rows, columns = shapes[name]
        return mapped_recording(
            DatasetSignal(path, name, (columns, rows) if turned else (rows, columns), turned),
            shapes,
            lambda each: np.asarray(find_dataset(file, each, kinds="iuf", ndim=len(shapes[each]))),
            options,
            dict(file.attrs) | dict(find_dataset(file, name, kinds="iuf", ndim=2).attrs),
        )


def _ours(path: Path, file: Any, options: Options) -> Recording:
    try:
        facts = stored_json(file, OURS)
        shape = find_dataset(file, "emg", kinds="f", ndim=2).shape
        check_events(len(facts["events"]))
        return Recording(
            DatasetSignal(path, "emg", shape, False),
            options.rate(facts["sample_rate"]),
            montage=options.montage or Montage.from_dict(facts["montage"]),
            unit=options.unit or facts["unit"],
            start_time=facts["start_time"],
            events=[
                Event(float(e["start"]), float(e["end"]), e["label"], e["score"], e["kind"])
                for e in facts["events"]
            ],
            metadata=facts["metadata"],
        )
    except (LookupError, TypeError, AttributeError, ArithmeticError, RecursionError) as error:
        raise RecordingError(
            f"has an attribute {OURS!r} that does not describe a recording ({error!r}): it is "
            "damaged"
        ) from error


def write_recording(recording: Recording, path: Path) -> None:
    """Writes all that a recording holds, block by block; `read` gives it back exactly.

    Raises:
        RecordingError: if h5py is missing.
    """
    facts = {
        "sample_rate": recording.sample_rate,
        "unit": recording.unit,
        "start_time": recording.start_time,
        "montage": recording.montage.to_dict(),
        "events": [asdict(event) for event in recording.events],
        "metadata": {k: v for k, v in recording.metadata.items() if k not in _OF_A_FILE},
    }
    shape = recording.num_electrodes, recording.num_samples
    with written_hdf5(path) as file:
        file.attrs[OURS] = json.dumps(facts, default=str)
        packed = {"compression": "gzip", "shuffle": True} if recording.num_samples else {}
        dataset = file.create_dataset("emg", shape, "f4", **packed)
        done = 0
        for block in recording.blocks():
            dataset[:, done : done + block.shape[1]] = block
            done += block.shape[1]
