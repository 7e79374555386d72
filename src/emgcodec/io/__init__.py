"""Files to recordings: `read` gives the one in a file, `read_all` all of a file or folder.

One small reader for each format. Signals in HDF5, EDF, BDF and ``.npy`` stay in the file until
asked for. `write` makes HDF5, EDF and BDF.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

from emgcodec.io import (
    arrays,
    bids,
    corpus,
    delimited,
    edf,
    emg2pose,
    emg2qwerty,
    generic,
    matlab,
    myo,
    xdf,
)
from emgcodec.io.edf_write import write_edf
from emgcodec.io.emg2qwerty import session_user, write_session
from emgcodec.io.entry import Entry, Options, Stamped, file_stamp, naming, unchanged
from emgcodec.io.hdf5 import check_heaps, open_hdf5
from emgcodec.io.sniff import is_recording, sniff
from emgcodec.montage import Montage
from emgcodec.recording import Recording, RecordingError

__all__ = ["read", "read_all", "session_user", "write", "write_session"]


def read(
    path: str | os.PathLike[str],
    *,
    recording: str | None = None,
    sample_rate: float | None = None,
    unit: str | None = None,
    montage: Montage | str | None = None,
    dataset: str | None = None,
) -> Recording:
    """The recording in a file.

    Args:
        path: HDF5, MATLAB, EDF, BDF, XDF, ``.npy``, ``.npz``, ``.csv``, ``.tsv`` or a Myo's
            ``.dat`` (docs/formats.md); the content decides, not the suffix.
        recording: Which one, where the file holds several: ``train_rep0.3``.
        sample_rate: Hz; overrides the file, and is needed where it states none.
        unit: ``uV``, ``mV``, ``V`` or ``adc``; overrides the file. Arrays and text are in
            microvolts unless stated otherwise.
        montage: Electrode positions or a device name; overrides the file.
        dataset: Which signal is meant where the file holds others beside it: the path of an HDF5
            dataset, a MATLAB variable, the name of an XDF stream, the labels of EDF signals; the
            latter two may be patterns (``EMG*``).

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
    stamp = file_stamp(path)
    entries = _entries(path, Options(sample_rate, unit, montage, dataset))
    chosen = [entry for entry in entries if recording in (None, entry.name)]
    if len(chosen) != 1:
        listed = ", ".join(entry.name for entry in entries[:_LISTED])
        more = f" and {len(entries) - _LISTED} more" if len(entries) > _LISTED else ""
        problem = "holds several recordings" if chosen else f"holds no recording {recording!r}"
        raise RecordingError(
            f"{path}: {problem}: pick one with recording=, or take all with read_all: "
            f"{listed}{more}"
        )
    return _load(path, chosen[0], stamp)


def read_all(
    path: str | os.PathLike[str],
    *,
    recording: str | None = None,
    sample_rate: float | None = None,
    unit: str | None = None,
    montage: Montage | str | None = None,
    dataset: str | None = None,
) -> Iterator[Recording]:
    """The contiguous recordings of a file, or of the files of a folder in sorted order.

    Files are opened one after the other, as the iteration reaches them. In a folder, hidden
    files, tables that list others (``manifest.csv``, ``metadata.csv``, those of BIDS) and whatever
    looks like no recording (notes, pictures, subfolders) are passed over. The root of an EMG-BIDS
    dataset stands for all signal files below it.

    Args:
        path: File or folder.
        recording: Only those of this name; None takes all.
        sample_rate: See `read`.
        unit: See `read`.
        montage: See `read`.
        dataset: See `read`.

    Yields:
        Recordings; see `read`.

    Raises:
        RecordingError: at the first file that cannot be read, or if there is no recording.
        MontageError: if `montage` has another number of electrodes.
    """
    path, options, found = Path(path), Options(sample_rate, unit, montage, dataset), False
    with naming(path):
        files = recording_files(path) if path.is_dir() else [path]
    for file in files:
        stamp = file_stamp(file)
        for entry in _entries(file, options):
            if recording in (None, entry.name):
                found = True
                yield _load(file, entry, stamp)
    if not found:
        wanted = "recordings" if recording is None else f"recording {recording!r}"
        raise RecordingError(f"{path}: holds no {wanted}: check the path")


def write(recording: Recording, path: str | os.PathLike[str]) -> None:
    """Writes a recording in the format of the suffix, whole or not at all.

    Args:
        recording: HDF5 keeps all of it. EDF and BDF keep events, positions and 16 or 24 bits of
            the signal, and no free metadata; they are made in memory.
        path: ``.h5``, ``.hdf5``, ``.edf`` or ``.bdf``; a file that is there is replaced.

    Raises:
        RecordingError: for another suffix, if the format cannot hold the recording, or the disk
            cannot hold the file.
    """
    path = Path(path)
    suffix = path.suffix.lower()
    if suffix not in _WRITERS:
        raise RecordingError(f"{path}: suffix {suffix!r}: choose from {', '.join(_WRITERS)}")
    with naming(path, "written"):
        _WRITERS[suffix](recording, path)


_LISTED = 40


def recording_files(folder: Path) -> list[Path]:
    """The files of a folder that `read_all` goes through."""
    signals = bids.signal_files(folder)
    return sorted(filter(is_recording, folder.iterdir())) if signals is None else signals


def _entries(path: Path, options: Options) -> list[Entry]:
    with naming(path):
        return _READERS[sniff(path)](path, options)


def _load(path: Path, entry: Entry, stamp: tuple[int, ...]) -> Recording:
    with naming(path), unchanged(path, stamp):
        recording = entry.load()
    recording.watch(partial(Stamped, path=path, stamp=stamp))
    names = {"recording": entry.name, "source": path.stem}
    recording.metadata = names | recording.metadata
    return recording


def _hdf5_entries(path: Path, options: Options) -> list[Entry]:
    check_heaps(path)
    with open_hdf5(path) as file:
        names = list(file)
    if "recordings" in names:
        return corpus.entries(path, options)
    if "emg2qwerty" in names:
        return emg2qwerty.entries(path, options)
    if "emg2pose" in names:
        return emg2pose.entries(path, options)
    return generic.entries(path, options)


_READERS: dict[str, Callable[[Path, Options], list[Entry]]] = {
    "hdf5": _hdf5_entries,
    "npy": arrays.npy_entries,
    "npz": arrays.npz_entries,
    "mat": matlab.entries,
    "edf": edf.entries,
    "xdf": xdf.entries,
    "myo": myo.entries,
    "text": delimited.entries,
}

_WRITERS: dict[str, Callable[[Recording, Path], None]] = {
    ".h5": generic.write_recording,
    ".hdf5": generic.write_recording,
    ".edf": write_edf,
    ".bdf": write_edf,
}
