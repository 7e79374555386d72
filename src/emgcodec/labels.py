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
_SMALLEST = 3  # electrodes of a ring
_RIGHT = re.compile(r"(?<![a-z])(?:right|r)(?![a-z])", re.I)


def infer_montage(labels: Sequence[str], device: str = "") -> Montage | None:
    """The montage that labels and the name of a device tell.

    A known device with that many electrodes has its own. Else numbers in the labels are places on
    a ring, in rising order, and words (``left``, ``R``) tell two bands apart, the right one counted
    the other way round. Labels that count up on one band tell no more than that there may be a
    ring, which is assumed anyway; one band is counted forwards on either arm, for no label says
    which way round its device counts.

    Args:
        labels: Of the electrodes, in the order of the rows: ``EMG 1``, ``left_03``, ...
        device: What the device is called.

    Returns:
        The montage, its electrodes in the order of `labels`, or None if nothing is told.
    """
    sides = [_RIGHT.search(label) is not None for label in labels]
    numbers = [re.findall(r"\d+", label)[-1:] for label in labels]
    places = [(side, int(n[0])) for side, n in zip(sides, numbers, strict=True) if n]
    counted = labels and len(set(places)) == len(labels)
    order = sorted(range(len(labels)), key=lambda k: places[k]) if counted else None
    known = next((name for name, words in _DEVICES.items() if re.search(words, device.lower())), "")
    if known and len(Montage.preset(known)) == len(labels):
        found = Montage.preset(known)
        return found.select([order.index(k) for k in range(len(labels))]) if order else found
    bands = sorted(set(sides))
    if order is None or (order == list(range(len(labels))) and len(bands) == 1):
        return None
    electrodes: dict[int, Electrode] = {}
    for band, side in enumerate(bands):
        members = [k for k in order if sides[k] == side]
        if len(members) < _SMALLEST:
            return None
        for place, k in enumerate(members):
            electrodes[k] = Electrode(band, (-1) ** band * 360.0 * place / len(members))
    return Montage("labels", tuple(electrodes[k] for k in range(len(labels))))
