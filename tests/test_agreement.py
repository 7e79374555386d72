"""Codes of two codecs side by side, and a sequence model of one's read on the other's."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from emgcodec.evaluate.agreement import Coded, agreement
from emgcodec.evaluate.sequence import fit_sequence_model, read_sequences
from emgcodec.gestures import GESTURES

REST, FIST = GESTURES.index("rest"), GESTURES.index("hand_close")


def take(codes: list[list[int]], labels: list[int], who: str = "c/A", first: bool = False) -> Coded:
    return Coded(who, first, np.array(labels), np.array(codes))


def test_agreement_counts_frames_level_by_level() -> None:
    labels = [REST, REST, FIST, FIST, -1]
    theirs = [take([[0, 1, 2, 2, 0], [5, 5, 6, 6, 5]], labels)]
    ours = [take([[0, 0, 2, 2, -1], [5, 5, 6, 7, -1]], labels)]
    found = agreement(ours, theirs)
    everything, gestures = ({k: v["c/A"] for k, v in found[w].items()} for w in ("all", "gestures"))
    assert everything["level 1"] == pytest.approx(3 / 4)  # the frame without a code is no frame
    assert everything["level 2"] == pytest.approx(3 / 4)
    assert everything["level 2 given 1"] == pytest.approx(2 / 3)
    assert everything["chance 1"] == pytest.approx(2 / 4 * 1 / 4 + 2 / 4 * 2 / 4)
    assert gestures["level 1"] == 1
    assert gestures["level 2"] == pytest.approx(1 / 2)


def test_chance_behind_the_same_code_is_that_of_other_frames() -> None:
    """Three frames behind code 0, one alone behind code 1: six pairs of different frames."""
    labels = [FIST] * 5
    ours = [take([[0, 0, 0, 1, 2], [5, 6, 6, 7, 1]], labels)]
    theirs = [take([[0, 0, 0, 1, 3], [6, 6, 5, 7, 1]], labels)]
    found = {k: v["c/A"] for k, v in agreement(ours, theirs)["all"].items()}
    assert found["level 2 given 1"] == pytest.approx(2 / 4)
    # Of 5 and the others' 6, 5: one; of the second 6 and 6, 5: one; of the last and 6, 6: two.
    assert found["chance 2 given 1"] == pytest.approx(4 / 6)
    alone = agreement([take([[0], [1]], [FIST])], [take([[0], [1]], [FIST])])["all"]
    assert "chance 2 given 1" not in alone


def test_calibration_blocks_are_no_evidence() -> None:
    block = take([[0, 1]], [FIST, FIST], first=True)
    assert agreement([block], [block]) == {"all": {}, "gestures": {}}


def counting(who: str, seed: int, first: bool = False) -> Coded:
    """Codes that count up from a random one, by one in a fist and by two at rest."""
    rng = np.random.default_rng(seed)
    label, start = (FIST, REST)[seed % 2], int(rng.integers(16))
    codes = (start + np.arange(100) * (1 + seed % 2)) % 16
    return take([codes.tolist(), (15 - codes).tolist()], [label] * 100, who, first)


def test_a_sequence_model_learns_what_comes_next_and_what_it_means() -> None:
    learned = [counting(f"c/P{i % 4}", i) for i in range(40)]
    model, known = fit_sequence_model(learned, 16, 0, 120)
    tested = [counting("c/Q", 100), counting("c/Q", 101)]
    good = read_sequences(model, known, tested)
    assert good["accuracy"]["c/Q"] > 0.9
    assert good["perplexity"]["c/Q"] < 2.0
    rng = np.random.default_rng(0)
    noise = [replace(t, codes=rng.integers(0, 16, t.codes.shape)) for t in tested]
    bad = read_sequences(model, known, noise)
    assert bad["perplexity"]["c/Q"] > 16
    assert bad["accuracy"]["c/Q"] < 0.8
    assert read_sequences(model, known, [counting("c/Q", 1, first=True)])["accuracy"] == {}
