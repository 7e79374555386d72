"""One job to the files of one shard: what every engine runs, wherever it is."""

from __future__ import annotations

import os
import tempfile
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from emgcodec.corpus.formats import FORMATS
from emgcodec.corpus.jobs import Input, Job
from emgcodec.corpus.row import Row
from emgcodec.corpus.sessions import Session, find_sessions, gesture_parts, session_of
from emgcodec.corpus.settings import CorpusError, Settings, backend, check_backend
from emgcodec.files import file_sha256
from emgcodec.io import read_all
from emgcodec.recording import Recording

if TYPE_CHECKING:
    from emgcodec.codec import Codec

JOBS = ".jobs"
"""Folder in a corpus, of records and of what is half written."""

Record = dict[str, Any]
"""What became of a job, as plain JSON types."""

_COMPARED_SECONDS = 30.0


@dataclass(frozen=True)
class ShardMaker:
    """Makes shards: a function of the job, for any process on any machine.

    Attributes:
        settings: Of the corpus.
        folder: Of the corpus, absolute.
        model: As `Codec.from_pretrained` takes it.
        device: Where the codec runs.
        backend: That the corpus was begun on, or None if nobody has begun.
    """

    settings: Settings
    folder: str
    model: str | None
    device: str
    backend: dict[str, str] | None

    def __call__(self, job: Job) -> Record:
        """Writes the files beside their places, renames them and tells what they hold.

        Each recording is a batch of its own, on one thread, so that nothing depends on what else
        is encoded. What cannot be read or tokenized is skipped and named.

        Raises:
            CorpusError: on another backend, or if the model has changed.
        """
        import torch

        here = backend(self.device)
        check_backend(self.backend, here)
        if (found := load_codec(self.model, self.device).codec_id) != self.settings.codec_id:
            raise CorpusError(f"model is {found} here, not {self.settings.codec_id}")
        record: Record = {"name": job.name, "inputs": job.stamps(), "backend": here}
        record |= {"splits": {}, "files": {}, "nameless": 0, "agreement": [0, 0]}
        record |= {"skipped": [], "repaired": []}
        threads = torch.get_num_threads()
        torch.set_num_threads(1)
        try:
            shares: dict[str, list[Row]] = defaultdict(list)
            for row in (row for file in job.inputs for row in self._rows(file, record)):
                facts = row.tokens.metadata
                person = facts.get("subject") and f"{facts.get('dataset')}/{facts['subject']}"
                shares[self.settings.split_of(str(person or ""))].append(row)
                record["nameless"] += not person
        finally:
            torch.set_num_threads(threads)
        for split, rows in sorted(shares.items()):
            self._write(job.name, split, rows, record)
        return record

    def _rows(self, file: Input, record: Record) -> Iterator[Row]:
        """The recordings of a file; whatever is wrong with one is no reason to stop."""
        codec, seconds = load_codec(self.model, self.device), self.settings.calibrate
        sessions = find_sessions(self._read(file), codec, seconds) if seconds else {}
        recordings = self._read(file)
        while True:
            name = file.name
            try:
                if (rec := next(recordings, None)) is None:
                    return
                whole = rec.metadata["recording"]
                name += f":{whole}"
                session = sessions.get(session_of(rec))
                for own, part in gesture_parts(rec) if self.settings.by_gesture else [(whole, rec)]:
                    yield self._row(f"{file.name}:{own}", part, record, session)
            except Exception as error:
                if not files_fault(error):
                    raise
                reason = str(error).removeprefix(f"{file.path}: ")
                record["skipped"].append([name, " ".join(reason.split())])

    def _read(self, file: Input) -> Iterator[Recording]:
        names = ("sample_rate", "unit", "montage", "dataset")
        return read_all(file.path, **{name: getattr(self.settings, name) for name in names})

    def _row(self, name: str, rec: Recording, record: Record, session: Session | None) -> Row:
        calibration = session.calibration if session else None
        tokens = load_codec(self.model, self.device).tokenize(rec, calibration=calibration)
        if self.device != "cpu" and not record["agreement"][1]:
            record["agreement"] = self._compare(rec.crop(0, _COMPARED_SECONDS))
        missing = tokens.metadata.get("missing_samples", 0)
        if missing or not tokens.valid.all():
            record["repaired"].append([name, missing, int((~tokens.valid).sum())])
        layout = self.settings.layout
        ids = tokens.to_ids(layout, specials=not layout.has_rows).T
        calibrates = session is not None and session.calibrates(rec)
        return Row(name, tokens, ids.astype(np.int32), rec.events, calibrates)

    def _compare(self, rec: Recording) -> list[int]:
        """How many codes the CPU finds too, and how many there are."""
        ours, theirs = (load_codec(self.model, d).tokenize(rec) for d in (self.device, "cpu"))
        return [int((ours.codes == theirs.codes).sum()), ours.codes.size]

    def _write(self, name: str, split: str, rows: list[Row], record: Record) -> None:
        folder = Path(self.folder)
        with tempfile.TemporaryDirectory(dir=folder / JOBS) as beside:
            FORMATS[self.settings.format](Path(beside, name), rows, self.settings)
            (folder / split).mkdir(exist_ok=True)
            for path in sorted(Path(beside).iterdir()):
                record["files"][f"{split}/{path.name}"] = file_sha256(path)
                os.replace(path, folder / split / path.name)
        record["splits"][split] = {
            "recordings": len(rows),
            "ids": sum(row.ids.size for row in rows),
            "seconds": sum(row.tokens.duration for row in rows),
        }


def files_fault(error: Exception) -> bool:
    """Whether it is the file that is wrong, and not the machine: its memory, or its torch."""
    of_code = isinstance(error, NotImplementedError | RecursionError)
    return of_code or not isinstance(error, MemoryError | RuntimeError)


@cache
def load_codec(model: str | None, device: str) -> Codec:
    """The codec, once for each process."""
    from emgcodec.codec import Codec

    return Codec.from_pretrained(model, device=device)
