"""A clone of a source repository: which commit it is, and which of its files are recordings."""

from __future__ import annotations

import os
import re
import subprocess
from pathlib import Path

from emgcodec.prepare.collection import Collection, PrepareError, Take


def clone_commit(clone: Path, collection: Collection, any_commit: bool) -> str:
    """The commit that a clone is at, with ``-dirty`` behind it where files were changed.

    Args:
        clone: Folder of the clone.
        collection: What it should be a clone of.
        any_commit: Take whatever is there; ``unknown`` where it is no clone.

    Raises:
        PrepareError: if it is not an unchanged clone at the pinned commit.
    """
    if not clone.is_dir():
        raise PrepareError(f"--source {clone}: is no folder: give a clone of {_url(collection)}")
    try:
        top, commit = _git(clone, "rev-parse", "--show-toplevel", "HEAD").split("\n")
        if not clone.samefile(top):  # a folder inside another repository
            raise subprocess.SubprocessError(f"the repository it is in begins at {top}")
        if _git(clone, "status", "--porcelain"):
            commit += "-dirty"
    except (OSError, subprocess.SubprocessError) as error:
        if any_commit:
            return "unknown"
        words = getattr(error, "stderr", None) or error
        raise PrepareError(
            f"--source {clone}: is no clone that git can read ({words}): "
            f"git clone {_url(collection)}, or pass --any-commit"
        ) from error
    if commit != collection.commit and not any_commit:
        raise PrepareError(
            f"--source {clone}: is at commit {commit}, the corpus is made of {collection.commit}: "
            f"git -C {clone} checkout {collection.commit}, or pass --any-commit"
        )
    return commit


def _url(collection: Collection) -> str:
    return f"https://github.com/{collection.repository}"


def _git(clone: Path, *arguments: str) -> str:
    command = ["git", "-C", str(clone), *arguments]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()


def find_takes(clone: Path, collection: Collection) -> dict[Take, dict[int, Path]]:
    """The recordings that belong to the corpus, sorted, each with its files by label.

    Raises:
        PrepareError: if there is none, or a file has a place that is none or another one's.
    """
    takes: dict[Take, dict[int, Path]] = {}
    for folder, folders, names in os.walk(clone):
        folders[:] = sorted(set(folders) - {".git"})
        for path in (Path(folder, name) for name in sorted(names)):
            match = re.fullmatch(collection.pattern, path.relative_to(clone).as_posix())
            if not match or not (placed := collection.place(match)):
                continue
            take, label = placed
            if collection.part(take.subject) != "test" and not collection.kept(take):
                continue
            if not -1 <= label < len(collection.gestures):
                raise PrepareError(f"{path}: there are only {len(collection.gestures)} gestures")
            if (first := takes.setdefault(take, {}).setdefault(label, path)) != path:
                raise PrepareError(f"{path}: is the same part of {take} as {first}: remove one")
    if not takes:
        raise PrepareError(
            f"--source {clone}: no file is named like {collection.pattern}: "
            f"give a clone of {_url(collection)}"
        )
    return dict(sorted(takes.items()))
