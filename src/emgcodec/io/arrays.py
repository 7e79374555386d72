"""NumPy files: ``.npy`` stays on disk until it is read, ``.npz`` may state what it is."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt

from emgcodec.io.entry import Entry, Options, check_held, naming
from emgcodec.montage import Montage, MontageError
from emgcodec.recording import Recording, RecordingError, check_emg

Scalar = TypeVar("Scalar", str, float)

_FACTS = ("sample_rate", "unit", "start_time", "montage")


@dataclass(frozen=True)
class NpySignal:
    """A `SignalSource` over a ``.npy`` file, which is mapped only while it is read.

    Attributes:
        path: The file.
        shape: (C, N).
    """

    path: Path
    shape: tuple[int, int]

    def read(self, start: int, stop: int) -> npt.NDArray[Any]:
        """Samples start to stop, (C, stop - start)."""
        with naming(self.path), _plain_numbers():
            mapped = np.load(self.path, mmap_mode="r", allow_pickle=False)
            return np.array(mapped[:, start:stop])


def npy_entries(path: Path, options: Options) -> list[Entry]:
    """The one recording of a ``.npy`` file, (C, N), named after the file."""
    return [Entry(path.stem, partial(_load_npy, path, options))]


def npz_entries(path: Path, options: Options) -> list[Entry]:
    """The one recording of a ``.npz`` file: its array ``emg``, or the only one."""
    return [Entry(path.stem, partial(_load_npz, path, options))]


def _load_npy(path: Path, options: Options) -> Recording:
    with _plain_numbers():
        array = np.load(path, mmap_mode="r", allow_pickle=False)
    electrodes, samples = check_emg(array).shape
    return Recording(
        NpySignal(path, (electrodes, samples)),
        options.rate(None),
        montage=options.montage,
        unit=options.unit or "uV",
    )


def _load_npz(path: Path, options: Options) -> Recording:
    with _plain_numbers(), np.load(path, allow_pickle=False) as archive:
        check_held(sum(info.file_size for info in archive.zip.infolist()) // 8)
        names = [name for name in archive.files if name not in _FACTS]
        if "emg" not in names and len(names) != 1:
            raise RecordingError(f"holds the arrays {names}: name the signal 'emg' when saving it")
        emg = archive["emg" if "emg" in names else names[0]]
        facts = {name: archive[name] for name in _FACTS if name in archive.files}
    return Recording(
        emg,
        options.rate(_fact(facts, "sample_rate", float)),
        montage=options.montage or _montage(_fact(facts, "montage", str)),
        unit=options.unit or _fact(facts, "unit", str) or "uV",
        start_time=_fact(facts, "start_time", float) or 0.0,
    )


def _fact(facts: dict[str, npt.NDArray[Any]], name: str, kind: type[Scalar]) -> Scalar | None:
    try:
        return kind(facts[name].item()) if name in facts else None
    except (TypeError, ValueError) as error:
        raise RecordingError(
            f"states {name}={facts[name]!r}: expected one {kind.__name__}"
        ) from error


def _montage(text: str | None) -> Montage | None:
    try:
        return None if text is None else Montage.from_dict(json.loads(text))
    except (ValueError, RecursionError) as error:
        if isinstance(error, MontageError):
            raise
        raise MontageError(f"states montage={text!r:.40}: expected the JSON of one") from error


@contextmanager
def _plain_numbers() -> Iterator[None]:
    """Says in our words what NumPy cannot or must not read."""
    try:
        yield
    except RecordingError:
        raise
    except Exception as error:  # its parsers of headers and archives raise anything
        if any(words in str(error) for words in ("allow_pickle", "Python objects")):
            raise RecordingError(
                "holds Python objects, which are never unpickled: save an array of numbers"
            ) from error
        raise RecordingError(
            f"cannot be read as NumPy arrays, it is truncated or damaged ({error}): "
            "save or fetch it again"
        ) from error
