"""Parquet: a row for each recording; read by `datasets`, pandas, duckdb, Spark and Ray."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from emgcodec.corpus.row import WORDS, Row
from emgcodec.corpus.settings import Settings

_GROUP_ROWS = 64  # read at once by who streams
_METADATA_KEY = "emgcodec"  # of the file, where the settings stand as JSON


def write_parquet(stem: Path, rows: Sequence[Row], settings: Settings) -> None:
    """Writes ``<stem>.parquet``.

    `codes` are (T, K), `input_ids` (L,) or (L, rows): a line for each step of the model.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    facts = [row.facts() for row in rows]
    columns = {
        name: pa.array([each[name] for each in facts], kind) for name, kind in _types(pa).items()
    }
    columns["codes"] = _lists(pa, [row.tokens.codes.T for row in rows])
    columns["valid"] = _lists(pa, [row.tokens.valid for row in rows])
    columns["input_ids"] = _lists(pa, [row.ids for row in rows])
    metadata = {_METADATA_KEY: json.dumps(asdict(settings), ensure_ascii=False)}
    table = pa.table(columns).replace_schema_metadata(metadata)
    path = stem.with_suffix(".parquet")
    pq.write_table(table, path, compression="zstd", row_group_size=_GROUP_ROWS)


def _types(pa: Any) -> dict[str, Any]:
    word, number, count = pa.string(), pa.float64(), pa.int64()
    event = {"start": number, "end": number, "label": word, "score": number, "kind": word}
    return {
        **dict.fromkeys(("id", *WORDS, "text", "montage", "unit", "calibration"), word),
        "calibrates": pa.bool_(),
        **dict.fromkeys(("sample_rate", "frame_rate", "start_time"), number),
        **dict.fromkeys(("num_samples", "num_frames"), count),
        "gaps": pa.list_(pa.list_(count, 2)),
        "scale": pa.list_(pa.float32()),
        "events": pa.list_(pa.struct(event)),
    }


def _lists(pa: Any, arrays: Sequence[npt.NDArray[Any]]) -> Any:
    """A cell for each array, with its lines; no Python object for each number."""
    flat = np.concatenate(arrays)
    cells = pa.array(flat.reshape(-1))
    if flat.ndim == 2:
        cells = pa.FixedSizeListArray.from_arrays(cells, flat.shape[1])
    return pa.ListArray.from_arrays(np.cumsum([0, *map(len, arrays)], dtype=np.int32), cells)
