"""`Codec.forward`: what training gets."""

from __future__ import annotations

import torch
from helpers import codec_for, emg, montage_of

from emgcodec import Codec


def test_training_gives_gradients_to_every_part() -> None:
    for name in ("student", "emg-codec", "tiny"):
        codec = Codec(codec_for(name).config).train()
        x = emg(codec, 60 * codec.hop_length, batch=3)
        out = codec(x, torch.tensor([x.shape[-1], 900, 777]), montage=montage_of(codec))
        loss = sum(out.losses.values()) + sum(
            h.square().mean() for k, h in out.heads.items() if k != "signal"
        )
        loss.backward()
        missing = [n for n, p in codec.named_parameters() if p.grad is None]
        assert missing == []
        bad = [n for n, p in codec.named_parameters() if not p.grad.isfinite().all()]
        assert bad == []


def test_what_the_signal_head_should_say_is_known_in_time() -> None:
    codec = Codec(codec_for("student").config).eval()
    hop = codec.hop_length
    x = emg(codec, 100 * hop)
    louder = x.clone()
    louder[..., 60 * hop :] *= 30.0
    target, later = (codec(s, montage=montage_of(codec)).spectrum[0] for s in (x, louder))
    assert torch.equal(target[:, :60], later[:, :60])
    assert (later[:, 70:] - target[:, 70:]).mean() > 1.0  # decades: 30 times is almost 3
    doubled = codec(2 * x, montage=montage_of(codec)).spectrum[0]
    assert torch.allclose(doubled, target, atol=1e-3)  # relative to the electrode's own usual


def test_one_nan_frame_in_training_leaves_everything_finite() -> None:
    codec = Codec(codec_for("student").config).train()
    x = emg(codec, 60 * codec.hop_length, batch=2)
    x[1, :, 700] = float("nan")
    out = codec(x, montage=montage_of(codec))
    assert codec.quantizer is not None
    assert codec.quantizer.codebooks.isfinite().all()
    assert (out.codes[1, :, 700 // codec.hop_length] == -1).all()
    sum(out.losses.values()).backward()
    assert all(p.grad is None or p.grad.isfinite().all() for p in codec.parameters())
