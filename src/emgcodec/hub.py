"""A codec as a folder: config.json, model.safetensors and a model card, read strictly.

No pickle is ever read, no tensor is ever missing or left over, and the stored numbers are the
model: parameters are rounded to the stored type before they are scored or hashed.
"""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Mapping
from importlib import resources
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save
from torch import Tensor

from emgcodec.config import CodecConfig, ConfigError

CONFIG_FILE, WEIGHTS_FILE, CARD_FILE = "config.json", "model.safetensors", "README.md"
DEFAULT_MODEL = "student"


class ModelError(ValueError):
    """A model that is unknown, damaged or of another version."""


def list_pretrained() -> list[str]:
    """Names of the models that come with the package."""
    folder = resources.files("emgcodec") / "weights"
    return sorted(entry.name for entry in folder.iterdir() if (entry / CONFIG_FILE).is_file())


def find_model(name_or_path: str | Path | None) -> Path:
    """The folder of a bundled model or a local one; None is the default student.

    Raises:
        ModelError: if there is none, listing the bundled ones.
    """
    name = DEFAULT_MODEL if name_or_path is None else str(name_or_path)
    if name in list_pretrained():
        return Path(str(resources.files("emgcodec") / "weights" / name))
    if (Path(name) / CONFIG_FILE).is_file():
        return Path(name)
    raise ModelError(
        f"model {name!r} is neither bundled ({list_pretrained()}) nor a folder with a "
        f"{CONFIG_FILE}; loading by Hub name is not part of this version"
    )


def stored_dtype(name: str, config: CodecConfig) -> torch.dtype:
    """The type a tensor is stored in: codebooks always float32, the rest as the config says."""
    return torch.float32 if name.endswith("codebooks") else getattr(torch, config.storage)


def save_model(
    directory: str | Path, config: CodecConfig, tensors: Mapping[str, Tensor], card: str
) -> None:
    """Writes the three files beside `directory` first, so that a reader never sees half a model."""
    target = Path(directory)
    target.mkdir(parents=True, exist_ok=True)
    stored = {
        name: tensor.detach().cpu().to(stored_dtype(name, config)).contiguous()
        for name, tensor in tensors.items()
    }
    if bad := [name for name, tensor in stored.items() if not tensor.isfinite().all()]:
        raise ModelError(f"{bad} hold numbers that {config.storage} cannot: nothing was written")
    with tempfile.TemporaryDirectory(dir=target.parent, prefix=f".{target.name}.") as beside:
        text = json.dumps(config.to_dict(), indent=1, ensure_ascii=False)
        (Path(beside) / CONFIG_FILE).write_text(text + "\n", encoding="utf-8")
        (Path(beside) / CARD_FILE).write_text(card, encoding="utf-8")
        # Its own `save_file` hides the file from everybody else.
        (Path(beside) / WEIGHTS_FILE).write_bytes(save(stored, {"format": "pt"}))
        for name in (WEIGHTS_FILE, CARD_FILE, CONFIG_FILE):
            os.replace(Path(beside) / name, target / name)


def load_config(directory: Path) -> CodecConfig:
    """Reads config.json.

    Raises:
        ModelError: if it is missing, damaged or of another version.
    """
    path = directory / CONFIG_FILE
    try:
        return CodecConfig.from_dict(json.loads(path.read_text(encoding="utf-8")))
    except (OSError, UnicodeDecodeError, json.JSONDecodeError, ConfigError) as error:
        raise ModelError(f"{path} cannot be read: {error}") from error


def load_tensors(
    directory: Path, config: CodecConfig, expected: Mapping[str, Tensor]
) -> dict[str, Tensor]:
    """Reads model.safetensors; names, shapes and types must be exactly those `expected`.

    Raises:
        ModelError: naming what is missing, left over or of another shape.
    """
    path = directory / WEIGHTS_FILE
    if not path.is_file():
        raise ModelError(f"{path} is missing; other weight files, pickles above all, are not read")
    try:
        stored = load_file(path)
    except (SafetensorError, OSError) as error:
        raise ModelError(f"{path} is damaged: {error}") from error
    missing, extra = sorted(set(expected) - set(stored)), sorted(set(stored) - set(expected))
    if missing or extra:
        raise ModelError(f"{path} does not fit its config: missing {missing}, left over {extra}")
    for name, tensor in stored.items():
        wanted = expected[name]
        if tensor.shape != wanted.shape or tensor.dtype != stored_dtype(name, config):
            raise ModelError(
                f"{path}: {name} is {tuple(tensor.shape)} {tensor.dtype}, the config asks for "
                f"{tuple(wanted.shape)} {stored_dtype(name, config)}"
            )
        if not tensor.isfinite().all():
            raise ModelError(f"{path}: {name} holds non-finite numbers")
    return {name: tensor.to(torch.float32) for name, tensor in stored.items()}
