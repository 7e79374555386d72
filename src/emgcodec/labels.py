"""Montages from what devices and channels are called."""

from __future__ import annotations

import re
from collections.abc import Sequence

from emgcodec.montage import Electrode, Montage

_DEVICES = {  # words in the name of a device
    "myo": r"\bmyo\b|thalmic",
    "3dc": r"\b3dc\b",
    "emg2pose": r"emg2pose",
    "emg2qwerty": r"emg2qwerty",
    "flexemg": r"flexemg",
}
_SIDES = (r"(?<![a-z])(?:left|l)(?![a-z])", r"(?<![a-z])(?:right|r)(?![a-z])")


def infer_montage(labels: Sequence[str], device: str = "") -> Montage | None:
    """The montage that labels and the name of a device tell.

    A known device with that many electrodes has its own. Else numbers in the labels are places on
    a ring, in rising order, and words (``left``, ``R``) tell two bands apart, the right one counted
    the other way round. Labels that count up on one band tell no more than that there may be a
    ring, which is assumed anyway.

    Args:
        labels: Of the electrodes, in the order of the rows: ``EMG 1``, ``left_03``, ...
        device: What the device is called.

    Returns:
        The montage, its electrodes in the order of `labels`, or None if nothing is told.
    """
    sides = [_side(label.lower()) for label in labels]
    numbers = [re.findall(r"\d+", label)[-1:] for label in labels]
    places = [(side, int(n[0])) if n else None for side, n in zip(sides, numbers, strict=True)]
    counted = bool(labels) and None not in places and len(set(places)) == len(places)
    order = sorted(range(len(labels)), key=lambda k: places[k] or (0, 0)) if counted else None
    known = next((name for name, words in _DEVICES.items() if re.search(words, device.lower())), "")
    if known and len(Montage.preset(known)) == len(labels):
        found = Montage.preset(known)
        return found.select([order.index(k) for k in range(len(labels))]) if order else found
    bands = sorted(set(sides))
    if order is None or (order == list(range(len(labels))) and len(bands) == 1):
        return None
    size = {band: sides.count(band) for band in bands}
    seen = dict.fromkeys(bands, 0)
    electrodes: list[Electrode | None] = [None] * len(labels)
    for k in order:
        band = sides[k]
        turn = (-1 if band else 1) * 360.0 * seen[band] / size[band]
        electrodes[k] = Electrode(band if len(bands) > 1 else 0, turn)
        seen[band] += 1
    return Montage("labels", tuple(e for e in electrodes if e))


def _side(label: str) -> int:
    return int(re.search(_SIDES[1], label) is not None)
