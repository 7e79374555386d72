"""Which format a file has: told by its first bytes, and by its suffix where they leave it open."""

from __future__ import annotations

from pathlib import Path

from emgcodec.recording import RecordingError

SUFFIXES = {
    ".h5": "hdf5",
    ".hdf5": "hdf5",
    ".npy": "npy",
    ".npz": "npz",
    ".csv": "text",
    ".tsv": "text",
}
"""What a suffix promises."""

_HEAD = 4096
_CONTROL = bytes(set(range(32)) - set(b"\t\n\f\r")) + b"\x7f"
_PICKLES = (b"\x02", b"\x03", b"\x04", b"\x05")  # protocols
_SIDE_TABLES = ("manifest.csv", "metadata.csv")  # corpora list their files in them


def sniff(path: Path) -> str:
    """The format of a file: ``hdf5``, ``npy``, ``npz`` or ``text``.

    Raises:
        RecordingError: if it is empty, unknown, or not what its suffix promises.
    """
    with path.open("rb") as file:
        head = file.read(_HEAD)
    if not head:
        raise RecordingError("is empty: save or fetch it again")
    if head[0] == 0x80 and head[1:2] in _PICKLES:
        raise RecordingError("is a Python pickle, which is never read: save it as .npy or .csv")
    found, promised = _format(head), SUFFIXES.get(path.suffix.lower())
    if promised and found in (None, "text") and found != promised:
        raise RecordingError(
            f"is not what its suffix promises ({promised}): it is truncated, damaged or renamed"
        )
    if found is None:
        raise RecordingError(
            "is in no known format: give HDF5 (the corpus format or emg2qwerty), .npy, .npz, "
            ".csv or .tsv, or build a Recording from the array"
        )
    return found


def is_recording(path: Path) -> bool:
    """Whether a file in a folder is meant as a recording, rather than as a note beside some."""
    if not path.is_file() or path.name.startswith(".") or path.name in _SIDE_TABLES:
        return False
    if path.suffix.lower() in SUFFIXES:
        return True
    with path.open("rb") as file:
        return _format(file.read(_HEAD)) not in (None, "text")


def _format(head: bytes) -> str | None:
    if head.startswith(b"\x89HDF\r\n\x1a\n"):
        return "hdf5"
    if head.startswith(b"\x93NUMPY"):
        return "npy"
    if head.startswith(b"PK\x03\x04") and b".npy" in head[30:512]:  # first name in the archive
        return "npz"
    return None if head.translate(None, _CONTROL) != head else "text"
