"""Files that are whole or not there: written beside and then renamed."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


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
