"""A small language model from scratch that reads gestures in EMG tokens, and writes EMG for them.

    python examples/train_llm.py --minutes 1         # simulated people
    python examples/train_llm.py --corpus tokens/    # of `emgcodec corpus build`, by its own splits
    python examples/train_llm.py --data $EMGCODEC_DATA --fold 0 --model runs/teacher-0/model

Cuts a corpus into passages of one gesture each, in an order of chance, and trains a Llama of some
3 M parameters on "device <|emg|> codes <|/emg|> gesture" and "device gesture <|emg|> codes
<|/emg|>"; what has no gestures is "device <|emg|> codes <|/emg|>". Then it reads people whom it has
not met. Interrupted, it goes on where it was. Needs `pip install '.[io,llm]'`.
"""

from __future__ import annotations

import argparse
import json
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
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

from emgcodec import GESTURES, Codec, Montage
from emgcodec.corpus import build
from emgcodec.evaluate.rows import require_strangers
from emgcodec.evidence import people
from emgcodec.gestures import own_head
from emgcodec.io import write
from emgcodec.llm import (
    EmgVocabulary,
    GridLogitsProcessor,
    extend_tokenizer,
    generated_tokens,
)
from emgcodec.recording import Event
from emgcodec.simulate import Person, gesture_recording
from emgcodec.train.data import gesture_frames

FRAMES, SHORTEST = 64, 8  # of a passage: 2 s; and of a take
BATCH = 48
CYCLE = {  # seconds that calibrate a session: in most data sets about once each gesture
    "3dc": 45.0,
    "contraction_intensity": 20.0,
    "flexemg": 20.0,
    "myo_laval": 30.0,
    "myo_ciil": 15.0,
    "myo_readings": 45.0,
}
NONE = -1  # no gesture that we know


@dataclass(frozen=True)
class Take:
    """A gesture, held by somebody; or a recording without any.

    Attributes:
        dataset: Where it is from, or else the device.
        subject: Who it was, with the data set.
        split: Of the corpus: ``train``, ``validation`` or ``test``.
        electrodes: How many the device has.
        gesture: Index into `GESTURES`, or `NONE`.
        codes: (K, T).
        calibrates: Whether its session was calibrated on it.
    """

    dataset: str
    subject: str
    split: str
    electrodes: int
    gesture: int
    codes: np.ndarray
    calibrates: bool

    def passages(self) -> list[np.ndarray]:
        """Codes side by side, (K, FRAMES) each but for the last one."""
        return np.split(self.codes, range(FRAMES, self.codes.shape[1], FRAMES), axis=1)


def simulate(folder: Path, persons: int) -> Path:
    """Recordings of a few simulated people, four takes of all gestures each."""
    folder.mkdir(parents=True, exist_ok=True)
    for person in range(persons):
        for take in range(4):
            # None of those from whom the bundled codec learned.
            rec = gesture_recording(Person.draw(5000 + person), "myo", 200.0, seed=take)
            rec.metadata |= {"dataset": "simulated", "subject": f"S{person}", "session": "0"}
            write(rec, folder / f"S{person}-{take}.h5")
    return folder


def load_takes(corpus: Path, codec: Codec) -> Iterator[Take]:
    """All takes of a corpus, without frames that are not valid.

    Raises:
        ValueError: if its codes are of another codec.
    """
    import pyarrow.parquet as pq

    columns = ["dataset", "montage", "subject", "codes", "valid", "events", "frame_rate", "scale"]
    for path in sorted(corpus.rglob("*.parquet")):
        made = json.loads(pq.read_schema(path).metadata[b"emgcodec"])
        if made["layout"]["vocab_id"] != codec.vocab_id:
            raise ValueError(f"{path} has codes of {made['codec_id']}: name it by --model")
        for row in pq.read_table(path, columns=[*columns, "calibrates"]).to_pylist():
            codes, valid = np.array(row["codes"]).T, np.array(row["valid"], bool)
            dataset = row["dataset"] or row["montage"]
            subject = f"{dataset}/{row['subject']}"
            about = (dataset, subject, path.parent.name, len(row["scale"]))
            events = [Event(**event) for event in row["events"]]
            held = list(gesture_frames(events, len(valid), row["frame_rate"], dataset))
            for gesture, during in held or [(NONE, np.ones_like(valid))]:
                if (during & valid).sum() >= SHORTEST:
                    yield Take(*about, gesture, codes[:, during & valid], row["calibrates"])


