"""A small language model that reads typing in EMG tokens, half a second after half a second.

    python examples/typing_llm.py --minutes 1                       # simulated people
    python examples/typing_llm.py --data sessions/ --model runs/typing/model

Codes and keys take turns, "<|emg|> codes of half a second <|/emg|> keys pressed in it": so the
model need not find out what belongs together, and reads while somebody types. It learns from the
train split of `splits/generic.yaml` (`emgcodec data simulate` writes such a folder) and reads the
test split, whole sessions with the keys that it has read itself. Needs `pip install '.[io,llm]'`.
"""

from __future__ import annotations

import argparse
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
import torch
from small_llm import (
    Lessons,
    add_training,
    language_model,
    next_scores,
    train,
    word_tokenizer,
)
from tqdm import tqdm

from emgcodec import Codec, Recording
from emgcodec.evaluate.rows import require_strangers
from emgcodec.evaluate.typing import greedy, session_errors
from emgcodec.io import read_all
from emgcodec.llm import EmgVocabulary, extend_tokenizer
from emgcodec.metrics import CharacterErrors, character_errors
from emgcodec.text import labels, to_ids, to_text
from emgcodec.train.sessions import GENERIC, find_splits
from emgcodec.train.typists import write_typists

SECONDS, CHUNKS = 0.5, 6  # of a chunk; and how many are heard at once
BATCH, MOST = 24, 12  # sequences of a step; and keys of a chunk


def subject_of(rec: Recording) -> str:
    """Who it was, with the data set."""
    return f"{rec.metadata['dataset']}/{rec.metadata['subject']}"


@dataclass(frozen=True)
class Session:
    """Somebody's typing.

    Attributes:
        subject: Who it was, with the data set.
        codes: (K, T).
        valid: (T,) frames with a signal.
        keys: Label ids of the keys.
        frames: In which frame each went down, (n,).
    """

    subject: str
    codes: np.ndarray
    valid: np.ndarray
    keys: np.ndarray
    frames: np.ndarray

    @classmethod
    def of(cls, rec: Recording, codec: Codec) -> Session:
        """Of a contiguous recording, tokenized cold."""
        tokens = codec.tokenize(rec)
        pressed = [event for event in rec.events if event.kind == "key"]
        known = [event for event in pressed if len(to_ids([event.label]).ids)]
        frames = [int(event.start * codec.frame_rate) for event in known]
        keys = to_ids([event.label for event in known]).ids
        return cls(subject_of(rec), tokens.codes, tokens.valid, keys, np.array(frames, np.int64))


