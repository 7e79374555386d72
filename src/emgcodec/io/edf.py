"""EDF, EDF+ and BDF files; only the samples that are asked for are read.

Electrodes are the signals whose label matches `dataset` (``EMG*``), else those of type EMG in an
EMG-BIDS folder, else those labelled EMG, else those in volts, else all.
"""

from __future__ import annotations

import io
import math
import re
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import UTC
from fnmatch import fnmatchcase
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from emgcodec.io.bids import Sidecars, sidecars
from emgcodec.io.entry import (
    Entry,
    Options,
    check_events,
    check_stretches,
    known_unit,
    naming,
)
from emgcodec.labels import infer_montage
from emgcodec.montage import Electrode, Montage
from emgcodec.recording import Event, Recording, RecordingError

OURS = "emgcodec"
"""Equipment that `write_edf` states, and behind it what EDF has no place for."""
MISSING = "missing"

_BYTES_AT_ONCE = 1 << 24
_MOST_RECORDS = 1 << 21  # with annotations, which are looked for one by one
# Looked for only at the start and behind a zero: anywhere would take the square of the time.
_TAL = re.compile(rb"(?<![^\x00])([+-]\d+(?:\.\d*)?)(?:\x15(\d+(?:\.\d*)?))?\x14([^\x00]*\x14)\x00")
_PLACE = re.compile(r"(\S+) band=(\d+) angle=(\d+\.\d+) row=(-?\d+\.\d+)")


@dataclass(frozen=True)
class Channel:
    """One signal of a file.

    Attributes:
        label: What the file calls it.
        unit: Its physical dimension.
        place: What the file says of its electrode.
        offset: First byte in each data record.
        samples: In each data record.
        gain: Physical value of one digital step.
        base: Physical value of the digital 0.
        missing: Digital value of a missing sample, or None.
    """

    label: str
    unit: str
    place: str
    offset: int
    samples: int
    gain: float
    base: float
    missing: int | None


@dataclass(frozen=True)
class EdfSignal:
    """A `SignalSource` over the data records of a file.

    Attributes:
        path: The file.
        header: Bytes before the first data record.
        record: Bytes of each data record.
        width: Bytes of a sample, 2 or 3.
        first: First data record of this stretch.
        shape: (C, N).
        channels: Of the electrodes.
    """

    path: Path
    header: int
    record: int
    width: int
    first: int
    shape: tuple[int, int]
    channels: tuple[Channel, ...]

    def read(self, start: int, stop: int) -> npt.NDArray[np.float64]:
        """Samples start to stop in the units of the file, (C, stop - start)."""
        stop = max(start, min(stop, self.shape[1]))
        per = self.channels[0].samples
        first, last = start // per, -(-stop // per)
        with naming(self.path):
            raw = self.raw(self.first + first, self.first + last)
            emg = np.empty((len(self.channels), (last - first) * per))
            for row, channel in zip(emg, self.channels, strict=True):
                digital = _digital(raw[:, channel.offset :][:, : per * self.width], self.width)
                row[:] = digital * channel.gain + channel.base
                if channel.missing is not None:
                    row[digital == channel.missing] = np.nan
        return emg[:, start - first * per : stop - first * per]

    def raw(self, first: int, last: int) -> npt.NDArray[np.uint8]:
        """Data records as bytes, (records, bytes); no map, for the file may shrink meanwhile."""
        place, size = self.header + first * self.record, (last - first) * self.record
        found = np.fromfile(self.path, np.uint8, size, offset=place)
        if len(found) < size:
            raise RecordingError("ends before its last data record: it was cut off meanwhile")
        return found.reshape(last - first, self.record)


