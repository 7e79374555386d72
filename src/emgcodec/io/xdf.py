"""XDF files (Lab Streaming Layer): a recording for each EMG stream and stretch without a gap.

Streams are those whose name matches `dataset`, else those of type EMG, else all of numbers.
Text streams are markers, which become events.
"""

from __future__ import annotations

from fnmatch import fnmatchcase
from functools import partial
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import numpy.typing as npt

from emgcodec.io.entry import Entry, Options, check_events, check_held, check_stretches
from emgcodec.labels import infer_montage
from emgcodec.montage import MAX_ELECTRODES
from emgcodec.recording import Event, Recording, RecordingError

_GAP_SECONDS, _GAP_SAMPLES = 0.25, 1  # wireless links deliver late, but not that late
_BYTES = {"int8": 1, "int16": 2, "int32": 4, "int64": 8, "float32": 4, "double64": 8}
_SAMPLES = 3  # tag of a chunk


def entries(path: Path, options: Options) -> list[Entry]:
    """The contiguous recordings of a file, named after their streams.

    Raises:
        RecordingError: if pyxdf is missing, the file is damaged, or holds no stream of numbers.
    """
    try:
        import pyxdf
    except ImportError as error:
        raise RecordingError("XDF files need pyxdf: pip install 'emgcodec[io]'") from error
    counts = _check(path)
    try:
        infos = {info["stream_id"]: info for info in pyxdf.resolve_streams(str(path))}
    except Exception as error:  # its parser raises anything
        raise _damaged(error) from error
    signals = _chosen(infos, options)
    texts = [k for k, info in infos.items() if info["channel_format"] == "string"]
    markers = [k for k in texts if 1 <= infos[k]["channel_count"] <= MAX_ELECTRODES]
    check_events(sum(sum(counts.get(k, [])) for k in markers))
    for k in signals:
        values = sum(counts.get(k, [])) * infos[k]["channel_count"]
        check_held(values)
        if values * _BYTES[infos[k]["channel_format"]] > path.stat().st_size:
            raise _damaged("a chunk declares more samples than it holds")
    try:
        with path.open("rb") as file:
            streams, _ = pyxdf.load_xdf(
                file,
                [*signals, *markers],
                jitter_break_threshold_seconds=_GAP_SECONDS,
                jitter_break_threshold_samples=_GAP_SAMPLES,
            )
        loaded = {stream["info"]["stream_id"]: stream for stream in streams}
        events = sorted(
            (float(time), "; ".join(words))
            for k in markers
            for time, words in zip(loaded[k]["time_stamps"], loaded[k]["time_series"], strict=True)
        )
    except Exception as error:
        raise _damaged(error) from error
    found: list[Entry] = []
    for k in signals:
        if len(loaded[k]["time_series"]) != sum(counts.get(k, [])):
            raise _damaged(f"stream {infos[k]['name']!r} does not hold the samples it declares")
        name, parts = str(infos[k]["name"] or k), loaded[k]["info"]["segments"]
        check_stretches(len(found) + len(parts))
        for n, (first, last) in enumerate(parts):
            load = partial(_load, loaded[k], first, last + 1, events, options)
            found.append(Entry(f"{name}.{n}" if len(parts) > 1 else name, load))
    return found


def _check(path: Path) -> dict[int, list[int]]:
    """Samples that each chunk of each stream declares; no chunk reaches beyond the file.

    The library passes over what is damaged, without a word that a program could hear.
    """
    counts: dict[int, list[int]] = {}
    end, size = 4, path.stat().st_size
    with path.open("rb") as file:
        while end < size:
            file.seek(end)
            length = _length(file)
            body = file.tell()
            end = body + length
            if length < 2 or end > size:
                raise _damaged("the last chunk is cut off")
            if int.from_bytes(file.read(2), "little") == _SAMPLES:
                stream = int.from_bytes(file.read(4), "little")
                number = _length(file)
                if number > length:  # each is a byte at least
                    raise _damaged("a chunk declares more samples than it holds")
                counts.setdefault(stream, []).append(number)
    return counts


def _length(file: BinaryIO) -> int:
    width = file.read(1)
    if width not in (b"\1", b"\4", b"\10"):
        raise _damaged("a length is not 1, 4 or 8 bytes long")
    return int.from_bytes(file.read(width[0]), "little")


def _chosen(infos: dict[int, dict[str, Any]], options: Options) -> list[int]:
    """Streams of numbers that are the signal."""
    numbers = [k for k, info in infos.items() if info["channel_format"] in _BYTES]
    names = {k: str(infos[k]["name"] or k) for k in numbers}
    if options.dataset is not None:
        found = [k for k in numbers if fnmatchcase(names[k], options.dataset)]
    else:
        found = [k for k in numbers if str(infos[k]["type"]).upper() == "EMG"] or numbers
    if not found or any(not 1 <= infos[k]["channel_count"] <= MAX_ELECTRODES for k in found):
        listed = ", ".join(f"{n} ({infos[k]['channel_count']})" for k, n in names.items())
        raise RecordingError(
            f"has no EMG stream of 1 to {MAX_ELECTRODES} channels: choose by name with dataset=; "
            f"its streams of numbers (and channels) are {listed or 'none'}"
        )
    return found


def _load(
    stream: dict[str, Any],
    first: int,
    stop: int,
    events: list[tuple[float, str]],
    options: Options,
) -> Recording:
    info, times = stream["info"], stream["time_stamps"]
    emg: npt.NDArray[Any] = stream["time_series"][first:stop].T
    kinds = [kind.upper() == "EMG" for kind in _described(info, "type")]
    keep = [k for k in range(len(emg)) if len(kinds) != len(emg) or kinds[k] or not any(kinds)]
    units, labels = _described(info, "unit"), _described(info, "label")
    unit, factors = options.scales([units[k] for k in keep] if len(units) == len(emg) else [])
    scaled = emg[keep] * np.array(factors)[:, None] if unit == "uV" and factors else emg[keep]
    start, end = float(times[first]), float(times[stop - 1])
    if not (np.isfinite(start) and np.isfinite(end)):
        raise RecordingError("has time stamps that are no numbers: record or export it again")
    montage = options.montage
    if len(labels) == len(emg):
        montage = montage or infer_montage([labels[k] for k in keep], str(info["name"][0]))
    return Recording(
        scaled,
        options.rate(_rate(info) if options.sample_rate is None else None),
        montage=montage,
        unit=unit or "adc",
        start_time=start - float(times[0]),
        events=[
            Event(t - start, t - start, w, kind="marker") for t, w in events if start <= t <= end
        ],
        metadata={"stream": str(info["name"][0]), "type": str(info["type"][0])},
    )


def _rate(info: dict[str, Any]) -> float | None:
    stated, found = float(info["nominal_srate"][0]), float(info["effective_srate"])
    if stated and found and abs(found / stated - 1) > 0.01:
        raise RecordingError(
            f"states a rate of {stated:g} Hz but its time stamps show {found:g} Hz: "
            "pass sample_rate= to say which holds"
        )
    return stated or None


def _described(info: dict[str, Any], fact: str) -> list[str]:
    """What the stream says of each channel, or nothing."""
    try:
        return [str(c[fact][0]) for c in info["desc"][0]["channels"][0]["channel"]]
    except (KeyError, TypeError, IndexError):
        return []


def _damaged(error: object) -> RecordingError:
    return RecordingError(f"cannot be read as XDF ({error}): it is cut off or damaged")
