"""Beam search against all there is to find, and a language model that forgets what was deleted."""

from __future__ import annotations

import itertools
import math
import sys
from collections import defaultdict
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from emgcodec.text import BLANK, TextError, greedy_ctc, to_ids, to_text

pytest.importorskip("flashlight.lib.text.decoder")

from emgcodec.beam import BeamDecoder, KenLetters

CLASSES = BLANK + 1


def emissions(rows: list[dict[str, float]]) -> np.ndarray:
    """Probabilities of each frame by key, ``_`` for the blank; what is left goes to nobody."""
    probabilities = np.full((len(rows), CLASSES), 1e-12)
    for frame, row in zip(probabilities, rows, strict=True):
        for key, share in row.items():
            frame[BLANK if key == "_" else to_ids(key).ids[0]] = share
    return np.log(probabilities / probabilities.sum(axis=1, keepdims=True))


def random_emissions(frames: int, seed: int, *, silence: float = 4.0) -> np.ndarray:
    scores = 2.0 * np.random.default_rng(seed).standard_normal((frames, CLASSES))
    scores[:, BLANK] += silence
    return scores - np.log(np.exp(scores).sum(axis=1, keepdims=True))


@given(st.integers(0, 2**32 - 1), st.integers(1, 6))
@settings(max_examples=20)
def test_the_text_is_the_most_probable_of_all(seed: int, frames: int) -> None:
    keys = "ab_"
    chance = np.random.default_rng(seed).dirichlet(np.ones(3), frames)
    total: dict[str, float] = defaultdict(float)
    for path in itertools.product(range(3), repeat=frames):
        shown = "".join(keys[k] for k, _ in itertools.groupby(path)).replace("_", "")
        total[shown] += float(np.prod(chance[np.arange(frames), path]))
    rows = [dict(zip(keys, row, strict=True)) for row in chance]
    found = to_text(BeamDecoder()(emissions(rows)))
    assert total[found] == pytest.approx(max(total.values()), rel=1e-4)


def test_long_recordings_are_read_as_in_one_piece() -> None:
    scores = random_emissions(2600, seed=0)
    pieces = [random_emissions(1300, seed=s) for s in (1, 2)]
    assert len(BeamDecoder()(scores)) > 100
    # Half a minute of nothing lies between: nothing before it matters behind it.
    silence = emissions([{"_": 1.0}] * 4000)
    together = BeamDecoder()(np.concatenate([pieces[0], silence, pieces[1]]))
    assert together == BeamDecoder()(pieces[0]) + BeamDecoder()(pieces[1])


def test_certain_emissions_read_as_greedily() -> None:
    scores = random_emissions(400, seed=3, silence=0.0)
    best = scores.argmax(axis=1)
    sharp = np.full_like(scores, -30.0)
    sharp[np.arange(len(best)), best] = 0.0
    assert BeamDecoder()(sharp) == [e.label for e in greedy_ctc(sharp)]


class Pairs:
    """Likes some characters after others; the state is the last character."""

    def __init__(self, liked: dict[str, str]) -> None:
        self.liked = liked

    def start(self) -> str:
        return "^"

    def score(self, state: str, character: str) -> tuple[float, str]:
        return (-0.1 if character in self.liked.get(state, "") else -5.0), character


def test_a_language_model_decides_between_alike_keys() -> None:
    rows = [{"t": 1.0}, {"_": 1.0}, {"g": 0.55, "h": 0.45}, {"_": 1.0}, {"e": 1.0}]
    scores = emissions(rows)
    assert to_text(BeamDecoder()(scores)) == "tge"
    model = Pairs({"^": "t", "t": "h", "h": "e"})
    assert to_text(BeamDecoder(model)(scores)) == "the"
    assert to_text(BeamDecoder(model, weight=0.0)(scores)) == "tge"


def test_backspace_takes_the_model_back_as_well() -> None:
    typed = [{"t": 1.0}, {"_": 1.0}, {"x": 1.0}, {"_": 1.0}, {"⌫": 1.0}, {"_": 1.0}]
    scores = emissions([*typed, {"g": 0.55, "h": 0.45}])
    assert to_text(BeamDecoder(Pairs({"^": "t", "t": "h"}))(scores)) == "tx⌫h"
    assert to_text(BeamDecoder(Pairs({"^": "t", "x": "g"}))(scores)) == "tx⌫g"
    # What the deleted key scored is gone: it costs nothing to have typed it.
    weighed = emissions([{"t": 1.0}, {"_": 1.0}, {"x": 0.9, "_": 0.1}, {"⌫": 1.0}])
    assert to_text(BeamDecoder(Pairs({"^": "t"}), bonus=0.0)(weighed)) == "tx⌫"


