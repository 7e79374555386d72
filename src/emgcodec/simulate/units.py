"""Pools of motor units: who is recruited, who fires when, and what electrodes see of it.

Units are recruited by size and coded by rate after Fuglevand, Winter & Patla, "Models of
recruitment and rate coding organization in motor-unit pools", J. Neurophysiol. 70, 1993. Their
action potentials are the first two derivatives of a Gaussian, the leading terms of the Hermite
expansion of Lo Conte, Merletti & Sandri, IEEE Trans. Biomed. Eng. 41, 1994.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from emgcodec.simulate.anatomy import Muscle
from emgcodec.simulate.chance import Array

CONTROL_RATE = 200.0  # Hz: the grid on which the nervous system changes its mind
LONGEST = 0.1  # s: no part of an action potential is farther from its spike, at any electrode

_UNITS_PER_MUSCLE = 20
_UNITS_AT_ONCE = 20  # trains of so many fit the cache of a processor
_UNIT_RANGE = 30.0  # of threshold and of amplitude, from the smallest unit to the largest
_HIGHEST_THRESHOLD = 0.6  # activation that recruits the last unit
_LOWEST_RATE, _PEAK_RATE, _RATE_GAIN = 8.0, 35.0, 45.0  # Hz; the gain is per unit of activation
_INTERVAL_CV = 0.2  # of the inter-spike interval
_VELOCITY = 4000.0  # mm/s: conduction along the muscle fibre
_FIBRE = 60.0  # mm to either side of the nerve's entry
_NEAR = 15.0  # mm: what comes from farther away is smeared by tissue
_END_PLATES = 6.0  # mm: where the potentials of both directions cancel

Intp = npt.NDArray[np.intp]


@dataclass(frozen=True)
class Spikes:
    """Who fired and when, sorted by unit: (S,) index of the unit, (S,) seconds."""

    unit: Intp
    time: Array


@dataclass(frozen=True, eq=False)
class Pool:
    """The motor units of one arm, muscle by muscle, smallest first; every field is (U,)."""

    muscle: Intp
    threshold: Array  # activation at which the unit starts to fire
    peak_rate: Array  # Hz
    amplitude: Array  # µV at 10 mm
    width: Array  # s, of the Gaussian behind the action potential
    shape: Array  # radians, from triphasic to biphasic
    tilt: Array  # change of the shape per radian around the limb
    angle: Array  # degrees
    depth: Array  # mm
    centre: Array  # mm, where the nerve enters

    @classmethod
    def draw(cls, muscles: tuple[Muscle, ...], rng: np.random.Generator) -> Pool:
        """The units of these muscles."""
        count = _UNITS_PER_MUSCLE
        muscle = np.repeat(np.arange(len(muscles)), count)
        order = np.tile(np.linspace(0.0, 1.0, count), len(muscles))
        angle, depth, centre, size = np.array(
            [[m.angle, m.depth, m.centre, m.size] for m in muscles]
        ).T[:, muscle]
        units = len(muscle)
        depth = np.clip(depth + rng.normal(0.0, 2.5, units), 4.0, 30.0)
        # Tissue is a low-pass: what comes from deep is broad. Small units are slow ones.
        width = (1.0 + 0.04 * depth) * (1.3 - 0.4 * order) * rng.lognormal(0.0, 0.3, units)
        return cls(
            muscle=muscle,
            threshold=_HIGHEST_THRESHOLD * _UNIT_RANGE ** (order - 1.0),
            peak_rate=_PEAK_RATE - 10.0 * order,
            amplitude=26.0 * size * _UNIT_RANGE**order * rng.lognormal(0.0, 0.2, units),
            width=1e-3 * np.clip(width, 0.6, 2.5),
            shape=rng.uniform(-math.pi, math.pi, units),
            tilt=rng.normal(0.0, 1.1, units),
            angle=angle + rng.normal(0.0, 8.0, units),
            depth=depth,
            centre=centre + rng.normal(0.0, 5.0, units),
        )

    def fire(
        self, activation: Array, due: Array, start: float, rng: np.random.Generator
    ) -> tuple[Spikes, Array]:
        """Spikes of one stretch of time, and what the next stretch goes on from.

        Args:
            activation: (muscles, M) at the control rate.
            due: (U,) share of an interval that each unit still waits for its next spike.
            start: Seconds, of the stretch.
            rng: Chance for this stretch.
        """
        above = activation[self.muscle] - self.threshold[:, None]
        rate = np.minimum(_LOWEST_RATE + _RATE_GAIN * above, self.peak_rate[:, None])
        # A unit fires whenever its integrated rate has grown by one more (jittered) interval.
        phase = np.zeros((len(rate), rate.shape[1] + 1))
        np.cumsum(np.where(above > 0.0, rate, 0.0) / CONTROL_RATE, axis=1, out=phase[:, 1:])
        count = int(1.5 * phase[:, -1].max()) + 12
        intervals = 1.0 + _INTERVAL_CV * rng.standard_normal((count, len(phase)))
        later = np.cumsum(np.maximum(intervals, 0.3), axis=0).T
        levels = due[:, None] + np.hstack([np.zeros((len(due), 1)), later])
        grid = start + np.arange(phase.shape[1]) / CONTROL_RATE
        fired = (levels < phase[:, -1:]).sum(axis=1)
        times = [
            np.interp(level[:n], own, grid)
            for level, own, n in zip(levels, phase, fired, strict=True)
        ]
        unit = np.repeat(np.arange(len(fired)), fired)
        due = np.take_along_axis(levels, fired[:, None], axis=1)[:, 0] - phase[:, -1]
        return Spikes(unit, np.concatenate(times)), due

    def trains(
        self, spikes: Spikes, along: float, start: float, rate: float, num_samples: int
    ) -> Iterator[tuple[slice, Array]]:
        """All action potentials that pass a place along the limb, for some units at a time.

        Yields:
            Which units, and their triphasic, then biphasic trains, (2u, num_samples).
        """
        arrival = spikes.time + np.abs(along - self.centre[spikes.unit]) / _VELOCITY - start
        for first in range(0, len(self.muscle), _UNITS_AT_ONCE):
            units = slice(first, first + _UNITS_AT_ONCE)
            width = self.width[units]
            here = slice(*np.searchsorted(spikes.unit, [first, first + len(width)]))
            unit, time = spikes.unit[here] - first, arrival[here]
            if not len(unit):
                continue
            half = 4.0 * width.max()
            index = np.ceil((time - half) * rate)[:, None] + np.arange(int(2.0 * half * rate) + 1)
            u = (index / rate - time[:, None]) / width[unit, None]
            bell = np.exp(-0.5 * u * u)
            inside = (index >= 0) & (index < num_samples)
            place = (unit[:, None] * num_samples + index.astype(np.intp))[inside]
            waves = ((1.0 - u * u) * bell, math.sqrt(1.5) * u * bell)
            size = len(width) * num_samples
            sums = [np.bincount(place, wave[inside], size) for wave in waves]
            both: Array = np.reshape(sums, (2 * len(width), num_samples))
            yield units, both

    def seen_from(self, units: slice, angle: Array, along: float, radius: float) -> Array:
        """Amplitude in µV of `trains` at electrodes at angles (C,): near, then far field.

        An electrode is a pair along the limb, so what runs the other way turns its sign.

        Returns:
            (2C, 2u).
        """
        around, centre = self.angle[units], self.centre[units]
        source = (radius - self.depth[units]) * np.exp(1j * np.deg2rad(around))
        electrode = radius * np.exp(1j * np.deg2rad(angle))[:, None]
        distance = np.abs(electrode - source)
        direction = np.tanh((along - centre) / _END_PLATES)
        belly = np.exp(-0.5 * ((along - centre) / _FIBRE) ** 2)
        amplitude = self.amplitude[units] * direction * belly * (10.0 / distance) ** 1.6
        # Fibres run askew: from another side they look like another stretch of themselves.
        shape = self.shape[units] + self.tilt[units] * np.angle(electrode / source)
        field = np.hstack([amplitude * np.cos(shape), amplitude * np.sin(shape)])
        near = np.tile(np.exp(-distance / _NEAR), 2)
        return np.vstack([field * near, field * (1.0 - near)])
