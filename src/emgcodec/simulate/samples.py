"""Ready-made simulated recordings for demos and tests."""

from __future__ import annotations

from emgcodec.gestures import GESTURES
from emgcodec.recording import Recording
from emgcodec.simulate.anatomy import Person
from emgcodec.simulate.chance import SimulationError
from emgcodec.simulate.gestures import gesture_recording

_SAMPLES: dict[str, tuple[str, float, str, tuple[str, ...], float, float]] = {
    # montage, Hz, unit, gestures, seconds held, seconds of rest
    "armband": ("cuff8", 1000.0, "uV", GESTURES[1:], 1.45, 0.5),
    "grid": ("flexemg", 1000.0, "uV", GESTURES[1:5], 1.75, 0.6),
    "myo": ("myo", 200.0, "adc", GESTURES[1:], 1.45, 0.5),
    "wristbands": ("emg2qwerty", 2000.0, "uV", GESTURES[1:], 1.45, 0.5),
}


def list_samples() -> list[str]:
    """Names that `sample` knows."""
    return sorted(_SAMPLES)


def sample(name: str) -> Recording:
    """A ready-made simulated recording of one person, always the same, for demos and tests.

    ``armband`` has 8 electrodes at 1 kHz, ``wristbands`` 2 x 16 at 2 kHz, ``myo`` 8 at 200 Hz in
    ADC counts (20 s each); ``grid`` has 64 at 1 kHz (10 s).

    Raises:
        SimulationError: for an unknown name, listing the known ones.
    """
    if name not in _SAMPLES:
        raise SimulationError(f"sample {name!r} is unknown: choose from {list_samples()}")
    montage, sample_rate, unit, gestures, hold, rest = _SAMPLES[name]
    return gesture_recording(
        Person.draw(0), montage, sample_rate, gestures=gestures, hold=hold, rest=rest, unit=unit
    )
