"""A performance as electrodes record it: made page by page, when it is asked for."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
from scipy.ndimage import gaussian_filter1d
from scipy.signal import firwin, upfirdn

from emgcodec.montage import Montage, as_montage
from emgcodec.recording import MAX_BLOCK_VALUES, Event, Recording
from emgcodec.simulate.anatomy import Person, Wearing
from emgcodec.simulate.arm import LEAD, PAGE, Arm, Performance
from emgcodec.simulate.chance import Array, SimulationError, Stream, stream, wander
from emgcodec.simulate.units import LONGEST

SIMULATOR_VERSION = "1"
"""Goes up whenever the same seeds give other numbers; every result must name it."""

_INTERNAL_RATE = 2000.0  # Hz: action potentials hold next to nothing above half of it
_ROW_SPACING, _BAND_SPACING = 15.0, 25.0  # mm along the limb
_TISSUE = 0.6e-3  # s: how far tissue smears the far field
_ADC_STEP = 3.0  # µV per count of a signed 8-bit device


class SimulatedSignal:
    """A `SignalSource`: any stretch of the signal, the same however it is asked for.

    Args:
        person: Who performs.
        performance: What.
        montage: With which electrodes.
        sample_rate: Hz.
        num_samples: Length.
        session: Which wearing.
        seed: Which performance: every spike follows from it.
        unit: ``uV``, or ``adc`` for the counts of a signed 8-bit device.
    """

    def __init__(
        self,
        person: Person,
        performance: Performance,
        montage: Montage,
        sample_rate: float,
        num_samples: int,
        *,
        session: int,
        seed: int,
        unit: str,
    ) -> None:
        self.shape = len(montage), num_samples
        self._person, self._rate, self._unit = person, sample_rate, unit
        self._wearing = Wearing.draw(person, session)
        self._key = session, seed
        self._band = np.array([electrode.band for electrode in montage.electrodes])
        self._angle = np.array([electrode.angle for electrode in montage.electrodes])
        row = np.array([electrode.row for electrode in montage.electrodes])
        # A third band sits above the first one.
        self._along = _ROW_SPACING * row + _BAND_SPACING * (self._band // 2)
        self._arms = {
            side: Arm(person, side, self._wearing.strength[side], performance, self._key)
            for side in np.unique(self._band % 2).tolist()
        }
        contact = stream(person.seed, Stream.CONTACT, session, int(montage.digest(), 16))
        self._gain = contact.lognormal(0.0, 0.15, (len(montage), 1))
        # Hum comes in by the leads, in and out of phase.
        self._coupling = contact.normal(0.0, self._wearing.mains, (len(montage), 2))
        self._page_samples = math.ceil(PAGE * sample_rate)
        self._last: tuple[int, npt.NDArray[np.float32]] | None = None

    def read(self, start: int, stop: int) -> npt.NDArray[np.float32]:
        """Samples start to stop, (C, stop - start)."""
        stop, size = min(stop, self.shape[1]), self._page_samples
        emg = np.empty((self.shape[0], max(0, stop - start)), np.float32)
        for number in range(start // size, -(-stop // size) if stop > start else 0):
            first = number * size
            if self._last is None or self._last[0] != number:
                self._last = number, self._page(first, min(first + size, self.shape[1]))
            a, b = max(start, first), min(stop, first + size)
            emg[:, a - start : b - start] = self._last[1][:, a - first : b - first]
        return emg

    def _page(self, start: int, stop: int) -> npt.NDArray[np.float32]:
        emg = self._electrodes(self._muscles(start, stop), start, stop)
        if self._unit == "adc":
            emg = np.clip(np.rint(emg / _ADC_STEP), -128, 127)
        return emg.astype(np.float32)

    def _muscles(self, start: int, stop: int) -> Array:
        """What the muscles put on each electrode, in µV."""
        factor = math.ceil(_INTERNAL_RATE / self._rate)
        rate, blur = self._rate * factor, _TISSUE * self._rate * factor
        half, margin = 10 * factor, 10 * factor + math.ceil(4.0 * blur) + 1
        num_samples = (stop - start) * factor + 2 * margin
        first = (start * factor - margin) / rate
        near, far = np.zeros((2, self.shape[0], num_samples))
        for side, arm in self._arms.items():
            begin = first + LEAD
            end = begin + num_samples / rate
            spikes = arm.spikes(max(0.0, begin - LONGEST), end + LONGEST)
            # The band creeps around the limb, a degree or two in minutes.
            creep = wander(self._person.seed, (2, *self._key, side), 1, np.array([begin]), 60.0)
            turned = self._angle + self._wearing.rotation[side] + 1.5 * creep[0]
            for row in np.unique(self._along[self._band % 2 == side]):
                here = np.flatnonzero((self._band % 2 == side) & (self._along == row))
                place = row + self._wearing.along[side]
                fields = np.zeros((2 * len(here), num_samples))
                for units, trains in arm.pool.trains(spikes, place, begin, rate, num_samples):
                    sight = arm.pool.seen_from(units, turned[here], place, self._person.radius)
                    fields += sight @ trains
                # The same device on the other arm runs the other way along it.
                near[here], far[here] = np.split(fields if side == 0 else -fields, 2)
        emg: Array = near + gaussian_filter1d(far, blur, axis=1, truncate=4.0)
        emg = emg[:, margin - half : num_samples - margin + half]
        if factor == 1:
            return emg[:, half:-half]
        taps = firwin(2 * half + 1, 1.0 / factor, window=("kaiser", 5.0))
        found: Array = upfirdn(taps, emg, 1, factor, axis=1)[:, 20 : 20 + stop - start]
        return found

    def _electrodes(self, emg: Array, start: int, stop: int) -> Array:
        """What the electrodes make of it: unequal gain, noise, mains hum and slow drift."""
        person, wearing, electrodes = self._person, self._wearing, self.shape[0]
        time = np.arange(start, stop) / self._rate
        wet = wander(person.seed, (3, *self._key), electrodes, time, 30.0)
        drift = wander(person.seed, (4, *self._key), electrodes, time, 0.2)
        rng = stream(person.seed, Stream.NOISE, *self._key, start)
        noise = rng.standard_normal((stop - start, electrodes)).T
        # Noise has a density, not a power: faster devices take more of it in.
        level = wearing.noise * math.sqrt(self._rate / _INTERNAL_RATE)
        emg = self._gain * np.exp(0.05 * wet) * emg + level * noise + 2.8 * drift
        for harmonic, share in ((1, 1.0), (3, 0.2)):
            if harmonic * person.mains_frequency < self._rate / 2:
                hum = 2.0 * math.pi * person.mains_frequency * harmonic * time
                emg += share * self._coupling @ np.stack([np.sin(hum), np.cos(hum)])
        return emg


def record(
    person: Person,
    performance: Performance,
    montage: Montage | str,
    sample_rate: float,
    num_samples: int,
    *,
    session: int,
    seed: int,
    unit: str,
    events: Sequence[Event],
) -> Recording:
    """The recording of a performance.

    Up to 2^24 values (four minutes of a pair of wristbands) are made at once and kept; longer
    signals are made page by page as they are read, so that memory stays bounded.

    Raises:
        SimulationError: if an argument cannot be.
        MontageError: for an unknown device name.
    """
    montage = as_montage(montage)
    if not isinstance(montage, Montage):
        raise SimulationError(f"montage={montage!r}: give a Montage or a device name")
    if unit not in ("uV", "adc"):
        raise SimulationError(f"unit={unit!r} cannot be simulated: choose 'uV' or 'adc'")
    source = SimulatedSignal(
        person,
        performance,
        montage,
        sample_rate,
        num_samples,
        session=session,
        seed=seed,
        unit=unit,
    )
    short = len(montage) * num_samples <= MAX_BLOCK_VALUES
    return Recording(
        source.read(0, num_samples) if short else source,
        sample_rate,
        montage=montage,
        unit=unit,
        events=events,
        metadata={
            "simulated": True,
            "simulator": SIMULATOR_VERSION,
            "dataset": "simulated",
            "subject": f"simulated-{person.seed}",
            "session": str(session),
            "seed": seed,
            "licence": "Apache-2.0",
        },
    )
