"""The writing side of the corpus format, and the tables beside the files."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from emgcodec.files import file_sha256, written_beside
from emgcodec.prepare.collection import PrepareError, Take

_CHUNK_BYTES = 1 << 17
_MANY_CHANNELS = 32  # compress better one by one
MANIFEST = "manifest.csv"
SPLITS = "splits.json"
_HEADER = "file,dataset,subject,channels,rate,seconds,recordings,split,bytes,sha256"
_RULE = "by subject; files for testing are in a folder of their own"


@dataclass(frozen=True)
class CorpusRecording:
    """A recording as it is written.

    Attributes:
        take: Its name and where it comes from.
        samples: (N, C) int16, or int32 where the source needs it.
        labels: (N,) int8.
        starts: (S,) int32: first sample of each contiguous segment.
    """

    take: Take
    samples: npt.NDArray[np.signedinteger[Any]]
    labels: npt.NDArray[np.int8]
    starts: npt.NDArray[np.int32]


def write_corpus(
    path: Path, attributes: Mapping[str, str | int | float], recordings: Iterable[CorpusRecording]
) -> dict[str, str]:
    """Writes a corpus file, whole or not at all.

    Args:
        path: The file; one that is there is replaced.
        attributes: Of the file; see `Collection.attributes`.
        recordings: Taken one after the other, so that one is in memory at a time.

    Returns:
        What the manifest says of it, but for its place there and its split.

    Raises:
        PrepareError: if h5py is missing.
    """
    try:
        import h5py
    except ImportError as error:
        raise PrepareError("writing HDF5 files needs h5py: pip install 'emgcodec[io]'") from error
    names = json.loads(str(attributes["label_names"]))
    length = count = 0
    with written_beside(path) as beside:
        # Not `written_hdf5`, which lays the bytes out otherwise: the corpus has checksums.
        with h5py.File(beside, "w", libver="v110") as file:
            file.attrs.update(attributes)
            for rec in recordings:
                group = file.create_group(f"recordings/{rec.take.name}")
                _write_recording(group, rec, names, attributes)
                length, count = length + len(rec.samples), count + 1
        digest = file_sha256(beside)
        size = beside.stat().st_size
    rate = float(attributes["sample_rate_hz"])
    return {
        "dataset": str(attributes["dataset"]),
        "subject": str(attributes["subject"]),
        "channels": str(attributes["channels"]),
        "rate": f"{rate:g}",
        "seconds": str(round(length / rate, 2)),
        "recordings": str(count),
        "bytes": str(size),
        "sha256": digest,
    }


def _write_recording(
    group: Any,
    rec: CorpusRecording,
    names: Sequence[str],
    attributes: Mapping[str, str | int | float],
) -> None:
    present = np.unique(rec.labels)
    label = int(present[0]) if len(present) == 1 else -1
    group.attrs.update(
        session=rec.take.session,
        repetition=rec.take.repetition,
        condition=rec.take.condition,
        contiguous=len(rec.starts) == 1,
        **{key: attributes[key] for key in ("sample_rate_hz", "device", "subject")},
        label=names[label] if label >= 0 else "several" if len(present) > 1 else "not known",
        label_id=label,
    )
    n, c = rec.samples.shape
    rows = min(n, _CHUNK_BYTES // (rec.samples.itemsize * c))
    chunks = (n, 1) if c > _MANY_CHANNELS else (rows, c)
    packed = {"compression": "gzip", "compression_opts": 9, "shuffle": True}
    group.create_dataset("emg", data=rec.samples, chunks=chunks, **packed)
    group.create_dataset("labels", data=rec.labels, **packed)
    group.create_dataset("segment_starts", data=rec.starts)


def write_tables(folder: Path, dataset: str, rows: list[dict[str, str]], order: list[str]) -> None:
    """Writes ``manifest.csv`` and ``splits.json``, keeping what they say of other datasets.

    Args:
        folder: Of the corpus.
        dataset: Whose rows are replaced.
        rows: For each of its files, all columns of the manifest.
        order: Of the datasets in the tables.

    Raises:
        PrepareError: if there is a manifest with other columns.
    """
    manifest = folder / MANIFEST
    if manifest.exists():
        with manifest.open(encoding="utf-8", newline="") as file:
            reader = csv.DictReader(file)
            if reader.fieldnames != _HEADER.split(","):
                raise PrepareError(f"{manifest}: expected the columns {_HEADER}: move it away")
            rows = rows + [row for row in reader if row["dataset"] != dataset]
    rank = {name: place for place, name in enumerate(order)}
    rows.sort(key=lambda row: (rank.get(row["dataset"], len(rank)), row["subject"]))
    with (
        written_beside(manifest) as beside,
        beside.open("w", encoding="utf-8", newline="") as file,
    ):
        writer = csv.DictWriter(file, _HEADER.split(","), lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
    parts = ("train", "validation", "test")
    files = {part: [row["file"] for row in rows if row["split"] == part] for part in parts}
    with written_beside(folder / SPLITS) as beside:
        beside.write_text(json.dumps(files | {"rule": _RULE}, indent=1) + "\n", "utf-8")
