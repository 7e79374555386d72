"""Labelled gesture recordings: any montage, any sampling rate, any number of unlike people."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from emgcodec.gestures import GESTURES
from emgcodec.montage import Montage
from emgcodec.recording import Event, Recording, check_sample_rate
from emgcodec.simulate.anatomy import Person, check_person
from emgcodec.simulate.chance import Array, SimulationError, Stream, stream, whole
from emgcodec.simulate.signal import record

MIN_HOLD = 0.1
"""Seconds: what is shorter is a twitch, not a gesture."""

_RAMP = 0.3  # s: a gesture takes that long to come and to go


@dataclass(frozen=True, eq=False)
class Gestures:
    """A `Performance` of one gesture after the other.

    Attributes:
        edges: (n + 1,) seconds at which gestures are half way.
        efforts: (2, n, muscles) activation of both arms in each.
    """

    edges: Array
    efforts: Array

    def drive(self, side: int, time: Array) -> Array:
        """See `Performance`."""
        first = np.searchsorted(self.edges[1:-1], time[0] - _RAMP)
        last = np.searchsorted(self.edges[1:-1], time[-1] + _RAMP)
        efforts = self.efforts[side, first : last + 1]
        way = (time - self.edges[first + 1 : last + 1, None]) / _RAMP + 0.5
        step = 0.5 - 0.5 * np.cos(math.pi * np.clip(way, 0.0, 1.0))
        drive: Array = efforts[:1].T + np.diff(efforts, axis=0).T @ step
        return drive


def gesture_recording(
    person: Person,
    montage: Montage | str,
    sample_rate: float,
    *,
    gestures: Sequence[str] = GESTURES,
    hold: float = 2.0,
    rest: float = 1.0,
    repetitions: int = 1,
    seed: int = 0,
    session: int = 0,
    unit: str = "uV",
) -> Recording:
    """Records a person holding one gesture after the other, with rest before, between and after.

    The order of the gestures is shuffled anew in every repetition. Events of kind ``gesture``
    cover the recording without gaps, rests included, and change where a gesture is half way.

    Args:
        person: Who performs.
        montage: Electrode positions, or a device name. Two bands sit on the two arms, which make
            the same gesture.
        sample_rate: Samples per second, at least 100 Hz.
        gestures: Names from `GESTURES`.
        hold: Seconds that each gesture is held, at least `MIN_HOLD`.
        rest: Seconds of each rest; 0 puts gesture to gesture.
        repetitions: How often each gesture is held.
        seed: Which performance: the order, the force and every spike follow from it.
        session: Which wearing: electrodes sit elsewhere and the day is another one.
        unit: ``uV``, or ``adc`` for the counts of a signed 8-bit device.

    Returns:
        One contiguous recording, (C, N) float32, its metadata naming it simulated, the subject,
        the session and the version of the simulator.

    Raises:
        SimulationError: if an argument cannot be.
        MontageError: for an unknown device name.
        RecordingError: if the rate is not a finite number of at least 100 Hz.
    """
    check_person(person)
    sample_rate, seed = check_sample_rate(sample_rate), whole("seed", seed, 0)
    session = whole("session", session, 0)
    rng = stream(person.seed, Stream.SCRIPT, session, seed)
    script = _script(gestures, hold, rest, repetitions, rng)
    samples = np.rint(np.cumsum([0.0, *(seconds for _, seconds in script)]) * sample_rate)
    events = [
        Event(start / sample_rate, end / sample_rate, gesture)
        for (gesture, _), (start, end) in zip(script, pairwise(samples.tolist()), strict=True)
    ]
    rng = stream(person.seed, Stream.FORCE, session, seed)
    efforts = np.array([person.effort[GESTURES.index(gesture)] for gesture, _ in script])
    # No two holds are alike, in force or in the way it is shared out.
    shape = (2, *efforts.shape)
    efforts = (
        efforts * rng.lognormal(0.0, 0.2, (2, len(script), 1)) * rng.lognormal(0.0, 0.2, shape)
    )
    seconds = [seconds for _, seconds in script]
    performance = Gestures(np.cumsum([0.0, *seconds]), efforts)
    return record(
        person,
        performance,
        montage,
        sample_rate,
        int(samples[-1]),
        session=session,
        seed=seed,
        unit=unit,
        events=events,
    )


def _script(
    gestures: Sequence[str], hold: float, rest: float, repetitions: int, rng: np.random.Generator
) -> list[tuple[str, float]]:
    """What is asked of the person: gestures and rests with their seconds, in order."""
    unknown = [gesture for gesture in gestures if gesture not in GESTURES]
    if unknown or not gestures:
        raise SimulationError(f"gestures={gestures!r}: choose one or more of {list(GESTURES)}")
    if not MIN_HOLD <= hold < math.inf:
        raise SimulationError(f"hold={hold}: give at least {MIN_HOLD:g} seconds")
    if rest != 0.0 and not MIN_HOLD <= rest < math.inf:
        raise SimulationError(f"rest={rest}: give 0 or at least {MIN_HOLD:g} seconds")
    pause = [("rest", float(rest))] if rest else []
    script = list(pause)
    for _ in range(whole("repetitions", repetitions, 1)):
        for index in rng.permutation(len(gestures)):
            script += [(gestures[index], float(hold)), *pause]
    return script
