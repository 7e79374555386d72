"""Where electrodes sit: on which band, at which angle around the limb, in which row along it."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

MAX_ELECTRODES = 128


class MontageError(ValueError):
    """A montage that cannot be, or that does not fit the recording or the codec."""


@dataclass(frozen=True, order=True)
class Electrode:
    """One electrode (or differential pair).

    Attributes:
        band: Which device it belongs to: 0 for the only or left one, 1 for the right one, ...
        angle: Position around the limb, in degrees, wrapped to [0, 360), as the device counts;
            presets have their first electrode at 0.
        row: Position along the limb, counted in rows from the distal one; may be fractional.
    """

    band: int = 0
    angle: float = 0.0
    row: float = 0.0

    def __post_init__(self) -> None:
        if not all(map(math.isfinite, (self.band, self.angle, self.row))):
            raise MontageError(f"{self}: give finite numbers")
        if int(self.band) != self.band or not 0 <= self.band < 16:
            raise MontageError(f"electrode band={self.band}: give a whole number from 0 to 15")
        object.__setattr__(self, "band", int(self.band))
        # 1e-6 degrees: positions survive JSON and wrapping, and 360 is 0.
        object.__setattr__(self, "angle", round(float(self.angle) % 360.0, 6) % 360.0)
        object.__setattr__(self, "row", round(float(self.row), 6))


@dataclass(frozen=True)
class Montage:
    """The electrodes of a recording, in the order of its rows.

    Attributes:
        name: Device or layout name.
        electrodes: One `Electrode` per row of the signal, 1 to 128.
        assumed: True where nobody stated the positions and a ring was assumed.
    """

    name: str
    electrodes: tuple[Electrode, ...]
    assumed: bool = False

    def __post_init__(self) -> None:
        object.__setattr__(self, "electrodes", tuple(self.electrodes))
        if not 1 <= len(self.electrodes) <= MAX_ELECTRODES:
            raise MontageError(
                f"montage {self.name!r} has {len(self.electrodes)} electrodes: "
                f"give 1 to {MAX_ELECTRODES}"
            )

    @classmethod
    def ring(
        cls,
        num_electrodes: int,
        *,
        bands: int = 1,
        mirrored: bool = False,
        name: str | None = None,
        assumed: bool = False,
    ) -> Montage:
        """Evenly spaced electrodes around the limb.

        Args:
            num_electrodes: Electrodes on each band.
            bands: Number of bands, listed one after the other.
            mirrored: Every second band counts its electrodes the other way round, as on the
                second hand of a pair of wristbands.
            name: Defaults to ``ring<n>``.
            assumed: See `Montage`.

        Raises:
            MontageError: if there would be no electrode or more than 128.
        """
        electrodes = tuple(
            Electrode(band, (-1 if mirrored and band % 2 else 1) * 360.0 * i / num_electrodes)
            for band in range(bands)
            for i in range(num_electrodes)
        )
        default = f"ring{num_electrodes}" if bands == 1 else f"ring{bands}x{num_electrodes}"
        return cls(name or default, electrodes, assumed)

    @classmethod
    def grid(
        cls, columns: int, rows: int, *, span: float = 360.0, name: str | None = None
    ) -> Montage:
        """A grid wrapped around the limb, listed row by row.

        Args:
            columns: Electrodes around the limb.
            rows: Electrodes along the limb.
            span: Degrees of the limb that the columns cover; 360 closes the ring.
            name: Defaults to ``grid<columns>x<rows>``.

        Raises:
            MontageError: if there would be no electrode or more than 128.
        """
        step = span / max(columns if span >= 360.0 else columns - 1, 1)
        electrodes = tuple(
            Electrode(0, step * column, row) for row in range(rows) for column in range(columns)
        )
        return cls(name or f"grid{columns}x{rows}", electrodes)

    @classmethod
    def preset(cls, name: str) -> Montage:
        """The montage of a known device; see `list_montages`.

        Raises:
            MontageError: for an unknown name, listing the known ones.
        """
        if name not in _PRESETS:
            raise MontageError(f"montage {name!r} is unknown: choose from {list_montages()}")
        return _PRESETS[name]

    def __len__(self) -> int:
        return len(self.electrodes)

    def select(self, indices: Sequence[int] | npt.NDArray[np.integer[Any]]) -> Montage:
        """The montage with only, or in another order, the electrodes at `indices`."""
        return Montage(self.name, tuple(self.electrodes[int(i)] for i in indices), self.assumed)

    def mirrored(self) -> Montage:
        """The same device on the other arm: electrodes counted the other way round."""
        turned = [replace(e, angle=-e.angle) for e in self.electrodes]
        return replace(self, electrodes=tuple(turned))

    def rotated(self, degrees: float) -> Montage:
        """The same device turned around the limb, all bands alike; every angle grows."""
        turned = [replace(e, angle=e.angle + degrees) for e in self.electrodes]
        return replace(self, electrodes=tuple(turned))

    def positions(self) -> npt.NDArray[np.float32]:
        """Position features, (C, 4): sine and cosine of the angle, row, band."""
        angle = np.deg2rad([e.angle for e in self.electrodes])
        columns = [
            np.sin(angle),
            np.cos(angle),
            [e.row for e in self.electrodes],
            [e.band for e in self.electrodes],
        ]
        return np.stack([np.asarray(c, np.float32) for c in columns], axis=1)

    def order_for(self, other: Montage, *, spare: bool = False) -> list[int]:
        """Indices that put this montage's rows into the order of `other`.

        Electrodes at one and the same position are taken in the order they are listed.

        Args:
            other: Whose order it is to be.
            spare: Whether this one may have electrodes that `other` has not.

        Raises:
            MontageError: if the two do not hold the same positions, listing what is missing.
        """
        places: dict[Electrode, list[int]] = {}
        for index, electrode in enumerate(self.electrodes):
            places.setdefault(electrode, []).append(index)
        order, missing = [], []
        for electrode in other.electrodes:
            if places.get(electrode):
                order.append(places[electrode].pop(0))
            else:
                missing.append(electrode)
        if missing or (len(self) != len(other) and not spare):
            listed = ", ".join(
                f"(band {e.band}, {e.angle:g} deg, row {e.row:g})" for e in missing[:6]
            )
            more = f" and {len(missing) - 6} more" if len(missing) > 6 else ""
            raise MontageError(
                f"montage {self.name!r} ({len(self)} electrodes) does not fit {other.name!r} "
                f"({len(other)}): missing {listed or 'none'}{more}; give montage= with those "
                "positions (Recording.remap drops electrodes that are too many), or use a "
                "montage-free codec such as the bundled student"
            )
        return order

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON types; `from_dict` gives the same montage back."""
        return {
            "name": self.name,
            "assumed": self.assumed,
            "electrodes": [[e.band, e.angle, e.row] for e in self.electrodes],
        }

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Montage:
        """Reads what `to_dict` wrote.

        Raises:
            MontageError: if a field is missing or of the wrong type.
        """
        try:
            electrodes = tuple(Electrode(*entry) for entry in data["electrodes"])
            return cls(str(data["name"]), electrodes, bool(data.get("assumed", False)))
        except (KeyError, TypeError, OverflowError) as error:
            raise MontageError(f"not a stored montage: {error!r}") from error

    def digest(self) -> str:
        """Hash of the positions in their order, 12 hex digits."""
        text = json.dumps(self.to_dict()["electrodes"])
        return hashlib.sha256(text.encode()).hexdigest()[:12]


