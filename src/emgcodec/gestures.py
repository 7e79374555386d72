"""One canonical gesture vocabulary, and how the names of public corpora map onto it."""

from __future__ import annotations

import re

GESTURES: tuple[str, ...] = (
    "rest",
    "hand_close",
    "hand_open",
    "wrist_flexion",
    "wrist_extension",
    "radial_deviation",
    "ulnar_deviation",
    "pronation",
    "supination",
    "chuck_grip",
    "pinch_grip",
)
"""Order is part of released weights: append, never reorder."""

_ALIASES: dict[str, str] = {
    "no_motion": "rest",
    "neutral": "rest",
    "relax": "rest",
    "hibernation_rest": "rest",
    "fist": "hand_close",
    "power_grip": "hand_close",
    "close_hand": "hand_close",
    "open": "hand_open",
    "open_hand": "hand_open",
    "flexion": "wrist_flexion",
    "lower": "wrist_flexion",
    "extension": "wrist_extension",
    "raise": "wrist_extension",
    "wrist_pronation": "pronation",
    "wrist_supination": "supination",
    "wrist_radial_deviation": "radial_deviation",
    "wrist_ulnar_deviation": "ulnar_deviation",
    "pinch": "pinch_grip",
}


def own_head(dataset: str) -> str:
    """Name of the head that reads the gestures of one data set alone."""
    return f"gesture-{dataset}"


def canonical_gesture(label: str) -> str | None:
    """Maps a corpus' own label to the canonical name.

    Args:
        label: Name as written in a recording, for example ``"Power Grip"``.

    Returns:
        A member of `GESTURES`, or None where the label is not a gesture we know.
    """
    key = re.sub(r"[^a-z0-9]+", "_", label.lower()).strip("_")
    key = _ALIASES.get(key, key)
    return key if key in GESTURES else None
