"""What made a result: command, commit and versions."""

from __future__ import annotations

import platform
import subprocess
from collections.abc import Mapping
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch


def made_by(command: str, *packages: str) -> dict[str, Any]:
    """What a result file says of how it was made.

    Args:
        command: That makes it again.
        packages: Whose versions matter, beside those that always do.
    """
    known = ("emgcodec", "torch", "numpy", "scipy", *packages)
    return {
        "command": command,
        "commit": _commit(),
        "versions": {name: version(name) for name in known},
        "machine": platform.processor() or platform.machine(),
        "threads": torch.get_num_threads(),
    }


def versions_of(result: Mapping[str, Any]) -> str:
    """The versions of a result, as a page says them."""
    return ", ".join(f"{name} {version}" for name, version in result["versions"].items())


def _commit() -> str:
    """The commit of the code, marked where it was changed since; empty outside a repository."""
    argv = ["git", "describe", "--always", "--abbrev=12", "--dirty", "--exclude=*"]
    here = Path(__file__).parent
    try:
        done = subprocess.run(argv, cwd=here, capture_output=True, text=True, check=False)
    except FileNotFoundError:
        return ""
    return done.stdout.strip()
