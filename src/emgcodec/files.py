"""Files that are whole or not there: written beside and then renamed; and their checksums."""

from __future__ import annotations

import hashlib
import json
import os
import reprlib
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any


@contextmanager
def written_beside(path: str | os.PathLike[str]) -> Iterator[Path]:
    """A temporary name in the folder of `path`, renamed to it if the block ends well.

    Yields:
        Where to write; it keeps the suffix, which some writers look at.
    """
    target = Path(path)
    unique = f"{os.getpid()}-{threading.get_ident()}"
    beside = target.with_name(f".{target.stem}.{unique}{target.suffix}")
    try:
        yield beside
        os.replace(beside, target)
    finally:
        beside.unlink(missing_ok=True)


@contextmanager
def locked(path: Path, error: type[ValueError]) -> Iterator[None]:
    """Holds a lock file, so that no other process works in its folder; a kill lets it go.

    Raises:
        ValueError: the kind that is given, if another process holds it.
    """
    from filelock import FileLock, Timeout

    try:
        lock = FileLock(path).acquire(timeout=0)
    except Timeout as held:
        told = f"{path}: another process holds it, and works there: wait, or name another folder"
        raise error(told) from held
    with lock:
        yield


def write_json(path: Path, content: object) -> None:
    """Writes a result, whole or not at all."""
    with written_beside(path) as beside:
        text = json.dumps(content, indent=1, ensure_ascii=False)
        beside.write_text(text + "\n", encoding="utf-8")


def write_section(page: Path, name: str, text: str) -> None:
    """Replaces what stands between a page's marks ``<!-- name -->`` and ``<!-- /name -->``.

    Raises:
        ValueError: if the page lacks the marks.
    """
    first, last = f"<!-- {name} -->", f"<!-- /{name} -->"
    before, opened, rest = page.read_text("utf-8").partition(first)
    _, closed, after = rest.partition(last)
    if not (opened and closed):
        raise ValueError(f"{page} lacks the marks {first} and {last}: put them where to write")
    with written_beside(page) as beside:
        beside.write_text(f"{before}{first}\n{text}\n{last}{after}", encoding="utf-8")


def read_json(path: Path) -> dict[str, Any]:
    """The JSON object that a file holds.

    Raises:
        ValueError: if it holds something else, or is nested too deep to be read.
    """
    try:
        found = json.loads(path.read_text("utf-8-sig"))
        if not isinstance(found, dict):
            raise ValueError(f"it holds {reprlib.repr(found)}")
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{path} is not a JSON object ({error}): repair it") from error
    return found


def file_sha256(path: Path) -> str:
    """Hash of a file's bytes."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def printable(text: object) -> str:
    """One line of text out of a file, without what would move a terminal's cursor."""
    return "".join(c if c.isprintable() else " " for c in str(text))
