"""Simulated gesture recordings: any montage, any sampling rate, any number of unlike people.

Motor units are recruited by size and coded by rate after Fuglevand, Winter & Patla, "Models of
recruitment and rate coding organization in motor-unit pools", J. Neurophysiol. 70, 1993. Their
action potentials are the first two derivatives of a Gaussian, the leading terms of the Hermite
expansion of Lo Conte, Merletti & Sandri, IEEE Trans. Biomed. Eng. 41, 1994. What an electrode
sees falls off with its distance from the unit on a round limb.

Spike times belong to the person and the seed alone: the same performance can be recorded with
every montage and at every rate. The numbers below are textbook orders of magnitude set by hand,
fitted to nobody: a simulated result does not say how well a codec does on people.
"""

from __future__ import annotations

import math
import operator
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import numpy.typing as npt
from scipy.interpolate import CubicSpline
from scipy.signal import oaconvolve, resample_poly

from emgcodec.gestures import GESTURES
from emgcodec.montage import Montage
from emgcodec.recording import Event, Recording, check_sample_rate

MIN_HOLD = 0.1
"""Seconds: what is shorter is a twitch, not a gesture."""

_INTERNAL_RATE = 2000.0  # Hz: action potentials hold next to nothing above half of it
_CONTROL_RATE = 200.0  # Hz: the grid on which the nervous system changes its mind
_UNITS_PER_MUSCLE = 30
_UNIT_RANGE = 30.0  # of threshold and of amplitude, from the smallest unit to the largest
_LOWEST_RATE, _PEAK_RATE, _RATE_GAIN = 8.0, 35.0, 45.0  # Hz; the gain is per unit of activation
_INTERVAL_CV = 0.2  # of the inter-spike interval
_VELOCITY = 4000.0  # mm/s: conduction along the muscle fibre
_ROW_SPACING, _BAND_SPACING = 15.0, 25.0  # mm along the limb
_RAMP = 0.3  # s: a gesture takes that long to come and to go
_ADC_STEP = 4.0  # µV per count of a signed 8-bit device

# Every kind of chance has a stream of its own, so that none depends on how much another one draws.
_PERSON, _ORDER, _FORCE, _ANATOMY, _FIRING, _CONTACT, _NOISE = range(7)

Array = npt.NDArray[np.float64]


class SimulationError(ValueError):
    """A recording that cannot be simulated."""


@dataclass(frozen=True)
class Muscle:
    """One muscle in the cross-section of a forearm.

    Attributes:
        name: Its usual abbreviation.
        angle: Degrees around the limb: 0 palm side, 90 thumb side, 180 back of the hand.
        depth: Of its centre below the skin, in mm.
        centre: Of its belly along the limb, in mm towards the elbow from row 0.
        size: Amplitude of its action potentials, 1 for a usual muscle.
    """

    name: str
    angle: float
    depth: float
    centre: float
    size: float = 1.0


_FOREARM = (
    Muscle("FCR", 30, 9, 30),  # flexor carpi radialis
    Muscle("PL", 5, 7, 25, 0.6),  # palmaris longus
    Muscle("FDS", 340, 14, 10, 1.2),  # flexor digitorum superficialis
    Muscle("FCU", 295, 9, 25),  # flexor carpi ulnaris
    Muscle("ECU", 235, 9, 20),  # extensor carpi ulnaris
    Muscle("ED", 195, 9, 20),  # extensor digitorum
    Muscle("ECR", 140, 9, 40, 1.2),  # extensor carpi radialis longus and brevis
    Muscle("APL", 160, 16, -15, 0.8),  # abductor pollicis longus
    Muscle("SUP", 115, 19, 50, 1.2),  # supinator
    Muscle("PT", 65, 12, 55),  # pronator teres
    Muscle("FPL", 45, 18, -10),  # flexor pollicis longus
)

