"""Text tables (``.csv``, ``.tsv``): a row for each sample, a column for each electrode.

A line above the numbers may name the columns; a column ``time``, ``timestamp`` or ``t`` (seconds,
or ``time_ms``, ``t (us)``, ``X[s]``, ...) gives the rate. What else stands above may state
``sample_rate: 1000`` (or ``Sampling Rate = 1 kHz``) and ``unit: uV``; names may end in ``(mV)``.
Where some names say EMG, the other columns are left out. Counts of a Myo have its rate.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from itertools import islice
from pathlib import Path
from typing import TextIO

import numpy as np
import numpy.typing as npt

from emgcodec.io.entry import MAX_GAP, Entry, Options, known_unit
from emgcodec.io.myo import MYO_RATE
from emgcodec.labels import infer_montage
from emgcodec.recording import FloatArray, Recording, RecordingError

_LINES_AT_ONCE = 16_384
_LONGEST_HEAD = 200  # lines
_NEVER_RISES = 256  # rows: muscle does not rise from sample to sample for that long
_TIME = re.compile(
    r"(?:(?:.* )?time series|time|timestamps?|t|x(?= ?\[))"
    r"[ _]*[\[(]?(s|sec|secs|seconds?|ms|us|µs)?[\])]?(?:\.\d+)?",
    re.I,
)
_BESIDE = re.compile(  # what is counted or told, and not measured by an electrode
    r"(?:sample )?index|sample(?: number)?|nseq|frame|di|[io]\d|labels?|class|gestures?|"
    r"(?:re)?stimulus|(?:re)?repetition|triggers?|markers?|events?|target",
    re.I,
)
_COLUMNS = re.compile(r'"columns?": *\[([^\]]*)\]')  # in a preamble of JSON
_EMG = re.compile(r"emg|exg", re.I)
_MYO = re.compile(r"emg[ _]?\d", re.I)
_RATE = re.compile(
    r"(?:sampl\w{0,20}[ _]{0,9}(?:rate|freq\w{0,20})|\bfrequency)"
    r"[^\d\n]{0,20}(\d+(?:\.\d+)?) *(khz)?",
    re.I,
)
_UNIT = re.compile(r"[\[(]([^\[\]()]+)[\])]$|[_ ]([^\[(_ ]*V)$", re.I)
_SECONDS = {"ms": 1e-3, "us": 1e-6, "µs": 1e-6}
_EPOCHS = {1e17: 1e-9, 1e14: 1e-6, 1e11: 1e-3}  # unix times above are in these seconds

DoubleArray = npt.NDArray[np.float64]


@dataclass(frozen=True)
class _Table:
    """How to read the lines of one file."""

    delimiter: str
    num_columns: int
    time_column: int | None
    time_unit: float | None  # seconds
    columns: list[int]  # of the electrodes
    names: list[str]  # of all columns, or none
    stated: dict[str, str]  # above the numbers
    first_line: int  # of the data, from 0


def entries(path: Path, options: Options) -> list[Entry]:
    """The one recording of a text table, named after the file."""
    return [Entry(path.stem, partial(_load, path, options))]


def _load(path: Path, options: Options) -> Recording:
    chunks: list[FloatArray] = []
    clock: list[DoubleArray] = []
    rising: list[npt.NDArray[np.bool_]] = []
    with path.open(encoding="utf-8-sig", errors="replace") as file:
        table = _head(file)
        file.seek(0)
        for values in _blocks(islice(file, table.first_line, None), table):
            if table.time_column is not None:
                clock.append(values[:, table.time_column])
            values = values[:, table.columns]
            # What does not fit float32 is inf: repair sees it.
            with np.errstate(over="ignore", invalid="ignore"):
                rising.append(np.all(np.diff(values, axis=0) > 0, axis=0))
                chunks.append(values.T.astype(np.float32))
    if not chunks:
        raise RecordingError("holds names but no rows of numbers")
    emg = np.concatenate(chunks, axis=1)
    clocks = np.flatnonzero(np.all(rising, axis=0)) + 1
    if emg.shape[1] >= _NEVER_RISES and len(clocks):
        raise RecordingError(
            f"column {clocks[0]} of the signal rises at every row, as a clock or a row number "
            "does: name it 'time' in a first line, or leave it out"
        )
    times = _seconds(np.concatenate(clock), table.time_unit) if clock else None
    names = [table.names[k] for k in table.columns] if table.names else []
    myo = len(names) == 8 and all(map(_MYO.fullmatch, names)) and _is_myo(emg)
    rate = options.sample_rate
    if rate is None:
        rate = MYO_RATE if myo else _rate(table.stated.get("sample_rate"), times)
    units = [match[1] or match[2] if (match := _UNIT.search(name)) else "" for name in names]
    unit, factors = options.scales([] if "unit" in table.stated else units)
    stated = table.stated.get("unit", "adc" if myo else "uV")
    if unit == "uV" and factors:
        emg *= np.array(factors, np.float32)[:, None]
    left = [n for k, n in enumerate(table.names) if k not in (*table.columns, table.time_column)]
    return Recording(
        emg,
        options.rate(rate),
        montage=options.montage or ("myo" if myo else infer_montage(names)),
        unit=unit or known_unit(stated) or stated,
        start_time=0.0 if times is None else float(np.nan_to_num(times[0])),
        metadata={"left_out": ", ".join(left)} if left else {},
    )


def _head(file: TextIO) -> _Table:
    """Looks at what stands above the numbers: comments, a vendor's preamble, names."""
    lines = list(islice(file, _LONGEST_HEAD))
    data = [k for k, line in enumerate(lines) if _holds_data(line)]
    if not data:
        raise RecordingError("holds no rows of numbers")
    at = _first_row([lines[k] for k in data])
    delimiter = _delimiter(lines[data[at]])
    cells = _cells(lines[data[at]], delimiter)
    names: list[str] = []
    top = at  # of the table, with its names
    if not all(map(_is_number, cells)):
        names, at = cells, at + 1
    elif at and len(above := _cells(lines[data[at - 1]], delimiter)) == len(cells):
        names, top = above, at - 1
    elif (found := _COLUMNS.search("".join(lines))) and found[1].count(",") + 1 == len(cells):
        names = _cells(found[1], ",")
    row = data[top]
    if names and "" in names:
        raise RecordingError(
            f"line {row + 1}: column {names.index('') + 1} has no name; if it is a row "
            "number, leave it out when saving (pandas: index=False)"
        )
    times = [(k, match) for k, name in enumerate(names) if (match := _TIME.fullmatch(name))]
    beside = {k for k, _ in times} | {k for k, n in enumerate(names) if _BESIDE.fullmatch(n)}
    columns = [k for k in range(len(cells)) if k not in beside]
    unit = (times[0][1][1] or "").lower() if times else ""
    return _Table(
        delimiter,
        len(cells),
        times[0][0] if times else None,
        _SECONDS.get(unit, 1.0) if unit else None,
        [k for k in columns if names and _EMG.search(names[k])] or columns,
        names,
        _stated(lines[:row]),
        data[at] if at < len(data) else len(lines),
    )


