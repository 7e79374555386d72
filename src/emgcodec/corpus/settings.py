"""What a corpus is made with, and on what: neither may change while it is made."""

from __future__ import annotations

import hashlib
import json
import math
import platform
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from importlib.metadata import PackageNotFoundError, version

import numpy as np

from emgcodec.layouts import Layout

SPLITS: Mapping[str, float] = {"train": 0.9, "validation": 0.05, "test": 0.05}

_LIBRARIES = ("emgcodec", "torch", "numpy", "scipy", "h5py", "pyarrow")


class CorpusError(ValueError):
    """A corpus that cannot be made as asked, or a folder that holds another one."""


@dataclass(frozen=True)
class Settings:
    """All that tokens and their files depend on, beside recordings and backend.

    Attributes:
        codec_id: Of the model.
        model_licence: Of its weights.
        layout: Of the ids, with the model's vocabulary.
        format: Of the files.
        splits: Share of the people that each split has.
        shard_megabytes: Of recordings, that share a shard.
        sample_rate: See `read_all`, as for the next three.
        unit: Instead of the files' own.
        montage: Instead of the files' own.
        dataset: Which signal, of files that hold several.
        calibrate: Seconds that calibrate each session; 0 for none.
        by_gesture: Whether recordings of several gestures are cut.
    """

    codec_id: str
    model_licence: str
    layout: Layout
    format: str
    splits: dict[str, float]
    shard_megabytes: float
    sample_rate: float | None
    unit: str | None
    montage: str | None
    dataset: str | None = None
    calibrate: float = 0.0
    by_gesture: bool = False

    def __post_init__(self) -> None:
        shares = self.splits.values()
        named = all(name.isidentifier() for name in self.splits)
        if not named or min(shares, default=-1) <= 0 or abs(sum(shares) - 1) > 1e-9:
            raise CorpusError(
                f"splits={self.splits}: give names and shares above 0 that add up to 1, for "
                f"example {SPLITS}"
            )
        if not 0 <= self.calibrate < math.inf:
            raise CorpusError(f"calibrate={self.calibrate}: give seconds, 0 for a cold start")
        if not self.shard_megabytes > 0:
            raise CorpusError(f"shard_megabytes={self.shard_megabytes}: give a positive number")

    def digest(self, *names: str) -> str:
        """Hash of the settings and of some inputs' names."""
        return hashlib.sha256(json.dumps([asdict(self), *names]).encode()).hexdigest()[:20]

    def split_of(self, person: str) -> str:
        """The split of all recordings of a person, whoever else there is.

        Nobody in particular may be anybody, and belongs to the first split.
        """
        digest = hashlib.sha256(person.encode()).digest()
        place = int.from_bytes(digest[:8], "big") / 2**64 if person else 0.0
        ends = np.cumsum(list(self.splits.values()))[:-1]
        return list(self.splits)[int(np.searchsorted(ends, place, side="right"))]


def backend(device: str) -> dict[str, str]:
    """Kind of device and versions of libraries: where they are equal, so are the tokens."""
    import torch

    if torch.device(device).type == "cuda":
        processor = torch.cuda.get_device_name(device)
    else:
        processor = f"{platform.machine()} {torch.backends.cpu.get_cpu_capability()}"
    return {"processor": processor} | {name: _version(name) for name in _LIBRARIES}


def check_backend(begun: Mapping[str, str] | None, here: Mapping[str, str]) -> None:
    """Raises a `CorpusError` that names what differs."""
    if begun and begun != here:
        changed = [f"{n} {begun.get(n)}, now {here[n]}" for n in here if begun.get(n) != here[n]]
        raise CorpusError(
            f"the corpus was begun on another backend ({'; '.join(changed)}), which may give other "
            "tokens: go on where it was begun, or name another folder"
        )


def _version(library: str) -> str:
    try:
        return version(library)
    except PackageNotFoundError:
        return "none"
