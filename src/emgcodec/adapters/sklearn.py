"""A scikit-learn transformer: recordings in, features of their tokens out."""

from __future__ import annotations

from collections.abc import Iterable
from functools import lru_cache
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from emgcodec.codec import Codec
from emgcodec.recording import Recording, RecordingError

try:
    from sklearn.base import BaseEstimator, TransformerMixin
except ImportError as error:
    raise RecordingError("this needs scikit-learn: pip install scikit-learn") from error

OUTPUTS = ("tokens", "latents", "histogram")


class TokenFeatures(TransformerMixin, BaseEstimator):  # type: ignore[misc]
    """Recordings or windows to one row of features each.

    It holds settings only; the codec is loaded by its name where it is used. So it can be cloned,
    pickled and sent to other processes.

    Args:
        model: Bundled model or folder; None is the bundled student.
        output: ``tokens``: the codes, level by level; items must be of equal length.
            ``latents``: mean over time of what the codes stand for. ``histogram``: share of the
            frames in which each code of each level was used.
        sample_rate: Hz, of arrays; a `Recording` has its own.
        unit: Of arrays: ``uV``, ``mV``, ``V`` or ``adc``.
        montage: Of arrays: the name of a device, or None for an assumed ring.
    """

    def __init__(
        self,
        model: str | None = None,
        *,
        output: str = "histogram",
        sample_rate: float | None = None,
        unit: str = "uV",
        montage: str | None = None,
    ) -> None:
        self.model = model
        self.output = output
        self.sample_rate = sample_rate
        self.unit = unit
        self.montage = montage

    def fit(self, X: Iterable[Any], y: Any = None) -> TokenFeatures:
        """Learns nothing; checks the settings.

        Raises:
            RecordingError: if `output` is unknown.
        """
        if self.output not in OUTPUTS:
            raise RecordingError(f"output={self.output!r}: choose from {', '.join(OUTPUTS)}")
        _codec(self.model)
        return self

    def __sklearn_is_fitted__(self) -> bool:
        return True

    def transform(self, X: Iterable[Recording | npt.ArrayLike]) -> npt.NDArray[np.float64]:
        """Features of each item, (items, features) float64.

        Args:
            X: Recordings, or windows (items, C, N), or a list of (C, N) arrays.

        Raises:
            RecordingError: if an item cannot be tokenized, or rows come out of unequal length.
        """
        codec = _codec(self.fit(X).model)
        rows = [self._features(codec, item) for item in X]
        lengths = sorted({len(row) for row in rows})
        if len(lengths) > 1:
            raise RecordingError(
                f"X: items give from {lengths[0]} to {lengths[-1]} tokens: cut them to one "
                "length, or take output='histogram' or 'latents'"
            )
        return np.array(rows, np.float64)

    def _features(self, codec: Codec, item: Recording | npt.ArrayLike) -> Any:
        if isinstance(item, Recording):
            tokens = codec.tokenize(item)
        else:
            rate, unit, montage = self.sample_rate, self.unit, self.montage
            tokens = codec.tokenize(item, sample_rate=rate, unit=unit, montage=montage)
        if self.output == "tokens":
            return tokens.codes.ravel()
        valid = tokens.codes[:, tokens.valid].astype(np.int64)
        if self.output == "histogram":
            counts = [np.bincount(level, minlength=codec.codebook_size) for level in valid]
            return np.concatenate(counts) / max(valid.shape[1], 1)
        if valid.shape[1] == 0:
            raise RecordingError("X: an item has no valid frame: it is empty or missing")
        latents = codec.decode_latent(torch.from_numpy(valid)[None].to(codec.device))
        return latents[0].mean(dim=1).cpu().numpy()


@lru_cache(maxsize=2)
def _codec(model: str | None) -> Codec:
    return Codec.from_pretrained(model)
