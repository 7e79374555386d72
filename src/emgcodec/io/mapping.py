"""Arrays under names, in HDF5 or MATLAB files: which is the signal, what the others say of it.

The signal is what `dataset` names, or ``emg``, or the only array that could be one. Time runs
along its longer axis. NinaPro's ``restimulus`` and ``rerepetition`` become events.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from emgcodec.io.entry import Options, check_held, known_unit, label_runs
from emgcodec.montage import MAX_ELECTRODES
from emgcodec.recording import UNITS, Event, Recording, RecordingError, SignalSource

Shape = tuple[int, ...]

_RATES = ("samplerate", "samplingrate", "samplingfrequency", "frequency", "srate", "fs")
_LABELS = {"restimulus": "gesture", "rerepetition": "repetition"}
_LARGEST_LABEL = 1 << 31


def find_signal(shapes: Mapping[str, Shape], dataset: str | None) -> str:
    """The name of the array that is the signal.

    Raises:
        RecordingError: if none or several could be it, listing what there is.
    """
    if dataset in shapes:
        return str(dataset)
    if not shapes:
        raise RecordingError(
            "holds no array of numbers (structs, cells and text are not looked into): save the "
            "signal as an array of its own"
        )
    likely = [name for name, shape in shapes.items() if len(shape) == 2 and _electrodes(shape)]
    named = [name for name in shapes if _plain(name) == "emg"]
    if dataset is None and len(named) == 1:
        return named[0]  # and if its shape cannot be, that is the thing to say
    likely = [name for name in likely if name in named] or likely
    if dataset is None and len(likely) == 1:
        return likely[0]
    listed = ", ".join(f"{name} {shape}" for name, shape in list(shapes.items())[:20])
    problem = "cannot tell which array is the signal" if dataset is None else f"has no {dataset!r}"
    raise RecordingError(f"{problem}: name it with dataset=; it holds {listed}")


def samples_first(name: str, shape: Shape) -> bool:
    """Whether an array is (N, C) rather than (C, N).

    Raises:
        RecordingError: if its shape leaves that open.
    """
    if len(shape) != 2 or not _electrodes(shape):
        raise RecordingError(
            f"{name!r} has shape {shape}: a signal has two axes, one of 1 to {MAX_ELECTRODES} "
            f"electrodes and one of more samples than {MAX_ELECTRODES}"
        )
    return shape[0] > shape[1]


def mapped_recording(
    signal: SignalSource | npt.NDArray[Any],
    shapes: Mapping[str, Shape],
    get: Callable[[str], npt.NDArray[Any]],
    options: Options,
    attributes: Mapping[str, Any] | None = None,
) -> Recording:
    """A recording with what the arrays beside its signal say.

    Args:
        signal: (C, N).
        shapes: Of all arrays.
        get: Reads one of them.
        options: Of the caller.
        attributes: What else the file says of the signal, in its own words.

    Raises:
        RecordingError: if no sampling rate is known.
    """
    facts = {_plain(name): value for name, value in (attributes or {}).items()}
    facts |= {_plain(name): get(name) for name, shape in shapes.items() if math.prod(shape) == 1}
    length = signal.shape[1]
    labels = {_plain(name): name for name in shapes if _plain(name) in _LABELS}
    left = [name for name in labels.values() if math.prod(shapes[name]) != length]
    rate = options.rate(_number(next((facts[name] for name in _RATES if name in facts), None)))
    events: list[Event] = []
    for name, kind in _LABELS.items():
        if name in labels and labels[name] not in left:
            check_held(2 * length)  # they and their changes
            numbers = _whole(labels[name], get(labels[name]).ravel())
            events += [
                Event(start, end, "rest" if label == 0 else str(label), kind=kind)
                for start, end, label in label_runs(numbers, rate, len(events))
                if label or kind == "gesture"
            ]
    return Recording(
        signal,
        rate,
        montage=options.montage,
        unit=options.unit or _unit(facts) or "uV",
        events=sorted(events, key=lambda event: event.start),
        metadata={"left_out": ", ".join(left)} if left else {},
    )


def _whole(name: str, labels: npt.NDArray[Any]) -> npt.NDArray[np.int64]:
    """Labels as whole numbers; what is no number is 0."""
    numbers = labels.astype(np.float64)
    np.rint(np.nan_to_num(numbers, copy=False, posinf=0.0, neginf=0.0), out=numbers)
    if (largest := np.abs(numbers).max(initial=0.0)) >= _LARGEST_LABEL:
        raise RecordingError(f"{name!r} holds {largest:g}: labels are whole numbers below 2^31")
    return numbers.astype(np.int64)


def _number(value: Any) -> float | None:
    try:
        return None if value is None else float(np.asarray(value).item())
    except (TypeError, ValueError) as error:
        raise RecordingError(f"states a sampling rate of {value!r}: pass sample_rate=") from error


def _unit(facts: Mapping[str, Any]) -> str | None:
    stated = facts.get("unit", facts.get("units", ""))
    text = stated.decode("utf-8", "replace") if isinstance(stated, bytes) else str(stated)
    unit = known_unit(text)
    if text.strip() and unit not in UNITS:
        raise RecordingError(f"states the unit {text!r}: pass unit=, one of {list(UNITS)}")
    return unit


def _electrodes(shape: Shape) -> bool:
    return 1 <= min(shape) <= MAX_ELECTRODES < max(shape)


def _plain(name: str) -> str:
    return name.rpartition("/")[2].lower().replace("_", "").removesuffix("hz")
