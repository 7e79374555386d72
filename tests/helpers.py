"""Small twins of every registered config, and the one rule for "the same codes"."""

from __future__ import annotations

from functools import cache

import torch
from torch import Tensor

from emgcodec.codec import Codec
from emgcodec.config import ConvConfig, ElectrodeSetConfig, LogSpectrogramConfig, TDSConfig
from emgcodec.golden import compare
from emgcodec.montage import Montage
from emgcodec.presets import list_presets, preset

CONFIGS = [*list_presets(), "bundled student"]


@cache
def codec_for(name: str) -> Codec:
    """The bundled student as it is, or a preset with every width reduced and every part kept."""
    if name == "bundled student":
        return Codec.from_pretrained()
    config = preset(name)
    changes: dict[str, object] = {"quantizer.size": 64}
    split = config.quantizer.after_block
    if isinstance(config.encoder, TDSConfig):
        changes |= {"encoder.channels": 4, "encoder.blocks": 2, "encoder.kernel": 8}
        changes |= {"quantizer.after_block": min(split, 1)}
    else:
        changes |= {"encoder.dim": 32, "encoder.heads": 2, "encoder.window": 40}
        changes |= {
            "encoder.blocks": 2,
            "quantizer.after_block": 2 if split == config.encoder.blocks else 1,
        }
        if config.encoder.conv_position:
            changes |= {"encoder.conv_position": 16, "encoder.conv_groups": 4}
    if isinstance(config.frontend, LogSpectrogramConfig):
        changes |= {"frontend.mlp_dim": 16}
    elif isinstance(config.frontend, ConvConfig):
        changes |= {"frontend.dims": (16, 8, 8)}
    elif isinstance(config.frontend, ElectrodeSetConfig):
        changes |= {"frontend.width": 16, "frontend.queries": 3}
    if config.quantizer.dim:
        changes |= {"quantizer.dim": 16}
    torch.manual_seed(0)
    return with_codebooks(Codec(config.replace(**changes)).eval())


@torch.no_grad()
def with_codebooks(codec: Codec) -> Codec:
    """Codes on the latents of some signal: an untrained codec would else use one code only."""
    if codec.quantizer is None:
        return codec
    x = torch.cat([emg(codec, 300 * codec.hop_length, seed=s) for s in range(90, 94)])
    latents = codec.encode_latent(x).mT.flatten(0, 1)
    rest = codec.quantizer.project_in(latents)
    books = []
    for _ in range(codec.num_codebooks):
        book = rest[torch.randperm(len(rest))[: codec.codebook_size]]
        rest = rest - book[torch.cdist(rest, book).argmin(dim=1)]
        books.append(book)
    codec.quantizer.set_codebooks(torch.stack(books))
    return codec


def montage_of(codec: Codec) -> Montage:
    """Its own montage, or a small armband for a montage-free codec."""
    return codec.config.montage or Montage.ring(5)


def emg(codec: Codec, samples: int, *, batch: int = 1, seed: int = 0) -> Tensor:
    """Bursts of noise, (B, C, N) µV, with an offset on each electrode."""
    generator = torch.Generator().manual_seed(seed)
    electrodes = len(montage_of(codec))
    noise = torch.randn(batch, electrodes, samples, generator=generator)
    loud = torch.rand(batch, electrodes, samples // 512 + 1, generator=generator) * 80 + 5
    offset = torch.randn(batch, electrodes, 1, generator=generator) * 100
    return noise * loud.repeat_interleave(512, dim=-1)[..., :samples] + offset


def encode(codec: Codec, x: Tensor, **options: object) -> Tensor:
    """Codes (B, K, T), or latents (B, D, T) where there is no quantizer."""
    method = codec.encode if codec.quantizer is not None else codec.encode_latent
    return method(x, **options)  # type: ignore[arg-type]


def assert_same(codec: Codec, a: Tensor, b: Tensor, latents: Tensor | None = None) -> None:
    """At least 99.99 % of codes are equal, and each exception is a near-tie; latents are close.

    Args:
        codec: That made them.
        a: (B, K, T) codes, or (B, D, T) latents of a codec without a quantizer.
        b: The same.
        latents: (B, D, T) behind `a`, to judge near-ties with; without them none is allowed.
    """
    assert a.shape == b.shape
    if a.is_floating_point():
        torch.testing.assert_close(a, b, rtol=1e-3, atol=1e-3)
        return
    differs = (a != b).any(dim=1)
    if not differs.any():
        return
    assert latents is not None, f"{int(differs.sum())} frames differ"
    assert float((a != b).float().mean()) <= 1e-4 or differs.sum() <= 1
    quantizer = codec.quantizer
    assert quantizer is not None
    for item, frame in differs.nonzero().tolist():
        choice = compare(quantizer, latents[item, :, frame], a[item, :, frame], b[item, :, frame])
        assert choice.near_tie, f"a difference is no near-tie: {choice}"
