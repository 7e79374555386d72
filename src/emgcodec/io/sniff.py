"""Which format a file has: told by its first bytes, and by its suffix where they leave it open."""

from __future__ import annotations

from codecs import BOM_UTF16_BE, BOM_UTF16_LE
from pathlib import Path

import numpy as np

from emgcodec.recording import RecordingError

SUFFIXES = {
    ".h5": "hdf5",
    ".hdf5": "hdf5",
    ".mat": "mat",
    ".npy": "npy",
    ".npz": "npz",
    ".edf": "edf",
    ".bdf": "edf",
    ".xdf": "xdf",
    ".csv": "text",
    ".tsv": "text",
}
"""What a suffix promises."""

_HEAD = 4096
_CONTROL = bytes(set(range(32)) - set(b"\t\n\f\r")) + b"\x7f"
_PICKLES = (b"\x02", b"\x03", b"\x04", b"\x05")  # protocols
# Corpora and BIDS keep lists of files, electrodes and events in them.
_SIDE_TABLES = ("manifest.csv", "metadata.csv", "participants.tsv")
_SIDECARS = ("_channels.tsv", "_electrodes.tsv", "_events.tsv", "_scans.tsv", "_sessions.tsv")
_STARTS = {
    b"\x89HDF\r\n\x1a\n": "hdf5",
    b"MATLAB 7.3 MAT-file": "hdf5",  # HDF5 behind a page of text
    b"MATLAB 5.0 MAT-file": "mat",
    b"\x93NUMPY": "npy",
    b"\xffBIOSEMI": "edf",
    b"XDF:": "xdf",
}


def sniff(path: Path) -> str:
    """The format of a file: ``hdf5``, ``mat``, ``npy``, ``npz``, ``edf``, ``xdf``, ...

    Raises:
        RecordingError: if it is no regular file, empty, unknown, or not what its suffix promises.
    """
    if not path.is_file():  # a pipe would wait for a writer
        raise RecordingError("is a pipe, device or folder: copy what it holds into a file")
    with path.open("rb") as file:
        head = file.read(_HEAD)
    if not head:
        raise RecordingError("is empty: save or fetch it again")
    if head[0] == 0x80 and head[1:2] in _PICKLES:
        raise RecordingError("is a Python pickle, which is never read: save it as .npy or .csv")
    if head.startswith((BOM_UTF16_LE, BOM_UTF16_BE)):
        raise RecordingError("is text in UTF-16: save it as UTF-8")
    found, promised = _format(head, path), SUFFIXES.get(path.suffix.lower())
    if promised and found in (None, "text") and found != promised:
        raise RecordingError(
            f"is not what its suffix promises ({promised}): it is truncated, damaged or renamed"
            + (", or of MATLAB version 4: save it with -v7" if promised == "mat" else "")
        )
    if found is None:
        raise RecordingError(
            "is in no known format: give HDF5, MATLAB, EDF, BDF, XDF, .npy, .npz, .csv, .tsv or "
            "a Myo's .dat, or build a Recording from the array"
        )
    return found


def is_recording(path: Path) -> bool:
    """Whether a file in a folder is meant as a recording, rather than as a note beside some."""
    if not path.is_file() or path.name.startswith(".") or path.name in _SIDE_TABLES:
        return False
    if path.name.endswith(_SIDECARS):
        return False
    if path.suffix.lower() in SUFFIXES:
        return True
    with path.open("rb") as file:
        return _format(file.read(_HEAD), path) not in (None, "text")


def _format(head: bytes, path: Path) -> str | None:
    for start, name in _STARTS.items():
        if head.startswith(start):
            return name
    if head.startswith(b"PK\x03\x04") and b".npy" in head[30:512]:  # first name in the archive
        return "npz"
    if head.startswith(b"0       ") and head[184:192].strip().isdigit():  # size of the header
        return "edf"
    if head.translate(None, _CONTROL) == head:
        return "text"
    values = np.frombuffer(head[: len(head) // 2 * 2], "<i2")
    small = len(values) > 0 and values.min() >= -128 and values.max() <= 127
    return "myo" if path.suffix.lower() == ".dat" and small else None
