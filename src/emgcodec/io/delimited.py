"""Text tables (``.csv``, ``.tsv``): a row for each sample, a column for each electrode.

A first line may name the columns; a column ``time``, ``timestamp`` or ``t`` (seconds, or
``time_ms``, ``t (us)``, ...) gives the rate. Comment lines before the data may state
``# sample_rate: 1000`` and ``# unit: uV``.
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

from emgcodec.io.entry import MAX_GAP, Entry, Options
from emgcodec.recording import FloatArray, Recording, RecordingError

_LINES_AT_ONCE = 16_384
_NEVER_RISES = 256  # rows: muscle does not rise from sample to sample for that long
_TIME = re.compile(r"(?:time|timestamp|t)[ _]*[\[(]?(s|sec|secs|seconds?|ms|us|µs)?[\])]?", re.I)
_SECONDS = {"ms": 1e-3, "us": 1e-6, "µs": 1e-6}

DoubleArray = npt.NDArray[np.float64]


@dataclass(frozen=True)
class _Table:
    """How to read the lines of one file."""

    delimiter: str
    num_columns: int
    time_column: int | None
    time_unit: float  # seconds
    stated: dict[str, str]  # by comment lines
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
                clock.append(values[:, table.time_column] * table.time_unit)
                values = np.delete(values, table.time_column, axis=1)
            rising.append(np.all(np.diff(values, axis=0) > 0, axis=0))
            with np.errstate(over="ignore"):  # what does not fit float32 is inf: repair sees it
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
    times = np.concatenate(clock) if clock else None
    known = options.sample_rate is not None
    return Recording(
        emg,
        options.rate(None if known else _rate(table.stated.get("sample_rate"), times)),
        montage=options.montage,
        unit=options.unit or table.stated.get("unit", "uV"),
        start_time=0.0 if times is None else float(times[0]),
    )


def _head(file: TextIO) -> _Table:
    """Looks at the comments, the names and the first row of numbers."""
    skipped: list[str] = []
    for line in file:
        if _holds_data(line):
            break
        skipped.append(line)
    else:
        raise RecordingError("holds no rows of numbers")
    stated = {}
    for comment in skipped:
        name, _, value = comment.strip("# \t\r\n").partition(":")
        stated[name.strip().lower()] = value.strip()
    delimiter = next((d for d in "\t;" if d in line), ",")
    cells = _cells(line, delimiter)
    named = not all(_is_number(cell) for cell in cells)
    times = [(k, _TIME.fullmatch(cell)) for k, cell in enumerate(cells)] if named else []
    column, unit = next(((k, match[1]) for k, match in times if match), (None, None))
    if named and "" in cells:
        raise RecordingError(
            f"line {len(skipped) + 1}: column {cells.index('') + 1} has no name; if it is a row "
            "number, leave it out when saving (pandas: index=False)"
        )
    return _Table(
        delimiter,
        len(cells),
        column,
        _SECONDS.get((unit or "").lower(), 1.0),
        stated,
        len(skipped) + named,
    )


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
    return bool(text) and not text.startswith("#")


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
