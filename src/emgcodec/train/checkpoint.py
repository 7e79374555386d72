"""A training's state in one safetensors file: no pickle, written beside and renamed."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from emgcodec.config import ConfigError
from emgcodec.files import written_beside
from emgcodec.train.recipe import Recipe

_KEY = "emgcodec_checkpoint"
_FORMAT_VERSION = 1
_FREE = ("checkpoint_seconds", "checkpoint_steps", "log_steps")
"""Fields of the recipe's ``run`` that a resumed training may change: they change no number."""


@dataclass(frozen=True)
class Checkpoint:
    """Where a training stands.

    All chance follows from the recipe's seed, the step and the process, so there is no state of
    random numbers or of the data to keep beside the step.

    Attributes:
        recipe: What is being trained.
        data: Hash of the recordings, and who teaches, if anybody does.
        step: Steps done: the next one has this number.
        seconds: Time spent in them.
        tensors: Weights, averaged weights, optimizer and codebook trainer, by dotted name.
    """

    recipe: Recipe
    data: str
    step: int
    seconds: float
    tensors: Mapping[str, Tensor]

    def save(self, path: Path) -> None:
        """Writes the file; the one before stays until this one is whole.

        Raises:
            OSError: if the disk does not take it.
        """
        facts = {
            "format_version": _FORMAT_VERSION,
            "recipe": self.recipe.to_dict(),
            "data": self.data,
            "step": self.step,
            "seconds": self.seconds,
        }
        tensors = {name: t.detach().cpu().contiguous() for name, t in self.tensors.items()}
        with written_beside(path) as beside:
            try:
                save_file(tensors, beside, {_KEY: json.dumps(facts)})
            except SafetensorError as error:
                raise OSError(f"{path} cannot be written: {error}") from error

    @classmethod
    def load(cls, path: Path) -> Checkpoint:
        """Reads what `save` wrote.

        Raises:
            ConfigError: if the file is foreign, damaged or of another version.
        """
        try:
            with safe_open(str(path), framework="pt") as file:
                facts: dict[str, Any] = json.loads((file.metadata() or {})[_KEY])
                tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
            if facts.pop("format_version") != _FORMAT_VERSION:
                raise ConfigError(f"{path} is of another version of emgcodec")
            recipe = _completed(facts.pop("recipe"))
            return cls(Recipe.from_dict(recipe), **facts, tensors=tensors)
        except (
            SafetensorError,
            LookupError,
            TypeError,
            AttributeError,
            RecursionError,
            json.JSONDecodeError,
        ) as error:
            raise ConfigError(f"{path} is no checkpoint of a training: {error!r}") from error

    def part(self, name: str) -> dict[str, Tensor]:
        """The tensors under a name, by what follows it."""
        return {k[len(name) + 1 :]: t for k, t in self.tensors.items() if k.startswith(f"{name}.")}


def optimizer_tensors(optimizer: torch.optim.Optimizer) -> Iterator[tuple[str, Tensor]]:
    """The moments of each parameter by its number."""
    for number, moments in optimizer.state_dict()["state"].items():
        yield from ((f"{number}.{name}", tensor) for name, tensor in moments.items())


def load_optimizer(optimizer: torch.optim.Optimizer, tensors: Mapping[str, Tensor]) -> None:
    """Goes on from what `optimizer_tensors` gave."""
    state: dict[int, dict[str, Tensor]] = {}
    for key, tensor in tensors.items():
        number, _, name = key.partition(".")
        state.setdefault(int(number), {})[name] = tensor
    optimizer.load_state_dict(optimizer.state_dict() | {"state": state})


def _completed(recipe: Mapping[str, Any]) -> dict[str, Any]:
    """An older recipe with the defaults of what it does not know yet."""
    known = {
        section: usual | recipe.get(section, {}) for section, usual in Recipe.defaults().items()
    }
    return {**recipe, **known}


def differences(a: Mapping[str, Any], b: Mapping[str, Any]) -> list[str]:
    """Dotted names of what makes two recipes' models differ, both from `Recipe.to_dict`.

    What an older recipe does not know yet has its default, which changes nothing.
    """
    b = _completed(b)
    return [
        f"{section}.{name}"
        for section in a
        for name in a[section]
        if a[section][name] != b[section][name] and not (section == "run" and name in _FREE)
    ]
