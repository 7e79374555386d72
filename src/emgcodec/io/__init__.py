"""Files to recordings: `read` gives the one in a file, `read_all` all of a file or folder.

One small reader for each format. Signals in HDF5 and ``.npy`` stay in the file until asked for.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path

from emgcodec.io import arrays, corpus, delimited, emg2qwerty
from emgcodec.io.emg2qwerty import session_user, write_session
from emgcodec.io.entry import Entry, Options, naming
from emgcodec.io.hdf5 import open_hdf5
from emgcodec.io.sniff import is_recording, sniff
from emgcodec.montage import Montage
from emgcodec.recording import Recording, RecordingError

__all__ = ["read", "read_all", "session_user", "write_session"]


def read(
    path: str | os.PathLike[str],
    *,
    recording: str | None = None,
    sample_rate: float | None = None,
    unit: str | None = None,
    montage: Montage | str | None = None,
) -> Recording:
    """The recording in a file.

    Args:
        path: HDF5 (corpus format or emg2qwerty session), ``.npy``, ``.npz``, ``.csv`` or ``.tsv``;
            the content decides, not the suffix.
        recording: Which one, where the file holds several: ``train_rep0.3``.
        sample_rate: Hz; overrides the file, and is needed where it states none.
        unit: ``uV``, ``mV``, ``V`` or ``adc``; overrides the file. Arrays and text are in
            microvolts unless stated otherwise.
        montage: Electrode positions or a device name; overrides the file.

    Returns:
        A recording whose `metadata` holds its name (``recording``) and the file's (``source``).

    Raises:
        RecordingError: if the file cannot be read, or holds several contiguous recordings and
            `recording` names none of them; the message lists their names.
        MontageError: if `montage` has another number of electrodes.
    """
    path = Path(path)
    if path.is_dir():
        raise RecordingError(f"{path}: is a folder: use read_all to go through its files")
    entries = _entries(path, Options(sample_rate, unit, montage))
    chosen = [entry for entry in entries if recording in (None, entry.name)]
    if len(chosen) != 1:
        listed = ", ".join(entry.name for entry in entries[:_LISTED])
        more = f" and {len(entries) - _LISTED} more" if len(entries) > _LISTED else ""
        problem = "holds several recordings" if chosen else f"holds no recording {recording!r}"
        raise RecordingError(
            f"{path}: {problem}: pick one with recording=, or take all with read_all: "
            f"{listed}{more}"
        )
    return _load(path, chosen[0])


def read_all(
    path: str | os.PathLike[str],
    *,
    recording: str | None = None,
    sample_rate: float | None = None,
    unit: str | None = None,
    montage: Montage | str | None = None,
) -> Iterator[Recording]:
    """The contiguous recordings of a file, or of the files of a folder in sorted order.

    Files are opened one after the other, as the iteration reaches them. In a folder, hidden
    files, the tables ``manifest.csv`` and ``metadata.csv`` and whatever looks like no recording
    (notes, pictures, subfolders) are passed over.

    Args:
        path: File or folder.
        recording: Only those of this name; None takes all.
        sample_rate: See `read`.
        unit: See `read`.
        montage: See `read`.

    Yields:
        Recordings; see `read`.

    Raises:
        RecordingError: at the first file that cannot be read, or if there is no recording.
        MontageError: if `montage` has another number of electrodes.
    """
    path, options, found = Path(path), Options(sample_rate, unit, montage), False
    with naming(path):
        files = sorted(filter(is_recording, path.iterdir())) if path.is_dir() else [path]
    for file in files:
        for entry in _entries(file, options):
            if recording in (None, entry.name):
                found = True
                yield _load(file, entry)
    if not found:
        wanted = "recordings" if recording is None else f"recording {recording!r}"
        raise RecordingError(f"{path}: holds no {wanted}: check the path")


_LISTED = 40


def _entries(path: Path, options: Options) -> list[Entry]:
    with naming(path):
        return _READERS[sniff(path)](path, options)


def _load(path: Path, entry: Entry) -> Recording:
    with naming(path):
        recording = entry.load()
    names = {"recording": entry.name, "source": path.stem}
    recording.metadata = names | recording.metadata
    return recording


def _hdf5_entries(path: Path, options: Options) -> list[Entry]:
    with open_hdf5(path) as file:
        names = list(file)
    if "recordings" in names:
        return corpus.entries(path, options)
    if "emg2qwerty" in names:
        return emg2qwerty.entries(path, options)
    raise RecordingError(
        f"is HDF5 but neither in the corpus format nor an emg2qwerty session (it holds {names}): "
        "load the array with h5py and build a Recording from it"
    )


_READERS: dict[str, Callable[[Path, Options], list[Entry]]] = {
    "hdf5": _hdf5_entries,
    "npy": arrays.npy_entries,
    "npz": arrays.npz_entries,
    "text": delimited.entries,
}
