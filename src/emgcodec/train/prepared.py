"""Where segments come from: corpus files and simulated people, prepared once and kept on disk.

Prepared signals are many times larger than the files they come from. They lie in a cache folder as
memory-mapped float32 arrays, under the hash of the source's content and of the code that prepares
it: training starts at once the second time, and needs no memory for what it does not look at.
"""

from __future__ import annotations

import hashlib
import json
import os
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cache, partial
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from emgcodec import evidence
from emgcodec.codec import Codec
from emgcodec.config import ConfigError
from emgcodec.files import file_sha256, read_json, written_beside
from emgcodec.io import read_all, session_user
from emgcodec.montage import Montage
from emgcodec.recording import Recording
from emgcodec.signal import num_resampled
from emgcodec.simulate import Person, gesture_recording
from emgcodec.train.data import SIMULATED, Segment, prepare
from emgcodec.train.recipe import DataRecipe
from emgcodec.train.sessions import DATASET, find_splits

_PREPARES = ("signal.py", "gestures.py", "text.py", "montage.py", "labels.py", "recording.py",
             "io/*.py", "train/data.py")  # fmt: skip
_SIMULATES = ("simulate/*.py", "gestures.py")
"""Files that decide what prepared and what simulated recordings look like."""

_FIRST_PERSON = 1000
_WORN = ((Montage.preset("emg2qwerty"), 2000.0), (Montage.ring(12), 1000.0),
         (Montage.preset("emg2pose"), 2000.0), (Montage.grid(8, 2), 2048.0))  # fmt: skip
_TAKES = 2


@dataclass(frozen=True)
class Source:
    """One person's recordings.

    Attributes:
        dataset: Where they come from, or `SIMULATED`.
        subject: Who it was.
        content: What identifies their content, or from what it follows.
        recordings: Reads or makes them.
    """

    dataset: str
    subject: str
    content: str
    recordings: Callable[[], Iterable[Recording]]


def sources(recipe: DataRecipe, folder: Path | None) -> list[Source]:
    """The people whom the recipe asks for.

    Args:
        recipe: Which data sets and which people.
        folder: Of the corpora, ``<dataset>_<subject>.h5``, or of typing sessions; None where there
            are none.

    Raises:
        ConfigError: if a data set has nobody to learn from, or there is no folder.
    """
    found: list[Source] = []
    for dataset in sorted(name for name, weight in recipe.weights.items() if weight > 0):
        if dataset == SIMULATED:
            found += (_simulated(number) for number in range(recipe.simulated))
            continue
        if folder is None:
            raise ConfigError(
                f"data.weights asks for {dataset!r}: name the folder of the corpora with --data or "
                "EMGCODEC_DATA, or train on simulated people only"
            )
        people = _sessions if dataset == DATASET else _people
        chosen = [
            Source(dataset, subject, file_sha256(path), partial(read_all, path))
            for subject, path in people(dataset, recipe, folder)
        ]
        if not chosen:
            raise ConfigError(
                f"data.weights asks for {dataset!r}, but {folder} holds no file {dataset}_*.h5 of "
                "the people to train on: check the folder, data.people and data.fold"
            )
        found += chosen
    return found


def content(found: Iterable[Source]) -> str:
    """Hash of all recordings of some people."""
    return _digest(" ".join(f"{s.dataset}/{s.subject} {s.content}" for s in found).encode())


def _people(dataset: str, recipe: DataRecipe, folder: Path) -> list[tuple[str, Path]]:
    """Subjects and files of a data set whom the recipe trains on."""
    files = {path.stem[len(dataset) + 1 :]: path for path in folder.glob(f"{dataset}_*.h5")}
    if recipe.fold >= 0:
        chosen = {name.partition("/")[::2] for name in evidence.people(recipe.fold, "train")}
        files = {subject: path for subject, path in files.items() if (dataset, subject) in chosen}
    elif recipe.people == "train":
        splits = folder / "splits.json"
        if not splits.is_file():
            raise ConfigError(f"{splits} is missing: set data.fold, or data.people='all'")
        listed = read_json(splits).get("train", ())
        files = {subject: path for subject, path in files.items() if path.name in listed}
    return sorted(files.items())


def _sessions(_dataset: str, recipe: DataRecipe, folder: Path) -> list[tuple[str, Path]]:
    """Typists and files of the sessions that the recipe trains on."""
    if not recipe.split:
        names = [split.name for split in find_splits(folder)]
        raise ConfigError(f"data.split is empty: say which sessions to learn from, one of {names}")
    found = find_splits(folder, recipe.split)
    if len(found) > 1:
        raise ConfigError(f"data.split={recipe.split!r} names {len(found)} splits: name one")
    split = found[0]
    paths = split.train if recipe.people == "train" else split.train + split.val + split.test
    return [(session_user(path), path) for path in paths]


