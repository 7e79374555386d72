"""Touch-typing on a pair of wristbands: muscles move a finger shortly before its key goes down."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache

import numpy as np

from emgcodec.montage import Montage
from emgcodec.recording import Event, Recording, check_sample_rate
from emgcodec.simulate.anatomy import FOREARM, Person, activations, check_person
from emgcodec.simulate.chance import Array, SimulationError, Stream, stream, whole
from emgcodec.simulate.keyboard import LEFT, RIGHT, Key, Prompt, Stroke, Typist, check_prompts
from emgcodec.simulate.signal import record
from emgcodec.simulate.words import sentences

_POSTURE = activations({"ED": 0.05, "ECR": 0.06, "ECU": 0.05, "PT": 0.05, "FDS": 0.02})
_NEIGHBOURS = 0.25  # no finger moves quite alone
_BURST = 0.028  # s, standard deviation of the activation for one movement
_LIFT = 0.09  # s from lifting a finger to striking with it
_REACH = 0.2  # s: no burst matters farther from its middle


@dataclass(frozen=True, eq=False)
class Bursts:
    """What one hand does: (n,) middles in seconds, that rise, and (n, muscles) activations."""

    time: Array
    activation: Array


@dataclass(frozen=True)
class Typing:
    """A `Performance` on the keyboard: bursts of both hands over a posture."""

    hands: tuple[Bursts, Bursts]

    def drive(self, side: int, time: Array) -> Array:
        """See `Performance`."""
        bursts = self.hands[side]
        here = slice(*np.searchsorted(bursts.time, [time[0] - _REACH, time[-1] + _REACH]))
        bells = np.exp(-0.5 * ((time - bursts.time[here, None]) / _BURST) ** 2)
        drive: Array = _POSTURE[:, None] + bursts.activation[here].T @ bells
        return drive


def typing_recording(
    person: Person,
    *,
    seconds: float = 60.0,
    prompts: Sequence[str] | None = None,
    montage: Montage | str = "emg2qwerty",
    sample_rate: float = 2000.0,
    seed: int = 0,
    session: int = 0,
) -> Recording:
    """Records a person who types texts by touch, with slips that are noticed and taken back.

    Events are those of an emg2qwerty session: one of kind ``key`` from each press to its release,
    named as pynput does, shift and backspace included, and one of kind ``prompt`` for each text
    while it is on the screen. Each prompt ends with ``Key.enter``; what the keys leave on the
    screen is the prompts.

    Args:
        person: Who types.
        seconds: The least length; the last prompt is typed to its end.
        prompts: What is typed, instead of made-up sentences for so many seconds.
        montage: Electrode positions, or a device name; even bands sit on the left arm.
        sample_rate: Samples per second, at least 100 Hz.
        seed: Which performance: texts, rhythm, slips and every spike follow from it.
        session: Which wearing: electrodes sit elsewhere and the day is another one.

    Returns:
        One contiguous recording in µV.

    Raises:
        SimulationError: if an argument cannot be.
        MontageError: for an unknown device name.
        RecordingError: if the rate is not a finite number of at least 100 Hz.
    """
    check_person(person)
    sample_rate, seed = check_sample_rate(sample_rate), whole("seed", seed, 0)
    session = whole("session", session, 0)
    if not 0.0 < seconds < math.inf:
        raise SimulationError(f"seconds={seconds}: give a finite number above 0")
    if prompts is not None:
        check_prompts(prompts)
    typist = Typist.draw(person)
    rng = stream(person.seed, Stream.SCRIPT, session, seed, 1)
    shown: list[Prompt] = []
    strokes: list[Stroke] = []
    now = 1.0
    texts = sentences(person.seed, session, seed) if prompts is None else iter(prompts)
    for text in texts:
        prompt, typed = typist.type(text, now, rng)
        shown.append(prompt)
        strokes += typed
        now = prompt.end + rng.uniform(0.2, 1.0)
        if prompts is None and now >= seconds:
            break
    keys = [Event(s.press, s.release, s.name, kind="key") for s in strokes]
    texts_shown = [Event(p.start, p.end, p.text, kind="prompt") for p in shown]
    recording = record(
        person,
        Typing(_bursts(person, strokes, session, seed)),
        montage,
        sample_rate,
        math.ceil(now * sample_rate),
        session=session,
        seed=seed,
        unit="uV",
        events=sorted([*keys, *texts_shown], key=lambda event: event.start),
    )
    recording.metadata["condition"] = "on_keyboard"
    return recording


def _bursts(
    person: Person, strokes: Sequence[Stroke], session: int, seed: int
) -> tuple[Bursts, Bursts]:
    """Two bursts of activation for every stroke: the finger is lifted, then it strikes."""
    lead = stream(person.seed, Stream.TYPIST, 1).uniform(0.05, 0.09)

    @cache
    def habit(key: Key) -> Array:  # everybody has a way of their own with every key
        place = (key.hand, key.finger, key.reach + 2, key.aside + 2)
        own = stream(person.seed, Stream.TYPIST, 2, *place).lognormal(0.0, 0.4, (2, len(FOREARM)))
        return own * _movement(key)

    rng = stream(person.seed, Stream.FORCE, session, seed)
    chance = rng.lognormal(0.0, 0.2, (len(strokes), 2, 1))
    chance = chance * rng.lognormal(0.0, 0.2, (len(strokes), 2, len(FOREARM)))

    def hand(side: int) -> Bursts:
        mine = [i for i, stroke in enumerate(strokes) if stroke.key.hand == side]
        strike = np.array([strokes[i].press for i in mine]) - lead
        time = np.concatenate([strike - _LIFT, strike])
        size = np.reshape([habit(strokes[i].key) for i in mine], (-1, 2, len(FOREARM)))
        activation = np.concatenate(np.moveaxis(size * chance[mine], 1, 0))
        order = np.argsort(time)
        return Bursts(time[order], activation[order])

    return hand(LEFT), hand(RIGHT)


def _movement(key: Key) -> Array:
    """Activation of each muscle for one key, (2, muscles): to lift the finger, and to strike."""
    if key.finger == 1:
        lift, strike = {"APL": 0.2}, {"FPL": 0.22, "APL": 0.1}
    else:
        up, down = 0.15 + 0.05 * max(key.reach, 0), 0.22 - 0.05 * min(key.reach, 0)
        near = [f for f in (key.finger - 1, key.finger + 1) if 2 <= f <= 5]
        lift = {f"ED{f}": _NEIGHBOURS * up for f in near} | {f"ED{key.finger}": up}
        strike = {f"FDS{f}": _NEIGHBOURS * down for f in near} | {f"FDS{key.finger}": down}
        # The wrist takes the fingers to where they do not rest.
        wrist = ("FCU", "ECU") if key.aside > 0 else ("FCR", "ECR")
        lift |= dict.fromkeys(wrist, 0.05 * abs(key.aside) + 0.02 * abs(key.reach))
    return np.stack([activations(lift), activations(strike)])
