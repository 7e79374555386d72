"""What an EMG-BIDS folder says of a signal file: channels, electrodes, events, sidecars.

A table or sidecar belongs to every file below its folder whose name holds all its entities
(``sub-01``, ``task-type``, ...); the nearest one holds.
"""

from __future__ import annotations

import csv
import json
import math
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from emgcodec.montage import Electrode, Montage
from emgcodec.recording import Event, RecordingError

_ROOT = "dataset_description.json"
_FURTHEST = 4  # folders between a signal and the root of its dataset
_ROUND = 0.1  # share of the radius by which electrodes of a ring may be off it


@dataclass(frozen=True)
class Sidecars:
    """What stands beside a signal file.

    Attributes:
        channels: Rows of ``channels.tsv`` by name, empty without one.
        places: Coordinates of each electrode, by name.
        events: Rows of ``events.tsv``, or None without one.
        facts: The JSON sidecars, the nearest on top.
        metadata: Subject, session and the like, from the file's name.
    """

    channels: dict[str, dict[str, str]]
    places: dict[str, tuple[float, float, float]]
    events: list[Event] | None
    facts: dict[str, Any]
    metadata: dict[str, str]

    def is_emg(self, name: str) -> bool:
        """Whether the channel is EMG; all are where there is no table."""
        return not self.channels or self.channels.get(name, {}).get("type", "").upper() == "EMG"

    def montage(self, names: list[str]) -> Montage | None:
        """Angles from coordinates, if the electrodes lie on a ring; None otherwise.

        The first electrode is at 0; in which sense they are counted the coordinates leave open.
        """
        named = [self.channels.get(n, {}).get("signal_electrode") or n for n in names]
        if len(named) < 3 or not all(name in self.places for name in named):
            return None
        places = np.array([self.places[name] for name in named])
        around = places[:, sorted(np.argsort(places.std(axis=0))[1:])]
        x, y = (around - around.mean(axis=0)).T
        radius = np.hypot(x, y)
        if np.ptp(radius) > 2 * _ROUND * radius.mean():
            return None
        angles = np.rad2deg(np.arctan2(y, x))
        return Montage("bids", tuple(Electrode(0, float(a - angles[0])) for a in angles))


def signal_files(folder: Path) -> list[Path] | None:
    """The EMG files of a dataset in the order of their names; None if the folder is none."""
    if not (folder / _ROOT).is_file():
        return None
    return sorted(p for p in folder.rglob("*_emg.*") if p.suffix.lower() in (".edf", ".bdf"))


def sidecars(path: Path) -> Sidecars | None:
    """What stands beside a signal file; None if its name is not one of EMG-BIDS.

    Raises:
        RecordingError: if a table or sidecar cannot be read.
    """
    if not path.stem.endswith("_emg"):
        return None
    channels = {row["name"]: row for row in _rows(path, "channels.tsv") if row.get("name")}
    places = {
        row["name"]: (_number(row.get("x")), _number(row.get("y")), _number(row.get("z"), 0.0))
        for row in _rows(path, "electrodes.tsv")
        if row.get("name")
    }
    events = None
    if _belonging(path, "events.tsv"):
        events = [_event(row) for row in _rows(path, "events.tsv")]
    facts: dict[str, Any] = {}
    for file in _belonging(path, "emg.json"):
        try:
            facts |= json.loads(file.read_text("utf-8-sig"))
        except (ValueError, TypeError) as error:
            raise RecordingError(f"its sidecar {file} is not a JSON object: repair it") from error
    entities = dict(part.split("-", 1) for part in path.stem.split("_") if "-" in part)
    names = {"sub": "subject", "ses": "session", "task": "condition", "run": "run"}
    finite = {name: place for name, place in places.items() if all(map(math.isfinite, place))}
    metadata = {ours: entities[theirs] for theirs, ours in names.items() if theirs in entities}
    return Sidecars(channels, finite, events, facts, metadata)


def _belonging(path: Path, ending: str) -> list[Path]:
    """Files of that kind which hold for a signal file, the nearest last."""
    entities = set(path.stem.split("_"))
    folders = [path.parent]
    while not (folders[-1] / _ROOT).is_file() and len(folders) <= _FURTHEST:
        folders.append(folders[-1].parent)
    if not (folders[-1] / _ROOT).is_file():
        folders = folders[:1]
    found = []
    for folder in reversed(folders):
        for file in sorted([*folder.glob(f"*_{ending}"), *folder.glob(ending)], key=_length):
            parts = {p for p in file.stem.split("_")[:-1] if not p.startswith("space-")}
            if parts <= entities:
                found.append(file)
    return found


def _length(path: Path) -> int:
    return len(path.name)


def _rows(path: Path, ending: str) -> Iterator[dict[str, str]]:
    for file in _belonging(path, ending)[-1:]:
        try:
            with file.open(encoding="utf-8-sig", newline="") as table:
                yield from csv.DictReader(table, delimiter="\t")
        except (ValueError, csv.Error) as error:
            raise RecordingError(f"its table {file} cannot be read ({error}): repair it") from error


def _event(row: dict[str, str]) -> Event:
    start = _number(row.get("onset"))
    if not math.isfinite(start):
        raise RecordingError(f"its events.tsv has an onset {row.get('onset')!r}: give seconds")
    label = next((row[k] for k in ("trial_type", "value") if row.get(k, "n/a") != "n/a"), "event")
    return Event(start, start + max(0.0, _number(row.get("duration"), 0.0)), label, kind="event")


def _number(text: str | None, default: float = math.nan) -> float:
    try:
        return float(text or "nan") if text not in ("n/a", None) else default
    except ValueError:
        return math.nan