def _simulated(number: int) -> Source:
    """A simulated person, recorded twice with a montage that many others have not."""
    montage, rate = _WORN[number % len(_WORN)]

    def record() -> Iterator[Recording]:
        person = Person.draw(_FIRST_PERSON + number)
        for take in range(_TAKES):
            rec = gesture_recording(person, montage, rate, hold=2.0, rest=0.5, seed=take)
            rec.metadata |= {
                "dataset": SIMULATED,
                "subject": str(number),
                "recording": f"take{take}",
            }
            yield rec

    content = f"{_FIRST_PERSON + number} {montage.digest()} {rate} {_TAKES} {_code(_SIMULATES)}"
    return Source(SIMULATED, str(number), content, record)


def default_cache() -> Path:
    """Where prepared recordings go unless told otherwise."""
    base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(base) / "emgcodec"


def load_prepared(found: Iterable[Source], codec: Codec, folder: Path) -> list[Segment]:
    """The segments of all sources, prepared where they are not yet; progress on stderr.

    Args:
        found: From `sources`.
        codec: Whose rate and frames they are for.
        folder: The cache; what lies there may be deleted whenever no training runs.
    """
    segments: list[Segment] = []
    progress = tqdm(list(found), desc="preparing", unit="people", disable=not sys.stderr.isatty())
    for source in progress:
        facts = [source.content, _code(_PREPARES), codec.sample_rate, codec.hop_length]
        digest = _digest(json.dumps(facts).encode())
        base = folder / f"{source.dataset}_{source.subject}-{digest}"
        if not base.with_name(f"{base.name}.json").is_file():
            folder.mkdir(parents=True, exist_ok=True)
            _store(base, source, codec)
        segments += _stored(base)
    return segments


def _store(base: Path, source: Source, codec: Codec) -> None:
    recordings = [rec for rec in source.recordings() if rec.num_samples]
    lengths = [num_resampled(r.num_samples, r.sample_rate, codec.sample_rate) for r in recordings]
    shapes = [(r.num_electrodes, n) for r, n in zip(recordings, lengths, strict=True)]
    total = sum(rows * length for rows, length in shapes)
    with written_beside(base.with_name(f"{base.name}.npy")) as beside:
        flat = np.lib.format.open_memmap(beside, "w+", np.float32, (total,))
        entries, start = [], 0
        for rec, shape in zip(recordings, shapes, strict=True):
            stop = start + shape[0] * shape[1]
            segment = prepare(rec, codec, flat[start:stop].reshape(shape))
            entries.append(_entry(segment, start))
            start = stop
        flat.flush()
    with written_beside(base.with_name(f"{base.name}.json")) as beside:
        beside.write_text(json.dumps(entries), encoding="utf-8")


def _entry(segment: Segment, start: int) -> dict[str, Any]:
    return {
        "dataset": segment.dataset,
        "subject": segment.subject,
        "wearing": segment.wearing,
        "block": segment.block,
        "montage": segment.montage.to_dict(),
        "start": start,
        "sample_rate": segment.sample_rate,
        "unit": segment.unit,
        "shape": segment.x.shape,
        "labels": segment.labels.tolist(),
        "keys": segment.keys.tolist(),
        "pressed": segment.pressed.tolist(),
    }


def _stored(base: Path) -> Iterator[Segment]:
    entries: list[Mapping[str, Any]] = json.loads(base.with_name(f"{base.name}.json").read_text())
    flat = np.asarray(
        np.load(base.with_name(f"{base.name}.npy"), mmap_mode="c")
    )  # what is written stays in memory
    for entry in entries:
        shape, start = tuple(entry["shape"]), entry["start"]
        yield Segment(
            entry["dataset"],
            entry["subject"],
            entry["wearing"],
            entry["block"],
            Montage.from_dict(entry["montage"]),
            entry["sample_rate"],
            entry["unit"],
            flat[start : start + shape[0] * shape[1]].reshape(shape),
            np.array(entry["labels"], np.int64),
            np.array(entry["keys"], np.int64),
            np.array(entry["pressed"], np.float64),
        )


@cache
def _code(files: tuple[str, ...]) -> str:
    root = Path(__file__).parents[1]
    paths = [path for pattern in files for path in sorted(root.glob(pattern))]
    return _digest(b"".join(path.read_bytes() for path in paths))


def _digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()[:16]
