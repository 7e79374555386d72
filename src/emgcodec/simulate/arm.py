"""One arm at work: what is wanted of its muscles, and the spikes that come of it, page by page.

Spike times belong to the person, the session and the seed alone: the same performance can be
recorded with every montage and at every rate.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Protocol

import numpy as np

from emgcodec.simulate.anatomy import Person
from emgcodec.simulate.chance import Array, Stream, stream, wander
from emgcodec.simulate.units import CONTROL_RATE, Pool, Spikes

PAGE = 8.0  # s: what is made at once
LEAD = 0.25  # s before the recording in which muscles are at work already


class Performance(Protocol):
    """What somebody does with both hands."""

    def drive(self, side: int, time: Array) -> Array:
        """Activation of each muscle of one arm, (muscles, M), at times (M,) in seconds."""


@dataclass(eq=False)
class Arm:
    """The motor units of one arm at work; pages of spikes are kept while they are needed."""

    person: Person
    side: int
    strength: Array  # (muscles,)
    performance: Performance
    key: tuple[int, ...]  # session and seed
    pool: Pool = field(init=False)
    _due: list[Array] = field(init=False)  # at the start of each page reached so far
    _recent: dict[int, Spikes] = field(init=False, default_factory=dict)

    def __post_init__(self) -> None:
        seed, side = self.person.seed, self.side
        self.pool = Pool.draw(self.person.arms[side], stream(seed, Stream.ANATOMY, side))
        chance = stream(seed, Stream.FIRING, *self.key, side)
        self._due = [chance.uniform(size=len(self.pool.muscle))]

    def spikes(self, start: float, stop: float) -> Spikes:
        """All spikes from start to stop, in seconds."""
        pages = [self._page(k) for k in range(int(start // PAGE), int(stop // PAGE) + 1)]
        unit = np.concatenate([page.unit for page in pages])
        time = np.concatenate([page.time for page in pages])
        here = np.flatnonzero((time >= start) & (time < stop))
        here = here[np.argsort(unit[here], kind="stable")]
        return Spikes(unit[here], time[here])

    def _page(self, number: int) -> Spikes:
        for page in range(min(number, len(self._due) - 1), number + 1):
            if page not in self._recent:
                rng = stream(self.person.seed, Stream.FIRING, *self.key, self.side, page)
                fired = self.pool.fire(self._activation(page), self._due[page], page * PAGE, rng)
                self._recent[page], due = fired
                if page + 1 == len(self._due):
                    self._due.append(due)
            for old in [other for other in self._recent if abs(other - page) > 2]:
                del self._recent[old]
        return self._recent[number]

    def _activation(self, page: int) -> Array:
        time = page * PAGE + np.arange(round(PAGE * CONTROL_RATE)) / CONTROL_RATE
        seed, key, muscles = self.person.seed, (*self.key, self.side), len(self.strength)
        # Force is never steady: it wavers slowly, and it trembles.
        waver = wander(seed, (0, *key), muscles, time, 0.7)
        tremor = wander(seed, (1, *key), muscles, time, 0.08)
        unsteady = np.maximum(1.0 + 0.25 * waver + 0.25 * tremor, 0.0)
        drive = self.performance.drive(self.side, time - LEAD)
        return np.clip(self.strength[:, None] * drive * unsteady, 0.0, 1.0)
