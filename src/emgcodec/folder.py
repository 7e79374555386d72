"""A codec as a folder: its config, weights, card, golden codes and known devices, read strictly.

No pickle is ever read, no tensor is ever missing or left over, and the stored numbers are the
model: parameters are rounded to the stored type before they are scored or hashed. The hash of
the weights stands in config.json, beside the config and not in it: what a codec is does not
depend on how its file is written.
"""

from __future__ import annotations

import hashlib
import json
import os
import tempfile
from collections.abc import Mapping
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save
from torch import Tensor

from emgcodec.calibration import Calibration, load_calibrations, save_calibrations
from emgcodec.config import CodecConfig, require
from emgcodec.files import file_sha256
from emgcodec.nn.outline import LARGEST_MODEL, outline
from emgcodec.tokens import Tokens

CONFIG_FILE, WEIGHTS_FILE = "config.json", "model.safetensors"
CARD_FILE, GOLDEN_FILE, DEVICES_FILE = "README.md", "golden.tokens", "devices.safetensors"

LARGEST = dict.fromkeys((CONFIG_FILE, CARD_FILE, GOLDEN_FILE, DEVICES_FILE), 1 << 22) | {
    WEIGHTS_FILE: LARGEST_MODEL
}
"""Files of a model, its weights last, and the bytes of each that are read at most."""

_HASH = "weights_sha256"


class ModelError(ValueError):
    """A model that is unknown, damaged or of another version."""


def stored_dtype(name: str, config: CodecConfig) -> torch.dtype:
    """The type a tensor is stored in: codebooks always float32, the rest as the config says."""
    return torch.float32 if name.endswith("codebooks") else getattr(torch, config.storage)


def require_finite(stored: Mapping[str, Tensor], config: CodecConfig) -> None:
    """Raises a `ModelError` if tensors of the stored type hold what it cannot."""
    if bad := [name for name, tensor in stored.items() if not tensor.isfinite().all()]:
        raise ModelError(
            f"{_named(bad)} hold numbers that {config.storage} cannot: nothing was written"
        )


def save_model(
    directory: str | Path,
    config: CodecConfig,
    tensors: Mapping[str, Tensor],
    card: str,
    golden: Tokens | None,
    devices: Mapping[str, Calibration],
) -> None:
    """Writes the files beside `directory` first, and puts the config in place as the last.

    It has the hash of the weights: who reads in between is told, and does not read a mixture.
    """
    target = Path(directory)
    target.mkdir(parents=True, exist_ok=True)
    stored = {
        name: tensor.detach().cpu().to(stored_dtype(name, config)).contiguous()
        for name, tensor in tensors.items()
    }
    # Its own `save_file` hides the file from everybody else.
    weights = save(stored, {"format": "pt"})
    table = config.to_dict() | {_HASH: hashlib.sha256(weights).hexdigest()}
    with tempfile.TemporaryDirectory(dir=target.parent, prefix=f".{target.name}.") as beside:
        text = json.dumps(table, indent=1, ensure_ascii=False)
        (Path(beside) / CONFIG_FILE).write_text(text + "\n", encoding="utf-8")
        (Path(beside) / CARD_FILE).write_text(card, encoding="utf-8")
        (Path(beside) / WEIGHTS_FILE).write_bytes(weights)
        if golden is not None:
            golden.save(Path(beside) / GOLDEN_FILE)
        if devices:
            save_calibrations(devices, Path(beside) / DEVICES_FILE)
        for name in (WEIGHTS_FILE, CARD_FILE, GOLDEN_FILE, DEVICES_FILE, CONFIG_FILE):
            if (Path(beside) / name).exists():
                os.replace(Path(beside) / name, target / name)
            else:  # what is in place is another model's
                (target / name).unlink(missing_ok=True)


def load_config(directory: Path) -> CodecConfig:
    """Reads config.json.

    Raises:
        ModelError: if it is missing, damaged, of another version, or cannot be built.
    """
    return _read_config(directory)[0]


def _read_config(directory: Path) -> tuple[CodecConfig, str | None]:
    """The config and the hash of the weights; models saved before it was written have none."""
    path = directory / CONFIG_FILE
    if not path.is_file():
        raise ModelError(
            f"{directory} is no model: it is no folder with {CONFIG_FILE} and {WEIGHTS_FILE}; "
            "pickles are not read"
        )
    try:
        with path.open("rb") as file:
            text = file.read(LARGEST[CONFIG_FILE] + 1)
        require(len(text) <= LARGEST[CONFIG_FILE], f"it has more than {len(text) - 1:,} bytes")
        table = json.loads(text)
        checksum = table.pop(_HASH, None) if isinstance(table, dict) else None
        config = CodecConfig.from_dict(table)
        outline(config)
        return config, checksum
    except (OSError, ValueError, RecursionError) as error:
        raise ModelError(f"{path} cannot be read: {error}") from error


def load_devices(directory: Path, features: str) -> dict[str, Calibration]:
    """Reads devices.safetensors; a model without it knows no device.

    Raises:
        ModelError: if it is damaged, or for other features than the model's.
    """
    path = directory / DEVICES_FILE
    if not path.is_file():
        return {}
    try:
        devices = load_calibrations(path)
    except (ValueError, OSError) as error:
        raise ModelError(str(error)) from error
    if strange := sorted(name for name, c in devices.items() if c.features != features):
        raise ModelError(f"{path}: {strange} are for other features than the model's {features!r}")
    return devices


def load_tensors(directory: Path, config: CodecConfig) -> dict[str, Tensor]:
    """Reads model.safetensors; names, shapes and types must be exactly those of the config.

    Raises:
        ModelError: naming what is missing, left over or of another shape, or if the file is not
            the one that the config was written with.
    """
    path = directory / WEIGHTS_FILE
    if not path.is_file():
        raise ModelError(f"{path} is missing; other weight files, pickles above all, are not read")
    if (size := path.stat().st_size) > LARGEST[WEIGHTS_FILE]:
        raise ModelError(f"{path} has {size:,} bytes: at most {LARGEST[WEIGHTS_FILE]:,} are read")
    try:
        stored = load_file(path)
    except (SafetensorError, OSError) as error:
        raise ModelError(f"{path} is damaged: {error}") from error
    expected = outline(config)
    missing, extra = sorted(set(expected) - set(stored)), sorted(set(stored) - set(expected))
    if missing or extra:
        raise ModelError(
            f"{path} does not fit its config: missing {_named(missing)}, left over {_named(extra)}"
        )
    for name, tensor in stored.items():
        wanted = expected[name]
        if tensor.shape != wanted.shape or tensor.dtype != stored_dtype(name, config):
            raise ModelError(
                f"{path}: {name} is {tuple(tensor.shape)} {tensor.dtype}, the config asks for "
                f"{tuple(wanted.shape)} {stored_dtype(name, config)}"
            )
        if not tensor.isfinite().all():
            raise ModelError(f"{path}: {name} holds non-finite numbers")
    checksum = _read_config(directory)[1]
    if checksum not in (None, file_sha256(path)):
        raise ModelError(
            f"{path} is not the file that {CONFIG_FILE} was written with, by its {_HASH}: it is "
            "damaged or changed; fetch or train the model anew"
        )
    return {name: tensor.to(torch.float32) for name, tensor in stored.items()}


def _named(tensors: list[str]) -> str:
    """The first few names, and how many more there are."""
    more = f" and {len(tensors) - 5} more" if len(tensors) > 5 else ""
    return f"{tensors[:5]}{more}"
