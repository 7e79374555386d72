"""Touch-typing on a QWERTY keyboard: which finger strikes a key, and when."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from emgcodec.simulate.anatomy import Person
from emgcodec.simulate.chance import SimulationError, Stream, stream

LEFT, RIGHT = 0, 1
_ROWS = ("`1234567890-=", "\tqwertyuiop[]\\", "\tasdfghjkl;'\n", "\tzxcvbnm,./")
_SHIFTED = dict(zip('~!@#$%^&*()_+{}|:"<>?', "`1234567890-=[]\\;',./", strict=True))
_FASTEST = 0.04  # s from key to key
_NAMES = {" ": "Key.space", "\n": "Key.enter", "\b": "Key.backspace"}


@dataclass(frozen=True)
class Key:
    """Where a key is.

    Attributes:
        hand: 0 left, 1 right.
        finger: 1 thumb to 5 little finger.
        reach: Rows above the home row.
        aside: Columns outwards (towards the little finger) from where the finger rests.
    """

    hand: int
    finger: int
    reach: int
    aside: int


def _layout() -> dict[str, Key]:
    keys = {"\b": Key(RIGHT, 5, 2, 3), " ": Key(RIGHT, 1, -2, 0)}
    keys |= {"shift_l": Key(LEFT, 5, -1, 1), "shift_r": Key(RIGHT, 5, -1, 2)}
    for row, characters in enumerate(_ROWS):
        for column, character in enumerate(characters):
            if character == "\t":
                continue
            hand = LEFT if column <= 5 else RIGHT
            finger = min(max(6 - column if hand == LEFT else column - 5, 2), 5)
            rest = 6 - finger if hand == LEFT else finger + 5
            aside = rest - column if hand == LEFT else column - rest
            keys[character] = Key(hand, finger, 2 - row, aside)
    return keys


KEYS = _layout()
"""Every key by the character that it types without shift, and both shifts."""


@dataclass(frozen=True)
class Stroke:
    """One key going down and up again.

    Attributes:
        name: As pynput names it.
        key: Which one it is.
        press: Seconds.
        release: Seconds.
    """

    name: str
    key: Key
    press: float
    release: float


@dataclass(frozen=True)
class Prompt:
    """A text on the screen, shown from `start` to `end` in seconds."""

    text: str
    start: float
    end: float


@dataclass(frozen=True)
class Typist:
    """How somebody types; see `Typist.draw`.

    Attributes:
        interval: Typical seconds from key to key.
        spread: Standard deviation of its logarithm.
        hold: Typical seconds that a key is held.
        errors: Chance of a wrong key.
        thumb: Which hand strikes the space bar.
    """

    interval: float
    spread: float
    hold: float
    errors: float
    thumb: int

    @classmethod
    def draw(cls, person: Person) -> Typist:
        """The person's habits."""
        rng = stream(person.seed, Stream.TYPIST)
        return cls(
            interval=float(np.clip(rng.lognormal(np.log(0.165), 0.22), 0.1, 0.3)),
            spread=rng.uniform(0.2, 0.35),
            hold=float(np.clip(rng.lognormal(np.log(0.105), 0.18), 0.07, 0.15)),
            errors=rng.uniform(0.01, 0.05),
            thumb=LEFT if rng.uniform() < 0.2 else RIGHT,
        )

    def type(
        self, text: str, start: float, rng: np.random.Generator
    ) -> tuple[Prompt, list[Stroke]]:
        """Types a text that is shown from `start` on, with errors, and puts them right."""
        strokes: list[Stroke] = []
        now = start + rng.uniform(0.5, 1.2)  # reading comes first
        before, last = None, now
        for character in self._keys(text, rng):
            plain = _SHIFTED.get(character, character.lower())
            key = KEYS[plain]
            if key.finger == 1:
                key = Key(self.thumb, 1, key.reach, key.aside)
            pace = _difficulty(before, key, character) * rng.lognormal(0.0, self.spread)
            now += max(_FASTEST, self.interval * pace)
            if plain != character:  # shift is up to the little finger of the other hand
                now += rng.uniform(0.03, 0.08)
                left = key.hand == RIGHT
                name, shift = ("Key.shift", "shift_l") if left else ("Key.shift_r", "shift_r")
                up = now + rng.uniform(0.01, 0.03)
                strokes.append(Stroke(name, KEYS[shift], (last + now) / 2, up))
            hold = self.hold * rng.lognormal(0.0, 0.25)
            strokes.append(Stroke(_NAMES.get(character, character), key, now, now + hold))
            before, last = key, now
        return Prompt(text, start, now + 0.3), _released(strokes)

    def _keys(self, text: str, rng: np.random.Generator) -> str:
        """What is typed to get a text: slips are noticed up to two keys late and taken back."""
        typed = ""
        for place, character in enumerate(text):
            if character.islower() and rng.uniform() < self.errors:
                late = text[place + 1 : place + 1 + rng.integers(3)]
                typed += _slip(character, rng) + late + "\b" * (len(late) + 1)
            typed += character
        return typed + "\n"


def check_prompts(prompts: Sequence[str]) -> None:
    """Raises SimulationError for anything but texts that a keyboard can type on one line."""
    typed = {*KEYS, *_SHIFTED, *map(str.upper, KEYS)} - {"\b", "\n"}
    if isinstance(prompts, str) or not prompts:
        raise SimulationError(f"prompts={prompts!r} holds nothing to type: give a list of texts")
    for text in prompts:
        if not text or not set(text) <= typed:
            raise SimulationError(
                f"prompts hold {text!r}: give texts of letters, digits, punctuation and spaces, "
                "each on one line (see emgcodec.text.normalize_text)"
            )


def _difficulty(before: Key | None, key: Key, character: str) -> float:
    """How much longer than usual it takes to get from key to key."""
    factor = 1.0
    if before is None or before == key:
        factor *= 0.9
    elif before.hand == key.hand:
        factor *= 1.35 if before.finger == key.finger else 1.1
    else:
        factor *= 0.9
    if character == "\b" and before != key:
        factor *= 2.2  # a slip has to be noticed
    return factor * (1.5 if key.reach == 2 and character != "\b" else 1.0)


def _slip(character: str, rng: np.random.Generator) -> str:
    """A letter beside the one that was meant."""
    meant = KEYS[character]
    near = [
        c
        for c, key in KEYS.items()
        if c.isalpha()
        and len(c) == 1
        and c != character
        and key.hand == meant.hand
        and abs(key.finger - meant.finger) <= 1
        and abs(key.reach - meant.reach) <= 1
    ]
    return near[rng.integers(len(near))]


def _released(strokes: list[Stroke]) -> list[Stroke]:
    """In the order of presses, each key up before it goes down again."""
    again: dict[Key, float] = {}
    found = []
    for stroke in sorted(strokes, key=lambda stroke: stroke.press, reverse=True):
        latest = again.get(stroke.key, math.inf) - 0.01
        found.append(replace(stroke, release=min(stroke.release, latest)))
        again[stroke.key] = stroke.press
    return found[::-1]