_EFFORT: dict[str, dict[str, float]] = {
    "hand_close": {"FDS": 0.6, "FPL": 0.4, "ECR": 0.3, "ECU": 0.25, "FCU": 0.2, "PL": 0.15},
    "hand_open": {"ED": 0.6, "APL": 0.4, "ECU": 0.25, "ECR": 0.15},
    "wrist_flexion": {"FCR": 0.55, "FCU": 0.5, "PL": 0.45, "FDS": 0.15},
    "wrist_extension": {"ECR": 0.6, "ECU": 0.5, "ED": 0.3},
    "radial_deviation": {"ECR": 0.5, "FCR": 0.45, "APL": 0.3},
    "ulnar_deviation": {"FCU": 0.5, "ECU": 0.55},
    "pronation": {"PT": 0.6, "FCR": 0.2},
    "supination": {"SUP": 0.65, "APL": 0.15, "ECR": 0.1},
    "chuck_grip": {"FDS": 0.4, "FPL": 0.45, "ECR": 0.2, "APL": 0.2},
    "pinch_grip": {"FPL": 0.5, "FDS": 0.2, "ED": 0.15, "APL": 0.3},
}
"""Activation of the main muscles of each gesture, 1 being the most that a muscle can do."""


@dataclass(frozen=True)
class Person:
    """A simulated person: anatomy, habits and surroundings; see `Person.draw`.

    Attributes:
        seed: What the person was drawn from; motor units and electrode contacts follow from it.
        radius: Of the forearm, in mm.
        arms: The muscles of both arms; odd bands sit on the second one, which is mirrored.
        rotation: How far each arm's band is turned from where it should sit, in degrees.
        effort: Activation of each muscle (in the order of `arms`) in each gesture of `GESTURES`.
        noise: Of the electrodes, in µV rms below 1 kHz.
        mains_frequency: 50 or 60 Hz.
        mains: Amplitude of its hum, in µV.
    """

    seed: int
    radius: float
    arms: tuple[tuple[Muscle, ...], tuple[Muscle, ...]]
    rotation: tuple[float, float]
    effort: tuple[tuple[float, ...], ...]
    noise: float
    mains_frequency: float
    mains: float

    @classmethod
    def draw(cls, seed: int) -> Person:
        """The person with this number, the same on every machine.

        Raises:
            SimulationError: if the seed is not a whole number of at least 0.
        """
        seed = _whole("seed", seed, 0)
        rng = _stream(seed, _PERSON)
        fat = rng.uniform(0.0, 5.0)

        def arm(side: int) -> tuple[Muscle, ...]:
            return tuple(
                Muscle(
                    muscle.name,
                    side * (muscle.angle + rng.normal(0.0, 14.0)),
                    muscle.depth * rng.lognormal(0.0, 0.15) + fat,
                    muscle.centre + rng.normal(0.0, 10.0),
                    muscle.size * rng.lognormal(0.0, 0.25),
                )
                for muscle in _FOREARM
            )

        def style(gesture: str) -> tuple[float, ...]:
            if gesture == "rest":  # hardly a muscle is ever quite still
                return tuple(rng.exponential(0.008) for _ in _FOREARM)
            main, strength = _EFFORT[gesture], rng.lognormal(0.0, 0.3)
            cocontraction = rng.uniform(0.01, 0.15)
            return tuple(
                strength * main.get(muscle.name, 0.0) * rng.lognormal(0.0, 0.75)
                + cocontraction * rng.uniform()
                for muscle in _FOREARM
            )

        return cls(
            seed=seed,
            radius=rng.uniform(36.0, 46.0),
            arms=(arm(1), arm(-1)),
            rotation=(rng.normal(0.0, 20.0), rng.normal(0.0, 20.0)),
            effort=tuple(style(gesture) for gesture in GESTURES),
            noise=rng.uniform(2.5, 5.0),
            mains_frequency=(50.0, 60.0)[rng.integers(2)],
            mains=rng.uniform(0.2, 2.5),
        )


