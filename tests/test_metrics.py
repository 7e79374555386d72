"""Metrics against cases worked out by hand, and what must hold for any input."""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as nps

from emgcodec.metrics import (
    CharacterErrors,
    balanced_accuracy,
    bit_rate,
    character_errors,
    envelope,
    envelope_correlation,
    log_spectral_distance,
    perplexity,
    usage,
)

RATE = 1000.0


def noise(seconds: float = 20.0, electrodes: int = 2, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=(electrodes, round(RATE * seconds)))


def test_codebook_use_by_hand() -> None:
    codes = np.array([[0, 0, 1, 1, -1], [3, 3, 3, 3, -1]])
    assert usage(codes, 4).tolist() == [2, 1]
    np.testing.assert_allclose(perplexity(codes, 4), [2.0, 1.0])
    skewed = perplexity(np.array([[0, 0, 0, 1]]), 2)  # entropy of 3/4 and 1/4
    assert skewed[0] == pytest.approx(4.0 / 3.0**0.75)
    assert math.isnan(perplexity(np.array([[-1, -1]]), 2)[0])


@given(nps.arrays(np.int64, (2, 30), elements=st.integers(-1, 7)))
def test_perplexity_lies_between_one_and_the_codes_in_use(codes: np.ndarray) -> None:
    for row in codes:
        if (row >= 0).any():
            used, effective = usage(row[None], 8)[0], perplexity(row[None], 8)[0]
            assert 1 - 1e-9 <= effective <= used + 1e-9


def test_balanced_accuracy_by_hand() -> None:
    truth, guess = np.array([0, 0, 0, 0, 5, 5]), np.array([0, 0, 0, 1, 5, 0])
    assert balanced_accuracy(truth, guess) == pytest.approx((3 / 4 + 1 / 2) / 2)
    assert math.isnan(balanced_accuracy(truth[:0], guess[:0]))


@pytest.mark.parametrize(
    ("reference", "hypothesis", "parts"),
    [
        ("", "", (0, 0, 0)),
        ("abc", "abc", (0, 0, 0)),
        ("abc", "axc", (1, 0, 0)),
        ("abc", "ac", (0, 1, 0)),
        ("abc", "abbc", (0, 0, 1)),
        ("kitten", "sitting", (2, 0, 1)),
        ("abc", "", (0, 3, 0)),
        ("", "ab", (0, 0, 2)),
    ],
)
def test_character_errors_by_hand(
    reference: str, hypothesis: str, parts: tuple[int, int, int]
) -> None:
    assert character_errors(reference, hypothesis) == CharacterErrors(*parts, len(reference))


@given(st.text("abc", max_size=8), st.text("abc", max_size=8))
def test_character_errors_add_up(a: str, b: str) -> None:
    there, back = character_errors(a, b), character_errors(b, a)
    edits = [e.substituted + e.missed + e.spurious for e in (there, back)]
    assert edits[0] == edits[1] <= max(len(a), len(b))
    assert there.spurious - there.missed == len(b) - len(a)
    total = there + character_errors("aaaa", "bbbb")
    assert total.rate == (edits[0] + 4) / (len(a) + 4)
    assert math.isnan(CharacterErrors().rate)


@given(st.text("ab", max_size=5), st.text("abc", max_size=5))
def test_character_errors_are_those_of_the_best_of_all_ways(a: str, b: str) -> None:
    def ways(i: int, j: int) -> Iterator[tuple[int, int, int]]:  # substituted, spurious, missed
        if i == j == 0:
            yield 0, 0, 0
        if i and j:
            yield from ((s + (a[i - 1] != b[j - 1]), x, m) for s, x, m in ways(i - 1, j - 1))
        if j:
            yield from ((s, x + 1, m) for s, x, m in ways(i, j - 1))
        if i:
            yield from ((s, x, m + 1) for s, x, m in ways(i - 1, j))

    best = min(ways(len(a), len(b)), key=lambda way: (sum(way), way[1], way[2]))
    found = character_errors(a, b)
    assert (found.substituted, found.spurious, found.missed) == best


@given(st.text("abcde ⌫", min_size=1, max_size=60), st.text("abcde ⌫", max_size=60))
def test_character_error_rate_is_that_of_jiwer(a: str, b: str) -> None:
    jiwer = pytest.importorskip("jiwer")
    untouched = jiwer.Compose([jiwer.ReduceToListOfListOfChars()])  # it would strip blanks
    theirs = jiwer.cer(a, b, reference_transform=untouched, hypothesis_transform=untouched)
    assert character_errors(a, b).rate == pytest.approx(theirs)


def test_character_errors_of_a_whole_session_are_counted() -> None:
    rng = np.random.default_rng(0)
    typed = "".join(rng.choice(list("abcdefgh "), 3000))
    heard = typed[:1000] + "x" + typed[1000:2000] + typed[2010:]
    assert character_errors(typed, heard) == CharacterErrors(0, 10, 1, 3000)


def test_log_spectral_distance_of_a_gain_is_the_gain() -> None:
    x = noise()
    assert log_spectral_distance(x, x, RATE) == 0.0
    assert log_spectral_distance(x, 10 * x, RATE) == pytest.approx(20.0)


def test_log_spectral_distance_looks_at_its_band_only() -> None:
    x, time = noise(), np.arange(20_000) / RATE
    hum = x + 100 * np.sin(2 * np.pi * 480 * time)
    assert log_spectral_distance(x, hum, RATE) > 2.0
    assert log_spectral_distance(x, hum, RATE, (20, 400)) < 0.5


def test_two_noises_of_one_kind_have_the_distance_that_is_stated() -> None:
    assert 2.4 < log_spectral_distance(noise(seed=1), noise(seed=2), RATE) < 2.8
    assert math.isnan(log_spectral_distance(noise(0.2), noise(0.2), RATE))


def test_envelope_by_hand() -> None:
    x = np.array([[1.0, -1.0, 3.0, -5.0, 9.0]])
    np.testing.assert_array_equal(envelope(x, 10.0, 0.2), [[1.0, 4.0]])


def test_envelope_correlation_by_hand() -> None:
    x = np.array([[1.0, 2.0, 3.0], [1.0, 2.0, 3.0], [5.0, 5.0, 5.0]])
    y = np.array([[2.0, 4.0, 6.0], [3.0, 2.0, 1.0], [1.0, 2.0, 3.0]])
    assert envelope_correlation(x[:1], y[:1], 10.0) == pytest.approx(1.0)
    assert envelope_correlation(x, y, 10.0) == pytest.approx(0.0)  # 1 and -1; the third is flat
    assert envelope_correlation(x[:1], np.ones((1, 3)), 10.0) == 0.0
    assert math.isnan(envelope_correlation(x[2:], y[2:], 10.0))
    assert math.isnan(envelope_correlation(x[:, :0], y[:, :0], 10.0))


def test_modulated_noise_correlates_with_its_like_and_not_with_noise() -> None:
    shape = np.repeat(np.random.default_rng(3).uniform(0.2, 2.0, (2, 200)), 100, axis=1)
    x, y = shape * noise(seed=1), shape * noise(seed=2)
    assert envelope_correlation(x, y, RATE) > 0.9
    assert abs(envelope_correlation(x, noise(seed=2), RATE)) < 0.3


def test_bit_rate_counts_the_levels() -> None:
    assert bit_rate(20, 31.25, 8, 5.0) == 625 + 32 * 8 / 5
