"""What codecs are judged by: codebook use, labels, text, spectra, envelopes and bits.

All on numpy arrays. Signals are (C, N), codes (K, T) with -1 where there is none.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy import signal as dsp

from emgcodec.tokens import SCALE_BITS

Array = npt.NDArray[np.float64]
Ints = npt.NDArray[np.integer]

_SPECTRUM_SECONDS = 0.25
_SPECTRUM_BINS_SECONDS = 0.064  # bins of 15.6 Hz
_SPURIOUS, _EDIT = 1 << 21, 1 << 42  # counts of errors, packed: texts stay below a million
_FLOOR_DB = -60.0  # below the loudest bin: silence is as silent as can be told


def usage(codes: Ints, size: int) -> npt.NDArray[np.int64]:
    """Distinct codes that occur at each level, (K,)."""
    used: npt.NDArray[np.int64] = np.count_nonzero(_counts(codes, size), axis=1)
    return used


def perplexity(codes: Ints, size: int) -> Array:
    """Exponential of the entropy of each level's codes, (K,): codes in effective use.

    As van den Oord et al. (2017) and most codecs since report it. 1 to `size`; nan without codes.
    """
    counts = _counts(codes, size)
    with np.errstate(divide="ignore", invalid="ignore"):
        share = counts / counts.sum(axis=1, keepdims=True)
        terms = np.where(share > 0, share * np.log(share), share)
    result: Array = np.exp(-terms.sum(axis=1))
    return result


def _counts(codes: Ints, size: int) -> npt.NDArray[np.int64]:
    return np.stack([np.bincount(row[row >= 0], minlength=size) for row in codes])


def balanced_accuracy(truth: Ints, guess: Ints) -> float:
    """Mean recall of the classes that occur (Brodersen et al., 2010); nan without labels."""
    recalls = [float((guess[truth == c] == c).mean()) for c in np.unique(truth)]
    return float(np.mean(recalls)) if recalls else float("nan")


ERROR_KINDS = ("missed", "spurious", "substituted")


@dataclass(frozen=True)
class CharacterErrors:
    """What turns a reference into a hypothesis with the fewest edits (Levenshtein, 1966).

    Add them up over texts before you ask for the `rate`. Speech recognition says deletions for what
    was missed and insertions for what is spurious; emg2qwerty's own code swaps the two, so neither
    name is used here.

    Attributes:
        substituted: Characters that came out as another one.
        missed: Characters of the reference that did not come out.
        spurious: Characters that nobody typed.
        length: Characters of the reference.
    """

    substituted: int = 0
    missed: int = 0
    spurious: int = 0
    length: int = 0

    def __add__(self, other: CharacterErrors) -> CharacterErrors:
        return CharacterErrors(
            self.substituted + other.substituted,
            self.missed + other.missed,
            self.spurious + other.spurious,
            self.length + other.length,
        )

    @property
    def rate(self) -> float:
        """Edits per character of the reference (CER); may exceed 1; nan without a reference."""
        edits = self.substituted + self.missed + self.spurious
        return edits / self.length if self.length else float("nan")


def character_errors(reference: str, hypothesis: str) -> CharacterErrors:
    """Counts the edits between two texts; of equally short ways, one with fewest spurious.

    Time grows with the product of the lengths: sessions of 5 000 keys take a second.
    """
    # One integer holds edits, spurious and missed, so that the smallest is the best by all three.
    spurious, missed, substituted = (_EDIT | _SPURIOUS), (_EDIT | 1), _EDIT
    got = np.array([ord(c) for c in hypothesis], np.int64)
    chain = np.arange(len(got) + 1) * spurious
    row = chain.copy()
    for character in reference:
        aligned = row[:-1] + np.where(got == ord(character), 0, substituted)
        row += missed
        np.minimum(row[1:], aligned, out=row[1:])
        # What is spurious follows from the left, all along the row at once.
        row = np.minimum.accumulate(row - chain) + chain
    total = int(row[-1])
    edits, extra, lost = total // _EDIT, total // _SPURIOUS % _SPURIOUS, total % _SPURIOUS
    return CharacterErrors(edits - extra - lost, lost, extra, len(reference))


def log_spectral_distance(
    x: npt.NDArray[np.floating],
    y: npt.NDArray[np.floating],
    sample_rate: float,
    band: tuple[float, float] = (20.0, 450.0),
) -> float:
    """Root mean square difference of log power spectra, in decibel (Gray and Markel, 1976).

    Spectra are Welch estimates (64 ms Hann windows, half overlapped) of stretches of 250 ms: EMG is
    noise, and the spectra of two noises of one kind differ even so, at this length by 2.6 dB.

    Args:
        x: (C, N).
        y: (C, N).
        sample_rate: Hz.
        band: Hz, what lies outside does not count.

    Returns:
        Mean over stretches and electrodes of the root mean square over bins; nan if too short.
    """
    stretch = round(_SPECTRUM_SECONDS * sample_rate)
    count = x.shape[-1] // stretch
    if count == 0:
        return float("nan")
    levels = []
    for each in (x, y):
        parts = np.asarray(each[:, : count * stretch], np.float64).reshape(len(x), count, stretch)
        window = round(_SPECTRUM_BINS_SECONDS * sample_rate)
        frequency, power = dsp.welch(parts, sample_rate, nperseg=window)
        power = power[..., (frequency >= band[0]) & (frequency <= band[1])]
        floor = power.max() * 10.0 ** (_FLOOR_DB / 10.0)
        levels.append(10.0 * np.log10(np.maximum(power, max(floor, 1e-30))))
    return float(np.sqrt(np.square(levels[0] - levels[1]).mean(axis=-1)).mean())


def envelope(
    x: npt.NDArray[np.floating], sample_rate: float, seconds: float = 0.1
) -> npt.NDArray[np.float64]:
    """Mean absolute value of consecutive windows, (C, N) to (C, n)."""
    window = max(1, round(seconds * sample_rate))
    count = x.shape[-1] // window
    parts = np.abs(x[:, : count * window], dtype=np.float64).reshape(len(x), count, window)
    result: Array = parts.mean(axis=-1)
    return result


def envelope_correlation(
    x: npt.NDArray[np.floating],
    y: npt.NDArray[np.floating],
    sample_rate: float,
    seconds: float = 0.1,
) -> float:
    """Pearson's correlation of the envelopes of each electrode, averaged over electrodes.

    Electrodes of `x` whose envelope does not vary tell nothing and are left out; one of `y` that
    does not vary counts as 0.

    Returns:
        -1 to 1; nan if no electrode tells anything.
    """
    a, b = envelope(x, sample_rate, seconds), envelope(y, sample_rate, seconds)
    if a.shape[1] == 0:
        return float("nan")
    a, b = a - a.mean(axis=1, keepdims=True), b - b.mean(axis=1, keepdims=True)
    size_a, size_b = np.linalg.norm(a, axis=1), np.linalg.norm(b, axis=1)
    told = size_a > 0
    if not told.any():
        return float("nan")
    product = size_a * size_b
    cosine = np.divide((a * b).sum(axis=1), product, out=np.zeros_like(product), where=product > 0)
    return float(cosine[told].mean())


def bit_rate(
    bits_per_frame: float, frame_rate: float, electrodes: int, recording_seconds: float
) -> float:
    """Bits a second of codes and of what goes beside them: a level for each electrode, once.

    Args:
        bits_per_frame: Of the codes.
        frame_rate: Frames a second.
        electrodes: Whose levels are stored (`Tokens.scale`).
        recording_seconds: How long a recording shares one set of levels.
    """
    return bits_per_frame * frame_rate + SCALE_BITS * electrodes / recording_seconds
