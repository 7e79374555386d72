"""How far an armband was turned since it was last worn, from what its electrodes see together.

A re-donned band sees the same muscles with other electrodes. If the same movements were made
(calibration gestures, say), electrodes rise and fall together as those did that sat in their
places. Gains and noise, which turn with the band, do not count in that.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from emgcodec.montage import Montage, MontageError
from emgcodec.recording import Recording, RecordingError
from emgcodec.signal import Repair

_WINDOW_SECONDS = 0.25
_FEWEST = 4  # electrodes

DoubleArray = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Rotation:
    """What `find_rotation` found; nothing is changed until `apply` is called.

    Attributes:
        degrees: By how much the band sits further on than it did, to the next electrode;
            -180 to 180.
        similarity: Correlation of the two patterns after turning, -1 to 1.
        runner_up: That of the next best turn, other than the neighbouring ones. If it is close
            to `similarity`, the pattern tells too little, and turning may do harm.
        before: Similarity as worn.
    """

    degrees: float
    similarity: float
    runner_up: float
    before: float

    def apply(self, recording: Recording) -> Recording:
        """The recording with its electrodes where they sit in terms of the last time."""
        return recording.with_montage(recording.montage.rotated(self.degrees))

    def __str__(self) -> str:
        return (
            f"turned by {self.degrees:g} degrees: similarity {self.similarity:.2f} "
            f"(as worn {self.before:.2f}, next best {self.runner_up:.2f})"
        )


def find_rotation(recording: Recording, reference: Recording) -> Rotation:
    """By how much a band was turned between two recordings of the same movements.

    Args:
        recording: Of the band as it is worn now.
        reference: Of the same band on the same person, as it was worn before.

    Raises:
        MontageError: if the two have other electrodes, or those are no even rings.
        RecordingError: if there are too few electrodes, or a flat one.
    """
    montage = reference.montage
    if recording.montage.electrodes != montage.electrodes:
        raise MontageError(
            f"montage {recording.montage.name!r} is not that of the reference "
            f"({montage.name!r}): compare two wearings of one device"
        )
    turns = _turns(montage)
    now, then = _pattern(recording), _pattern(reference)
    pairs = np.triu_indices(len(montage), 1)
    scores = {
        degrees: float(np.corrcoef(now[pairs], then[order][:, order][pairs])[0, 1])
        for degrees, order in turns.items()
    }
    best = max(scores, key=lambda degrees: scores[degrees])
    step = 360.0 / len(turns)
    far = [s for d, s in scores.items() if abs((d - best + 180) % 360 - 180) > 1.5 * step]
    return Rotation(best, scores[best], max(far, default=-1.0), scores[0.0])


def _turns(montage: Montage) -> dict[float, list[int]]:
    """For each turn in degrees: where each electrode of the turned band sits in the old one."""
    angles = sorted({electrode.angle for electrode in montage.electrodes})
    turns = {}
    for angle in (angle - angles[0] for angle in angles):
        try:
            turns[(angle + 180.0) % 360.0 - 180.0] = montage.order_for(montage.rotated(angle))
        except MontageError as error:
            raise MontageError(
                f"montage {montage.name!r} is no even ring: only rings can be turned"
            ) from error
    return turns


def _pattern(recording: Recording) -> DoubleArray:
    """How the log levels of the electrodes go together, (C, C)."""
    size = max(2, round(_WINDOW_SECONDS * recording.sample_rate))
    repair = Repair(recording.num_electrodes)
    powers = []
    for block in recording.blocks():
        x = repair.push(block)[0]
        x = x[:, : x.shape[1] // size * size].reshape(len(x), -1, size)
        powers.append(x.var(axis=2, dtype=np.float64))
    level = np.log(np.concatenate([np.empty((len(recording.montage), 0)), *powers], axis=1) + 1e-6)
    few = len(level) < _FEWEST or level.shape[1] < _FEWEST
    if few or not (level.std(axis=1) > 0).all():
        raise RecordingError(
            f"{recording!r}: a turn shows only in {_FEWEST} or more electrodes, none of them flat, "
            f"over some seconds"
        )
    return np.asarray(np.corrcoef(level))
