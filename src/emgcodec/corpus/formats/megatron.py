"""Megatron's indexed data set: ids in ``.bin``, where each recording begins in ``.idx``."""

from __future__ import annotations

import struct
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from emgcodec.corpus.formats.npy import write_facts
from emgcodec.corpus.row import Row
from emgcodec.corpus.settings import Settings

_MAGIC, _VERSION = b"MMIDIDX\0\0", 1
_TYPES = {"<u2": 8, "<i4": 4}  # its own numbers for them
_MOST_SHORT = 65_500  # ids, above which its tools expect the longer type


def write_megatron(stem: Path, rows: Sequence[Row], settings: Settings) -> None:
    """Writes ``<stem>.bin``, ``<stem>.idx`` and ``<stem>.jsonl``; a recording is a document."""
    ids = settings.layout.offset + settings.layout.vocab_size
    kind = "<u2" if ids < _MOST_SHORT else "<i4"
    lengths = np.array([len(row.ids) for row in rows], "<i4")
    starts = np.cumsum(lengths, dtype="<i8") - lengths
    with stem.with_suffix(".bin").open("wb") as file:
        for row in rows:
            file.write(row.ids.astype(kind).tobytes())
    with stem.with_suffix(".idx").open("wb") as file:
        header = (_VERSION, _TYPES[kind], len(rows), len(rows) + 1)
        file.write(_MAGIC + struct.pack("<QBQQ", *header))
        file.write(lengths.tobytes() + (starts * np.dtype(kind).itemsize).tobytes())
        file.write(np.arange(len(rows) + 1, dtype="<i8").tobytes())
    write_facts(stem, rows)
