"""Which recordings share a shard: decided by their names and sizes, before any work is done."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from emgcodec.corpus.settings import CorpusError, Settings
from emgcodec.io import recording_files


@dataclass(frozen=True)
class Input:
    """A file as it was when the work was planned.

    Attributes:
        name: Path below the folder that all inputs share.
        path: Where it is, absolute.
        size: Bytes.
        mtime: Nanoseconds, when it was last written.
    """

    name: str
    path: str
    size: int
    mtime: int


@dataclass(frozen=True)
class Job:
    """Files whose tokens make one shard, in order.

    Attributes:
        name: Of the shard: hash of the settings and of the files' names.
        inputs: The files.
    """

    name: str
    inputs: tuple[Input, ...]

    @property
    def size(self) -> int:
        """Bytes of all files."""
        return sum(file.size for file in self.inputs)

    def stamps(self) -> list[list[str | int]]:
        """Names, sizes and times, in JSON: whether the files are still what they were."""
        return [[file.name, file.size, file.mtime] for file in self.inputs]


def find_inputs(paths: Iterable[str | os.PathLike[str]]) -> list[Input]:
    """The recordings named or lying in folders named, each once, in the order of their names.

    Of a folder it takes what `read_all` does.

    Raises:
        CorpusError: if there is none, or a path does not exist.
    """
    found: set[Path] = set()
    for path in map(Path, [paths] if isinstance(paths, str | os.PathLike) else paths):
        if not path.exists():
            raise CorpusError(f"{path} does not exist: check the path")
        files = recording_files(path) if path.is_dir() else [path]
        found.update(file.resolve() for file in files)
    if not found:
        raise CorpusError("inputs hold no recordings: name files, or folders with files in them")
    root, inputs = os.path.commonpath([file.parent for file in found]), []
    for file in found:
        name, stat = file.relative_to(root).as_posix(), file.stat()
        inputs.append(Input(name, str(file), stat.st_size, stat.st_mtime_ns))
    return sorted(inputs, key=lambda file: file.name)


def make_jobs(inputs: Sequence[Input], settings: Settings) -> list[Job]:
    """Deals neighbours out to jobs of about `settings.shard_megabytes`."""
    return [
        Job(f"emg-{settings.digest(*(file.name for file in group))}", tuple(group))
        for group in _groups(inputs, settings.shard_megabytes * 1e6)
    ]


def _groups(inputs: Sequence[Input], most: float) -> Iterator[list[Input]]:
    group: list[Input] = []
    for file in inputs:
        if group and sum(each.size for each in group) + file.size > most:
            yield group
            group = []
        group.append(file)
    yield group