def _first_row(lines: list[str]) -> int:
    """The first row of the table: of two rows of numbers in as many columns, the upper one.

    Numbers above it would be lost with the preamble: then, and without such rows, it is line 0,
    and what is wrong with the lines is named when they are read.
    """
    rows = [_cells(line, _delimiter(line)) for line in lines]
    numbers = [all(map(_is_number, cells)) and any(cells) for cells in rows]
    for k, after in enumerate([*range(1, len(rows)), len(rows) - 1]):
        if numbers[k] and numbers[after] and len(rows[k]) == len(rows[after]):
            mixed = k and len(rows[k - 1]) == len(rows[k]) and any(map(_says, rows[k - 1]))
            return 0 if mixed or any(numbers[:k]) else k
    return 0


def _says(cell: str) -> bool:
    """Whether a cell holds a number, rather than a word or nothing."""
    return cell != "" and _is_number(cell)


def _stated(lines: list[str]) -> dict[str, str]:
    """What stands above the table, by its name."""
    stated = {}
    for line in lines:
        name, _, value = line.strip("#% \t\r\n").partition(":")
        stated[name.strip().lower()] = value.strip()
    found = {
        float(number) * (1000 if kilo else 1) for number, kilo in _RATE.findall("\n".join(lines))
    }
    if len(found) == 1:
        stated.setdefault("sample_rate", str(found.pop()))
    return stated