@dataclass(frozen=True)
class Writer:
    """Sessions as sequences of ids.

    Attributes:
        tokenizer: Of keys, extended by the codec's tokens.
        size: Frames of a chunk.
    """

    tokenizer: Any
    size: int

    @cached_property
    def vocabulary(self) -> EmgVocabulary:
        """Ids of EMG."""
        return EmgVocabulary.of(self.tokenizer)

    def key_ids(self) -> np.ndarray:
        """Ids of the keys."""
        return np.array(self.tokenizer.convert_tokens_to_ids(list(labels())))

    def number(self, session: Session) -> int:
        """Chunks of a session; what is left at the end goes with the last one."""
        return max(1, session.codes.shape[1] // self.size)

    def chunk(self, session: Session, i: int) -> list[int]:
        """Codes of a chunk, with the marks around them."""
        part, vocabulary = slice(i * self.size, (i + 1) * self.size), self.vocabulary
        ids = vocabulary.layout.to_ids(session.codes[:, part], session.valid[part])
        return [vocabulary.open, *ids.tolist(), vocabulary.close]

    def pressed(self, session: Session, i: int) -> list[int]:
        """Ids of the keys of a chunk."""
        chunk = np.minimum(session.frames // self.size, self.number(session) - 1)
        found: list[int] = self.key_ids()[session.keys[chunk == i]].tolist()
        return found

    def lesson(self, session: Session, rng: np.random.Generator) -> list[int]:
        """Chunks from anywhere; the mark at the end says that no key follows any more."""
        number = self.number(session)
        start = int(rng.integers(max(1, number - CHUNKS + 1)))
        parts = [
            self.chunk(session, i) + self.pressed(session, i)
            for i in range(start, min(start + CHUNKS, number))
        ]
        return [self.tokenizer.bos_token_id, *chain.from_iterable(parts), self.vocabulary.open]


def read_typing(model: Any, writer: Writer, sessions: Sequence[Session]) -> list[list[int]]:
    """Label ids of what was typed in each session, read side by side."""
    key_ids, vocabulary = writer.key_ids(), writer.vocabulary
    allowed = torch.tensor([*key_ids, vocabulary.open])
    heard: list[list[list[int]]] = [[] for _ in sessions]
    typed: list[list[int]] = [[] for _ in sessions]
    for i in tqdm(range(max(map(writer.number, sessions))), desc="reading", unit="chunks"):
        waiting = [n for n, session in enumerate(sessions) if i < writer.number(session)]
        for n in waiting:
            heard[n] = [*heard[n][1 - CHUNKS :], writer.chunk(sessions[n], i)]
        for _ in range(MOST):
            begun = [
                [writer.tokenizer.bos_token_id, *chain.from_iterable(heard[n])] for n in waiting
            ]
            best = next_scores(model, begun)[:, allowed].argmax(dim=1).tolist()
            for n, key in zip(waiting, best, strict=True):
                if key < len(key_ids):
                    heard[n][-1].append(int(key_ids[key]))
                    typed[n].append(key)
            waiting = [n for n, key in zip(waiting, best, strict=True) if key < len(key_ids)]
            if not waiting:
                break
    return typed


def errors_by_person(
    sessions: Sequence[Session], typed: Sequence[Sequence[int]]
) -> dict[str, CharacterErrors]:
    """Characters wrong of each person."""
    found: dict[str, CharacterErrors] = defaultdict(CharacterErrors)
    for session, keys in zip(sessions, typed, strict=True):
        found[session.subject] += character_errors(to_text(session.keys), to_text(keys))
    return dict(found)


def learn(args: argparse.Namespace) -> tuple[int, dict[str, dict[str, CharacterErrors]]]:
    """Trains, or goes on with it, and reads those who test.

    Returns:
        Steps, and errors by reader and person: the language model, and the codec's own head if it
        has one.

    Raises:
        ValueError: if the codec learned from people who test.
    """
    args.out.mkdir(parents=True, exist_ok=True)
    if args.data is None:
        args.data = args.out / "typists"
        write_typists(args.data, 5, 5, 0.5)
    codec = Codec.from_pretrained(args.model)
    (split,) = find_splits(args.data, GENERIC)
    known, asked = (
        [
            Session.of(rec, codec)
            for path in tqdm(paths, desc="tokenizing", unit="sessions")
            for rec in read_all(path)
        ]
        for paths in (split.train, split.test)
    )
    require_strangers(codec, frozenset(session.subject for session in asked))
    tokenizer = word_tokenizer(labels(), r"Key\.\w+|[\s\S]")
    extend_tokenizer(tokenizer, codec)
    writer = Writer(tokenizer, max(1, round(SECONDS * codec.frame_rate)))
    longest = 1 + CHUNKS * (writer.size * codec.num_codebooks + 2 + MOST) + 1
    model = language_model(tokenizer, codec, longest, args.seed)
    length = np.array([session.codes.shape[1] for session in known], float)

    def draw(rng: np.random.Generator) -> list[list[int]]:
        chosen = rng.choice(len(known), BATCH, p=length / length.sum())
        return [writer.lesson(known[i], rng) for i in chosen]

    heavy = [*writer.key_ids().tolist(), writer.vocabulary.open]
    lessons = Lessons(draw, heavy, sorted({session.subject for session in known}))
    steps = train(model, writer.vocabulary, lessons, args, args.seed)
    model.save_pretrained(args.out / "model")
    tokenizer.save_pretrained(args.out / "model")
    found = {"language model": errors_by_person(asked, read_typing(model, writer, asked))}
    if "text" in codec.heads:
        own: dict[str, CharacterErrors] = defaultdict(CharacterErrors)
        for path in split.test:
            subject = subject_of(next(iter(read_all(path))))
            own[subject] += session_errors(codec, path, {"greedy": greedy})["greedy"]
        found["codec's own head"] = dict(own)
    return steps, found


def arguments(description: str | None) -> argparse.ArgumentParser:
    """What says what to learn from and where to."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--data", type=Path, help="sessions with splits/generic.yaml")
    parser.add_argument("--seed", type=int, default=0)
    add_training(parser, Path("runs/typing-llm"))
    return parser


def main() -> None:
    """Trains, reads, and prints how much is wrong."""
    _, found = learn(arguments(__doc__).parse_args())
    for reader, people in found.items():
        rates = [100 * errors.rate for errors in people.values()]
        print(f"{reader}: {np.mean(rates):.1f} % of characters wrong, of {len(rates)} people")


if __name__ == "__main__":
    main()
