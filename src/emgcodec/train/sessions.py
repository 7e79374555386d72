"""Typing sessions in a folder, and who of them trains, selects and tests.

emg2qwerty comes as one HDF5 file a session. Its split files are YAML: under ``dataset``, for each
of ``train``, ``val`` and ``test``, a list of ``user`` and ``session``.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

from emgcodec.config import ConfigError
from emgcodec.io import session_user

DATASET = "emg2qwerty"
PARTS = ("train", "val", "test")

GENERIC = "generic"
"""Split of all people but those who test: it is nobody's own, and found by this name alone."""

HELD = 2
"""Sessions of a person that select, and that test, where no file says which."""

_FOLDERS = ("", "splits", "config/user")


@dataclass(frozen=True)
class Split:
    """Sessions by part.

    Attributes:
        name: Of the split file, or of the person.
        train: Files to learn from.
        val: Files to choose by.
        test: Files to score.
    """

    name: str
    train: tuple[Path, ...]
    val: tuple[Path, ...]
    test: tuple[Path, ...]

    @classmethod
    def own(cls, name: str, paths: Sequence[Path]) -> Split:
        """A person's own: the last two sessions test, the two before them select.

        Raises:
            ConfigError: if none is left to learn from.
        """
        if len(paths) <= 2 * HELD:
            raise ConfigError(
                f"{name} has {len(paths)} sessions: {2 * HELD + 1} are needed to learn, select and "
                "test; or say in a split file which are for what"
            )
        train, val, test = paths[: -2 * HELD], paths[-2 * HELD : -HELD], paths[-HELD:]
        return cls(name, tuple(train), tuple(val), tuple(test))

    def to_yaml(self) -> str:
        """A split file."""
        import yaml

        parts = {
            part: [{"user": session_user(p), "session": p.stem} for p in getattr(self, part)]
            for part in PARTS
        }
        text: str = yaml.safe_dump({"dataset": parts}, sort_keys=False)
        return text


def find_splits(folder: Path, pattern: str = "*") -> list[Split]:
    """Splits whose name matches, of split files, or one for each person where there are none.

    A person's own split holds back the last two sessions, by name, to test, and the two before
    them to select; it needs five at least.

    Args:
        folder: Of the sessions; split files lie in it, in ``splits`` or in ``config/user``.
        pattern: Of names, such as ``user*``; only `GENERIC` itself matches that.

    Raises:
        ConfigError: if nothing matches, or a file is missing or says something else.
    """
    files = [f for part in _FOLDERS for f in sorted((folder / part).glob("*.y*ml"))]
    if files:
        chosen = [
            _read(f, folder)
            for f in files
            if fnmatch(f.stem, pattern) and (f.stem != GENERIC or pattern == GENERIC)
        ]
        known = [f.stem for f in files]
    else:
        people: dict[str, list[Path]] = defaultdict(list)
        for path in sorted(folder.glob("*.hdf5")):
            people[session_user(path)].append(path)
        chosen = [
            Split.own(name, people[name]) for name in sorted(people) if fnmatch(name, pattern)
        ]
        known = sorted(people)
    if not chosen:
        raise ConfigError(
            f"{folder} has no split named {pattern!r}: "
            + (f"choose from {known}" if known else "it holds neither split files nor sessions")
            + ("" if files else f"; split files of the data set go to {folder / 'splits'}")
        )
    return chosen


def _read(path: Path, folder: Path) -> Split:
    import yaml

    try:
        table = yaml.safe_load(path.read_text("utf-8"))
        parts = {part: _listed(table["dataset"].get(part) or [], folder) for part in PARTS}
    except (yaml.YAMLError, KeyError, TypeError, AttributeError) as error:
        raise ConfigError(
            f"{path} is no split file: it needs dataset.train, val and test, each a list of "
            "user and session"
        ) from error
    if missing := [p.name for paths in parts.values() for p in paths if not p.is_file()]:
        more = f" and {len(missing) - 3} more" if len(missing) > 3 else ""
        raise ConfigError(f"{path} names {missing[:3]}{more}, which {folder} lacks: add the files")
    return Split(path.stem, **{part: tuple(paths) for part, paths in parts.items()})


def _listed(entries: Iterable[Mapping[str, Any]], folder: Path) -> list[Path]:
    return [folder / f"{entry['session']}.hdf5" for entry in entries]
