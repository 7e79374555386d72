"""Unlike people: the muscles of their forearms, their habits, and how they wear electrodes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np

from emgcodec.gestures import GESTURES
from emgcodec.simulate.chance import Array, SimulationError, Stream, stream, whole


@dataclass(frozen=True)
class Muscle:
    """One muscle, or the part of it that moves one finger, in the cross-section of a forearm.

    Attributes:
        name: Its usual abbreviation, with the number of the finger: 2 index to 5 little.
        angle: Degrees around the limb: 0 palm side, 90 thumb side, 180 back of the hand.
        depth: Of its centre below the skin, in mm.
        centre: Where its nerve enters, in mm towards the elbow from row 0.
        size: Amplitude of its action potentials, 1 for a usual muscle.
    """

    name: str
    angle: float
    depth: float
    centre: float
    size: float = 1.0


FOREARM = (
    Muscle("FCR", 30, 9, 45),  # flexor carpi radialis
    Muscle("PL", 5, 7, 40, 0.6),  # palmaris longus
    Muscle("FDS2", 15, 15, 20, 0.7),  # flexor digitorum superficialis
    Muscle("FDS3", 350, 13, 30, 0.7),
    Muscle("FDS4", 330, 13, 35, 0.7),
    Muscle("FDS5", 315, 15, 25, 0.6),
    Muscle("FCU", 295, 9, 40),  # flexor carpi ulnaris
    Muscle("ECU", 235, 9, 30),  # extensor carpi ulnaris
    Muscle("ED5", 220, 10, 30, 0.6),  # extensor digitorum, digiti minimi and indicis
    Muscle("ED4", 205, 9, 35, 0.6),
    Muscle("ED3", 190, 9, 40, 0.7),
    Muscle("ED2", 178, 11, 25, 0.6),
    Muscle("ECR", 140, 9, 55, 1.2),  # extensor carpi radialis longus and brevis
    Muscle("APL", 160, 16, -25, 0.8),  # abductor pollicis longus
    Muscle("SUP", 115, 19, 65, 1.2),  # supinator
    Muscle("PT", 65, 12, 70),  # pronator teres
    Muscle("FPL", 45, 18, -20),  # flexor pollicis longus
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
    "chuck_grip": {"FDS2": 0.5, "FDS3": 0.5, "FPL": 0.45, "ECR": 0.2, "APL": 0.2},
    "pinch_grip": {"FPL": 0.5, "FDS2": 0.45, "ED3": 0.15, "ED4": 0.15, "APL": 0.3},
}
"""Activation of the main muscles of each gesture, 1 being the most that a muscle can do."""


def activations(main: Mapping[str, float]) -> Array:
    """Activation of each muscle of `FOREARM`; ``FDS`` and ``ED`` stand for all their fingers."""
    return np.array([main.get(m.name, main.get(m.name.rstrip("2345"), 0.0)) for m in FOREARM])


@dataclass(frozen=True)
class Person:
    """A simulated person: anatomy, habits and surroundings; see `Person.draw`.

    Attributes:
        seed: What the person was drawn from; motor units and all habits follow from it.
        radius: Of the forearm, in mm.
        arms: The muscles of both arms; odd bands sit on the second one, which is mirrored.
        rotation: How far each arm's band usually is turned from where it should sit, in degrees.
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
        seed = whole("seed", seed, 0)
        rng = stream(seed, Stream.PERSON)
        fat, size = rng.uniform(0.0, 5.0), rng.lognormal(0.0, 0.3)
        muscles = [
            Muscle(
                muscle.name,
                muscle.angle + rng.normal(0.0, 17.0),
                muscle.depth * rng.lognormal(0.0, 0.15) + fat,
                muscle.centre + rng.normal(0.0, 12.0),
                size * muscle.size * rng.lognormal(0.0, 0.25),
            )
            for muscle in FOREARM
        ]

        def arm(side: int) -> tuple[Muscle, ...]:  # both are much alike
            return tuple(
                replace(
                    muscle,
                    angle=side * (muscle.angle + rng.normal(0.0, 5.0)),
                    centre=muscle.centre + rng.normal(0.0, 4.0),
                    size=muscle.size * rng.lognormal(0.0, 0.1),
                )
                for muscle in muscles
            )

        tone = rng.lognormal(np.log(0.035), 0.5)  # hardly a muscle is ever quite still

        def style(gesture: str) -> tuple[float, ...]:
            quiet = tone * rng.lognormal(0.0, 0.6, len(FOREARM))
            if gesture == "rest":
                return tuple(quiet.tolist())
            strength, cocontraction = rng.lognormal(0.0, 0.3), rng.uniform(0.02, 0.2)
            main = activations(_EFFORT[gesture]) * rng.lognormal(0.0, 1.0, len(FOREARM))
            held = strength * main + cocontraction * rng.uniform(size=len(FOREARM)) + quiet
            return tuple(held.tolist())

        return cls(
            seed=seed,
            radius=rng.uniform(36.0, 46.0),
            arms=(arm(1), arm(-1)),
            rotation=(rng.normal(0.0, 28.0), rng.normal(0.0, 28.0)),
            effort=tuple(style(gesture) for gesture in GESTURES),
            noise=rng.uniform(2.0, 4.5),
            mains_frequency=(50.0, 60.0)[rng.integers(2)],
            mains=rng.uniform(0.2, 2.5),
        )


def check_person(person: Person) -> None:
    """Raises SimulationError for anything but a `Person`."""
    if not isinstance(person, Person):
        raise SimulationError(f"person={person!r}: give a Person, for example Person.draw(0)")


@dataclass(frozen=True)
class Wearing:
    """How electrodes and the day turned out in one session of a person; see `Wearing.draw`.

    Attributes:
        rotation: How far each arm's band is turned, in degrees.
        along: How far it is moved towards the elbow, in mm.
        strength: Factor to the activation of each muscle of both arms, (2, muscles).
        noise: Of the electrodes, in µV rms below 1 kHz.
        mains: Amplitude of the hum, in µV.
    """

    rotation: tuple[float, float]
    along: tuple[float, float]
    strength: Array
    noise: float
    mains: float

    @classmethod
    def draw(cls, person: Person, session: int) -> Wearing:
        """The session with this number.

        Raises:
            SimulationError: if the number is not a whole number of at least 0.
        """
        rng = stream(person.seed, Stream.SESSION, whole("session", session, 0))
        left, right = person.rotation
        return cls(
            rotation=(left + rng.normal(0.0, 6.0), right + rng.normal(0.0, 6.0)),
            along=(rng.normal(0.0, 4.0), rng.normal(0.0, 4.0)),
            strength=rng.lognormal(0.0, 0.15) * rng.lognormal(0.0, 0.15, (2, len(FOREARM))),
            noise=person.noise * rng.lognormal(0.0, 0.15),
            mains=person.mains * rng.lognormal(0.0, 0.5),
        )
