"""The corpus format: one HDF5 file per dataset and subject, integers as the device gave them.

Attributes of the file say what the numbers mean, ``/recordings/<id>`` hold ``emg`` (samples,
channels), ``labels`` (samples) and ``segment_starts``, where files of the source were joined.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from emgcodec.io.entry import Entry, Options, check_stretches, label_runs, naming
from emgcodec.io.hdf5 import attribute, find_dataset, find_group, open_hdf5, stored_json
from emgcodec.recording import Event, Recording, RecordingError

_MONTAGES = {"3dc": "3dc", "contraction_intensity": "cuff8", "flexemg": "flexemg"}


@dataclass(frozen=True)
class CorpusSignal:
    """A `SignalSource` over rows of a dataset; the file is open only while it is read.

    Attributes:
        path: The file.
        dataset: Path of the dataset in it, (samples, channels).
        start: First row.
        shape: (C, N).
        offset: What is added to the integers first.
        scale: What the sum is multiplied by.
    """

    path: Path
    dataset: str
    start: int
    shape: tuple[int, int]
    offset: float
    scale: float

    def read(self, start: int, stop: int) -> npt.NDArray[np.float64]:
        """Samples start to stop, (C, stop - start); what hit a 16-bit rail is NaN."""
        with naming(self.path), open_hdf5(self.path) as file:
            stop = min(stop, self.shape[1])
            rows = find_dataset(file, self.dataset, kinds="iuf", ndim=2)
            counts = rows[self.start + start : self.start + stop].T
        emg: npt.NDArray[np.float64] = (counts + np.float64(self.offset)) * self.scale
        if counts.dtype == np.int16:  # glitches, not muscle; 8-bit rails are left as they are
            emg[(counts >= 32767) | (counts <= -32768)] = np.nan
        return emg


def entries(path: Path, options: Options) -> list[Entry]:
    """The contiguous recordings of a corpus file: ``<id>``, or ``<id>.<k>`` where it was joined.

    Raises:
        RecordingError: if the file does not follow the format.
    """
    found: list[Entry] = []
    with open_hdf5(path) as file:
        for name in find_group(file, "recordings"):
            group = find_group(file, f"recordings/{name}")
            joined = not attribute(group, "contiguous", bool)
            pieces = _pieces(group, joined)
            check_stretches(len(found) + len(pieces))
            for k, (start, stop) in enumerate(pieces):
                load = partial(_load, path, name, start, stop, options)
                found.append(Entry(f"{name}.{k}" if joined else name, load))
    return found


def _pieces(group: Any, joined: bool) -> list[tuple[int, int]]:
    """First row, and the row behind the last one, of each contiguous stretch."""
    bounds = [0, len(find_dataset(group, "emg", kinds="iuf", ndim=2))]
    if joined:
        starts = find_dataset(group, "segment_starts", kinds="iu", ndim=1)
        check_stretches(len(starts))
        bounds = [*starts[:].tolist(), bounds[1]]
    if bounds[0] != 0 or sorted(set(bounds)) != bounds:
        raise RecordingError(
            f"{group.name!r} has segment_starts {bounds[:-1]} for {bounds[-1]} samples: "
            "expected 0 first, then rising, all below the number of samples"
        )
    return list(pairwise(bounds))


def _load(path: Path, name: str, start: int, stop: int, options: Options) -> Recording:
    with open_hdf5(path) as file:
        group = find_group(file, f"recordings/{name}")
        rate = options.rate(attribute(file, "sample_rate_hz", float))
        labels = find_dataset(group, "labels", kinds="i", ndim=1)[start:stop]
        if len(labels) != stop - start:
            raise RecordingError(f"{group.name!r} has fewer labels than samples: it is damaged")
        dataset, source_unit = attribute(file, "dataset", str), attribute(file, "unit", str)
        known = source_unit == "uV" or "scale_uV" in file.attrs
        unit = options.unit or ("uV" if known else "adc")
        scale = "scale_uV" if unit == "uV" and "scale_uV" in file.attrs else "scale"
        return Recording(
            CorpusSignal(
                path,
                f"recordings/{name}/emg",
                start,
                (group["emg"].shape[1], stop - start),
                attribute(file, "offset", float, 0.0),
                1.0 if unit == "adc" else attribute(file, scale, float),
            ),
            rate,
            montage=options.montage
            or _MONTAGES.get(dataset, "myo" if dataset.startswith("myo_") else None),
            unit=unit,
            events=_events(labels, _label_names(file), rate),
            metadata={
                "dataset": dataset,
                "subject": attribute(file, "subject", str),
                "session": attribute(group, "session", str, ""),
                "repetition": attribute(group, "repetition", int, 0),
                "condition": attribute(group, "condition", str, ""),
                "device": attribute(file, "device", str, ""),
                "licence": attribute(file, "licence", str, ""),
                "source_unit": source_unit,
                "bits": 8 if "8-bit" in source_unit else 16,
            },
        )


def _label_names(file: Any) -> list[str]:
    names = stored_json(file, "label_names")
    if not isinstance(names, list):
        raise RecordingError(f"label_names={names!r} is not a JSON list of names")
    return [str(name) for name in names]


def _events(labels: npt.NDArray[np.integer[Any]], names: list[str], rate: float) -> list[Event]:
    """One event for each run of equal labels; a negative label is none."""
    if labels.max() >= len(names):
        raise RecordingError(f"label {labels.max()} has no name: label_names are {names}")
    return [
        Event(start, end, names[label])
        for start, end, label in label_runs(labels, rate)
        if label >= 0
    ]
