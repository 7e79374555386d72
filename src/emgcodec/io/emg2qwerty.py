"""Sessions of the emg2qwerty dataset: a pair of wristbands and the keys that were typed.

Group ``emg2qwerty`` holds ``timeseries``, rows of {``emg_left`` (16), ``emg_right`` (16),
``time``} in microvolts and unix seconds; keys and prompts are JSON in its attributes.
What `write_session` wrote has an attribute ``metadata`` besides.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from emgcodec.io.entry import Entry, Options, check_events, naming
from emgcodec.io.hdf5 import attribute, find_group, open_hdf5, stored_json, written_hdf5
from emgcodec.io.timeseries import (
    NOMINAL_RATE,
    RowsSignal,
    Stretch,
    find_rows,
    nominal_rate,
    outside,
    scan,
)
from emgcodec.montage import Montage
from emgcodec.recording import Event, Recording, RecordingError

_TIMESERIES = "emg2qwerty/timeseries"
_BANDS = ("emg_left", "emg_right")
_OF_A_FILE = ("recording", "source", "dropped_events")  # metadata that each file has of its own

Json = TypeVar("Json", list[Any], dict[str, Any])


def entries(path: Path, options: Options) -> list[Entry]:
    """The contiguous recordings of a session: its name, with ``.<k>`` if there are gaps in it.

    Raises:
        RecordingError: if the file does not follow the format.
    """
    with open_hdf5(path) as file:
        step, stretches = scan(find_rows(file, _TIMESERIES, _BANDS))
        name = attribute(find_group(file, "emg2qwerty"), "session_name", str, path.stem)
    rate = options.rate(nominal_rate(step) if options.sample_rate is None else None)
    titles = [name] if len(stretches) == 1 else [f"{name}.{k}" for k in range(len(stretches))]
    return [
        Entry(title, partial(_load, path, stretches, k, rate, options))
        for k, title in enumerate(titles)
    ]


def session_user(path: Path) -> str:
    """Who typed in a session, without reading its signal.

    Raises:
        RecordingError: if the file does not follow the format.
    """
    with naming(path), open_hdf5(path) as file:
        return attribute(find_group(file, "emg2qwerty"), "user", str, "")


def _load(
    path: Path, stretches: list[Stretch], index: int, rate: float, options: Options
) -> Recording:
    stretch = stretches[index]
    with open_hdf5(path) as file:
        dataset = find_rows(file, _TIMESERIES, _BANDS)
        group = find_group(file, "emg2qwerty")
        electrodes = sum(dataset.dtype[band].shape[0] for band in _BANDS)
        happened = [*_keys(group), *_prompts(group)]
        check_events(len(happened))
        here = sorted(filter(stretch.holds, happened), key=lambda event: event.start)
        starts = stretch.seconds([event.start for event in here], rate)
        ends = stretch.seconds([event.end for event in here], rate)
        return Recording(
            RowsSignal(
                path,
                _TIMESERIES,
                _BANDS,
                stretch.start,
                (electrodes, stretch.stop - stretch.start),
            ),
            rate,
            montage=options.montage or "emg2qwerty",
            unit=options.unit or "uV",
            start_time=float(stretch.times[0]),
            events=[
                replace(event, start=start, end=end)
                for event, start, end in zip(here, starts, ends, strict=True)
            ],
            metadata={
                "dataset": "emg2qwerty",
                "subject": attribute(group, "user", str, ""),
                "session": attribute(group, "session_name", str, path.stem),
                "condition": attribute(group, "condition", str, ""),
                "licence": "CC BY-NC-SA 4.0",
                "source_unit": "uV",
                "bits": 12,
                **_parsed(group, "metadata", {}),
                "dropped_events": outside(happened, stretches),
            },
        )


def _keys(group: Any) -> Iterator[Event]:
    """Key presses, in unix seconds."""
    for item in _listed(group, "keystrokes"):
        yield _event(item, str(item.get("key")), "key")


def _prompts(group: Any) -> Iterator[Event]:
    """What people were asked to type, or else to do, in unix seconds."""
    for item in _listed(group, "prompts"):
        text = (item.get("payload") or {}).get("text")
        name = str(item.get("name"))
        yield _event(item, name, "cue") if text is None else _event(item, str(text), "prompt")


def _event(item: dict[str, Any], label: str, kind: str) -> Event:
    start = item.get("start")
    end = item.get("end")
    try:
        begin = float("nan" if start is None else start)  # falls into no stretch: dropped
        return Event(begin, max(begin, float(begin if end is None else end)), label, kind=kind)
    except (TypeError, ValueError) as error:
        raise RecordingError(f"has a {kind} at {start!r} to {end!r}: expected seconds") from error


def _listed(group: Any, name: str) -> list[dict[str, Any]]:
    items = _parsed(group, name, [])
    if not all(isinstance(item, dict) for item in items):
        raise RecordingError(f"attribute {name!r} is not a JSON list of objects")
    check_events(len(items))
    return items


def _parsed(group: Any, name: str, default: Json) -> Json:
    """An attribute that holds JSON of the same kind as its default."""
    value = stored_json(group, name, json.dumps(default))
    if not isinstance(value, type(default)):
        raise RecordingError(
            f"attribute {name!r} is not a JSON {type(default).__name__} of objects"
        )
    return value


def write_session(recording: Recording, path: str | os.PathLike[str]) -> None:
    """Writes a pair of wristbands and what was typed as a session that `read` gives back.

    The signal is written block by block. Subject, session and condition go where the format has
    them, all metadata into an attribute of their own besides.

    Args:
        recording: In µV at 2 kHz, with the electrodes of the montage ``emg2qwerty`` and with
            events of the kinds ``key`` and ``prompt``.
        path: File to write; its suffix should be ``.hdf5``.

    Raises:
        RecordingError: if the format cannot hold the recording, or h5py is missing.
    """
    _check_session(recording)
    facts = recording.metadata
    row = np.dtype([*((band, "<f4", (16,)) for band in _BANDS), ("time", "<f8")])
    start = recording.start_time
    spans = [(e, {"start": start + e.start, "end": start + e.end}) for e in recording.events]
    keys = [{"key": e.label, **span} for e, span in spans if e.kind == "key"]
    prompts = [
        {"name": "text_prompt", **span, "payload": {"text": e.label}}
        if e.kind == "prompt"
        else {"name": e.label, **span, "payload": None}
        for e, span in spans
        if e.kind != "key"
    ]
    with written_hdf5(Path(path)) as file:
        group = file.create_group("emg2qwerty")
        group.attrs["session_name"] = str(facts.get("session", ""))
        group.attrs["user"] = str(facts.get("subject", ""))
        group.attrs["condition"] = str(facts.get("condition", "on_keyboard"))
        group.attrs["duration_mins"] = recording.duration / 60
        group.attrs["keystrokes"] = json.dumps(keys)
        group.attrs["prompts"] = json.dumps(prompts)
        kept = {name: value for name, value in facts.items() if name not in _OF_A_FILE}
        group.attrs["metadata"] = json.dumps(kept, default=str)
        dataset = group.create_dataset("timeseries", (recording.num_samples,), row, chunks=True)
        done = 0
        for block in recording.blocks():
            rows = np.empty(block.shape[1], row)
            rows["emg_left"], rows["emg_right"] = block[:16].T, block[16:].T
            rows["time"] = start + np.arange(done, done + len(rows)) / NOMINAL_RATE
            dataset[done : done + len(rows)] = rows
            done += len(rows)


def _check_session(recording: Recording) -> None:
    kinds = {event.kind for event in recording.events} - {"key", "prompt", "cue"}
    if recording.sample_rate != NOMINAL_RATE or recording.unit != "uV":
        problem = f"{recording.sample_rate:g} Hz in {recording.unit}: resample it to 2000 Hz in uV"
    elif recording.montage.electrodes != Montage.preset("emg2qwerty").electrodes:
        problem = f"the electrodes of {recording.montage.name!r}: they must be those of emg2qwerty"
    elif recording.num_samples == 0:
        problem = "no samples"
    elif kinds:
        problem = f"events of kind {sorted(kinds)}: keep only those of kind 'key' and 'prompt'"
    else:
        return
    raise RecordingError(f"cannot be written as an emg2qwerty session, it has {problem}")
