"""A folder of small typing sessions, in the files of emg2qwerty."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from emgcodec import Event, Recording
from emgcodec.io import write_session

KEYS = "fjdk"
RATE = 2000


def bursts(seconds: float, seed: int, *, spacing: float = 0.3) -> tuple[np.ndarray, list[Event]]:
    """Noise on two bands, and for each key a burst on electrodes of its own before it goes down."""
    rng = np.random.default_rng(seed)
    x = rng.normal(0.0, 5.0, (32, round(seconds * RATE))).astype(np.float32)
    events = []
    for press in np.arange(0.5, seconds - 0.3, spacing):
        start = float(press + rng.uniform(-0.05, 0.05))
        key = int(rng.integers(len(KEYS)))
        here = slice(round((start - 0.09) * RATE), round((start - 0.01) * RATE))
        x[8 * key : 8 * key + 4, here] *= 8.0
        events.append(Event(start, start + 0.05, KEYS[key], kind="key"))
    return x, events


def write_sessions(folder: Path, users: dict[str, int], *, seconds: float = 20.0) -> Path:
    """So many sessions of each user, named ``<user>-<number>.hdf5``."""
    folder.mkdir(parents=True, exist_ok=True)
    for number, (user, count) in enumerate(users.items()):
        for k in range(count):
            x, events = bursts(seconds, 100 * number + k)
            name = f"{user}-{k:02}"
            rec = Recording(
                x,
                RATE,
                montage="emg2qwerty",
                unit="uV",
                events=events,
                metadata={"subject": user, "session": name},
            )
            write_session(rec, folder / f"{name}.hdf5")
    return folder
