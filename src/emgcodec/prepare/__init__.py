"""Public source repositories to the corpus format: the same files for everyone."""

from __future__ import annotations

import hashlib
import os
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import chain, groupby
from pathlib import Path
from typing import Any

import numpy as np

from emgcodec.prepare.clone import clone_commit, find_takes
from emgcodec.prepare.collection import Collection, PrepareError, Segment, Take
from emgcodec.prepare.contraction_intensity import CONTRACTION_INTENSITY
from emgcodec.prepare.flexemg import FLEXEMG
from emgcodec.prepare.multiday import MULTIDAY
from emgcodec.prepare.myo_ciil import MYO_CIIL
from emgcodec.prepare.myo_laval import MYO_LAVAL
from emgcodec.prepare.myo_readings import MYO_READINGS
from emgcodec.prepare.three_dc import THREE_DC
from emgcodec.prepare.write import CorpusRecording, write_corpus, write_tables

__all__ = ["COLLECTIONS", "Collection", "PrepareError", "Prepared", "prepare"]

COLLECTIONS: dict[str, Collection] = {
    each.name: each
    for each in (
        THREE_DC,
        CONTRACTION_INTENSITY,
        FLEXEMG,
        MYO_LAVAL,
        MYO_CIIL,
        MYO_READINGS,
        MULTIDAY,
    )
}


@dataclass(frozen=True)
class Prepared:
    """What `prepare` did.

    Attributes:
        files: Corpus files written, below the output folder.
        seconds: Of signal in them.
        notes: What was left out, or is missing.
    """

    files: tuple[str, ...]
    seconds: float
    notes: tuple[str, ...]


def prepare(
    name: str,
    source: str | os.PathLike[str],
    out: str | os.PathLike[str],
    *,
    any_commit: bool = False,
) -> Prepared:
    """Turns a clone of a source repository into corpus files, ``manifest.csv`` and ``splits.json``.

    People for training and validation go into `out`, people for the test into ``test/`` below it.
    Of segments that are equal value for value only the first one stays, in the order of people
    and recordings. Another run writes the same files again: repeat one that broke off.

    Args:
        name: One of `COLLECTIONS`.
        source: Folder of the clone.
        out: Folder of the corpus, which may hold other collections; it is made if need be.
        any_commit: Also take a clone that is not at the pinned commit; the files say which it was.

    Raises:
        PrepareError: if the name is unknown, the clone another one, or a file is not as expected.
    """
    from tqdm import tqdm

    if name not in COLLECTIONS:
        raise PrepareError(f"name={name!r} is unknown: choose from {list(COLLECTIONS)}")
    collection, clone, out = COLLECTIONS[name], Path(source), Path(out)
    commit = clone_commit(clone, collection, any_commit)
    takes = find_takes(clone, collection)
    total = sum(map(len, takes.values()))
    run = _Run(collection, tqdm(total=total, desc=f"prepare {name}", unit="files", disable=None))
    rows = []
    with run.progress:
        for subject, theirs in groupby(takes, lambda take: take.subject):
            part = collection.part(subject)
            file = f"{'test/' if part == 'test' else ''}{name}_{subject}.h5"
            (out / file).parent.mkdir(parents=True, exist_ok=True)
            recordings = run.join((take, takes[take]) for take in theirs)
            for first in recordings:  # there may be none: everything repeats what others have
                attributes = collection.attributes(subject, commit)
                row = write_corpus(out / file, attributes, chain([first], recordings))
                rows.append(row | {"file": file, "split": part})
    write_tables(out, name, rows, list(COLLECTIONS))
    absent = (collection.train | collection.validation) - {take.subject for take in takes}
    if absent:
        run.notes.append(f"not in this clone: {', '.join(sorted(absent))}")
    for path in sorted({*out.glob(f"{name}_*.h5"), *out.glob(f"test/{name}_*.h5")}):
        if path.relative_to(out).as_posix() not in {row["file"] for row in rows}:
            run.notes.append(f"{path}: is left from another run and in no table: delete it")
    seconds = sum(float(row["seconds"]) for row in rows)
    return Prepared(tuple(row["file"] for row in rows), seconds, tuple(run.notes))


class _Run:
    """One pass through a clone: joins segments, and remembers them to drop repeated ones."""

    def __init__(self, collection: Collection, progress: Any) -> None:
        self.collection, self.progress = collection, progress
        self.notes: list[str] = []
        self._seen: dict[bytes, Take] = {}

    def join(self, takes: Iterable[tuple[Take, dict[int, Path]]]) -> Iterator[CorpusRecording]:
        """Recordings of one person, but for those of which nothing is left."""
        for take, files in takes:
            segments = list(self._segments(take, files))
            if -1 not in files and len(files) < len(self.collection.gestures):
                self.notes.append(f"{take}: only {len(files)} gestures")
            if segments:
                lengths = [len(segment.samples) for segment in segments]
                yield CorpusRecording(
                    take,
                    np.concatenate([segment.samples for segment in segments]),
                    np.concatenate([segment.labels for segment in segments]),
                    np.cumsum([0, *lengths[:-1]], dtype=np.int32),
                )

    def _segments(self, take: Take, files: dict[int, Path]) -> Iterator[Segment]:
        repeated: Counter[Take] = Counter()
        for label, path in sorted(files.items()):
            for segment in self.collection.read(path, label):
                if segment.cut_lines:
                    self.notes.append(f"{path}: {segment.cut_lines} cut lines skipped")
                key = hashlib.sha256(segment.samples.tobytes()).digest()
                if key in self._seen:
                    repeated[self._seen[key]] += 1
                else:
                    self._seen[key] = take
                    yield segment
            self.progress.update()
        self.notes += [f"{take}: {n} segments repeat {first}" for first, n in repeated.items()]
