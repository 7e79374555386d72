"""Careful access to HDF5 files: nothing outside the file is ever followed or opened."""

from __future__ import annotations

import io
import json
import math
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO, TypeVar

from emgcodec.files import written_beside
from emgcodec.montage import MontageError
from emgcodec.recording import RecordingError

Scalar = TypeVar("Scalar", str, int, float, bool)

_MOST_PACKED = 1200  # times; deflate packs by 1032 at best
_SLACK = 1 << 24  # bytes
_LARGEST_CHUNK = 1 << 28  # bytes; one is unpacked as a whole
_HEAP, _BLOCK = b"GCOL\1\0\0\0", 1 << 24


def import_h5py() -> Any:
    """The module h5py.

    Raises:
        RecordingError: if it is missing.
    """
    try:
        import h5py
    except ImportError as error:
        raise RecordingError("HDF5 files need h5py: pip install 'emgcodec[io]'") from error
    return h5py


@contextmanager
def open_hdf5(path: Path) -> Iterator[Any]:
    """The file's root group, open for reading.

    Raises:
        RecordingError: if h5py is missing or the file is damaged.
    """
    h5py = import_h5py()
    try:
        # Folders that cannot be written, and network disks, often refuse locks.
        with h5py.File(path, "r", locking="best-effort") as file:
            yield file
    except (RecordingError, MontageError):
        raise
    except (OSError, KeyError, RuntimeError, TypeError, ValueError) as error:
        raise RecordingError(
            f"cannot be read as HDF5, it is truncated or damaged ({error}): fetch the file again"
        ) from error


class _Patient(io.FileIO):
    """A file that keeps to itself what fails: HDF5's library crashes on a full disk."""

    error: OSError | None = None

    def write(self, data: Any) -> int:
        left = memoryview(data).cast("B")
        size = len(left)
        try:
            while left:
                left = left[super().write(left) or 0 :]
        except OSError as error:
            self.error = error
        return size

    def truncate(self, size: int | None = None) -> int:
        try:
            return super().truncate(size)
        except OSError as error:
            self.error = error
            return size or 0


@contextmanager
def written_hdf5(path: Path) -> Iterator[Any]:
    """The root group of a new file, which is whole in the end or not there.

    Raises:
        RecordingError: if h5py is missing.
        OSError: if the disk does not take it.
    """
    h5py = import_h5py()
    with written_beside(path) as beside, _Patient(beside, "w+") as raw:
        # Only files of the newer form can hold the events of a long recording in an attribute.
        with h5py.File(raw, "w", libver="v110") as file:
            yield file
        if raw.error is not None:
            raise raw.error


def check_heaps(path: Path) -> None:
    """Looks through the heaps that hold texts: HDF5's library runs in circles in damaged ones.

    Raises:
        RecordingError: if an object in one leads nowhere.
    """
    with path.open("rb") as file:
        start, block = 0, file.read(_BLOCK)
        while len(block) > len(_HEAP):
            at = -1
            while (at := block.find(_HEAP, at + 1)) >= 0:
                _check_heap(file, start + at)
            start += len(block) - len(_HEAP)
            file.seek(start)
            block = file.read(_BLOCK)


def _check_heap(file: BinaryIO, at: int) -> None:
    file.seek(at + len(_HEAP))
    (size,) = struct.unpack("<Q", file.read(8).ljust(8, b"\0"))
    left = size - 16
    while left >= 16 and len(head := file.read(16)) == 16:
        index, length = struct.unpack("<H6xQ", head)
        length = length + -length % 8 + 16 if index else length
        if not 16 <= length <= left:
            raise RecordingError("is damaged where it keeps its texts: fetch the file again")
        left -= length
        file.seek(length - 16, 1)


def find_group(root: Any, path: str) -> Any:
    """The group at `path` below `root`, through hard links only.

    Raises:
        RecordingError: if there is none, or it is kept in another place or file.
    """
    import h5py

    node = _find(root, path)
    if not isinstance(node, h5py.Group):
        raise RecordingError(f"{path!r} is a dataset where its format demands a group")
    return node


def find_dataset(root: Any, path: str, *, kinds: str, ndim: int) -> Any:
    """The dataset at `path` below `root`, through hard links only.

    Args:
        root: File or group.
        path: Names joined by slashes.
        kinds: NumPy kinds that its dtype may have, for example ``iuf`` for real numbers.
        ndim: Number of axes it must have.

    Raises:
        RecordingError: if there is none, it is another sort of array, or kept elsewhere.
    """
    import h5py

    node = _find(root, path)
    if not isinstance(node, h5py.Dataset):
        raise RecordingError(f"{path!r} is a group where its format demands a dataset")
    if node.is_virtual or node.external:
        raise RecordingError(
            f"{path!r} keeps its data in another file: copy the data into this one (h5repack)"
        )
    if math.prod(node.chunks or ()) * node.dtype.itemsize > _LARGEST_CHUNK:
        raise RecordingError(f"{path!r} has chunks of {node.chunks}: repack it in smaller ones")
    if node.nbytes > _MOST_PACKED * node.id.get_storage_size() + _SLACK:
        raise RecordingError(
            f"{path!r} declares {node.nbytes} bytes and stores {node.id.get_storage_size()}: it "
            "was never filled, or is damaged"
        )
    if node.dtype.kind not in kinds or node.ndim != ndim:
        raise RecordingError(
            f"{path!r} is {node.dtype} with shape {node.shape}, which its format does not allow"
        )
    return node


def _find(root: Any, path: str) -> Any:
    import h5py

    node = root
    for name in path.split("/"):
        link = node.get(name, getlink=True) if isinstance(node, h5py.Group) else None
        if link is None:
            raise RecordingError(f"has no {path!r}, which its format demands")
        if not isinstance(link, h5py.HardLink):
            raise RecordingError(
                f"{path!r} is a {type(link).__name__}: links are not followed; "
                "copy the data into the file (h5copy -f ext)"
            )
        node = node[name]
    return node


def attribute(node: Any, name: str, kind: type[Scalar], default: Scalar | None = None) -> Scalar:
    """An attribute as a plain Python value.

    Raises:
        RecordingError: if it is of another kind, or absent and there is no `default`.
    """
    value = node.attrs.get(name, default)
    if value is None:
        raise RecordingError(f"{node.name!r} has no attribute {name!r}")
    try:
        return kind(value.decode() if isinstance(value, bytes) else value)
    except (TypeError, ValueError) as error:
        raise RecordingError(
            f"{node.name!r} has {name}={value!r}: expected {kind.__name__}"
        ) from error


def stored_json(node: Any, name: str, default: str | None = None) -> Any:
    """What an attribute that holds JSON says.

    Raises:
        RecordingError: if it holds something else, or is absent and there is no `default`.
    """
    text = attribute(node, name, str, default)
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        raise RecordingError(
            f"{node.name!r} has {name}={text[:40]!r}, which is not JSON ({error}): it is damaged"
        ) from error
