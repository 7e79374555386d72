"""`Calibration`: what a codec knew of a wearer's electrodes before the first sample."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from emgcodec.files import written_beside
from emgcodec.montage import Montage, MontageError

_FORMAT_VERSION = 1
_KEY = "emgcodec_calibration"
_PARTS = ("mean", "std", "frames")


class CalibrationError(ValueError):
    """A calibration that cannot be, cannot be read, or is for another codec or montage."""


@dataclass(frozen=True, eq=False)
class Calibration:
    """Normalisation statistics of one wearing of a device, from unlabelled signal.

    Attributes:
        mean: (C, F) mean of each electrode's features, float64.
        std: (C, F) their standard deviation.
        frames: (C,) frames behind each electrode's numbers; 0 where it was never valid.
        domain: ``log_power`` (features are log10 of power) or ``amplitude``.
        features: Which frontend they belong to; a codec refuses another's.
        montage: The electrodes, in the order of the rows.
        sample_rate: Hz, of the source.
        unit: Of the source: ``uV``, or ``adc`` for counts.
        mains: Line frequency to notch out (50.0 or 60.0), or None where none was found.
    """

    mean: npt.NDArray[np.float64]
    std: npt.NDArray[np.float64]
    frames: npt.NDArray[np.float64]
    domain: Literal["log_power", "amplitude"]
    features: str
    montage: Montage
    sample_rate: float
    unit: Literal["uV", "adc"]
    mains: float | None = None

    def __post_init__(self) -> None:
        for name in _PARTS:
            array = np.array(getattr(self, name), np.float64)
            if not np.isfinite(array).all() or (name != "mean" and (array < 0).any()):
                raise CalibrationError(f"calibration {name} holds negative or non-finite numbers")
            array.flags.writeable = False
            object.__setattr__(self, name, array)
        shape = (len(self.montage), self.mean.shape[-1] if self.mean.ndim else 0)
        if self.mean.shape != shape or self.std.shape != shape or self.frames.shape != shape[:1]:
            raise CalibrationError(
                f"calibration shapes mean {self.mean.shape}, std {self.std.shape}, frames "
                f"{self.frames.shape} do not fit {len(self.montage)} electrodes"
            )
        if self.domain not in ("log_power", "amplitude"):
            raise CalibrationError(f"calibration domain={self.domain!r} is unknown")
        if self.unit not in ("uV", "adc"):
            raise CalibrationError(f"calibration unit={self.unit!r}: 'uV' or 'adc'")
        if self.mains not in (None, 50.0, 60.0):
            raise CalibrationError(f"calibration mains={self.mains}: 50.0, 60.0 or None")

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Calibration) and self.digest() == other.digest()

    def __hash__(self) -> int:
        return hash(self.digest())

    def __repr__(self) -> str:
        return (
            f"Calibration({len(self.montage)} electrodes ({self.montage.name}), "
            f"{self.frames.max():.0f} frames, {self.sample_rate:g} Hz, {self.unit}, "
            f"{self.digest()})"
        )

    def scaled(self, gain: float) -> Calibration:
        """The calibration of the same signal times `gain`.

        Raises:
            CalibrationError: if the gain is not a positive number.
        """
        if not (np.isfinite(gain) and gain > 0):
            raise CalibrationError(f"gain={gain}: give a positive number")
        if self.domain == "log_power":
            return replace(self, mean=self.mean + 2.0 * np.log10(gain))
        return replace(self, mean=self.mean * gain, std=self.std * gain)

    def for_montage(self, montage: Montage) -> Calibration:
        """The same, with its rows in the order of `montage`.

        Raises:
            MontageError: if the electrodes are not the same ones.
        """
        order = self.montage.order_for(montage)
        return replace(
            self,
            mean=self.mean[order],
            std=self.std[order],
            frames=self.frames[order],
            montage=montage,
        )

    def digest(self) -> str:
        """Hash of all that changes codes, 12 hex digits."""
        digest = hashlib.sha256(json.dumps(self._header(), sort_keys=True).encode())
        for array in (self.mean, self.std, self.frames):
            digest.update(np.ascontiguousarray(array, "<f8").tobytes())
        return digest.hexdigest()[:12]

    def _header(self) -> dict[str, Any]:
        return {
            "format_version": _FORMAT_VERSION,
            "domain": self.domain,
            "features": self.features,
            "montage": self.montage.to_dict(),
            "sample_rate": self.sample_rate,
            "unit": self.unit,
            "mains": self.mains,
        }

    def save(self, path: str | Path) -> None:
        """Writes one safetensors file, beside `path` first and then renamed."""
        save_calibrations({"": self}, path)

    @classmethod
    def load(cls, path: str | Path) -> Calibration:
        """Reads what `save` wrote.

        Raises:
            CalibrationError: if the file is foreign, damaged or newer than this version.
        """
        found = load_calibrations(path)
        if list(found) != [""]:
            raise CalibrationError(f"{path} holds calibrations of {list(found)}, not of a wearing")
        return found[""]


def save_calibrations(calibrations: Mapping[str, Calibration], path: str | Path) -> None:
    """Writes several into one safetensors file, beside `path` first and then renamed.

    Args:
        calibrations: By name.
        path: Where to.
    """
    from safetensors.numpy import save

    header = {name: c._header() | {"digest": c.digest()} for name, c in calibrations.items()}
    arrays = {
        f"{name}/{part}": np.ascontiguousarray(getattr(c, part))
        for name, c in calibrations.items()
        for part in _PARTS
    }
    with written_beside(path) as beside:
        beside.write_bytes(save(arrays, {_KEY: json.dumps(header)}))


def load_calibrations(path: str | Path) -> dict[str, Calibration]:
    """Reads what `save_calibrations` wrote.

    Raises:
        CalibrationError: if the file is foreign, damaged or newer than this version.
    """
    from safetensors import SafetensorError, safe_open

    found = {}
    try:
        with safe_open(str(path), framework="numpy") as file:
            for name, header in json.loads((file.metadata() or {})[_KEY]).items():
                arrays = {part: file.get_tensor(f"{name}/{part}") for part in _PARTS}
                if header.pop("format_version") != _FORMAT_VERSION:
                    raise CalibrationError(f"{path} has another format version: upgrade emgcodec")
                digest = header.pop("digest")
                montage = Montage.from_dict(header.pop("montage"))
                found[name] = Calibration(**arrays, **header, montage=montage)
                if found[name].digest() != digest:
                    raise CalibrationError(f"{path} is damaged: its checksum does not fit")
    except (
        MontageError,
        SafetensorError,
        KeyError,
        TypeError,
        AttributeError,
        RecursionError,
        json.JSONDecodeError,
    ) as error:
        raise CalibrationError(f"{path} is not a calibration file: {error}") from error
    return found


Calibrations = Calibration | Sequence[Calibration | None] | None
"""Of all streams of a batch, or one or None for each."""
