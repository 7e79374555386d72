"""Features of where an electrode sits, shared by the set frontend and the signal head."""

from __future__ import annotations

import torch
from torch import Tensor

NUM_POSITION_FEATURES = 8


def position_features(positions: Tensor) -> Tensor:
    """(..., 4) of `Montage.positions` to (..., 8): three angular harmonics, row, band (last)."""
    sine, cosine, row, band = positions.unbind(-1)
    sine2, cosine2 = 2 * sine * cosine, cosine.square() - sine.square()
    sine3, cosine3 = sine * cosine2 + cosine * sine2, cosine * cosine2 - sine * sine2
    features = [sine, cosine, sine2, cosine2, sine3, cosine3, row / 4, band]
    return torch.stack(features, dim=-1)