def as_montage(montage: Montage | str) -> Montage:
    """The montage, or the device of that name."""
    return Montage.preset(montage) if isinstance(montage, str) else montage


def resolve_montage(montage: Montage | str | None, num_electrodes: int) -> Montage:
    """The montage of a signal with `num_electrodes` rows.

    Args:
        montage: A montage, a device name, or None for an assumed ring.
        num_electrodes: Rows of the signal.

    Raises:
        MontageError: if the montage has another number of electrodes.
    """
    if montage is None:
        return Montage.ring(num_electrodes, assumed=True)
    montage = as_montage(montage)
    if not isinstance(montage, Montage):
        raise MontageError(f"montage={montage!r}: give a Montage, a device name or None")
    if len(montage) != num_electrodes:
        raise MontageError(
            f"montage {montage.name!r} has {len(montage)} electrodes but the signal has "
            f"{num_electrodes} rows: pass montage=Montage.ring({num_electrodes}) or the right one"
        )
    return montage


def _presets() -> Iterable[Montage]:
    yield Montage.ring(16, bands=2, mirrored=True, name="emg2qwerty")
    yield Montage.ring(16, name="emg2pose")
    yield Montage.ring(8, name="myo")
    yield Montage.ring(10, name="3dc")
    yield Montage.ring(8, name="cuff8")
    yield Montage.grid(16, 4, name="flexemg")


_PRESETS: dict[str, Montage] = {montage.name: montage for montage in _presets()}


def list_montages() -> list[str]:
    """Names that `Montage.preset` knows."""
    return sorted(_PRESETS)
