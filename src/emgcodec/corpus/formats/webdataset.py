"""WebDataset: a tar archive with the arrays and the facts of each recording."""

from __future__ import annotations

import io
import json
import tarfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from emgcodec.corpus.row import Row
from emgcodec.corpus.settings import Settings


def write_webdataset(stem: Path, rows: Sequence[Row], settings: Settings) -> None:
    """Writes ``<stem>.tar`` with ``ids.npy``, ``codes.npy`` (K, T), ``valid.npy`` and ``json``."""
    with tarfile.open(stem.with_suffix(".tar"), "w") as tar:
        for number, row in enumerate(rows):
            text = json.dumps(row.facts(), ensure_ascii=False)
            parts = {
                "ids.npy": _npy(row.ids),
                "codes.npy": _npy(row.tokens.codes),
                "valid.npy": _npy(row.tokens.valid),
                "json": text.encode(),
            }
            for name, data in parts.items():
                # Of time 0, so that equal tokens make equal archives; a dot would end the key.
                entry = tarfile.TarInfo(f"{stem.name}-{number:06d}.{name}")
                entry.size = len(data)
                tar.addfile(entry, io.BytesIO(data))


def _npy(array: np.ndarray) -> bytes:
    file = io.BytesIO()
    np.save(file, np.ascontiguousarray(array))
    return file.getvalue()
