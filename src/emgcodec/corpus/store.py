"""The folder of a corpus: which shards are whole, and the manifest that says what they hold."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from emgcodec.corpus.jobs import Job
from emgcodec.corpus.settings import CorpusError, Settings, check_backend
from emgcodec.corpus.shard import JOBS, Record
from emgcodec.files import file_sha256, locked, read_json, write_json

_FORMAT_VERSION = 1


@dataclass(frozen=True)
class Report:
    """What a corpus holds, and what it does not.

    Attributes:
        folder: Where it is.
        splits: For each split its ``recordings``, ``ids`` and ``seconds`` of signal.
        skipped: Files and recordings that are not in it, with the reason.
        repaired: Recordings with samples missing or frames without signal, with their numbers.
        agreement: Share of the codes that the CPU finds too; None if the CPU made them.
        nameless: Recordings whose file names no person; all are in the first split.
    """

    folder: str
    splits: dict[str, dict[str, float]]
    skipped: list[list[str]]
    repaired: list[list[Any]]
    agreement: float | None
    nameless: int


class Store:
    """A corpus in its folder, kept by one process at a time.

    A shard's record is written when its files are in place; a job without one is done again. So
    whatever the moment of a kill, nothing is lost and nothing is there twice.

    Attributes:
        folder: Where it is.
        backend: What made the first shard; None before there is one.
    """

    def __init__(self, folder: Path, settings: Settings) -> None:
        self.folder, self._jobs = folder, folder / JOBS
        self._settings = json.loads(json.dumps(asdict(settings)))  # as it comes back
        self.backend: dict[str, str] | None = None
        self._records: dict[str, Record] = {}

    @contextmanager
    def opened(self) -> Iterator[Store]:
        """Locks the folder, reads the records and sweeps up what a kill left.

        Raises:
            CorpusError: if another process is at it, or it holds something else.
        """
        self._check()
        self._jobs.mkdir(parents=True, exist_ok=True)
        with locked(self._jobs / "lock", CorpusError):
            for path in self._jobs.glob("[!.]*.json"):
                with suppress(ValueError):  # the power failed: a job without a record is done again
                    self._records[path.stem] = read_json(path)
            self._sweep()
            self.backend = next((r["backend"] for r in self._records.values()), None)
            try:
                yield self
            finally:
                self._sweep()

    def missing(self, jobs: Sequence[Job], retry: bool = False) -> list[Job]:
        """Jobs that are still to do; removes shards that they will replace.

        Args:
            jobs: All that there are.
            retry: Also those of which something was skipped.

        Raises:
            CorpusError: if that would lose files that are not given any more.
        """
        given = {file.name for job in jobs for file in job.inputs}
        stale = self._records.keys() - {job.name for job in jobs}
        held = {name for job in stale for name, *_ in self._records[job]["inputs"]}
        if lost := sorted(held - given):
            raise CorpusError(
                f"{self.folder} holds tokens of {len(lost)} files that are not given now "
                f"({', '.join(lost[:3])}): give them too, or name another folder"
            )
        todo = [job for job in jobs if not self._is_whole(job, retry)]
        for name in stale | (self._records.keys() & {job.name for job in todo}):
            (self._jobs / f"{name}.json").unlink()
            del self._records[name]
        self._sweep()
        if todo:
            self._write_manifest(complete=False)
        return todo

    def commit(self, record: Record) -> None:
        """Makes a shard count.

        Raises:
            CorpusError: if it was made on another backend than the first one.
        """
        self.backend = self.backend or record["backend"]
        check_backend(self.backend, record["backend"])
        write_json(self._jobs / f"{record['name']}.json", record)
        self._records[record["name"]] = record

    def finish(self, jobs: Sequence[Job]) -> Report:
        """Writes the manifest of the whole corpus."""
        records = [self._records[job.name] for job in jobs]
        splits: dict[str, dict[str, float]] = {}
        for split, numbers in (item for r in records for item in r["splits"].items()):
            total = splits.setdefault(split, dict.fromkeys(numbers, 0))
            splits[split] = {name: total[name] + number for name, number in numbers.items()}
        same, codes = (sum(r["agreement"][i] for r in records) for i in range(2))
        report = Report(
            str(self.folder),
            dict(sorted(splits.items())),
            [each for record in records for each in record["skipped"]],
            [each for record in records for each in record["repaired"]],
            same / codes if codes else None,
            sum(record.get("nameless", 0) for record in records),
        )
        files = {name: digest for r in records for name, digest in r["files"].items()}
        facts = {name: value for name, value in vars(report).items() if name != "folder"}
        self._write_manifest(complete=True, **facts, files=dict(sorted(files.items())))
        return report

    def _check(self) -> None:
        path = self.folder / "manifest.json"
        if not path.is_file():
            if self.folder.exists() and any(each != self._jobs for each in self.folder.iterdir()):
                raise CorpusError(f"{self.folder} holds something else: name another folder")
            return
        found = read_json(path)
        if found.get("format_version") != _FORMAT_VERSION:
            raise CorpusError(f"{path} is no manifest of this version: name another folder")
        theirs = found["settings"]
        changed = {n: theirs.get(n) for n, v in self._settings.items() if theirs.get(n) != v}
        if changed:
            raise CorpusError(
                f"{self.folder} was begun with other settings ({changed}): use those, or name "
                "another folder"
            )

    def _is_whole(self, job: Job, retry: bool) -> bool:
        record = self._records.get(job.name)
        return (
            record is not None
            and not (retry and record["skipped"])
            and record["inputs"] == job.stamps()
            and all(
                (self.folder / name).is_file() and file_sha256(self.folder / name) == digest
                for name, digest in record["files"].items()
            )
        )

    def _sweep(self) -> None:
        """Removes what is half written, and files that no record speaks for."""
        known = {self.folder / name for r in self._records.values() for name in r["files"]}
        for split in self._settings["splits"]:
            for path in set((self.folder / split).glob("emg-*")) - known:
                path.unlink(missing_ok=True)
        for path in self._jobs.iterdir():
            if path.is_dir():
                shutil.rmtree(path, ignore_errors=True)
            elif path.name.startswith("."):  # a record half written
                path.unlink(missing_ok=True)

    def _write_manifest(self, **facts: Any) -> None:
        head = {"format_version": _FORMAT_VERSION, "settings": self._settings}
        write_json(self.folder / "manifest.json", head | {"backend": self.backend} | facts)
