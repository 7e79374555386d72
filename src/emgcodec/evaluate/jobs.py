"""What every job of an evaluation does: train a model, if it is not there, and say how."""

from __future__ import annotations

import hashlib
import json
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from emgcodec.codec import Codec
from emgcodec.evaluate.provenance import made_by
from emgcodec.evidence import people


def trained(recipe: str, out: Path, changes: Iterable[str], data: Path) -> Path:
    """The folder of a model; trains it if it is not there, or goes on with it.

    Args:
        recipe: Bundled, or a file.
        out: Folder of the training.
        changes: As ``emgcodec train --set`` takes them.
        data: Folder of the recordings.

    Raises:
        ValueError: if the training fails.
    """
    argv = [sys.executable, "-m", "emgcodec", "train", recipe, "--out", str(out)]
    argv += ["--data", str(data), "--resume", *(a for c in changes for a in ("--set", c))]
    if (status := subprocess.run(argv, check=False).returncode) != 0:
        if status == 130:
            raise KeyboardInterrupt
        raise ValueError(f"the training in {out} ended with status {status}")
    return out / "model"


def log_of(folder: Path) -> list[dict[str, Any]]:
    """The lines that a training logged; none where there is no log."""
    log = folder / "log.jsonl"
    lines = log.read_text("utf-8").splitlines() if log.is_file() else ()
    return [json.loads(line) for line in lines]


def training_of(codec: Codec, folder: Path, runs: Path) -> dict[str, Any]:
    """What a codec says of its training; a teacher is told by its place among the runs.

    Args:
        codec: That was trained.
        folder: Of its training, whose log tells the minutes.
        runs: Where trainings are.
    """
    told = dict(codec.config.provenance)
    recipe = dict(told.get("recipe", {}))
    teacher = recipe.get("distill", {}).get("teacher", "")
    if teacher and Path(teacher).is_relative_to(runs):
        place = f"$RUNS/{Path(teacher).relative_to(runs).as_posix()}"
        recipe["distill"] = recipe["distill"] | {"teacher": place}
    if log := log_of(folder):
        told["minutes"] = round(log[-1]["minutes"], 2)
    return told | ({"recipe": recipe} if recipe else {})


def facts(name: str, fold: int, data: Path, command: str) -> dict[str, Any]:
    """What a result on the corpora says beside its numbers and protocol."""
    return {
        "row": name,
        "fold": fold,
        **made_by(command),
        "data": f"manifest.csv of sha256 {_manifest(data)}",
        "people": {
            "train": sorted(people(fold, "train")),
            "validation": sorted(people(fold, "validation")),
            "test": sorted(people(fold, "test")),
        },
    }


def _manifest(data: Path) -> str:
    """Checksum of the table of files, which has theirs; empty where there is none."""
    path = data / "manifest.csv"
    return hashlib.sha256(path.read_bytes()).hexdigest() if path.is_file() else ""
