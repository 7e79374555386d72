"""Flat ``.npy`` of uint16: all ids one after the other, to be memory-mapped."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from emgcodec.corpus.row import Row
from emgcodec.corpus.settings import Settings


def write_npy(stem: Path, rows: Sequence[Row], settings: Settings) -> None:
    """Writes ``<stem>.npy`` and ``<stem>.jsonl``."""
    np.save(stem.with_suffix(".npy"), np.concatenate([row.ids for row in rows]).astype("<u2"))
    write_facts(stem, rows)


def write_facts(stem: Path, rows: Sequence[Row]) -> None:
    """Writes ``<stem>.jsonl``, what bare ids cannot hold: a line for each recording.

    Its ids are `length` of all, from `start` on.
    """
    start = 0
    with stem.with_suffix(".jsonl").open("w", encoding="utf-8") as file:
        for row in rows:
            facts = row.facts() | {"start": start, "length": len(row.ids)}
            file.write(json.dumps(facts, ensure_ascii=False) + "\n")
            start += len(row.ids)
