"""MATLAB files up to version 7; those of 7.3 are HDF5. See `emgcodec.io.mapping`."""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

from emgcodec.io.entry import Entry, Options, check_held
from emgcodec.io.mapping import find_signal, mapped_recording, samples_first
from emgcodec.recording import Recording, RecordingError, check_emg

_NUMBERS = ("double", "single", *(f"{u}int{bits}" for u in ("", "u") for bits in (8, 16, 32, 64)))
_FACTS = ("subject", "exercise")


def entries(path: Path, options: Options) -> list[Entry]:
    """The one recording of a MATLAB file, named after the file."""
    return [Entry(path.stem, partial(_load, path, options))]


def _load(path: Path, options: Options) -> Recording:
    from scipy.io import loadmat, whosmat

    with _intact():
        shapes = {name: shape for name, shape, kind in whosmat(path) if kind in _NUMBERS}
    name = find_signal(shapes, options.dataset)
    turned = samples_first(name, shapes[name])
    held = {n: s for n, s in shapes.items() if n == name or math.prod(s) in (1, max(shapes[name]))}
    check_held(sum(map(math.prod, held.values())))
    with _intact():
        arrays = loadmat(path, variable_names=list(held))
    emg = check_emg(arrays[name].T if turned else arrays[name])
    recording = mapped_recording(emg, held, arrays.__getitem__, options)
    recording.metadata |= {n: int(arrays[n].item()) for n in _FACTS if held.get(n) == (1, 1)}
    return recording


@contextmanager
def _intact() -> Iterator[None]:
    """Says in our words what SciPy cannot read."""
    try:
        yield
    except Exception as error:  # its parser raises anything
        raise RecordingError(
            f"cannot be read as MATLAB file, it is truncated or damaged ({error}): "
            "save or fetch it again"
        ) from error
