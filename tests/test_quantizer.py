"""The quantizer: gradients, partial sums, bad frames, equality with the library behind it."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from emgcodec.config import QuantizerConfig
from emgcodec.nn.quantizer import CodebookRules, CodebookTrainer, Quantizer


def quantizer(levels: int = 2, *, size: int = 16, dim: int = 6, **options: object) -> Quantizer:
    torch.manual_seed(0)
    config = QuantizerConfig("rvq", levels, size, dim, **options)  # type: ignore[arg-type]
    return Quantizer(config, 10)


def latents(batch: int = 4, time: int = 100, *, seed: int = 0) -> torch.Tensor:
    return torch.randn(batch, time, 10, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("levels", [1, 2, 4, 8])
@pytest.mark.parametrize("training", [True, False])
def test_gradient_passes_straight_through(levels: int, training: bool) -> None:
    part = quantizer(levels, dim=0).train(training)
    x = latents().requires_grad_()
    g = torch.randn(x.shape)
    out = part(x, torch.ones(4, 100, dtype=torch.bool))
    out.latents.backward(g)
    torch.testing.assert_close(x.grad, g)
    assert not torch.allclose(out.latents, x)


@given(st.integers(1, 8))
def test_fewer_levels_decode_to_the_partial_sum(levels: int) -> None:
    part = quantizer(8).eval()
    valid = torch.ones(4, 100, dtype=torch.bool)
    with torch.no_grad():
        codes = part.encode(latents(), valid)
        assert torch.equal(part.encode(latents(), valid, levels), codes[..., :levels])
        total = sum(part.codebooks[k][codes[..., k]] for k in range(levels))
        torch.testing.assert_close(part.decode(codes[..., :levels]), part.project_out(total))


def test_each_code_is_the_nearest_to_what_is_left() -> None:
    part = quantizer(3).eval()
    with torch.no_grad():
        rest = part.project_in(latents()).flatten(0, 1)
        codes = part.lookup(rest)
        for level in range(3):
            nearest = torch.cdist(rest, part.codebooks[level]).argmin(dim=1)
            assert torch.equal(codes[:, level], nearest)
            rest = rest - part.codebooks[level][nearest]


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), float("-inf")])
@pytest.mark.parametrize("masked", [True, False])
def test_one_bad_frame_leaves_codebooks_finite(bad: float, masked: bool) -> None:
    part = quantizer().train()
    x = latents()
    x[1, 7, 3] = bad
    valid = torch.ones(4, 100, dtype=torch.bool)
    valid[1, 7] = not masked
    out = part(x, valid)
    assert part.codebooks.isfinite().all()
    assert (out.codes[1, 7] == -1).all()
    assert (out.codes.flatten(0, 1)[valid.flatten()] >= 0).sum() >= 2 * (399 - 1)
    after = part(latents(seed=1), torch.ones_like(valid))
    assert after.latents.isfinite().all()


def test_masked_frames_do_not_move_codebooks() -> None:
    valid = torch.zeros(4, 100, dtype=torch.bool)
    valid[:, :60] = True
    results = []
    for junk in (0.0, 500.0):
        part = quantizer().train()
        torch.manual_seed(1)
        x = latents()
        x[:, 60:] = junk
        for _ in range(3):
            part(x, valid)
        results.append(part.codebooks.clone())
    assert torch.equal(*results)


def test_without_a_single_valid_frame_nothing_happens() -> None:
    part = quantizer().train()
    before = part.codebooks.clone()
    x = latents().requires_grad_()
    out = part(x, torch.zeros(4, 100, dtype=torch.bool))
    assert torch.equal(part.codebooks, before)
    assert (out.codes == -1).all()
    assert (out.latents == 0).all()
    (out.latents.sum() + out.commitment).backward()
    assert x.grad is not None
    assert x.grad.isfinite().all()


def test_training_fits_the_data_and_uses_its_codes() -> None:
    torch.manual_seed(0)
    part = quantizer(2, size=32, dim=0).train()
    x = latents(8, 400)
    valid = torch.ones(8, 400, dtype=torch.bool)
    first = None
    for _ in range(30):
        out = part(x, valid)
        error = float((out.latents - x).square().mean())
        first = error if first is None else first
    assert error < 0.75 * float(x.var())
    assert error <= first * 1.02
    assert out.stats["used_0"] == 1.0
    assert out.stats["perplexity_0"] > 16


def test_dead_codes_come_back() -> None:
    torch.manual_seed(0)
    part = quantizer(1, size=32, dim=0, decay=0.5).train()
    valid = torch.ones(8, 400, dtype=torch.bool)
    part(latents(8, 400) * 1e-3, valid)
    part(latents(8, 400) * 1e-3 + 50, valid)
    for seed in range(12):
        out = part(latents(8, 400, seed=seed), valid)
    assert out.stats["used_0"] > 0.9


def test_lookup_equals_the_trainer() -> None:
    torch.manual_seed(0)
    config = QuantizerConfig("rvq", 3, 32, 0)
    trainer = CodebookTrainer(config, 10, torch.device("cpu"))
    x = latents(8, 400)
    trainer.step(x.flatten(0, 1))
    part = Quantizer(config, 10).eval()
    part.set_codebooks(trainer.codebooks)
    trainer.rvq.eval()
    _, theirs, _ = trainer.rvq(x)
    ours = part.lookup(x.flatten(0, 1)).unflatten(0, (8, 400))
    assert (ours == theirs).float().mean() > 0.9999


def test_training_moves_codebooks_as_the_library_does() -> None:
    config = QuantizerConfig("rvq", 3, 32, 0, decay=0.8)
    ours, theirs = (CodebookTrainer(config, 10, torch.device("cpu")) for _ in range(2))
    revived = 0.0
    for seed in range(8):
        rows = latents(8, 50, seed=seed).flatten(0, 1) + (40.0 if seed == 3 else 0.0)
        torch.manual_seed(seed)
        codes, parts = ours.step(rows)
        for mine, its in zip(ours.rvq.layers, theirs.rvq.layers, strict=True):
            its._codebook.threshold_ema_dead_code = mine._codebook.threshold_ema_dead_code
            its._codebook.reset_cluster_size = mine._codebook.reset_cluster_size
        torch.manual_seed(seed)
        quantized, expected, _ = theirs.rvq(rows[None])
        assert torch.equal(codes, expected[0])
        torch.testing.assert_close(parts.sum(dim=0), quantized[0], atol=1e-4, rtol=1e-4)
        torch.testing.assert_close(ours.codebooks, theirs.codebooks, atol=1e-4, rtol=1e-4)
        revived += ours.usage(0)[1]
    assert revived > 0


def test_revival_as_published_replaces_the_same_codes_again() -> None:
    config = QuantizerConfig("rvq", 1, 256, 0, decay=0.99)
    replaced = {"uniform": 0.0, "fixed": 0.0}
    for revival in ("uniform", "fixed"):
        rules = CodebookRules(revival=revival)
        trainer = CodebookTrainer(config, 10, torch.device("cpu"), rules)
        torch.manual_seed(0)
        for seed in range(50):
            trainer.step(latents(8, 64, seed=seed).flatten(0, 1))  # two rows for each code
            replaced[revival] += trainer.usage(0)[1] if seed >= 40 else 0.0
    assert replaced["fixed"] > 10 * max(replaced["uniform"], 1)


def test_codebooks_may_start_at_random() -> None:
    torch.manual_seed(0)
    config, rows = QuantizerConfig("rvq", 1, 32, 0), latents(8, 400).flatten(0, 1) + 100.0
    error = {}
    for start in ("kmeans", "random"):
        trainer = CodebookTrainer(config, 10, torch.device("cpu"), CodebookRules(start=start))
        error[start] = (rows - trainer.step(rows)[1][0]).square().mean()
    assert error["random"] > 100 * error["kmeans"]


def test_level_dropout_keeps_the_first_levels() -> None:
    torch.manual_seed(0)
    part = quantizer(4, dim=0, level_dropout=1.0).train()
    x, valid = latents(64, 5), torch.ones(64, 5, dtype=torch.bool)
    part(x, valid)
    before = part.codebooks.clone()
    out = part(x, valid)
    kept = []
    for item in range(64):
        partial = torch.zeros(5, 10)
        for level in range(4):
            partial = partial + before[level][out.codes[item, :, level]]
            if torch.allclose(partial, out.latents[item], atol=1e-4):
                kept.append(level + 1)
                break
    assert len(kept) == 64
    assert set(kept) == {1, 2, 3}


def test_resumed_training_is_uninterrupted_training() -> None:
    valid = torch.ones(4, 100, dtype=torch.bool)
    straight, broken = quantizer().train(), quantizer().train()
    for part in (straight, broken):
        torch.manual_seed(5)
        part(latents(), valid)
    resumed = quantizer().train()
    resumed.load_state_dict(broken.state_dict())
    resumed.load_training_state(broken.training_state())
    assert set(broken.state_dict()) == set(quantizer().state_dict())
    for part in (straight, resumed):
        torch.manual_seed(6)
        part(latents(seed=2), valid)
    assert torch.equal(straight.codebooks, resumed.codebooks)


def test_trained_codebooks_are_not_started_anew() -> None:
    valid = torch.ones(4, 100, dtype=torch.bool)
    old, tuned = quantizer(decay=0.99).train(), quantizer(decay=0.99).train()
    for seed in range(3):
        old(latents(seed=seed), valid)
    tuned.load_state_dict(old.state_dict())
    before = tuned.codebooks.clone()
    tuned(latents(seed=9), valid)
    change = (tuned.codebooks - before).norm() / before.norm()
    assert 0 < change < 0.2


def test_codebooks_may_be_changed_in_place() -> None:
    part = quantizer().eval()
    with torch.no_grad():
        part.codebooks.mul_(3.0)
        rows = part.project_in(latents()).flatten(0, 1)
        nearest = torch.cdist(rows, part.codebooks[0]).argmin(dim=1)
        assert torch.equal(part.lookup(rows, 1)[:, 0], nearest)


def test_codebooks_start_on_as_many_rows_as_it_takes() -> None:
    """Batches of fewer rows than two a code wait for each other, through a checkpoint too."""
    config = QuantizerConfig("rvq", levels=2, size=64, dim=0)
    straight, broken, resumed = (Quantizer(config, 8).train() for _ in range(3))
    rows = torch.randn(3, 1, 50, 8, generator=torch.Generator().manual_seed(0))
    everyone = torch.ones(1, 50, dtype=torch.bool)
    for part in (straight, broken):
        for batch in rows[:2]:
            out = part(batch, everyone)
            assert torch.equal(out.latents, batch)  # not quantized yet
            assert (out.codes == -1).all()
            assert not part.trained
    resumed.load_state_dict(broken.state_dict())
    resumed.load_training_state(broken.training_state())
    for part in (straight, resumed):
        torch.manual_seed(0)
        out = part(rows[2], everyone)
        assert out.codes.shape == (1, 50, 2)
        assert (out.codes >= 0).all()
        assert part.trained
        fresh = part.lookup(rows[:, 0].flatten(0, 1))
        assert len(fresh[:, 1].unique()) > 32  # of 64: k-means of 50 rows would leave gaps
    assert torch.equal(straight.codebooks, resumed.codebooks)
