"""What an EMG-BIDS folder says of a signal file: channels, electrodes, events, sidecars.

A table or sidecar belongs to every file below its folder whose name holds all its entities
(``sub-01``, ``task-type``, ...); the nearest one holds.
"""

from __future__ import annotations

import csv
import math
import reprlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from emgcodec.files import read_json
from emgcodec.io.entry import MAX_EVENTS
from emgcodec.montage import Electrode, Montage
from emgcodec.recording import Event, RecordingError

_ROOT = "dataset_description.json"
_FURTHEST = 4  # folders between a signal and the root of its dataset
_UNKNOWN = ("n/a", "")
_ROUND = 0.1  # share of the radius by which electrodes of a ring may be off it
_SAME_RATE = 0.01  # share by which a sidecar's rate may be rounded

Row = dict[str, str]
Found = TypeVar("Found")


@dataclass(frozen=True)
class Sidecars:
    """What stands beside a signal file.

    Attributes:
        channels: Rows of ``channels.tsv`` by name, empty without one.
        places: Coordinates of each electrode, by name.
        events: Rows of ``events.tsv``, or None without one.
        facts: The JSON sidecars, the nearest on top.
        sources: Which sidecar each fact is from.
        metadata: Subject, session and the like, from the file's name.
    """

    channels: dict[str, Row]
    places: dict[str, tuple[float, float, float]]
    events: list[Event] | None
    facts: dict[str, Any]
    sources: dict[str, Path]
    metadata: dict[str, str]

    def is_emg(self, name: str) -> bool:
        """Whether the channel is EMG; all are where there is no table."""
        return not self.channels or self.channels.get(name, {}).get("type", "").upper() == "EMG"

    def check_rate(self, rate: float) -> None:
        """Refuses a signal file whose rate is not that of its sidecar.

        Raises:
            RecordingError: if they differ by more than rounding.
        """
        stated = self.facts.get("SamplingFrequency", "n/a")
        if stated == "n/a":
            return
        number = isinstance(stated, int | float)
        if not number or not (1 - _SAME_RATE) * rate < stated < (1 + _SAME_RATE) * rate:
            raise RecordingError(
                f"its sidecar {self.sources['SamplingFrequency']} has SamplingFrequency "
                f"{reprlib.repr(stated)}, the signal {rate:g} Hz: correct it, or pass sample_rate="
            )

    def montage(self, names: list[str]) -> Montage | None:
        """Angles from coordinates, if the electrodes lie on a ring; None otherwise.

        The first electrode is at 0; in which sense they are counted the coordinates leave open.
        """
        named = [self.channels.get(n, {}).get("signal_electrode") or n for n in names]
        if len(named) < 3 or not all(name in self.places for name in named):
            return None
        places = np.array([self.places[name] for name in named])
        if len(np.unique(places, axis=0)) < 3:
            return None
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
    channels = dict(_table(path, "channels.tsv", "name", lambda row: (row["name"], row)))
    places = dict(_table(path, "electrodes.tsv", "name", _place))
    events = None
    if _belonging(path, "events.tsv"):
        events = _table(path, "events.tsv", "onset", _event)
    facts: dict[str, Any] = {}
    sources: dict[str, Path] = {}
    for file in _belonging(path, "emg.json"):
        try:
            found = read_json(file)
        except (OSError, ValueError) as error:
            raise RecordingError(f"its sidecar {error}") from error
        facts |= found
        sources |= dict.fromkeys(found, file)
    entities = dict(part.split("-", 1) for part in path.stem.split("_") if "-" in part)
    names = {"sub": "subject", "ses": "session", "task": "condition", "run": "run"}
    finite = {name: place for name, place in places.items() if all(map(math.isfinite, place))}
    metadata = {ours: entities[theirs] for theirs, ours in names.items() if theirs in entities}
    return Sidecars(channels, finite, events, facts, sources, metadata)


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


def _table(path: Path, ending: str, key: str, parse: Callable[[Row], Found]) -> list[Found]:
    """What the rows of the nearest table say; none without a table."""
    found: list[Found] = []
    for file in _belonging(path, ending)[-1:]:
        try:
            with file.open(encoding="utf-8-sig", newline="") as text:
                rows = csv.DictReader(text, delimiter="\t", strict=True)
                if rows.fieldnames and key not in rows.fieldnames:
                    raise ValueError(f"it has no column {key!r}")
                for row in rows:
                    try:
                        if len(found) == MAX_EVENTS:
                            raise ValueError(f"it has more than {MAX_EVENTS} rows")
                        _check_cells(row)
                        found.append(parse(row))
                    except ValueError as error:
                        raise ValueError(f"line {rows.line_num}: {error}") from error
        except (OSError, ValueError, csv.Error) as error:
            raise RecordingError(f"its table {file} cannot be read ({error}): repair it") from error
    return found


def _check_cells(row: dict[Any, Any]) -> None:
    """Refuses cells without a column, and columns without a cell."""
    if more := [cell for cell in row.get(None, ()) if cell]:
        raise ValueError(f"{more[0]!r:.40} is in no column")
    if short := [name for name, cell in row.items() if cell is None]:
        raise ValueError(f"it has no cell {short[0]!r}, which is to be n/a where nothing is known")


def _place(row: Row) -> tuple[str, tuple[float, float, float]]:
    return row["name"], (_number(row, "x"), _number(row, "y"), _number(row, "z", 0.0))


def _event(row: Row) -> Event:
    start, duration = _number(row, "onset"), _number(row, "duration", 0.0)
    if math.isnan(start):
        raise ValueError(f"onset {row['onset']!r} is to be a number of seconds")
    if duration < 0:
        raise ValueError(f"duration {row['duration']!r} is negative; write n/a where it is unknown")
    known = (row[k] for k in ("trial_type", "value") if row.get(k, "n/a") not in _UNKNOWN)
    return Event(start, start + duration, next(known, "event"), kind="event")


def _number(row: Row, name: str, default: float = math.nan) -> float:
    text = row.get(name, "n/a")
    if text in _UNKNOWN:
        return default
    try:
        number = float(text)
    except ValueError:
        number = math.nan
    if not math.isfinite(number):
        raise ValueError(f"{name} {text!r:.40} is no number; write n/a where it is unknown")
    return number
