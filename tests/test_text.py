from __future__ import annotations

import string
from itertools import groupby

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from emgcodec import text
from emgcodec.text import BACKSPACE, BLANK, ENTER, SHIFT

TYPED = string.ascii_letters + string.digits + string.punctuation + " " + BACKSPACE + ENTER + SHIFT


def log_probs(path: list[int], classes: int, confidence: float = 0.9) -> np.ndarray:
    """One frame per entry of `path`, with that class at `confidence`."""
    rest = (1.0 - confidence) / (classes - 1)
    return np.log(np.full((len(path), classes), rest) + (confidence - rest) * np.eye(classes)[path])


def test_the_keys_stand_in_the_order_of_the_corpus() -> None:
    names = text.labels()
    assert len(set(names)) == len(names) == BLANK == 98
    assert names[0] + names[26] + names[52] + names[62] == "aA0!"
    assert names[94:] == ("Key.backspace", "Key.enter", "Key.space", "Key.shift")
    assert text.to_ids(names).ids.tolist() == list(range(98))
    assert sorted(text.to_text(range(98))) == sorted(TYPED)


@given(st.text(TYPED))
def test_text_survives_the_round_trip_through_ids(typed: str) -> None:
    ids, dropped = text.to_ids(typed)
    assert dropped == 0
    assert len(ids) == len(typed)
    assert text.to_text(ids) == typed


@given(st.text())
def test_any_text_is_normalised_once_and_loses_only_what_is_counted(anything: str) -> None:
    normal = text.normalize_text(anything)
    ids, dropped = text.to_ids(anything)
    assert text.normalize_text(normal) == normal
    assert text.to_text(ids) == "".join(c for c in normal if c in TYPED)
    assert dropped == sum(c not in TYPED for c in normal)


@pytest.mark.parametrize(
    ("written", "normal"),
    [
        ("“Don’t”", '"Don\'t"'),
        ("a—b–c", "a-b-c"),
        ("one\r\ntwo\rthree\n", f"one{ENTER}two{ENTER}three{ENTER}"),
        ("naïve cafe\u0301…", "naive cafe..."),
        ("\t가", "\t가"),
    ],
)
def test_typography_becomes_what_a_keyboard_types(written: str, normal: str) -> None:
    assert text.normalize_text(written) == normal


def test_key_names_are_read_and_foreign_keys_counted() -> None:
    pressed = ["Key.shift_r", "H", "i", "Key.ctrl", "Key.space", "’", "Key.enter", "Key.backspace"]
    ids, dropped = text.to_ids([*pressed, "\t", "가", ""])
    assert text.to_text(ids) == f"{SHIFT}Hi '{ENTER}{BACKSPACE}"
    assert dropped == 4


@pytest.mark.parametrize("ids", [[-1], [0, BLANK], [[1, 2]], [1.0], ["a"]])
def test_ids_that_are_no_keys_are_refused(ids: list[object]) -> None:
    with pytest.raises(text.TextError, match="ids"):
        text.to_text(ids)


@pytest.mark.parametrize(
    ("typed", "screen"),
    [
        ("cart⌫⌫t", "cat"),
        ("⌫⌫a", "a"),
        ("⇧Hi⇧⌫ey", "Hey"),
        ("a⏎⌫b⏎", "ab⏎"),
        ("", ""),
    ],
)
def test_backspace_takes_back_one_character(typed: str, screen: str) -> None:
    assert text.apply_backspace(typed) == screen


@given(st.lists(st.integers(0, 4)), st.integers(0, 4))
def test_greedy_ctc_merges_repeats_and_drops_blanks(path: list[int], blank: int) -> None:
    emissions = text.greedy_ctc(log_probs(path, 5), blank)
    assert [e.label for e in emissions] == [k for k, _ in groupby(path) if k != blank]
    covered = np.full(len(path), blank)
    for label, start, end, score in emissions:
        assert start < end
        covered[start:end] = label
        assert score == pytest.approx(0.9)
    assert covered.tolist() == path
    assert [e.start for e in emissions] == sorted(e.start for e in emissions)


def test_a_doubled_letter_needs_a_blank_between() -> None:
    blank, (o, k) = BLANK, text.to_ids("ok").ids.tolist()
    emissions = text.greedy_ctc(log_probs([blank, o, o, blank, o, k, blank], 99))
    assert [(e.start, e.end) for e in emissions] == [(1, 3), (4, 5), (5, 6)]
    assert text.to_text([e.label for e in emissions]) == "ook"


def test_the_score_is_the_mean_probability_of_the_run() -> None:
    both = np.concatenate([log_probs([1], 3, 0.4), log_probs([1], 3, 0.9)])
    ((label, start, end, score),) = text.greedy_ctc(both, blank=0)
    assert (label, start, end) == (1, 0, 2)
    assert score == pytest.approx(0.6)


def test_log_probs_of_half_precision_and_certainty_are_accepted() -> None:
    certain = np.where(np.eye(99)[[3, 98]] == 1, 0.0, -np.inf)
    assert [e.score for e in text.greedy_ctc(certain)] == [1.0]
    half = log_probs([3, 98, 4], 99).astype(np.float16)
    assert [e.label for e in text.greedy_ctc(half)] == [3, 4]


@pytest.mark.parametrize(
    ("scores", "blank", "message"),
    [
        (np.zeros(5), 0, "shape"),
        (np.log(np.full((2, 5), 0.2)), 5, "blank=5"),
        (np.log(np.full((2, 5), 0.2)), -1, "blank=-1"),
        (np.full((2, 5), 1e3), 0, "log-softmax"),
        (np.full((2, 5), -9.0), 0, "log-softmax"),
        (np.full((2, 5), np.nan), 0, "log-softmax"),
    ],
)
def test_what_is_no_log_probability_is_refused(
    scores: np.ndarray, blank: int, message: str
) -> None:
    with pytest.raises(text.TextError, match=message):
        text.greedy_ctc(scores, blank)
