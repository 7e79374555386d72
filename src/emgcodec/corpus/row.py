"""One recording in a corpus: its tokens, its ids, and what is known about it."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from emgcodec.recording import Event
from emgcodec.text import to_ids, to_text
from emgcodec.tokens import Tokens

WORDS = ("dataset", "subject", "session", "recording", "source", "device", "licence")
"""Facts that rows take from the recording's metadata; empty where it has none."""


@dataclass(frozen=True)
class Row:
    """What all formats write, each in its way.

    Attributes:
        id: Name of the file and of the recording in it.
        tokens: Of the recording.
        ids: (L,) with bos and eos, or (L, rows): a line for each step of the model.
        events: What happened, in seconds since the first sample.
        calibrates: Whether the session was calibrated on it: a score should leave it out.
    """

    id: str
    tokens: Tokens
    ids: npt.NDArray[np.int32]
    events: tuple[Event, ...]
    calibrates: bool = False

    def facts(self) -> dict[str, Any]:
        """All but the arrays, as plain JSON types.

        `text` is what was typed, ⌫ and all; `gaps` has first frame, and the frame behind the last
        one, of each run without valid signal.
        """
        tokens = self.tokens
        keys = to_ids(event.label for event in self.events if event.kind == "key")
        edges = np.flatnonzero(np.diff(tokens.valid, prepend=True, append=True))
        return {
            "id": self.id,
            **{name: str(tokens.metadata.get(name, "")) for name in WORDS},
            "text": to_text(keys.ids),
            "montage": tokens.montage.name,
            "unit": tokens.unit,
            "calibration": tokens.calibration or "",
            "calibrates": self.calibrates,
            "sample_rate": tokens.sample_rate,
            "frame_rate": tokens.frame_rate,
            "start_time": tokens.start_time,
            "num_samples": tokens.num_samples,
            "num_frames": tokens.num_frames,
            "gaps": edges.reshape(-1, 2).tolist(),
            "scale": tokens.scale.tolist(),
            "events": [asdict(event) for event in self.events],
        }
