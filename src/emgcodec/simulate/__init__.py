"""Simulated people, their gestures and their typing: any montage, any sampling rate.

The numbers in here are textbook orders of magnitude, set by hand so that levels and spectra come
out near those of real recordings (see ``docs/simulator.md``), fitted to nobody: a simulated result
does not say how well a codec does on people. It must name `SIMULATOR_VERSION`.

Signals of more than 2^24 values (four minutes of a pair of wristbands) are made as they are read.
"""

from emgcodec.simulate.anatomy import Muscle, Person
from emgcodec.simulate.chance import SimulationError
from emgcodec.simulate.gestures import MIN_HOLD, gesture_recording
from emgcodec.simulate.samples import list_samples, sample
from emgcodec.simulate.signal import SIMULATOR_VERSION
from emgcodec.simulate.typing_session import typing_recording

__all__ = [
    "MIN_HOLD",
    "SIMULATOR_VERSION",
    "Muscle",
    "Person",
    "SimulationError",
    "gesture_recording",
    "list_samples",
    "sample",
    "typing_recording",
]
