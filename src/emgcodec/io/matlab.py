"""MATLAB files of version 5 to 7; those of 7.3 are HDF5. See `emgcodec.io.mapping`.

Read by hand, as far as real numeric arrays go: SciPy's reader crashes on damaged files, and the
interpreter with it.
"""

from __future__ import annotations

import math
import struct
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from emgcodec.io.entry import Entry, Options, check_held
from emgcodec.io.mapping import Shape, find_signal, mapped_recording, samples_first
from emgcodec.recording import Recording, RecordingError

_FACTS = ("subject", "exercise")
_HEADER = 128
_COMPRESSED = 15
_COMPLEX = 0x800
_CLASSES = range(6, 16)  # double, single and the integers; not cells, text, objects
_TYPES = {
    1: "i1",
    2: "u1",
    3: "i2",
    4: "u2",
    5: "i4",
    6: "u4",
    7: "f4",
    9: "f8",
    12: "i8",
    13: "u8",
}
_FRONT = 4096  # bytes that hold flags, shape and name of an array, and more


@dataclass(frozen=True)
class _Array:
    """Where an array stands in a file."""

    path: Path
    order: str  # of the bytes: < or >
    start: int
    stop: int
    packed: bool
    shape: Shape

    def read(self) -> npt.NDArray[Any]:
        """The array in its own shape."""
        with self.path.open("rb") as file:
            file.seek(self.start)
            raw = memoryview(file.read(self.stop - self.start))
        if self.packed:
            raw = _unpacked(raw, _FRONT + 8 * math.prod(self.shape))[8:]
        *_, (kind, data) = _elements(raw, self.order, 4)
        values = np.frombuffer(data, self.order + _TYPES[kind])
        return values.reshape(self.shape, order="F")


def entries(path: Path, options: Options) -> list[Entry]:
    """The one recording of a MATLAB file, named after the file."""
    return [Entry(path.stem, partial(_load, path, options))]


def _load(path: Path, options: Options) -> Recording:
    try:
        arrays = dict(_arrays(path))
        shapes = {name: array.shape for name, array in arrays.items()}
        name = find_signal(shapes, options.dataset)
        turned = samples_first(name, shapes[name])
        check_held(math.prod(shapes[name]))
        emg = arrays[name].read()
        recording = mapped_recording(
            emg.T if turned else emg, shapes, lambda each: arrays[each].read(), options
        )
        facts = {each: arrays[each].read() for each in _FACTS if shapes.get(each) == (1, 1)}
    except (struct.error, zlib.error, ValueError, KeyError, IndexError) as error:
        if isinstance(error, RecordingError):
            raise
        raise RecordingError(
            f"cannot be read as MATLAB file, it is truncated or damaged ({error!r}): "
            "save or fetch it again"
        ) from error
    recording.metadata |= {each: f"{value.item():g}" for each, value in facts.items()}
    return recording


def _arrays(path: Path) -> Iterator[tuple[str, _Array]]:
    """Names and places of the real numeric arrays in a file."""
    size = path.stat().st_size
    with path.open("rb") as file:
        order = {b"IM": "<", b"MI": ">"}.get(file.read(_HEADER)[126:])
        if order is None:
            raise RecordingError("is of MATLAB version 4 or damaged: save it again with -v7")
        while file.tell() < size:
            start = file.tell() + 8
            kind, length = struct.unpack(order + "II", file.read(8))
            if start + length > size:
                raise ValueError("the last variable is cut off")
            front = file.read(min(length, _FRONT))
            if packed := kind == _COMPRESSED:
                front = zlib.decompressobj().decompress(front, _FRONT)[8:]
            (_, flags), (_, shape), (_, name) = _elements(front, order, 3)
            (sort,) = struct.unpack(order + "I", flags[:4])
            if sort & 0xFF in _CLASSES and not sort & _COMPLEX:
                sides = tuple(np.frombuffer(shape, order + "i4").tolist())
                place = _Array(path, order, start, start + length, packed, sides)
                yield bytes(name).decode("latin-1"), place
            file.seek(start + length)


def _unpacked(raw: memoryview, most: int) -> memoryview:
    """What is packed, a little at a time: at once it would be in memory twice."""
    unpacker, found, end = zlib.decompressobj(), bytearray(most), 0
    for start in range(0, len(raw), _FRONT):
        part = unpacker.decompress(raw[start : start + _FRONT])[: most - end]
        found[end : end + len(part)] = part
        end += len(part)
    return memoryview(found)[:end]


def _elements(
    raw: bytes | memoryview, order: str, count: int
) -> Iterator[tuple[int, bytes | memoryview]]:
    """Type and data of the first elements in a row."""
    at = 0
    for _ in range(count):
        kind, size = struct.unpack(order + "II", raw[at : at + 8])
        small = kind >> 16  # then type and size share four bytes, and the data follow at once
        first = at + (4 if small else 8)
        kind, size = kind & 0xFFFF, small or size
        if first + size > len(raw):
            raise ValueError("an array is shorter than it states")
        yield kind, raw[first : first + size]
        at += 8 if small else 8 + size + -size % 8
