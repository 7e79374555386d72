"""Typing as labels: the 98 keys of emg2qwerty, text and key presses to ids and back, greedy CTC."""

from __future__ import annotations

import re
import string
import unicodedata
from collections.abc import Iterable
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

BACKSPACE, ENTER, SHIFT = "\u232b", "\u23ce", "\u21e7"
"""How text shows the keys that type nothing visible: ⌫, ⏎ and ⇧."""

_CHARACTERS: tuple[str, ...] = tuple(string.ascii_letters + string.digits + string.punctuation)
_MODIFIERS: dict[str, str] = {
    "Key.backspace": BACKSPACE,
    "Key.enter": ENTER,
    "Key.space": " ",
    "Key.shift": SHIFT,
}
_LABELS: tuple[str, ...] = (*_CHARACTERS, *_MODIFIERS)
_GLYPHS: tuple[str, ...] = (*_CHARACTERS, *_MODIFIERS.values())
_IDS: dict[str, int] = {name: i for names in (_LABELS, _GLYPHS) for i, name in enumerate(names)}
_IDS |= dict.fromkeys(("Key.shift_l", "Key.shift_r"), _IDS["Key.shift"])

BLANK = len(_LABELS)
"""The CTC class that means "no key": 98, after the last key."""

# The typographic characters that compatibility decomposition leaves alone.
_TYPEWRITTEN = str.maketrans(
    {"‘": "'", "’": "'", "‚": "'", "“": '"', "”": '"', "„": '"', "–": "-", "—": "-", "−": "-"}
)


class TextError(ValueError):
    """Ids or probabilities that do not belong to the key set."""


class KeyIds(NamedTuple):
    """Keys as label ids.

    Attributes:
        ids: (n,) int64, each from 0 to 97.
        dropped: How many keys or characters have no label and were left out.
    """

    ids: npt.NDArray[np.int64]
    dropped: int


class Emission(NamedTuple):
    """One label that greedy CTC decoding read.

    Attributes:
        label: Its id.
        start: The first frame of its run.
        end: The frame after the last one of its run.
        score: Geometric mean of its probability over the run, from 0 to 1.
    """

    label: int
    start: int
    end: int
    score: float


def labels() -> tuple[str, ...]:
    """The 98 keys in the order of their ids, as pynput names them.

    52 letters, 10 digits, 32 punctuation marks, then ``Key.backspace``, ``Key.enter``,
    ``Key.space`` and ``Key.shift``. Capitals are labels of their own. The order is part of
    released weights.
    """
    return _LABELS


def glyphs() -> tuple[str, ...]:
    """How text shows each of the 98 keys, in the order of their ids."""
    return _GLYPHS


def normalize_text(text: str) -> str:
    """The form of a text that can be typed, and that `to_text` gives back.

    Curly quotes, dashes and accented letters become their plain twins, and every line break
    (CR, LF or both) becomes ⏎. Characters without a twin stay as they are.
    """
    plain = unicodedata.normalize("NFKD", re.sub(r"\r\n|\r|\n", ENTER, text))
    plain = "".join(c for c in plain if not unicodedata.combining(c))
    return unicodedata.normalize("NFC", plain.translate(_TYPEWRITTEN))


def to_ids(keys: str | Iterable[str]) -> KeyIds:
    """Label ids of what was typed.

    Backspace is a label like any other: nothing is deleted (see `apply_backspace`).

    Args:
        keys: A text, which is normalised first, or the names of the keys pressed, one by one:
            ``["H", "i", "Key.space"]``.

    Returns:
        The ids, and how many keys had none.
    """
    keys = list(normalize_text(keys) if isinstance(keys, str) else map(_normalize_key, keys))
    ids = [_IDS[key] for key in keys if key in _IDS]
    return KeyIds(np.array(ids, np.int64), len(keys) - len(ids))


def to_text(ids: npt.ArrayLike) -> str:
    """The text of label ids, with ⌫, ⏎ and ⇧ for the keys that type nothing visible.

    Args:
        ids: (n,) integers from 0 to 97.

    Raises:
        TextError: if they are not, which the CTC blank is not either.
    """
    array = np.asarray(ids)
    if array.size == 0:
        return ""
    if array.ndim != 1 or array.dtype.kind not in "iu":
        raise TextError(
            f"ids has shape {array.shape} and dtype {array.dtype}: give one row of integers"
        )
    if array.min() < 0 or array.max() >= len(_GLYPHS):
        raise TextError(
            f"ids run from {array.min()} to {array.max()}: keys are 0 to {len(_GLYPHS) - 1}; "
            f"drop blanks ({BLANK}) and padding first, as greedy_ctc does"
        )
    return "".join(_GLYPHS[i] for i in array)


def apply_backspace(text: str) -> str:
    """What is on the screen after a text was typed: each ⌫ takes one character back.

    Shift is no character, so ⇧ goes as well; ⏎ stays, and backspace deletes it too.
    """
    screen: list[str] = []
    for character in text.replace(SHIFT, ""):
        if character != BACKSPACE:
            screen.append(character)
        elif screen:
            screen.pop()
    return "".join(screen)


def greedy_ctc(log_probs: npt.ArrayLike, blank: int = BLANK) -> list[Emission]:
    """The best label of each frame, with repeats merged and blanks dropped.

    Args:
        log_probs: (T, V) natural logarithms of probabilities.
        blank: Class that means "nothing here".

    Returns:
        The labels in the order of time. A label that is repeated across a blank counts twice.

    Raises:
        TextError: if the shape is wrong, `blank` is no class, or a frame's probabilities do not
            sum to 1 (logits, NaN).
    """
    scores = np.asarray(log_probs, dtype=np.float64)
    check_log_probs(scores, blank)
    best = scores.argmax(axis=1)
    starts = np.flatnonzero(np.diff(best, prepend=-1))
    ends = np.flatnonzero(np.diff(best, append=-1)) + 1
    return [
        Emission(int(label), int(start), int(end), float(np.exp(scores[start:end, label].mean())))
        for label, start, end in zip(best[starts], starts, ends, strict=True)
        if label != blank
    ]


def check_log_probs(scores: npt.NDArray[Any], blank: int) -> None:
    """Raises a `TextError` unless these are (T, V) logarithms of probabilities."""
    if scores.ndim != 2:
        raise TextError(f"log_probs has shape {scores.shape}: give (frames, classes)")
    if not 0 <= blank < scores.shape[1]:
        raise TextError(f"blank={blank} is not one of the {scores.shape[1]} classes of log_probs")
    with np.errstate(over="ignore"):
        totals = np.exp(scores).sum(axis=1)
    wrong = np.flatnonzero(~(np.abs(totals - 1.0) < 0.05))  # bfloat16 is off by 2 %
    if wrong.size:
        raise TextError(
            f"log_probs[{wrong[0]}] sums to {totals[wrong[0]]:g} as probabilities instead of 1: "
            "pass the log-softmax of the logits"
        )


def _normalize_key(key: str) -> str:
    """Key names stay; a key that is a character is normalised like text."""
    return normalize_text(key) if len(key) == 1 else key
