"""Models by name: of the package, a checkout of the repository, a folder, or the Hub."""

from __future__ import annotations

import json
import os
import re
import warnings
from importlib import resources
from pathlib import Path

from emgcodec.folder import CONFIG_FILE, ModelError
from emgcodec.hub import download

DEFAULT_MODEL = "student"


def list_pretrained() -> list[str]:
    """Names of the models that come with the package, or with a checkout of the repository."""
    return sorted(_here())


def published() -> dict[str, str]:
    """Where on the Hub the released models are, by name; empty where nobody put them yet."""
    text = (resources.files("emgcodec") / "pretrained.json").read_text("utf-8")
    found: dict[str, str] = json.loads(text)
    return found


def find_model(
    name_or_path: str | Path | None,
    *,
    revision: str | None = None,
    token: str | bool | None = None,
    local_files_only: bool = False,
) -> Path:
    """The folder of a model; one on the Hub is fetched unless it is in the cache.

    Args:
        name_or_path: See `Codec.from_pretrained`.
        revision: On the Hub; a name then means the published model, not the one that is here.
        token: See `hub.download`.
        local_files_only: Never ask the Hub.

    Raises:
        ModelError: if there is none.
    """
    name = DEFAULT_MODEL if name_or_path is None else str(name_or_path)
    here, known = _here(), published()
    released = not isinstance(name_or_path, Path) and (name in known or name in here)
    if released and name_or_path is not None and os.path.isfile(Path(name) / CONFIG_FILE):
        warnings.warn(
            f"{name!r} is the released model; for the folder of that name give './{name}'",
            stacklevel=3,
        )
    if released and name in here and revision is None:
        return here[name]
    if released:
        repo = known.get(name, "")
        if not repo and name in here:
            raise ModelError(
                f"revision={revision!r}: model {name!r} is here, and not published in others; "
                "leave it out, or publish it with `make publish ORG=org`"
            )
        if not repo:
            raise ModelError(
                f"model {name!r} is neither here nor published: take it from `weights/` of the "
                f"repository, or train it (`emgcodec train {name} --data corpora/ --out "
                f"runs/{name}`), and give its folder; or name a repository 'org/name' of the Hub"
            )
    elif os.path.exists(name) or isinstance(name_or_path, Path):
        if revision is not None:
            raise ModelError(f"revision={revision!r}: the folder {name!r} has none; leave it out")
        return Path(name)
    elif re.fullmatch(r"[\w-][\w.-]*/[\w.-]+", name):
        repo = name
    else:
        raise ModelError(
            f"model {name!r} is neither bundled ({sorted(here)}), nor a folder, nor a Hub "
            "repository such as 'org/name'"
        )
    return download(repo, revision=revision, token=token, local_files_only=local_files_only)


def _here() -> dict[str, Path]:
    """Folders of the models that come along: in the wheel, and beside it in a checkout."""
    package = Path(str(resources.files("emgcodec")))
    places = [package / "weights"]
    if package.parent.name == "src":
        places.insert(0, package.parents[1] / "weights")  # those that no wheel needs
    return {
        folder.name: folder
        for place in places
        if place.is_dir()
        for folder in place.iterdir()
        if (folder / CONFIG_FILE).is_file()
    }
