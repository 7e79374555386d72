"""Values out of source files, exactly: a number that is no integer count is an error."""

from __future__ import annotations

from io import StringIO
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from emgcodec.prepare.collection import PrepareError, Segment


def table(path: Path, columns: int) -> npt.NDArray[np.float64]:
    """Numbers of a text file, (N, columns); commas or white space between them.

    Raises:
        PrepareError: if it holds anything else.
    """
    try:
        text = path.read_text("utf-8").replace(",", " ")
        values = np.loadtxt(StringIO(text), ndmin=2, comments=None) if text.strip() else None
    except ValueError as error:
        raise PrepareError(f"{path}: expected rows of {columns} numbers, but {error}") from error
    if values is None or values.shape[1] != columns:
        found = "nothing" if values is None else f"rows of {values.shape[1]}"
        raise PrepareError(f"{path}: expected rows of {columns} numbers, found {found}")
    return values


def exact_integers(
    path: Path, values: npt.NDArray[Any], *, bits: int = 16, tolerance: float = 0.0
) -> npt.NDArray[np.signedinteger[Any]]:
    """The integers that values stand for: int16, or int32 where `bits` are more than 16.

    Args:
        path: For the error.
        values: Real numbers of any shape, in counts.
        bits: Signed width that the counts must fit.
        tolerance: How far from an integer a value may lie: half a printed digit, in counts.

    Raises:
        PrepareError: if a value is further off, too large, or not finite.
    """
    whole = np.rint(values)
    with np.errstate(invalid="ignore"):  # inf - inf
        error = np.abs(values - whole).max()
    if not error <= tolerance:
        raise PrepareError(
            f"{path}: a value lies {error:.3g} counts off the nearest integer: expected at most "
            f"{tolerance:g}; the file has another scale, or is damaged"
        )
    low, high = whole.min(), whole.max()
    if low < -(1 << bits - 1) or high >= 1 << bits - 1:
        raise PrepareError(
            f"{path}: values from {low:g} to {high:g} counts: expected signed {bits}-bit ones"
        )
    integers: npt.NDArray[np.signedinteger[Any]]
    integers = whole.astype(np.int16 if bits <= 16 else np.int32)
    return integers


def one_gesture(samples: npt.NDArray[np.signedinteger[Any]], label: int) -> list[Segment]:
    """A file of one gesture as its one segment."""
    return [Segment(samples, np.full(len(samples), label, np.int8))]
