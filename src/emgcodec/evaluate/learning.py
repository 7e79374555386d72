"""What the small networks that read tokens have in common: whom they see, and how they learn."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from math import cos, pi
from typing import TypeVar

import numpy as np
import torch
from torch import Tensor, nn
from tqdm import tqdm

from emgcodec.evaluate.frames import Labelled

_WARM_UP = 50


_L = TypeVar("_L", bound=Labelled)


def by_person(takes: Iterable[_L]) -> list[list[_L]]:
    """The takes of each person."""
    found: dict[str, list[_L]] = defaultdict(list)
    for take in takes:
        found[take.subject].append(take)
    return list(found.values())


def windows(
    people: Sequence[Sequence[_L]], count: int, length: int, rng: np.random.Generator
) -> list[tuple[_L, slice]]:
    """Frames of takes, `length` or what there is: people, then takes, then places, each alike."""
    chosen = []
    for _ in range(count):
        group = people[int(rng.integers(len(people)))]
        take = group[int(rng.integers(len(group)))]
        start = int(rng.integers(max(0, len(take.labels) - length) + 1))
        chosen.append((take, slice(start, min(start + length, len(take.labels)))))
    return chosen


def minimize(
    model: nn.Module, loss: Callable[[], Tensor], steps: int, rate: float, told: str
) -> None:
    """AdamW on a loss that draws anew each time; leaves the model in eval mode.

    Args:
        model: What learns.
        loss: Of the next batch.
        steps: How often.
        rate: Highest learning rate, after a short rise and before half a cosine.
        told: What the progress says.
    """
    optimizer = torch.optim.AdamW(model.parameters(), rate, (0.9, 0.98), weight_decay=0.05)
    for step in tqdm(range(steps), desc=told, unit="steps", leave=False):
        for group in optimizer.param_groups:
            rise = min(1.0, (step + 1) / _WARM_UP)
            group["lr"] = rate * rise * 0.5 * (1 + cos(pi * step / steps))
        found = loss()
        optimizer.zero_grad()
        found.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
    model.eval()