@dataclass(frozen=True)
class Writer:
    """Passages as sequences of ids."""

    tokenizer: Any

    @cached_property
    def vocabulary(self) -> EmgVocabulary:
        """Ids of EMG."""
        return EmgVocabulary.of(self.tokenizer)

    def names(self) -> list[int]:
        """Ids of the gestures' names."""
        ids: list[int] = self.tokenizer.convert_tokens_to_ids(list(GESTURES))
        return ids

    def recording(self, codes: np.ndarray) -> list[int]:
        """Codes with the marks around them."""
        vocabulary = self.vocabulary
        return [vocabulary.open, *vocabulary.layout.to_ids(codes).tolist(), vocabulary.close]

    def beginning(self, dataset: str) -> list[int]:
        """What every sequence of a data set begins with."""
        return [self.tokenizer.bos_token_id, self.tokenizer.convert_tokens_to_ids(dataset)]

    def reading(self, dataset: str, codes: np.ndarray) -> list[int]:
        """A prompt whose next word is the gesture."""
        return [*self.beginning(dataset), *self.recording(codes)]

    def writing(self, dataset: str, gesture: int) -> list[int]:
        """A prompt behind which come the codes of a gesture, or of whatever."""
        name = [] if gesture == NONE else [self.names()[gesture]]
        return [*self.beginning(dataset), *name]

    def lesson(self, take: Take, rng: np.random.Generator) -> list[int]:
        """A passage from anywhere in a take, before its name or behind it."""
        length = min(take.codes.shape[1], int(rng.integers(FRAMES // 2, FRAMES + 1)))
        start = int(rng.integers(take.codes.shape[1] - length + 1))
        codes, end = take.codes[:, start : start + length], self.tokenizer.eos_token_id
        if take.gesture == NONE:
            return [*self.reading(take.dataset, codes), end]
        if rng.random() < 0.7:
            return [*self.reading(take.dataset, codes), self.names()[take.gesture], end]
        return [*self.writing(take.dataset, take.gesture), *self.recording(codes), end]


def balanced(takes: Sequence[Take]) -> np.ndarray:
    """Chance of each take: data sets by their people, people alike, gestures of one alike."""
    groups: dict[tuple[str, int], int] = defaultdict(int)
    for take in takes:
        groups[take.subject, take.gesture] += 1
    kinds: dict[str, int] = defaultdict(int)
    for subject, _ in groups:
        kinds[subject] += 1
    weight = np.array([1 / groups[t.subject, t.gesture] / kinds[t.subject] for t in takes])
    return weight / weight.sum()


def lessons(takes: Sequence[Take], writer: Writer) -> Lessons:
    """Passages of takes."""
    chance = balanced(takes)

    def draw(rng: np.random.Generator) -> list[list[int]]:
        return [writer.lesson(takes[i], rng) for i in rng.choice(len(takes), BATCH, p=chance)]

    return Lessons(draw, writer.names(), sorted({take.subject for take in takes}))


def evidence(model: Any, writer: Writer, takes: Sequence[Take]) -> Iterator[np.ndarray]:
    """Log-probability of each gesture (V,) for each take, summed over its passages."""
    names = writer.names()
    for take in tqdm(takes, desc="reading", unit="takes"):
        prompts = [writer.reading(take.dataset, codes) for codes in take.passages()]
        scores = next_scores(model, prompts)[:, names]
        yield torch.log_softmax(scores, dim=1).sum(dim=0).numpy()


def head_evidence(codec: Codec, takes: Sequence[Take]) -> Iterator[np.ndarray]:
    """The same of the codec's head for the data set, or its one for all, summed over frames."""
    for take in takes:
        head = own_head(take.dataset) if own_head(take.dataset) in codec.heads else "gesture"
        scores = codec.predict(torch.from_numpy(take.codes.astype(np.int64))[None], head)[0]
        found = np.full(len(GESTURES), -np.inf)
        places = [GESTURES.index(label) for label in codec.labels(head)]
        found[places] = torch.log_softmax(scores, dim=1).sum(dim=0).numpy()
        yield found


def accuracy(
    known: Sequence[Take], takes: Sequence[Any], found: Iterable[np.ndarray]
) -> dict[str, dict[str, float]]:
    """Balanced accuracy over takes by data set and person.

    Only gestures that are known of the data set count as answers.
    """
    possible = defaultdict(set)
    for take in known:
        possible[take.dataset].add(take.gesture)
    right: dict[tuple[str, str], dict[int, list[bool]]] = defaultdict(lambda: defaultdict(list))
    for take, scores in zip(takes, found, strict=True):
        allowed = sorted(possible[take.dataset])
        answer = allowed[int(np.argmax(scores[allowed]))]
        right[take.dataset, take.subject][take.gesture].append(answer == take.gesture)
    result: dict[str, dict[str, float]] = defaultdict(dict)
    for (dataset, subject), gestures_ in right.items():
        result[dataset][subject] = float(np.mean([np.mean(each) for each in gestures_.values()]))
    return dict(result)


@torch.no_grad()
def perplexity(model: Any, writer: Writer, takes: Sequence[Take]) -> list[float]:
    """Of each level's codes, behind the device and the gesture."""
    nats = []
    for take in tqdm(takes, desc="perplexity", unit="takes"):
        start = len(writer.writing(take.dataset, take.gesture)) + 1  # and the opening mark
        for codes in take.passages():
            ids = writer.writing(take.dataset, take.gesture) + writer.recording(codes)
            logits = model(input_ids=torch.tensor([ids])).logits[0, start - 1 : -2]
            surprise = torch.nn.functional.cross_entropy(
                logits, torch.tensor(ids[start:-1]), reduction="none"
            )
            nats.append(surprise.view(-1, len(codes)))
    return torch.cat(nats).mean(dim=0).exp().tolist()


@dataclass(frozen=True)
class Learned:
    """A language model and whom it has met.

    Attributes:
        codec: Whose tokens it reads.
        writer: Of its sequences.
        model: The language model.
        steps: That it was trained for.
        known: Takes that it learned from.
        asked: Takes of people whom it has not met, without calibrating ones.
    """

    codec: Codec
    writer: Writer
    model: Any
    steps: int
    known: list[Take]
    asked: list[Take]

    @property
    def named(self) -> list[Take]:
        """Those of `asked` that have a gesture, of data sets whose gestures it has learned."""
        taught = {take.dataset for take in self.known if take.gesture != NONE}
        return [take for take in self.asked if take.gesture != NONE and take.dataset in taught]


def arguments(description: str | None) -> argparse.ArgumentParser:
    """What says what to learn from and where to."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--corpus", type=Path, help="what `emgcodec corpus build` made, flat")
    parser.add_argument("--data", type=Path, help="folder of the public corpora, see docs/data.md")
    parser.add_argument("--fold", type=int, default=0, help="whose people of those test")
    parser.add_argument("--workers", type=int, default=2)
    add_training(parser, Path("runs/llm"))
    return parser


def build_corpora(args: argparse.Namespace) -> Path:
    """Tokens of the public corpora, their sessions calibrated; or of simulated people."""
    corpus = args.out / "corpus"
    more = {"model": args.model, "workers": args.workers, "by_gesture": True}
    if args.data is None:
        build([simulate(args.out / "recordings", 10)], corpus, calibrate=20.0, **more)
        return corpus
    for dataset, seconds in CYCLE.items():
        more["calibrate"] = seconds
        if files := sorted(args.data.glob(f"{dataset}_*.h5")):
            build(files, corpus / dataset, **more)
    return corpus


def held_out(takes: Sequence[Take]) -> set[str]:
    """People of the corpus' test split; of a corpus too small to have one, each fifth."""
    subjects = sorted({take.subject for take in takes})
    return {take.subject for take in takes if take.split == "test"} or set(subjects[::5])


def learn(args: argparse.Namespace) -> Learned:
    """Trains on a corpus, or goes on with it; builds it first unless there is one.

    Raises:
        ValueError: if nothing is left to learn from or to test on, or the codec learned from
            people who test.
    """
    args.out.mkdir(parents=True, exist_ok=True)
    codec = Codec.from_pretrained(args.model)
    takes = list(load_takes(args.corpus or build_corpora(args), codec))
    if args.data and not args.corpus:
        testing, selecting = people(args.fold, "test"), people(args.fold, "validation")
    else:
        testing, selecting = held_out(takes), {t.subject for t in takes if t.split == "validation"}
    require_strangers(codec, frozenset(testing))
    known = [t for t in takes if t.subject not in testing | selecting]
    asked = [t for t in takes if t.subject in testing and not t.calibrates]
    if not known or not asked:
        raise ValueError(
            f"{len(known)} takes to learn from, {len(asked)} to test: give more people, and to "
            "sessions more than what calibrates them (a recording of several gestures counts as "
            "several if the corpus was built with --by-gesture)"
        )
    print(f"{len(known)} takes to learn from, {len(asked)} of people to read")

    tokenizer = word_tokenizer([*GESTURES, *sorted({take.dataset for take in takes})], r"\S+")
    extend_tokenizer(tokenizer, codec)
    longest = 2 * FRAMES * codec.num_codebooks
    model, writer = language_model(tokenizer, codec, longest, args.fold), Writer(tokenizer)
    steps = train(model, writer.vocabulary, lessons(known, writer), args, args.fold)
    model.save_pretrained(args.out / "model")
    tokenizer.save_pretrained(args.out / "model")
    return Learned(codec, writer, model, steps, known, asked)


def read(found: Learned) -> dict[str, dict[str, dict[str, float]]]:
    """Accuracy of the language model, and of the codec's own head on the same tokens."""
    known, named = [t for t in found.known if t.gesture != NONE], found.named
    readers = {"language model": evidence(found.model, found.writer, named)}
    if "gesture" in found.codec.heads:
        readers["codec's own head"] = head_evidence(found.codec, named)
    return {name: accuracy(known, named, said) for name, said in readers.items()}


@torch.no_grad()
def write_emg(found: Learned, dataset: str, gesture: int, number: int) -> list[list[int]]:
    """Sequences that begin with a data set and a gesture, FRAMES frames each."""
    writer, codec = found.writer, found.codec
    prompt = torch.tensor([[*writer.writing(dataset, gesture), writer.vocabulary.open]] * number)
    written = found.model.generate(
        input_ids=prompt,
        attention_mask=torch.ones_like(prompt),
        do_sample=True,
        top_k=0,
        max_new_tokens=FRAMES * codec.num_codebooks + 1,
        logits_processor=[GridLogitsProcessor(writer.tokenizer, FRAMES)],
        pad_token_id=0,
    )
    return written.tolist()


def save_written(found: Learned, folder: Path) -> None:
    """A signal of each gesture of the first data set that was read, on a ring of electrodes."""
    folder.mkdir(exist_ok=True)
    take, *_ = found.named
    montage = Montage.ring(take.electrodes, assumed=True)
    for gesture in sorted({t.gesture for t in found.named if t.dataset == take.dataset}):
        (ids,) = write_emg(found, take.dataset, gesture, 1)
        (tokens,) = generated_tokens(ids, found.writer.tokenizer, found.codec, montage=montage)
        write(found.codec.detokenize(tokens), folder / f"{take.dataset}-{GESTURES[gesture]}.h5")


def main() -> None:
    """Builds, trains, reads, writes, and prints how well."""
    args = arguments(__doc__).parse_args()
    found = learn(args)
    levels = perplexity(found.model, found.writer, found.asked)
    print("perplexity by level:", ", ".join(f"{level:.0f}" for level in levels))
    for name, scores in read(found).items() if found.named else ():
        means = (f"{d} {100 * np.mean(list(each.values())):.1f}" for d, each in scores.items())
        print(f"{name:20} {', '.join(means)}")
    if found.named and "signal" in found.codec.heads:
        save_written(found, args.out / "written")
        print(f"it wrote {args.out / 'written'}")


if __name__ == "__main__":
    main()