@dataclass(frozen=True, eq=False)
class _MotorUnits:
    """The motor units of one muscle, smallest first; every field is (U,)."""

    threshold: Array  # activation at which the unit starts to fire
    peak_rate: Array  # Hz
    amplitude: Array  # µV at 10 mm
    width: Array  # s, of the Gaussian behind the action potential
    shape: Array  # radians, from triphasic to biphasic
    tilt: Array  # change of the shape per radian around the limb
    angle: Array  # degrees
    depth: Array  # mm
    centre: Array  # mm

    @classmethod
    def draw(cls, muscle: Muscle, rng: np.random.Generator) -> _MotorUnits:
        count = _UNITS_PER_MUSCLE
        order = np.linspace(0.0, 1.0, count)
        depth = np.clip(muscle.depth + rng.normal(0.0, 2.5, count), 4.0, 30.0)
        return cls(
            threshold=0.6 * _UNIT_RANGE ** (order - 1.0),
            peak_rate=_PEAK_RATE - 10.0 * order,
            amplitude=22.0 * muscle.size * _UNIT_RANGE**order * rng.lognormal(0.0, 0.2, count),
            # Tissue is a low-pass: what comes from deep is broad.
            width=1e-3 * np.clip((1.2 + 0.045 * depth) * rng.lognormal(0.0, 0.3, count), 0.7, 2.5),
            shape=rng.uniform(-math.pi, math.pi, count),
            tilt=rng.normal(0.0, 1.5, count),
            angle=muscle.angle + rng.normal(0.0, 8.0, count),
            depth=depth,
            centre=muscle.centre + rng.normal(0.0, 5.0, count),
        )

    def fire(
        self, activation: Array, rng: np.random.Generator
    ) -> tuple[npt.NDArray[np.intp], Array]:
        """Spikes under an activation (M,) at the control rate: unit and time in s of each."""
        above = activation - self.threshold[:, None]
        rate = np.minimum(_LOWEST_RATE + _RATE_GAIN * above, self.peak_rate[:, None])
        # A unit fires whenever its integrated rate has grown by one more (jittered) interval.
        phase = np.cumsum(np.where(above > 0.0, rate, 0.0), axis=1) / _CONTROL_RATE
        count = int(1.3 * phase[:, -1].max()) + 10
        intervals = np.maximum(1.0 + _INTERVAL_CV * rng.standard_normal((len(phase), count)), 0.3)
        levels = np.cumsum(intervals, axis=1) - rng.uniform(size=(len(phase), 1))
        grid = np.arange(1, phase.shape[1] + 1) / _CONTROL_RATE
        times = [
            np.interp(level[(level > 0.0) & (level < own[-1])], own, grid)
            for level, own in zip(levels, phase, strict=True)
        ]
        return np.repeat(np.arange(len(times)), [len(t) for t in times]), np.concatenate(times)

    def trains(
        self, unit: npt.NDArray[np.intp], time: Array, rate: float, num_samples: int
    ) -> Array:
        """All action potentials, triphasic then biphasic, (2U, num_samples) at `rate`."""
        half = 4.0 * self.width.max()
        first = np.ceil((time - half) * rate)
        index = first[:, None] + np.arange(int(2.0 * half * rate) + 1)
        u = (index / rate - time[:, None]) / self.width[unit, None]
        bell = np.exp(-0.5 * u * u)
        inside = (index >= 0) & (index < num_samples)
        place = (unit[:, None] * num_samples + index.astype(np.intp))[inside]
        count = len(self.width)
        waves = ((1.0 - u * u) * bell, math.sqrt(1.5) * u * bell)
        sums = [np.bincount(place, wave[inside], count * num_samples) for wave in waves]
        return np.concatenate(sums).astype(np.float64).reshape(2 * count, num_samples)

    def seen_from(self, angle: Array, along: float, radius: float) -> Array:
        """Amplitude in µV of `trains` at electrodes at angles (C,) and `along` mm, (C, 2U)."""
        source = (radius - self.depth) * np.exp(1j * np.deg2rad(self.angle))
        electrode = radius * np.exp(1j * np.deg2rad(angle))[:, None]
        belly = np.exp(-0.5 * ((along - self.centre) / 60.0) ** 2)
        amplitude = self.amplitude * belly * (10.0 / np.abs(electrode - source)) ** 1.6
        # Fibres run askew: from another side they look like another stretch of themselves.
        shape = self.shape + self.tilt * np.angle(electrode / source)
        return np.hstack([amplitude * np.cos(shape), amplitude * np.sin(shape)])


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
        unit: ``uV``, or ``adc`` for the counts of a signed 8-bit device.

    Returns:
        One contiguous recording, (C, N) float32, its metadata naming it simulated.

    Raises:
        SimulationError: if an argument cannot be.
        MontageError: for an unknown device name.
        RecordingError: if the rate is not a finite number of at least 100 Hz.
    """
    if not isinstance(person, Person):
        raise SimulationError(f"person={person!r}: give a Person, for example Person.draw(0)")
    montage = Montage.preset(montage) if isinstance(montage, str) else montage
    if not isinstance(montage, Montage):
        raise SimulationError(f"montage={montage!r}: give a Montage or a device name")
    sample_rate, seed = check_sample_rate(sample_rate), _whole("seed", seed, 0)
    if unit not in ("uV", "adc"):
        raise SimulationError(f"unit={unit!r} cannot be simulated: choose 'uV' or 'adc'")
    script = _script(gestures, hold, rest, repetitions, _stream(person.seed, _ORDER, seed))
    edges = np.rint(np.cumsum([0.0, *(seconds for _, seconds in script)]) * sample_rate)
    factor = math.ceil(_INTERNAL_RATE / sample_rate)
    rate, num_samples = sample_rate * factor, int(edges[-1]) * factor
    emg = _muscle_activity(person, montage, script, rate, num_samples, seed)
    emg = _electrodes(person, montage, emg, rate, seed)
    emg = resample_poly(emg, 1, factor, axis=1)
    if unit == "adc":
        emg = np.clip(np.rint(emg / _ADC_STEP), -128, 127)
    times = (edges / sample_rate).tolist()
    events = [
        Event(start, end, gesture)
        for (gesture, _), (start, end) in zip(script, pairwise(times), strict=True)
    ]
    return Recording(
        emg.astype(np.float32),
        sample_rate,
        montage=montage,
        unit=unit,
        events=events,
        metadata={
            "simulated": True,
            "subject": f"simulated-{person.seed}",
            "seed": seed,
            "licence": "Apache-2.0",
        },
    )


_SAMPLES: dict[str, tuple[str, float, str, tuple[str, ...], float, float]] = {
    # montage, Hz, unit, gestures, seconds held, seconds of rest
    "armband": ("cuff8", 1000.0, "uV", GESTURES[1:], 1.45, 0.5),
    "grid": ("flexemg", 1000.0, "uV", GESTURES[1:5], 1.75, 0.6),
    "myo": ("myo", 200.0, "adc", GESTURES[1:], 1.45, 0.5),
    "wristbands": ("emg2qwerty", 2000.0, "uV", GESTURES[1:], 1.45, 0.5),
}


def list_samples() -> list[str]:
    """Names that `sample` knows."""
    return sorted(_SAMPLES)


def sample(name: str) -> Recording:
    """A ready-made simulated recording of one person, always the same, for demos and tests.

    ``armband`` has 8 electrodes at 1 kHz, ``wristbands`` 2 x 16 at 2 kHz, ``myo`` 8 at 200 Hz in
    ADC counts (20 s each); ``grid`` has 64 at 1 kHz (10 s).

    Raises:
        SimulationError: for an unknown name, listing the known ones.
    """
    if name not in _SAMPLES:
        raise SimulationError(f"sample {name!r} is unknown: choose from {list_samples()}")
    montage, sample_rate, unit, gestures, hold, rest = _SAMPLES[name]
    return gesture_recording(
        Person.draw(0), montage, sample_rate, gestures=gestures, hold=hold, rest=rest, unit=unit
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
    for _ in range(_whole("repetitions", repetitions, 1)):
        for index in rng.permutation(len(gestures)):
            script += [(gestures[index], float(hold)), *pause]
    return script


def _activation(person: Person, script: list[tuple[str, float]], rng: np.random.Generator) -> Array:
    """Activation of each muscle, 0 to 1, at the control rate, (muscles, M)."""
    edges = np.cumsum([seconds for _, seconds in script])
    time = np.arange(math.ceil(edges[-1] * _CONTROL_RATE) + 1) / _CONTROL_RATE
    held = np.array([person.effort[GESTURES.index(gesture)] for gesture, _ in script])
    # No two holds are alike, in force or in the way it is shared out.
    held *= rng.lognormal(0.0, 0.2, (len(held), 1)) * rng.lognormal(0.0, 0.35, held.shape)
    target = held[np.minimum(np.searchsorted(edges, time, side="right"), len(held) - 1)].T
    window = np.hanning(round(_RAMP * _CONTROL_RATE) + 2)[None, 1:-1]
    tremor = oaconvolve(rng.standard_normal(target.shape), window, mode="same", axes=1)
    target = target * np.maximum(1.0 + 0.25 * tremor / np.linalg.norm(window), 0.0)
    smooth: Array = oaconvolve(target, window / window.sum(), mode="same", axes=1)
    return np.clip(smooth, 0.0, 1.0)


def _muscle_activity(
    person: Person,
    montage: Montage,
    script: list[tuple[str, float]],
    rate: float,
    num_samples: int,
    seed: int,
) -> Array:
    """What the muscles put on each electrode, in µV, (C, num_samples)."""
    band = np.array([electrode.band for electrode in montage.electrodes])
    angle = np.array([electrode.angle for electrode in montage.electrodes])
    along = _ROW_SPACING * np.array([electrode.row for electrode in montage.electrodes])
    along += _BAND_SPACING * (band // 2)  # a third band sits above the first one
    emg = np.zeros((len(montage), num_samples))
    for side in np.unique(band % 2).tolist():
        activation = _activation(person, script, _stream(person.seed, _FORCE, seed, side))
        for number, muscle in enumerate(person.arms[side]):
            units = _MotorUnits.draw(muscle, _stream(person.seed, _ANATOMY, side, number))
            chance = _stream(person.seed, _FIRING, seed, side, number)
            unit, time = units.fire(activation[number], chance)
            for place in np.unique(along[band % 2 == side]):
                here = (band % 2 == side) & (along == place)
                arrival = time + np.abs(place - units.centre[unit]) / _VELOCITY
                trains = units.trains(unit, arrival, rate, num_samples)
                turned = angle[here] + person.rotation[side]
                emg[here] += units.seen_from(turned, place, person.radius) @ trains
    return emg


def _electrodes(person: Person, montage: Montage, emg: Array, rate: float, seed: int) -> Array:
    """What the electrodes make of it: unequal gain, noise, mains hum and slow drift."""
    contact = _stream(person.seed, _CONTACT, int(montage.digest(), 16))
    gain = contact.lognormal(0.0, 0.15, (len(montage), 1))
    coupling = person.mains * contact.lognormal(0.0, 0.5, (len(montage), 1))
    rng = _stream(person.seed, _NOISE, seed)
    time = np.arange(emg.shape[1]) / rate
    hum = 2.0 * math.pi * person.mains_frequency * time + rng.uniform(0.0, 2.0 * math.pi)
    knots = np.arange(math.ceil(time[-1]) + 4) - 1.0
    drift: Array = CubicSpline(knots, rng.normal(0.0, 1.5, (len(knots), len(montage))))(time).T
    # Noise has a density, not a power: faster devices take more of it in.
    noise = person.noise * math.sqrt(rate / _INTERNAL_RATE) * rng.standard_normal(emg.shape)
    return gain * emg + coupling * (np.sin(hum) + 0.2 * np.sin(3.0 * hum)) + drift + noise


def _stream(seed: int, *key: int) -> np.random.Generator:
    """An independent source of chance for each key."""
    return np.random.default_rng(np.random.SeedSequence(seed, spawn_key=key))


def _whole(name: str, value: int, least: int) -> int:
    try:
        number = operator.index(value)
    except TypeError:
        number = least - 1
    if number < least:
        raise SimulationError(f"{name}={value!r}: give a whole number of at least {least}")
    return number
