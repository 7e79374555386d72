"""Linear discriminant analysis, and evidence summed over time."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from emgcodec.evaluate.frames import Array, Labels, Track

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Moments:
    """What any discriminant is made of: it is measured once for all amounts of shrinkage.

    Attributes:
        classes: (K,) labels that occur.
        means: (K, F).
        covariance: (F, F) within classes, pooled.
    """

    classes: Labels
    means: Floats
    covariance: Floats

    @classmethod
    def of(cls, tracks: Sequence[Track]) -> Moments:
        """Of the labelled frames of tracks; labels are used."""
        x = np.concatenate([t.x[t.labels >= 0] for t in tracks]).astype(np.float64)
        labels = np.concatenate([t.labels[t.labels >= 0] for t in tracks])
        classes, index = np.unique(labels, return_inverse=True)
        means = np.stack([x[index == k].mean(axis=0) for k in range(len(classes))])
        x -= means[index]
        return cls(classes, means, x.T @ x / len(x))

    def discriminant(self, shrinkage: float) -> Discriminant:
        """Fisher's (1936) for equal priors, its covariance drawn to a multiple of the identity.

        Args:
            shrinkage: 0 to 1, as Friedman's (1989) gamma.
        """
        level = np.trace(self.covariance) / len(self.covariance)
        shrunk = (1 - shrinkage) * self.covariance
        shrunk += max(shrinkage, 1e-9) * level * np.eye(len(shrunk))
        weight = np.linalg.solve(shrunk, self.means.T)
        bias = -0.5 * (self.means.T * weight).sum(axis=0)
        return Discriminant(self.classes, weight.astype(np.float64), bias.astype(np.float64))


@dataclass(frozen=True)
class Discriminant:
    """A fitted discriminant: scores are ``x @ weight + bias``."""

    classes: Labels
    weight: Floats
    bias: Floats

    def log_posteriors(self, x: Array) -> Floats:
        """(T, F) to (T, K)."""
        scores = x @ self.weight + self.bias
        posteriors: Floats = scores - np.logaddexp.reduce(scores, axis=1, keepdims=True)
        return posteriors


def summed(values: Floats, frames: int) -> Floats:
    """Sum of each row and of those up to `frames` - 1 before it, (T, K)."""
    total = np.concatenate([np.zeros((1, values.shape[1])), np.cumsum(values, axis=0)])
    stop = np.arange(1, len(values) + 1)
    result: Floats = total[stop] - total[np.maximum(stop - frames, 0)]
    return result
