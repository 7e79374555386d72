"""What a config would build, told without the memory: a config may come from anybody."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode

from emgcodec.config import CodecConfig, ConfigError, require
from emgcodec.nn.network import Network

LARGEST_MODEL = 1 << 31
"""Bytes of float32 parameters and codebooks that a stored model has at most."""

_WRITES = {getattr(Tensor, f"{name}_") for name in ("copy", "fill", "normal", "uniform", "zero")}


class _Weightless(TorchFunctionMode):
    """What modules allocate for parameters has a shape only, and nothing is written to it.

    As the device "meta" does, whose reference functions take a second to import.
    """

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func in (torch.empty, torch.randn):
            return torch.empty(*args, **(kwargs or {}) | {"device": "meta"})
        if func in _WRITES and args[0].is_meta:
            return args[0]
        return func(*args, **(kwargs or {}))


def outline(config: CodecConfig) -> dict[str, Tensor]:
    """The tensors of a model by name: shapes, without memory behind them.

    Raises:
        ConfigError: if the parts do not fit together, or are larger than `LARGEST_MODEL`.
    """
    try:
        with _Weightless():
            tensors = Network(config).state_dict()
    except (RuntimeError, KeyError, ValueError) as error:
        raise ConfigError(f"config {config.name!r} cannot be built: {error}") from error
    size = 4 * sum(tensor.numel() for tensor in tensors.values())
    require(
        size <= LARGEST_MODEL,
        f"config {config.name!r} asks for {size:,} bytes: at most {LARGEST_MODEL:,} are read",
    )
    return tensors
