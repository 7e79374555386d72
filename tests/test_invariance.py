"""Same recording, same tokens, however fed; causal; masks and order of electrodes do not matter."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from helpers import CONFIGS, assert_same, codec_for, emg, encode, montage_of
from hypothesis import given, settings
from hypothesis import strategies as st

from emgcodec.calibration import Calibration
from emgcodec.codec import Codec
from emgcodec.montage import Montage
from emgcodec.recording import exact_rate
from emgcodec.signal import Preparation

RATES = [200.0, 1000.0, 1259.26, 2000.0, 2048.0, 4000.0]


@pytest.fixture(params=CONFIGS)
def codec(request: pytest.FixtureRequest) -> Codec:
    return codec_for(request.param)


def latents_of(codec: Codec, x: torch.Tensor, **options: object) -> torch.Tensor:
    return codec.encode_latent(x, **options)  # type: ignore[arg-type]


def test_ragged_batch_is_each_alone(codec: Codec) -> None:
    hop = codec.hop_length
    lengths = [0, 1, hop, 37 * hop + 3, 300 * hop - 1]
    x = emg(codec, max(lengths), batch=len(lengths))
    together = encode(codec, x, lengths=lengths)
    for i, n in enumerate(lengths):
        alone = encode(codec, x[i : i + 1, :, :n])
        frames = codec.num_frames(n)
        latents = latents_of(codec, x[i : i + 1, :, :n])
        assert_same(codec, alone, together[i : i + 1, ..., :frames], latents)
        padding = together[i, ..., frames:]
        assert (padding == (-1 if codec.quantizer is not None else 0)).all()


def test_padding_never_matters(codec: Codec) -> None:
    n = 41 * codec.hop_length + 5
    x = emg(codec, n)
    for filler in (0.0, float("nan"), 1e6):
        padded = torch.cat([x, torch.full((1, x.shape[1], 3000), filler)], dim=-1)
        with_padding = encode(codec, padded, lengths=[n])[..., : codec.num_frames(n)]
        assert_same(codec, encode(codec, x), with_padding, latents_of(codec, x))


@pytest.mark.parametrize("name", CONFIGS)
@given(sizes=st.lists(st.integers(1, 90), min_size=1, max_size=12))
def test_steps_of_any_size_are_the_whole(name: str, sizes: list[int]) -> None:
    codec = codec_for(name)
    hop = codec.hop_length
    x = emg(codec, sum(sizes) * hop)
    state = codec.init_state(1, montage_of(codec))
    parts, start = [], 0
    with torch.no_grad():
        for size in sizes:
            block = x[..., start * hop : (start + size) * hop]
            latents, valid, state = codec.latent_step(block, state)
            assert valid.all()
            if codec.quantizer is not None:
                parts.append(codec.quantizer.encode(latents, valid).mT)
            else:
                parts.append(latents.mT)
            start += size
    whole = encode(codec, x, montage=montage_of(codec))
    assert_same(codec, whole, torch.cat(parts, dim=-1), latents_of(codec, x))


def test_encode_step_leaves_its_state_alone(codec: Codec) -> None:
    if codec.quantizer is None:
        pytest.skip("no quantizer, no codes")
    x = emg(codec, 20 * codec.hop_length)
    state = codec.init_state(1, montage_of(codec))
    before = {k: v.clone() for k, v in state.items()}
    first, following = codec.encode_step(x, state)
    again, _ = codec.encode_step(x, state)
    assert all(torch.equal(before[k], state[k]) for k in before)
    assert torch.equal(first, again)
    assert following["frames"].item() == 20
    assert set(following) == set(state)
    assert {k: v.shape for k, v in following.items()} == {k: v.shape for k, v in state.items()}


@pytest.mark.parametrize("rate", RATES)
@pytest.mark.parametrize("name", ["student", "emg-codec"])
def test_any_rate_in_random_pushes(name: str, rate: float) -> None:
    codec = codec_for(name)
    montage = montage_of(codec)
    rng = np.random.default_rng(1)
    n = int(2.7 * rate)
    x = rng.standard_normal((len(montage), n)).astype(np.float32) * 30
    tokens = codec.tokenize(x, sample_rate=rate, montage=montage)
    preparation = Preparation(rate, codec.sample_rate, len(montage), None)
    parts, start = [], 0
    while start < n:
        size = int(rng.choice([1, 3, 16, 100, 700]))
        parts.append(preparation.push(x[:, start : start + size])[0])
        start += size
    parts.append(preparation.flush()[0])
    prepared = torch.from_numpy(np.concatenate(parts, axis=1))[None]
    codes = codec.encode(prepared, montage=montage)
    latents = latents_of(codec, prepared, montage=montage)
    assert_same(codec, codes, torch.from_numpy(tokens.codes.astype(np.int64))[None], latents)


@given(n=st.integers(0, 900), rate=st.sampled_from([100.0, 128.5, 1777.7777, *RATES]))
@settings(max_examples=40)
def test_number_of_frames_is_exact(n: int, rate: float) -> None:
    codec = codec_for("student")
    x = np.random.default_rng(0).standard_normal((3, n)).astype(np.float32) * 20
    tokens = codec.tokenize(x, sample_rate=rate)
    exact = n * exact_rate(codec.frame_rate) / exact_rate(rate)
    assert tokens.num_frames == -(-exact.numerator // exact.denominator)
    back = codec.detokenize(tokens)
    assert (back.num_samples, back.sample_rate, back.num_electrodes) == (n, rate, 3)


def test_future_samples_never_matter(codec: Codec) -> None:
    hop = codec.hop_length
    x = emg(codec, 300 * hop)
    for frame in (0, 1, 7, 8, 131, 260):
        changed = x.clone()
        changed[..., frame * hop :] = emg(codec, (300 - frame) * hop, seed=9) * 50
        before, after = encode(codec, x), encode(codec, changed)
        assert_same(codec, before[..., :frame], after[..., :frame], latents_of(codec, x))
        assert not torch.equal(before[..., frame:], after[..., frame:])


@pytest.mark.parametrize("rate", RATES)
def test_future_source_samples_matter_within_the_lookahead_only(rate: float) -> None:
    from emgcodec.signal import resampling_lookahead

    codec = codec_for("student")
    n = int(2 * rate)
    x = np.random.default_rng(0).standard_normal((4, n)).astype(np.float32) * 30
    cut = int(1.1 * rate)
    changed = x.copy()
    changed[:, cut:] *= 40
    a, b = codec.tokenize(x, sample_rate=rate), codec.tokenize(changed, sample_rate=rate)
    safe = int((cut / rate - resampling_lookahead(rate, codec.sample_rate)) * codec.frame_rate)
    assert np.array_equal(a.codes[:, :safe], b.codes[:, :safe])
    assert resampling_lookahead(rate, codec.sample_rate) <= max(0.010, 4 / rate)


def test_masked_electrodes_never_matter(codec: Codec) -> None:
    x = emg(codec, 120 * codec.hop_length)
    mask = torch.ones(x.shape[:2], dtype=torch.bool)
    mask[:, 1] = mask[:, 3] = False
    reference = encode(codec, x, mask=mask)
    for value in (0.0, 1e5, float("nan"), float("inf")):
        changed = x.clone()
        changed[:, 1] = value
        changed[:, 3, ::2] = value
        assert torch.equal(reference, encode(codec, changed, mask=mask))
    assert not torch.equal(reference, encode(codec, x))


def test_a_frame_without_any_electrode_has_no_code(codec: Codec) -> None:
    x = emg(codec, 64 * codec.hop_length)
    x[..., 20 * codec.hop_length : 24 * codec.hop_length] = float("nan")
    out = encode(codec, x)
    nothing = -1 if codec.quantizer is not None else 0
    assert (out[..., 20:24] == nothing).all()
    assert (out[..., :20] != nothing).any(dim=1).all()
    assert (out[..., 40:] != nothing).any(dim=1).all()


def test_electrodes_may_come_in_any_order(codec: Codec) -> None:
    montage = montage_of(codec)
    x = emg(codec, 150 * codec.hop_length)
    order = np.random.default_rng(3).permutation(len(montage)).tolist()
    straight = encode(codec, x, montage=montage)
    shuffled = encode(codec, x[:, order], montage=montage.select(order))
    assert_same(codec, straight, shuffled, latents_of(codec, x, montage=montage))


def test_gain_with_a_scaled_calibration_changes_nothing(codec: Codec) -> None:
    montage = montage_of(codec)
    x = emg(codec, 8000) * 30  # far from the absolute floor under the logarithm
    calibration = codec.calibrate([_as_recording(codec, x[0].numpy(), montage)])
    louder = x * 10
    a = encode(codec, x, montage=montage, calibration=calibration)
    b = encode(codec, louder, montage=montage, calibration=calibration.scaled(10))
    assert_same(codec, a, b, latents_of(codec, x, montage=montage, calibration=calibration))
    assert not torch.equal(a, encode(codec, louder, montage=montage, calibration=calibration))


def _as_recording(codec: Codec, x: np.ndarray, montage: Montage):  # type: ignore[no-untyped-def]
    from emgcodec.recording import Recording

    return Recording(x, codec.sample_rate, montage=montage)


def test_mixed_montages_and_calibrations_in_one_batch() -> None:
    codec = codec_for("student")
    montages = [Montage.ring(3), Montage.ring(8), Montage.grid(4, 3)]
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(3, 12, 9000, generator=generator) * 40
    calibration = codec.calibrate([_as_recording(codec, x[1, :8].numpy(), montages[1])])
    known: list[Calibration | None] = [None, calibration, None]
    together = codec.encode(x, montage=montages, calibration=known)
    for i, montage in enumerate(montages):
        one = x[i : i + 1, : len(montage)]
        alone = codec.encode(one, montage=montage, calibration=known[i])
        latents = latents_of(codec, one, montage=montage, calibration=known[i])
        assert_same(codec, alone, together[i : i + 1], latents)


def test_training_mode_does_not_change_codes(codec: Codec) -> None:
    x = emg(codec, 30 * codec.hop_length)
    before = encode(codec, x)
    codec.train()
    try:
        during = encode(codec, x)
        assert codec.training
    finally:
        codec.eval()
    assert torch.equal(before, during)
    assert not during.requires_grad


def test_decoding_in_blocks_is_the_whole(codec: Codec) -> None:
    if codec.quantizer is None:
        pytest.skip("no quantizer, no codes")
    generator = torch.Generator().manual_seed(0)
    shape = (1, codec.num_codebooks, 600)
    codes = torch.randint(codec.codebook_size, shape, generator=generator)
    state, parts = codec.init_decode_state(1), []
    latents = codec.decode_latent(codes).mT
    with torch.no_grad():
        for part in latents.split([1, 99, 256, 3, 241], dim=1):
            h, state = codec.decode_step(part, state)
            parts.append(h)
        pieces = torch.cat(parts, dim=1)
    for name in codec.heads:
        if name != "signal":
            expected = codec.head[name](pieces)
            torch.testing.assert_close(codec.predict(codes, name), expected, rtol=1e-3, atol=1e-4)


def test_decoded_waveforms_do_not_depend_on_company() -> None:
    codec = codec_for("student")
    generator = torch.Generator().manual_seed(0)
    codes = torch.randint(codec.codebook_size, (2, 2, 300), generator=generator)
    ring = Montage.ring(6)
    both = codec.decode(codes, montage=ring)
    alone = codec.decode(codes[1:], montage=ring)
    torch.testing.assert_close(both[1:], alone, rtol=1e-3, atol=1e-4)
    shorter = codec.decode(codes[:, :, :280], montage=ring)
    overlap = codec.frontend.windows.window  # the last frame's window is not finished
    done = shorter.shape[-1] - overlap
    torch.testing.assert_close(both[..., :done], shorter[..., :done], rtol=1e-3, atol=1e-4)
    order = [3, 1, 5, 0, 4, 2]
    turned = codec.decode(codes, montage=ring.select(order))
    torch.testing.assert_close(both[:, order], turned, rtol=1e-3, atol=1e-4)
    assert codec.decode(codes, montage=ring, length=299 * 64 + 1).shape[-1] == 299 * 64 + 1
