"""Seeded chance: streams that never disturb one another, and smooth noise without a beginning."""

from __future__ import annotations

import operator
from enum import IntEnum

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[np.float64]

_KNOTS_AT_ONCE = 64


class SimulationError(ValueError):
    """A recording that cannot be simulated."""


class Stream(IntEnum):
    """Every kind of chance has a stream of its own: none depends on how much another one draws."""

    PERSON = 0
    SESSION = 1
    SCRIPT = 2
    FORCE = 3
    ANATOMY = 4
    FIRING = 5
    CONTACT = 6
    NOISE = 7
    WANDER = 8
    TYPIST = 9
    TEXT = 10


def stream(seed: int, kind: Stream, *key: int) -> np.random.Generator:
    """An independent source of chance for each key."""
    return np.random.default_rng(np.random.SeedSequence(seed, spawn_key=(kind, *key)))


def wander(seed: int, key: tuple[int, ...], count: int, time: Array, interval: float) -> Array:
    """Smooth noise of unit variance at times that rise, the same wherever it is looked at.

    A cubic B-spline over independent normal knots.

    Args:
        seed: Of the noise.
        key: Which noise.
        count: How many.
        time: (M,) seconds, from 0.
        interval: Seconds between knots: frequencies up to about a third of its inverse.

    Returns:
        (count, M).
    """
    place = time / interval
    knot = np.floor(place).astype(np.intp)
    pages = range(knot[0] // _KNOTS_AT_ONCE, (knot[-1] + 3) // _KNOTS_AT_ONCE + 1)
    shape = (_KNOTS_AT_ONCE, count)
    knots = np.concatenate(
        [stream(seed, Stream.WANDER, *key, page).standard_normal(shape) for page in pages]
    ).T
    knot -= pages[0] * _KNOTS_AT_ONCE
    t = place % 1.0
    weights = np.stack(
        [(1 - t) ** 3, 4 - 6 * t**2 + 3 * t**3, 1 + 3 * t + 3 * t**2 - 3 * t**3, t**3]
    )
    weights /= np.linalg.norm(weights, axis=0)
    total = np.zeros((count, len(time)))
    for step, weight in enumerate(weights):
        total += weight * knots[:, knot + step]
    return total


def whole(name: str, value: int, least: int) -> int:
    """The value as a Python integer.

    Raises:
        SimulationError: if it is not a whole number of at least `least`.
    """
    try:
        number = operator.index(value)
    except TypeError:
        number = least - 1
    if number < least:
        raise SimulationError(f"{name}={value!r}: give a whole number of at least {least}")
    return number
