"""Gesture scores on people: balanced accuracy of each person, cold and calibrated."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence

import numpy as np
import torch

from emgcodec.calibration import Calibration
from emgcodec.codec import Codec
from emgcodec.metrics import balanced_accuracy
from emgcodec.train.data import Segment, as_calibrated, is_calibration


def score_gestures(
    codec: Codec,
    segments: Sequence[Segment],
    calibrations: dict[str, Calibration] | None,
) -> dict[str, dict[str, float]]:
    """Balanced accuracy of frames by data set and person, from quantized codes.

    State is reset at each segment. Only the gestures of the data set can be answered. The block
    that calibrates a wearing is left out, whether it is used or not, so that cold and calibrated
    scores are of the same frames.

    Args:
        codec: In float32, with its weights as stored.
        segments: Of the people to score.
        calibrations: By wearing, or None for a cold start.
    """
    answers: dict[str, list[tuple[np.ndarray, np.ndarray]]] = defaultdict(list)
    classes = {
        d: np.unique(np.concatenate([s.labels[s.labels >= 0] for s in segments if s.dataset == d]))
        for d in {s.dataset for s in segments}
    }
    for s in segments:
        if is_calibration(s, segments):
            continue
        calibration = calibrations[s.wearing] if calibrations else None
        x = torch.from_numpy(as_calibrated(s.x, calibration, codec))[None]
        codes = codec.encode(x, montage=s.montage, calibration=calibration)
        scores = codec.predict(codes, "gesture")[0].numpy()
        allowed = classes[s.dataset]
        labelled = s.labels >= 0
        guess = allowed[scores[labelled][:, allowed].argmax(axis=1)]
        answers[s.subject].append((s.labels[labelled], guess))
    result: dict[str, dict[str, float]] = defaultdict(dict)
    for subject, pairs in answers.items():
        columns = map(np.concatenate, zip(*pairs, strict=True))
        result[subject.split("/")[0]][subject] = balanced_accuracy(*columns)
    return dict(result)
