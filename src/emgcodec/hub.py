"""Models on the Hugging Face Hub: fetched at one commit, checked, and put there.

The client compares sizes only, and never hashes what it fetched by HTTP; here every file must have
the hash that the Hub states, or it is deleted again. What is in the cache needs no network.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from emgcodec.files import file_sha256, printable
from emgcodec.folder import (
    CARD_FILE,
    CONFIG_FILE,
    LARGEST,
    WEIGHTS_FILE,
    ModelError,
    load_config,
)

if TYPE_CHECKING:
    from huggingface_hub import HfApi, RepoFile


def download(
    repo: str,
    *,
    revision: str | None = None,
    token: str | bool | None = None,
    local_files_only: bool = False,
) -> Path:
    """A model's folder in the cache, fetched unless it is there.

    Args:
        repo: ``org/name``.
        revision: Branch, tag or commit; the default branch without.
        token: For private and gated ones; by default the one that is logged in, if any.
        local_files_only: Ask nobody: the cache or nothing.

    Raises:
        ModelError: if there is no such model, or it cannot be had, or came damaged.
    """
    from huggingface_hub import HfApi, try_to_load_from_cache
    from huggingface_hub.errors import LocalEntryNotFoundError

    api = HfApi(token=token, library_name="emgcodec")
    with _explained(repo, revision):
        # Once, and before anything else: the config and the weights of one commit.
        asked = api.resolve_revision(repo, revision=revision, local_files_only=local_files_only)
        commit = asked.resolved
        names = CONFIG_FILE, WEIGHTS_FILE
        cached = [try_to_load_from_cache(repo, name, revision=commit) for name in names]
        if all(isinstance(path, str) for path in cached):
            return Path(str(cached[0])).parent
        if local_files_only:
            raise LocalEntryNotFoundError(f"nothing of commit {commit}")
        return _fetch(api, repo, commit)


def _fetch(api: HfApi, repo: str, commit: str) -> Path:
    from huggingface_hub import RepoFile

    rows = api.get_paths_info(repo, list(LARGEST), revision=commit)
    listed = {row.path: row for row in rows if isinstance(row, RepoFile)}
    for name, largest in LARGEST.items():
        if name in listed and listed[name].size > largest:
            raise ModelError(f"{name} of {repo!r} has more than {largest:,} bytes: it is not read")
    if missing := {CONFIG_FILE, WEIGHTS_FILE} - set(listed):
        raise ModelError(
            f"{repo!r} holds no {' and no '.join(sorted(missing))}, so it is no model of this "
            "package; other weight files, pickles above all, are not read"
        )
    folder = _fetch_file(api, repo, commit, listed[CONFIG_FILE]).parent
    config = load_config(folder)  # before the weights: what cannot be built is not fetched
    licence = printable(config.weights_license) or "no licence stated"
    print(f"emgcodec: weights of {repo}: {licence}", file=sys.stderr)
    for name in LARGEST:  # the weights last: with them in the cache, all is there
        if name in listed:
            _fetch_file(api, repo, commit, listed[name])
    return folder


def _card_head(licence: str) -> str:
    """What the Hub sorts models by."""
    known = (
        "apache-2.0" if licence.startswith("Apache-2.0") else "other\nlicense_name: stated-below"
    )
    return f"---\nlibrary_name: emgcodec\nlicense: {known}\n---\n\n"


def _fetch_file(api: HfApi, repo: str, commit: str, listed: RepoFile) -> Path:
    from huggingface_hub.utils.sha import git_hash

    path = Path(api.hf_hub_download(repo, listed.path, revision=commit))
    if listed.lfs is not None:
        good = file_sha256(path) == listed.lfs.sha256
    else:
        good = git_hash(path.read_bytes()) == listed.blob_id
    if not good:
        path.resolve().unlink()  # the file itself, then the link to it
        path.unlink(missing_ok=True)
        raise ModelError(
            f"{listed.path} of {repo!r} came damaged: its hash is not the one that the Hub "
            "states. It was deleted; load the model again"
        )
    return path


def upload(
    folder: Path, repo: str, *, private: bool = False, token: str | bool | None = None
) -> str:
    """Puts the files of a model's folder into a repository, in one commit; makes it if need be.

    What another model left there under names that this one has no file for goes with the commit.

    Args:
        folder: Written by `folder.save_model`.
        repo: ``org/name``.
        private: Whether a repository that is made is private.
        token: With the right to write.

    Returns:
        Address of the commit.

    Raises:
        ModelError: if the Hub cannot be reached or refuses, or the repository is there and public
            though `private` is asked for.
    """
    from huggingface_hub import CommitOperationAdd, CommitOperationDelete, HfApi

    api = HfApi(token=token, library_name="emgcodec")
    config = load_config(folder)
    card = _card_head(config.weights_license) + (folder / CARD_FILE).read_text("utf-8")
    files = [folder / name for name in LARGEST if name != CARD_FILE and (folder / name).is_file()]
    operations: list[CommitOperationAdd | CommitOperationDelete] = [
        CommitOperationAdd(path.name, path) for path in files
    ]
    operations.append(CommitOperationAdd(CARD_FILE, card.encode()))
    message = f"Upload {config.name}"
    with _explained(repo, None):
        api.create_repo(repo, private=private, exist_ok=True)
        there = api.model_info(repo)
        if private and not there.private:
            raise ModelError(
                f"{repo} is there and public: make it private on its page, or name another"
            )
        left = {file.rfilename for file in there.siblings or ()} & LARGEST.keys()
        written = {operation.path_in_repo for operation in operations}
        operations += [CommitOperationDelete(name) for name in sorted(left - written)]
        return api.create_commit(repo, operations, commit_message=message).commit_url


@contextmanager
def _explained(repo: str, revision: str | None) -> Iterator[None]:
    """Turns what the client raises into a `ModelError` that says what to do."""
    from huggingface_hub import errors
    from huggingface_hub.utils import httpx  # type: ignore[attr-defined]  # of either version

    log_in = "log in with `hf auth login`, set HF_TOKEN or pass token="
    away = "is not in the cache, and the Hub is not to be reached: connect once, unset "
    away += "HF_HUB_OFFLINE, leave local_files_only out, or give a folder"
    # The first that fits: some are kinds of others below.
    advice: dict[type[Exception], str] = {
        errors.HFValidationError: "is no Hub repository: give 'org/name'",
        errors.GatedRepoError: f"is gated: accept its terms on its page, and {log_in}",
        errors.RepositoryNotFoundError: "is neither a folder here nor a repository that the Hub "
        f"shows you: check the name; if it is private, {log_in}",
        errors.RevisionNotFoundError: f"has no revision={revision!r}: give a branch, tag or commit",
        errors.HfHubHTTPError: f"is refused by the Hub: try again later, or {log_in}",
        errors.RevisionResolutionError: away,
        errors.LocalEntryNotFoundError: away,
        errors.OfflineModeIsEnabled: away,
        httpx.TransportError: away,
        OSError: "could not be fetched and kept whole: load it again; the cache, in HF_HOME, must "
        "have room and let itself be written to",
    }
    try:
        yield
    except tuple(advice) as error:
        words = next(text for kind, text in advice.items() if isinstance(error, kind))
        raise ModelError(f"model {repo!r} {words} ({error})") from error