def _seconds(times: DoubleArray, unit: float | None) -> DoubleArray:
    """Time stamps in seconds; unix times without a unit show theirs by their size."""
    if unit is None:
        unit = next((unit for least, unit in _EPOCHS.items() if times[0] > least), 1.0)
    return times * unit


def _is_myo(emg: FloatArray) -> bool:
    """Whether these are signed 8-bit counts, which come in bursts: no clock of theirs holds."""
    return bool((np.abs(emg + 0.5) <= 127.5).all() and (emg == np.rint(emg)).all())


def _blocks(lines: Iterator[str], table: _Table) -> Iterator[DoubleArray]:
    """The numbers in blocks of rows, (n, columns)."""
    number = table.first_line
    while block := list(islice(lines, _LINES_AT_ONCE)):
        rows = [line for line in block if _holds_data(line)]
        if rows:
            try:
                values = np.loadtxt(rows, delimiter=table.delimiter, ndmin=2)
                regular = values.shape[1] == table.num_columns
            except ValueError:
                regular = False
            yield values if regular else _parse(block, number, table)
        number += len(block)


def _parse(block: list[str], number: int, table: _Table) -> DoubleArray:
    """The careful way: empty cells are missing samples, and what is wrong is named."""
    rows = []
    for k, line in enumerate(block, number + 1):
        if not _holds_data(line):
            continue
        cells = _cells(line, table.delimiter)
        if len(cells) != table.num_columns:
            raise RecordingError(
                f"line {k} has {len(cells)} columns, the first one {table.num_columns}: "
                "give every row the same number (is the file cut off?)"
            )
        wrong = [cell for cell in cells if not _is_number(cell)]
        if wrong:
            raise RecordingError(
                f"line {k}: {wrong[0][:40]!r} is not a number: keep only numbers, with decimal "
                f"points, separated by {table.delimiter!r}"
            )
        rows.append([float(cell or "nan") for cell in cells])
    return np.array(rows)


def _holds_data(line: str) -> bool:
    text = line.strip()
    return bool(text) and not text.startswith(("#", "%"))


def _delimiter(line: str) -> str:
    return next((d for d in "\t;" if d in line), ",")


def _cells(line: str, delimiter: str) -> list[str]:
    return [cell.strip().strip("\"'") for cell in line.strip("\r\n").split(delimiter)]


def _is_number(cell: str) -> bool:
    try:
        float(cell or "nan")
    except ValueError:
        return False
    return True


def _rate(stated: str | None, times: DoubleArray | None) -> float | None:
    """The rate that the file states or its clock shows, and None where it has neither."""
    clock = None if times is None else _clock_rate(times)
    if stated is None:
        return clock
    try:
        rate = float(stated)
    except ValueError as error:
        raise RecordingError(f"states sample_rate: {stated!r}, which is not a number") from error
    if clock is not None and abs(clock / rate - 1) > 0.01:
        raise RecordingError(
            f"states a rate of {rate:g} Hz but its time column shows {clock:g} Hz: "
            "pass sample_rate= to say which holds"
        )
    return rate


def _clock_rate(times: DoubleArray) -> float:
    """The roundest rate that the time stamps allow."""
    span, steps = times[-1] - times[0], len(times) - 1
    if not np.isfinite(times).all() or span <= 0:
        raise RecordingError("has a time column that does not rise: pass sample_rate=, in Hz")
    stray = np.abs(times - times[0] - np.arange(len(times)) * (span / steps))
    rate, doubt = steps / span, max(1e-6, 2 * stray.max() / span)
    if stray.max() > max(MAX_GAP, 1.5 / rate) or doubt > 0.01:
        raise RecordingError(
            f"has a time column that is not regular (off by {1e3 * stray.max():.1f} ms at row "
            f"{stray.argmax() + 1}): split it where samples are missing, or pass sample_rate= "
            "to disregard the column"
        )
    rounded = (float(f"{rate:.{digits}g}") for digits in range(1, 18))
    return next(value for value in rounded if abs(value / rate - 1) <= doubt)