def _digital(raw: npt.NDArray[np.uint8], width: int) -> npt.NDArray[np.signedinteger[Any]]:
    """Bytes (records, samples x width) as numbers, (records x samples)."""
    if width == 2:
        return np.ascontiguousarray(raw).view("<i2").ravel()
    wide = np.zeros((raw.size // 3, 4), np.uint8)
    wide[:, 1:] = raw.reshape(-1, 3)
    return wide.view("<i4").ravel() >> 8


@dataclass(frozen=True)
class _File:
    """What the header says, and where the annotations stand."""

    signal: EdfSignal  # of all electrodes and records; shape not yet known
    records: int
    seconds: float  # of a data record
    channels: list[Channel]
    notes: list[slice]  # bytes of each data record that hold annotations
    start_time: float
    joined: bool  # EDF+D: there may be gaps between data records
    facts: dict[str, float]  # that `write_edf` stated

    def _records(self) -> Iterator[bytes]:
        step = max(1, _BYTES_AT_ONCE // self.signal.record)
        for first in range(0, self.records, step):
            raw = self.signal.raw(first, min(first + step, self.records))
            yield from (record.tobytes() for record in raw)

    def annotations(self) -> tuple[list[float], list[tuple[float, float, str]]]:
        """Onsets of data records; onset, end and text of each annotation. In seconds."""
        found: list[tuple[float, float, str]] = []
        if not self.notes:  # nothing tells of gaps, and there may be many millions of records
            return [0.0], found
        onsets = [k * self.seconds for k in range(self.records)]
        for k, record in enumerate(self._records()):
            for n, part in enumerate(self.notes):
                for number, match in enumerate(_TAL.finditer(record[part])):
                    start, length, texts = match.groups()
                    check_events(len(found) + texts.count(b"\x14"))
                    if n == number == 0:
                        onsets[k] = float(start)
                    for text in filter(None, texts.decode("utf-8", "replace").split("\x14")):
                        found.append((float(start), float(start) + float(length or 0), text))
        return onsets, found


def entries(path: Path, options: Options) -> list[Entry]:
    """The contiguous recordings of a file: its name, with ``.<k>`` if there are gaps in it.

    Raises:
        RecordingError: if edfio is missing, the file is damaged, or leaves open what is EMG.
    """
    file, beside = _open(path), sidecars(path)
    channels = _chosen(file.channels, options, beside)
    onsets, notes = file.annotations()
    limit = 0.5 * file.seconds / channels[0].samples
    steps = enumerate(pairwise(onsets), 1)
    leaps = [k for k, (a, b) in steps if abs(b - a - file.seconds) > limit]
    bounds = [0, *(leaps if file.joined else []), file.records]
    check_stretches(len(bounds) - 1)
    several = len(bounds) > 2
    return [
        Entry(
            f"{path.stem}.{k}" if several else path.stem,
            partial(_load, file, channels, (first, stop), onsets, notes, beside, options),
        )
        for k, (first, stop) in enumerate(pairwise(bounds))
    ]


def _open(path: Path) -> _File:
    try:
        import edfio
    except ImportError as error:
        raise RecordingError("EDF files need edfio: pip install 'emgcodec[io]'") from error
    with path.open("rb") as file, warnings.catch_warnings():
        warnings.simplefilter("ignore")  # we hand it one data record and it wonders at that
        head = file.read(256)
        width = 3 if head.startswith(b"\xff") else 2
        try:
            count, stated = int(head[252:256]), int(head[236:244])
            size = 256 * (max(count, 1) + 1)
            head += file.read(size - 256)
            samples = [int(head[256 + 216 * count + 8 * k :][:8]) for k in range(count)]
            labels = [head[256 + 16 * k :][:16].decode("latin-1").strip() for k in range(count)]
            record = width * sum(samples)
            records, rest = divmod(path.stat().st_size - size, record)
            if int(head[184:192]) != size or min(samples) < 0:
                raise ValueError(f"{count} signals in {head[184:192]!r} bytes")
            if rest or stated not in (-1, records):
                raise RecordingError(
                    f"states {stated} data records of {record} bytes, but {records} and {rest} "
                    "bytes follow: it is cut off or damaged; fetch it again"
                )
            head += file.read(record)
            parsed = (
                edfio.read_edf(head, header_encoding="latin-1")
                if width == 2
                else edfio.read_bdf(io.BytesIO(head), header_encoding="latin-1")
            )
            offsets = np.cumsum([0, *samples]) * width
            is_note = [label in ("EDF Annotations", "BDF Annotations") for label in labels]
            ordinary = [int(o) for o, note in zip(offsets, is_note, strict=False) if not note]
            channels = list(map(_channel, parsed.signals, ordinary))
            ours = parsed.recording.additional if parsed.recording.equipment_code == OURS else ()
            facts = {name: float(value) for name, _, value in (w.partition("=") for w in ours)}
            if not all(map(math.isfinite, facts.values())) or facts.get("samples", 1.0) < 1:
                raise ValueError(f"{ours} is not what we write")
            if is_note.count(True) and records > _MOST_RECORDS:
                raise ValueError(f"{records} data records with annotations")
            return _File(
                EdfSignal(path, size, record, width, 0, (0, 0), ()),
                records,
                parsed.data_record_duration,
                channels,
                [slice(offsets[k], offsets[k + 1]) for k in range(count) if is_note[k]],
                _start_time(parsed),
                parsed.reserved[:5] in ("EDF+D", "BDF+D"),
                facts,
            )
        except RecordingError:
            raise
        except Exception as error:  # its parser raises anything
            raise RecordingError(f"has a damaged header ({error}): fetch it again") from error


def _channel(signal: Any, offset: int) -> Channel:
    (low, high), (bottom, top) = signal.digital_range, signal.physical_range
    gain = (top - bottom) / (high - low)
    if not math.isfinite(gain) or gain == 0:
        raise ValueError(f"signal {signal.label!r} spans {bottom} to {top}")
    missing = low if signal.transducer_type.split()[-1:] == [MISSING] else None
    return Channel(
        signal.label,
        signal.physical_dimension.replace("\u00c2", ""),  # what latin-1 makes of a UTF-8 µ
        signal.transducer_type,
        offset,
        signal.samples_per_data_record,
        gain,
        bottom - low * gain,
        missing,
    )


def _start_time(parsed: Any) -> float:
    try:
        moment = parsed.startdatetime.replace(tzinfo=UTC)
    except (ValueError, IndexError, OverflowError):
        return 0.0
    unknown = moment.timetuple()[:6] == (1985, 1, 1, 0, 0, 0)  # what anonymising leaves
    return 0.0 if unknown else float(moment.timestamp())


def _chosen(
    channels: list[Channel], options: Options, beside: Sidecars | None
) -> tuple[Channel, ...]:
    """The electrodes among the signals of a file."""
    if options.dataset is not None:
        found = [c for c in channels if fnmatchcase(c.label, options.dataset)]
    elif beside and beside.channels:
        found = [c for c in channels if beside.is_emg(c.label)]
    else:
        found = [c for c in channels if "emg" in c.label.lower()]
        found = found or [c for c in channels if known_unit(c.unit)] or channels
    found = [c for c in found if c.samples]
    if not found or len({channel.samples for channel in found}) > 1:
        listed = ", ".join(f"{c.label} ({c.samples})" for c in channels[:20])
        problem = "signals of several rates" if found else "no EMG"
        raise RecordingError(
            f"has {problem}: choose by label with dataset=, for example 'EMG*'; its signals "
            f"(and samples in each data record) are {listed or 'none'}"
        )
    return tuple(found)


def _load(
    file: _File,
    channels: tuple[Channel, ...],
    records: tuple[int, int],
    onsets: Sequence[float],
    notes: Sequence[tuple[float, float, str]],
    beside: Sidecars | None,
    options: Options,
) -> Recording:
    first, stop = records
    stated = [c.unit for c in channels]
    if beside:  # the file's own word counts first
        units = {name: row.get("units", "") for name, row in beside.channels.items()}
        stated = [c.unit if known_unit(c.unit) else units.get(c.label, c.unit) for c in channels]
    unit, factors = options.scales(stated)
    scaled = [
        replace(c, gain=c.gain * factor, base=c.base * factor)
        for c, factor in zip(channels, factors, strict=True)
    ]
    length = (stop - first) * scaled[0].samples
    length = min(length, int(file.facts.get("samples", length)))
    shape = (len(scaled), length)
    rate = options.rate(file.facts.get("rate", scaled[0].samples / file.seconds))
    if beside and options.sample_rate is None and all(beside.is_emg(c.label) for c in channels):
        beside.check_rate(rate)
    begin = onsets[first] if first < len(onsets) else 0.0
    events = [
        Event(start - begin, end - begin, *_words(text, bool(file.facts)))
        for start, end, text in notes
        if begin <= start < begin + length / rate or len(onsets) == stop - first
    ]
    shift = begin - onsets[0] if onsets else 0.0
    if beside and beside.events is not None:
        moved = [replace(e, start=e.start - shift, end=e.end - shift) for e in beside.events]
        events = [e for e in moved if 0 <= e.start < length / rate]
    return Recording(
        replace(file.signal, first=first, shape=shape, channels=tuple(scaled)),
        rate,
        montage=options.montage or _montage(channels, beside),
        unit=unit or "adc",
        start_time=file.facts.get("start", file.start_time) + shift,
        events=sorted(events, key=lambda event: event.start),
        metadata=dict(beside.metadata) if beside else {},
    )


def _words(text: str, ours: bool) -> tuple[str, None, str]:
    """Label, score and kind of an event."""
    kind, slash, label = text.partition("/")
    return (label, None, kind) if ours and slash else (text, None, "annotation")


def _montage(channels: Sequence[Channel], beside: Sidecars | None) -> Montage | None:
    """Positions that the file states, or its labels tell."""
    places = [_PLACE.match(channel.place) for channel in channels]
    if all(places):
        found = [place.groups() for place in places if place]
        electrodes = tuple(Electrode(int(b), float(a), float(r)) for _, b, a, r in found)
        return Montage(found[0][0], electrodes)
    names = [channel.label for channel in channels]
    device = beside.facts.get("ManufacturersModelName") if beside else None
    return (beside.montage(names) if beside else None) or infer_montage(
        names, device if isinstance(device, str) else ""
    )
