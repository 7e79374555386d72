"""A neural codec for surface EMG: recordings in, discrete tokens out, and back.

Names are loaded when they are first used; importing the package loads no torch.
"""

from __future__ import annotations

import importlib
import importlib.metadata
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from emgcodec.calibration import Calibration as Calibration
    from emgcodec.calibration import CalibrationError as CalibrationError
    from emgcodec.codec import Codec as Codec
    from emgcodec.config import CodecConfig as CodecConfig
    from emgcodec.config import ConfigError as ConfigError
    from emgcodec.folder import ModelError as ModelError
    from emgcodec.gestures import GESTURES as GESTURES
    from emgcodec.io import read as read
    from emgcodec.io import read_all as read_all
    from emgcodec.io import write as write
    from emgcodec.layouts import Layout as Layout
    from emgcodec.layouts import LayoutError as LayoutError
    from emgcodec.montage import Electrode as Electrode
    from emgcodec.montage import Montage as Montage
    from emgcodec.montage import MontageError as MontageError
    from emgcodec.montage import list_montages as list_montages
    from emgcodec.presets import list_presets as list_presets
    from emgcodec.pretrained import list_pretrained as list_pretrained
    from emgcodec.quality import quality_report as quality_report
    from emgcodec.recording import Event as Event
    from emgcodec.recording import Recording as Recording
    from emgcodec.recording import RecordingError as RecordingError
    from emgcodec.simulate import sample as sample
    from emgcodec.stream import CodecError as CodecError
    from emgcodec.tokens import Tokens as Tokens
    from emgcodec.tokens import TokensError as TokensError

__version__ = importlib.metadata.version("emgcodec")

_HOMES = {
    "calibration": ("Calibration", "CalibrationError"),
    "codec": ("Codec",),
    "config": ("CodecConfig", "ConfigError"),
    "folder": ("ModelError",),
    "gestures": ("GESTURES",),
    "io": ("read", "read_all", "write"),
    "layouts": ("Layout", "LayoutError"),
    "montage": ("Electrode", "Montage", "MontageError", "list_montages"),
    "presets": ("list_presets",),
    "pretrained": ("list_pretrained",),
    "quality": ("quality_report",),
    "recording": ("Event", "Recording", "RecordingError"),
    "simulate": ("sample",),
    "stream": ("CodecError",),
    "tokens": ("Tokens", "TokensError"),
}
_HOME = {name: module for module, names in _HOMES.items() for name in names}

__all__ = ["__version__", *sorted(_HOME)]


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module 'emgcodec' has no attribute {name!r}")
    value = getattr(importlib.import_module(f"emgcodec.{_HOME[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(__all__)
