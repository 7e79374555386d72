"""CTC beam search for typing, with a language model whose opinion backspace takes back."""

from __future__ import annotations

import math
import os
from collections.abc import Iterator
from itertools import groupby
from typing import Any, NamedTuple, Protocol

import numpy as np
import numpy.typing as npt

from emgcodec.text import BACKSPACE, BLANK, SHIFT, check_log_probs, glyphs

_FRAMES_AT_ONCE = 1000
_UNDECIDED = 500  # frames behind which the best hypothesis is taken as decided
_THRESHOLD = 25.0  # hypotheses this much (natural logarithm) below the best are dropped


class LanguageModel(Protocol):
    """What scores text, one character after the other."""

    def start(self) -> Any:
        """State before the first character."""

    def score(self, state: Any, character: str) -> tuple[float, Any]:
        """Natural logarithm of the character's probability, and the state behind it."""


class KenLetters:
    """A KenLM model of the letters within words; needs the package ``kenlm``.

    Letters are scored in lower case. Any other character that the model does not know ends the
    word, which is scored as ``</s>``, and another begins.

    Args:
        path: ARPA or binary file of KenLM (Heafield, 2011).

    Raises:
        ImportError: if ``kenlm`` is missing.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        try:
            import kenlm
        except ImportError as error:
            raise ImportError("a KenLM model needs its package: pip install kenlm") from error
        self._new_state, self._model = kenlm.State, kenlm.Model(os.fspath(path))

    def start(self) -> Any:
        """See `LanguageModel`."""
        state = self._new_state()
        self._model.BeginSentenceWrite(state)
        return state, False

    def score(self, state: Any, character: str) -> tuple[float, Any]:
        """See `LanguageModel`."""
        known, inside = state
        following = self._new_state()
        if (letter := character.lower()) in self._model:
            score = self._model.BaseScore(known, letter, following)
            return score * math.log(10.0), (following, True)
        end = self._model.BaseScore(known, "</s>", following) if inside else 0.0
        return end * math.log(10.0), self.start()


class _Screen(NamedTuple):
    """What a hypothesis has on the screen: its last character, and the screen before that."""

    before: _Screen | None
    state: Any
    gained: float  # by the last character


class BeamDecoder:
    """CTC prefix beam search (Graves, 2012; Hannun et al., 2014), by flashlight-text.

    The language model reads what would be on the screen: a backspace takes back what the character
    that it deletes had scored, and the next one is judged by what stands before it then. Shift is
    no character.

    Args:
        language_model: Scores text; none by default.
        beam_size: Hypotheses that are kept.
        labels_per_frame: Of each frame only so many best labels are looked at.
        weight: Of the language model beside the network.
        bonus: For each character on the screen, or a language model prefers short texts.

    Raises:
        ImportError: if flashlight-text is missing, which the extra ``train`` brings.
    """

    def __init__(
        self,
        language_model: LanguageModel | None = None,
        *,
        beam_size: int = 50,
        labels_per_frame: int = 10,
        weight: float = 2.0,
        bonus: float = 2.0,
    ) -> None:
        try:
            from flashlight.lib.text import decoder
        except ImportError as error:
            raise ImportError(
                "beam search needs flashlight-text: pip install 'emgcodec[train]'"
            ) from error
        options = decoder.LexiconFreeDecoderOptions(
            beam_size=beam_size,
            beam_size_token=labels_per_frame,
            beam_threshold=_THRESHOLD,
            lm_weight=1.0,  # `_typist` has weighed already
            sil_score=0.0,
            log_add=True,
            criterion_type=decoder.CriterionType.CTC,
        )
        # The search keeps no reference to it.
        self._model = (
            decoder.ZeroLM() if language_model is None else _typist(language_model, weight, bonus)
        )
        self._search = decoder.LexiconFreeDecoder(options, self._model, -1, BLANK, [])

    def __call__(self, log_probs: npt.ArrayLike) -> list[int]:
        """Label ids of the most probable text.

        Args:
            log_probs: (T, 99) natural logarithms of probabilities.

        Raises:
            TextError: if they are not.
        """
        scores = np.ascontiguousarray(log_probs, dtype=np.float32)
        check_log_probs(scores, BLANK)
        return [label for label, _ in groupby(self._path(scores)) if label != BLANK]

    def _path(self, scores: npt.NDArray[np.float32]) -> Iterator[int]:
        """The label of each frame; only a language model's memory grows with their number."""
        search = self._search
        search.decode_begin()
        for start in range(0, len(scores), _FRAMES_AT_ONCE):
            part = scores[start : start + _FRAMES_AT_ONCE]
            search.decode_step(part.ctypes.data, *part.shape)
            # The first is from before these frames.
            yield from search.get_best_hypothesis(_UNDECIDED).tokens[1:]
            search.prune(_UNDECIDED)
        search.decode_end()
        yield from search.get_best_hypothesis(0).tokens[1:-1]


def _typist(model: LanguageModel, weight: float, bonus: float) -> Any:
    """The language model as flashlight-text asks it."""
    from flashlight.lib.text.decoder import LM, LMState

    shown = glyphs()

    class Typist(LM):  # type: ignore[misc]
        def __init__(self) -> None:
            super().__init__()
            self.known: dict[Any, tuple[float, _Screen]] = {}  # by what was typed so far

        def start(self, _nothing: bool) -> Any:
            state = LMState()
            self.known = {state: (0.0, _Screen(None, model.start(), 0.0))}
            return state

        def score(self, state: Any, label: int) -> tuple[Any, float]:
            following = state.child(label)
            if following not in self.known:
                _, screen = self.known[state]
                self.known[following] = _press(model, screen, shown[label], weight, bonus)
            return following, self.known[following][0]

        def finish(self, state: Any) -> tuple[Any, float]:
            return state, 0.0

    return Typist()


def _press(
    model: LanguageModel, screen: _Screen, key: str, weight: float, bonus: float
) -> tuple[float, _Screen]:
    """What a key adds to the score, and the screen after it."""
    if key == BACKSPACE and screen.before is not None:
        return -screen.gained, screen.before
    if key in (BACKSPACE, SHIFT):
        return 0.0, screen
    score, state = model.score(screen.state, key)
    gained = weight * score + bonus
    return gained, _Screen(screen, state, gained)
