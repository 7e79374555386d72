"""Encoder blocks by `kind`, split into the part before the quantizer and the part behind it."""

from __future__ import annotations

from emgcodec.config import CodecConfig
from emgcodec.nn.tds import TDS
from emgcodec.nn.transformer import Transformer

Encoder = TDS | Transformer

ENCODERS = {"tds": TDS, "transformer": Transformer}


def build_encoder(config: CodecConfig, dim: int, first: int, last: int) -> Encoder:
    """Blocks `first` to `last` of the encoder that `config.encoder.kind` names."""
    part: Encoder = ENCODERS[config.encoder.kind](config.encoder, dim, first, last)
    return part
