"""Bridges to other libraries, which are loaded when a bridge is first used."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from emgcodec.adapters.mne import from_mne, to_mne

if TYPE_CHECKING:
    from emgcodec.adapters.sklearn import TokenFeatures as TokenFeatures

__all__ = ["TokenFeatures", "from_mne", "to_mne"]


def __getattr__(name: str) -> Any:
    if name != "TokenFeatures":
        raise AttributeError(f"module 'emgcodec.adapters' has no attribute {name!r}")
    from emgcodec.adapters.sklearn import TokenFeatures

    return TokenFeatures
