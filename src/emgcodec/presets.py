"""Configs by name: the two published systems and the montage-free family."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from emgcodec.config import (
    CodecConfig,
    ConfigError,
    ConvConfig,
    ElectrodeSetConfig,
    HeadConfig,
    LabelHeadConfig,
    LogSpectrogramConfig,
    QuantizerConfig,
    SignalHeadConfig,
    TDSConfig,
    TransformerConfig,
)
from emgcodec.gestures import GESTURES
from emgcodec.montage import Montage
from emgcodec.text import labels as key_labels


def _text() -> Mapping[str, HeadConfig]:
    return {"text": LabelHeadConfig("ctc", key_labels())}


def _tds(name: str, quantizer: QuantizerConfig, mlp_dim: int, channels: int) -> CodecConfig:
    # emg2qwerty (Sivakumar et al., 2024), shrunk and quantized as in "emg-codec" (2025).
    return CodecConfig(
        name=name,
        hop_length=16,
        montage=Montage.preset("emg2qwerty"),
        frontend=LogSpectrogramConfig(mlp_dim=mlp_dim),
        encoder=TDSConfig(channels=channels),
        quantizer=quantizer,
        heads=_text(),
    )


def _published_rvq(kind: str) -> QuantizerConfig:
    # No projection, no commitment loss, decay 0.9: the published recipe.
    return QuantizerConfig(kind, dim=0, after_block=1, decay=0.9, commitment=0.0)  # type: ignore[arg-type]


def _raw(name: str, dim: int, blocks: int) -> CodecConfig:
    # "Scaling and Distilling Transformer Models for sEMG" (Mehlman et al., TMLR 2025).
    encoder = TransformerConfig(
        dim=dim, blocks=blocks, heads=16, conv_position=128, conv_groups=16, dropout=0.2
    )
    return CodecConfig(
        name=name,
        hop_length=20,
        montage=Montage.preset("emg2qwerty"),
        frontend=ConvConfig(),
        encoder=encoder,
        quantizer=QuantizerConfig("none", dim=0, after_block=blocks),
        heads=_text(),
    )


def _montage_free(
    name: str, dim: int, blocks: int, heads: int, width: int, queries: int = 8
) -> CodecConfig:
    return CodecConfig(
        name=name,
        hop_length=64,
        frontend=ElectrodeSetConfig(width=width, queries=queries),
        encoder=TransformerConfig(dim=dim, blocks=blocks, heads=heads, window=64),
        quantizer=QuantizerConfig(after_block=blocks // 2, level_dropout=0.3),
        heads={"signal": SignalHeadConfig(), "gesture": LabelHeadConfig("frame", GESTURES)},
        storage="float16",
    )


_PRESETS: dict[str, Callable[[str], CodecConfig]] = {
    "emg-codec": lambda name: _tds(name, _published_rvq("rvq"), 128, 16),
    "emg-codec-vq": lambda name: _tds(name, _published_rvq("vq"), 128, 16),
    "emg-codec-none": lambda name: _tds(name, _published_rvq("none"), 128, 16),
    "emg2qwerty-tds": lambda name: _tds(name, _published_rvq("none"), 384, 24),
    "tiny": lambda name: _raw(name, 128, 10),
    "small": lambda name: _raw(name, 256, 6),
    "large": lambda name: _raw(name, 1024, 8),
    "student": lambda name: _montage_free(name, 48, 5, 2, 48, queries=4),
    "teacher": lambda name: _montage_free(name, 128, 6, 4, 128),
    "teacher-large": lambda name: _montage_free(name, 256, 8, 4, 128),
}


def list_presets() -> list[str]:
    """Names that `Codec.from_preset` knows."""
    return list(_PRESETS)


def preset(name: str) -> CodecConfig:
    """The config of a preset.

    Raises:
        ConfigError: for an unknown name, listing the known ones.
    """
    if name not in _PRESETS:
        raise ConfigError(f"preset {name!r} is unknown: choose from {list_presets()}")
    return _PRESETS[name](name)