def test_shift_and_a_backspace_on_an_empty_screen_are_no_characters() -> None:
    scores = emissions([{"⌫": 1.0}, {"_": 1.0}, {"⇧": 1.0}, {"g": 0.55, "h": 0.45}])
    assert to_text(BeamDecoder(Pairs({"^": "h"}))(scores)) == "⌫⇧h"


def test_probabilities_that_are_none_are_named() -> None:
    with pytest.raises(TextError, match="log_probs"):
        BeamDecoder()(np.zeros((3, CLASSES)))
    with pytest.raises(TextError, match="classes"):
        BeamDecoder()(np.zeros((3, 4)))


class FakeKen:
    """The four calls that we make of a KenLM model, for the word ``the``."""

    def __init__(self, path: str) -> None:
        assert path == "letters.arpa"

    def __contains__(self, letter: str) -> bool:
        return letter in set("abcdefghijklmnopqrstuvwxyz")

    def BeginSentenceWrite(self, state: Any) -> None:  # noqa: N802
        state.word = ""

    def BaseScore(self, state: Any, letter: str, out: Any) -> float:  # noqa: N802
        out.word = state.word + letter
        return -0.1 if "the</s>".startswith(out.word) else -4.0


def test_a_letter_model_scores_words_in_lower_case(monkeypatch: pytest.MonkeyPatch) -> None:
    fake = SimpleNamespace(Model=FakeKen, State=SimpleNamespace)
    monkeypatch.setitem(sys.modules, "kenlm", fake)
    model = KenLetters("letters.arpa")
    state, total = model.start(), 0.0
    for character in "The ":
        score, state = model.score(state, character)
        total += score
    assert total == pytest.approx(4 * -0.1 * math.log(10))  # three letters and the word's end
    score, state = model.score(state, "7")
    assert score == 0.0  # no word was begun
    rows = [{"T": 1.0}, {"_": 1.0}, {"g": 0.55, "h": 0.45}, {"_": 1.0}, {"e": 1.0}]
    assert to_text(BeamDecoder(model)(emissions(rows))) == "The"


_ARPA = """\\data\\
ngram 1=6
ngram 2=4

\\1-grams:
-1.0\t<unk>
0.0\t<s>\t-0.5
-1.2\t</s>
-0.9\tt\t-0.3
-0.8\th\t-0.2
-0.7\te\t-0.1

\\2-grams:
-0.15\t<s> t
-0.25\tt h
-0.35\th e
-0.45\te </s>

\\end\\
"""


def test_kenlm_itself_reads_a_file_of_letters(tmp_path: Path) -> None:
    pytest.importorskip("kenlm")
    (tmp_path / "letters.arpa").write_text(_ARPA)
    model = KenLetters(tmp_path / "letters.arpa")
    wanted = {
        "t": -0.15,
        "H": -0.25,
        "e": -0.35,
        " ": -0.45,  # bigrams, the last the word's end
        "h": -0.5 - 0.8,
        "t ": -0.2 - 0.9,
        "; ": -0.3 - 1.2,
    }  # behind: backing off
    state = model.start()
    for character, log10 in wanted.items():
        score, state = model.score(state, character[0])
        assert score == pytest.approx(log10 * math.log(10), abs=1e-5), character
    rows = [{"t": 1.0}, {"_": 1.0}, {"e": 0.55, "h": 0.45}, {"_": 1.0}, {"e": 1.0}, {" ": 1.0}]
    assert to_text(BeamDecoder()(emissions(rows))) == "tee "
    assert to_text(BeamDecoder(model)(emissions(rows))) == "the "


def test_missing_packages_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "kenlm", None)
    with pytest.raises(ImportError, match="pip install kenlm"):
        KenLetters("letters.arpa")
    monkeypatch.setitem(sys.modules, "flashlight.lib.text", None)
    with pytest.raises(ImportError, match=r"emgcodec\[train\]"):
        BeamDecoder()
