"""A small language model from scratch that reads gestures in EMG tokens, and writes EMG for them.

    python examples/train_llm.py --minutes 1                       # simulated people
    python examples/train_llm.py --data $EMGCODEC_DATA --fold 0 --model runs/student-0/model

Builds a corpus, cuts it into passages of one gesture each in an order of chance, and trains a
Llama of some 3 M parameters on "device <|emg|> codes <|/emg|> gesture" and "device gesture <|emg|>
codes <|/emg|>". Then it reads passages of people whom neither it nor the codec has met.
Interrupted, it goes on where it was. Needs `pip install '.[io,llm]'`.
"""

from __future__ import annotations

import argparse
import math
import time
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from tokenizers import Tokenizer, models, pre_tokenizers
from tqdm import tqdm
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from emgcodec import GESTURES, Codec
from emgcodec.corpus import build
from emgcodec.evidence import people
from emgcodec.gestures import canonical_gesture, own_head
from emgcodec.io import write
from emgcodec.llm import EmgVocabulary, extend_tokenizer, init_embeddings
from emgcodec.simulate import Person, gesture_recording

FRAMES = 64  # of a passage: 2 s
BATCH = 48
CALIBRATE = 60.0  # seconds of each real session: about every gesture once
REACTION = {"3dc": 0.5, "flexemg": 0.5, "myo_readings": 0.5}  # seconds that a hand follows its cue


@dataclass(frozen=True)
class Take:
    """A gesture, held by somebody.

    Attributes:
        dataset: Where it is from.
        subject: Who it was, with the data set.
        gesture: Index into `GESTURES`.
        codes: (K, T).
        calibrates: Whether its session was calibrated on it.
    """

    dataset: str
    subject: str
    gesture: int
    codes: np.ndarray
    calibrates: bool

    def passages(self) -> list[np.ndarray]:
        """Codes side by side, (K, FRAMES) each but for the last one."""
        return np.split(self.codes, range(FRAMES, self.codes.shape[1], FRAMES), axis=1)


def simulate(folder: Path, persons: int) -> Path:
    """Recordings of a few simulated people, three takes of some gestures each."""
    folder.mkdir(parents=True, exist_ok=True)
    for person in range(persons):
        for take in range(4):
            rec = gesture_recording(Person.draw(person), "myo", 200.0, seed=take)
            rec.metadata |= {"dataset": "simulated", "subject": f"S{person}", "session": "0"}
            write(rec, folder / f"S{person}-{take}.h5")
    return folder


def load_takes(corpus: Path) -> list[Take]:
    """Whatever is labelled in a corpus, without frames that are not valid."""
    import pyarrow.parquet as pq

    columns = ["dataset", "subject", "codes", "valid", "events", "frame_rate", "calibrates"]
    found = []
    for path in sorted(corpus.glob("*/*.parquet")):
        for row in pq.read_table(path, columns=columns).to_pylist():
            codes, valid = np.array(row["codes"]).T, np.array(row["valid"], bool)
            time_ = (np.arange(len(valid)) + 1) / row["frame_rate"]
            delay = REACTION.get(row["dataset"], 0.0)
            for event in row["events"]:
                name = canonical_gesture(event["label"])
                if event["kind"] != "gesture" or name is None:
                    continue
                during = valid & (time_ > event["start"] + delay) & (time_ <= event["end"])
                subject = f"{row['dataset']}/{row['subject']}"
                take = (row["dataset"], subject, GESTURES.index(name), codes[:, during])
                if during.sum() >= 8:
                    found.append(Take(*take, row["calibrates"]))
    return found


def text_tokenizer(datasets: Sequence[str]) -> Any:
    """The names of gestures and data sets, and marks for the beginning and the end."""
    words = {word: i for i, word in enumerate(["<pad>", "<s>", "</s>", *GESTURES, *datasets])}
    made = Tokenizer(models.WordLevel(words, unk_token="<pad>"))
    made.pre_tokenizer = pre_tokenizers.Whitespace()
    special = {"pad_token": "<pad>", "bos_token": "<s>", "eos_token": "</s>"}
    return PreTrainedTokenizerFast(tokenizer_object=made, **special)


def language_model(tokenizer: Any, codec: Codec, seed: int) -> Any:
    """A Llama from scratch, whose codes start where the codec has them."""
    torch.manual_seed(seed)
    config = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=192,
        intermediate_size=512,
        num_hidden_layers=5,
        num_attention_heads=6,
        attention_dropout=0.1,
        max_position_embeddings=2 * FRAMES * codec.num_codebooks,
        tie_word_embeddings=True,
        bos_token_id=1,
        eos_token_id=2,
        pad_token_id=0,
    )
    model = LlamaForCausalLM(config)
    init_embeddings(model, tokenizer, codec, seed=seed)
    return model


@dataclass(frozen=True)
class Writer:
    """Passages as sequences of ids."""

    tokenizer: Any

    @property
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
        """A prompt behind which come the codes of a gesture."""
        return [*self.beginning(dataset), self.names()[gesture]]

    def lesson(self, take: Take, rng: np.random.Generator) -> list[int]:
        """A passage from anywhere in a take, before its name or behind it."""
        length = min(take.codes.shape[1], int(rng.integers(FRAMES // 2, FRAMES + 1)))
        start = int(rng.integers(take.codes.shape[1] - length + 1))
        codes, end = take.codes[:, start : start + length], self.tokenizer.eos_token_id
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


def padded(sequences: Sequence[Sequence[int]]) -> tuple[torch.Tensor, torch.Tensor]:
    """Ids and attention mask, (B, longest)."""
    longest = max(map(len, sequences))
    ids = torch.zeros(len(sequences), longest, dtype=torch.long)
    mask = torch.zeros_like(ids)
    for row, sequence in enumerate(sequences):
        ids[row, : len(sequence)] = torch.tensor(sequence)
        mask[row, : len(sequence)] = 1
    return ids, mask


def train(
    model: Any, writer: Writer, takes: Sequence[Take], out: Path, minutes: float, seed: int
) -> None:
    """Trains for some minutes, summed over interruptions, with a checkpoint every one of them."""
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3, betas=(0.9, 0.98), weight_decay=0.1)
    state, done, step = out / "checkpoint.pt", 0.0, 0
    if state.is_file():
        saved = torch.load(state, weights_only=True)
        model.load_state_dict(saved["model"])
        optimizer.load_state_dict(saved["optimizer"])
        done, step = saved["minutes"], saved["step"]

    def save() -> None:
        tensors = {"model": model.state_dict(), "optimizer": optimizer.state_dict()}
        torch.save(tensors | {"minutes": done, "step": step}, state.with_suffix(".new"))
        state.with_suffix(".new").replace(state)

    chance, kept = balanced(takes), done
    name_ids = torch.tensor(writer.names())
    model.train()
    with tqdm(total=minutes, initial=done, desc="training", unit="min") as bar:
        while done < minutes:
            began = time.monotonic()
            rng = np.random.default_rng([seed, step])
            chosen = rng.choice(len(takes), BATCH, p=chance)
            ids, mask = padded([writer.lesson(takes[i], rng) for i in chosen])
            heard = _blurred(ids, writer, rng)
            logits = model(input_ids=heard, attention_mask=mask).logits[:, :-1]
            wanted = torch.where(mask[:, 1:] > 0, ids[:, 1:], -100)
            surprise = torch.nn.functional.cross_entropy(
                logits.flatten(0, 1), wanted.flatten(), ignore_index=-100, reduction="none"
            )
            # One name in two hundred codes would not be learned.
            weight = torch.where(torch.isin(wanted.flatten(), name_ids), 20.0, 1.0)
            weight = weight * (wanted.flatten() >= 0)
            loss = (surprise * weight).sum() / weight.sum()
            share = done / minutes
            for group in optimizer.param_groups:
                group["lr"] = 1e-3 * min(1, (step + 1) / 50) * 0.5 * (1 + math.cos(math.pi * share))
            optimizer.zero_grad()
            loss.backward()
            torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimizer.step()
            step += 1
            spent = (time.monotonic() - began) / 60
            done += spent
            bar.update(min(spent, minutes - bar.n))
            bar.set_postfix_str(f"step {step}, loss {loss.item():.2f}", refresh=False)
            if done - kept > 1:
                save()
                kept = done
    save()
    model.eval()


def _blurred(ids: torch.Tensor, writer: Writer, rng: np.random.Generator) -> torch.Tensor:
    """What the model hears: some codes are another one, or it learns people by heart."""
    layout = writer.vocabulary.layout
    level = (ids - layout.offset) // layout.codebook_size
    code = (ids >= layout.offset) & (level < layout.num_codebooks)
    other = layout.offset + level * layout.codebook_size
    other = other + torch.from_numpy(rng.integers(layout.codebook_size, size=ids.shape))
    replaced = code & torch.from_numpy(rng.random(ids.shape) < 0.15)
    return torch.where(replaced, other, ids)


@torch.no_grad()
def evidence(model: Any, writer: Writer, takes: Sequence[Take]) -> Iterator[np.ndarray]:
    """Log-probability of each gesture (V,) for each take, summed over its passages."""
    names = writer.names()
    for take in tqdm(takes, desc="reading", unit="takes"):
        ids, mask = padded([writer.reading(take.dataset, codes) for codes in take.passages()])
        logits = model(input_ids=ids, attention_mask=mask).logits
        last = logits[torch.arange(len(ids)), mask.sum(dim=1) - 1][:, names]
        yield torch.log_softmax(last, dim=1).sum(dim=0).numpy()


def head_evidence(codec: Codec, takes: Sequence[Take]) -> Iterator[np.ndarray]:
    """The same of the codec's head for the data set, or its one for all, summed over frames."""
    for take in takes:
        head = own_head(take.dataset) if own_head(take.dataset) in codec.heads else "gesture"
        scores = codec.predict(torch.from_numpy(take.codes.astype(np.int64))[None], head)[0]
        found = np.full(len(GESTURES), -np.inf)
        places = [GESTURES.index(label) for label in codec.labels(head)]
        found[places] = torch.log_softmax(scores, dim=1).sum(dim=0).numpy()
        yield found


def neighbour_evidence(
    known: Sequence[Take], takes: Sequence[Take], size: int
) -> Iterator[np.ndarray]:
    """Votes of the 15 takes of the same data set with the nearest histograms of codes."""

    def histogram(take: Take) -> np.ndarray:
        counts = [np.bincount(row, minlength=size) for row in take.codes]
        return np.sqrt(np.concatenate(counts) / take.codes.shape[1])

    places: dict[str, list[Take]] = defaultdict(list)
    for take in known:
        places[take.dataset].append(take)
    tables = {d: np.stack([histogram(t) for t in group]) for d, group in places.items()}
    for take in takes:
        near = np.argsort(-(tables[take.dataset] @ histogram(take)))[:15]
        gestures = [places[take.dataset][i].gesture for i in near]
        yield np.bincount(gestures, minlength=len(GESTURES)).astype(float)


def accuracy(takes: Sequence[Take], found: Iterable[np.ndarray]) -> dict[str, dict[str, float]]:
    """Balanced accuracy over takes by data set and person; only its data set's gestures count."""
    possible = defaultdict(set)
    for take in takes:
        possible[take.dataset].add(take.gesture)
    right: dict[str, dict[int, list[bool]]] = defaultdict(lambda: defaultdict(list))
    for take, scores in zip(takes, found, strict=True):
        allowed = sorted(possible[take.dataset])
        answer = allowed[int(np.argmax(scores[allowed]))]
        right[take.subject][take.gesture].append(answer == take.gesture)
    result: dict[str, dict[str, float]] = defaultdict(dict)
    for subject, gestures in right.items():
        mean = float(np.mean([np.mean(each) for each in gestures.values()]))
        result[subject.split("/")[0]][subject] = mean
    return dict(result)


@dataclass(frozen=True)
class Learned:
    """A language model and whom it has met.

    Attributes:
        codec: Whose tokens it reads.
        writer: Of its sequences.
        model: The language model.
        known: Takes that it learned from.
        selecting: Takes of people who may choose a setting.
        asked: Takes of people whom neither it nor the codec has met, without calibrating ones.
    """

    codec: Codec
    writer: Writer
    model: Any
    known: list[Take]
    selecting: list[Take]
    asked: list[Take]


def arguments(description: str | None) -> argparse.ArgumentParser:
    """What says what to learn from and where to."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--data", type=Path, help="folder of the corpora; default: simulated")
    parser.add_argument("--fold", type=int, default=0, help="whose people test")
    parser.add_argument("--model", help="codec that has not met them; default: bundled")
    parser.add_argument("--out", type=Path, default=Path("runs/llm"))
    parser.add_argument("--minutes", type=float, default=25.0)
    parser.add_argument("--workers", type=int, default=2)
    return parser


def learn(args: argparse.Namespace) -> Learned:
    """Builds the corpus and trains on it, or goes on with either."""
    args.out.mkdir(parents=True, exist_ok=True)
    recordings = args.data or simulate(args.out / "recordings", persons=10)
    files = sorted(recordings.glob("*.h5"))
    corpus = args.out / "corpus"
    calibrate = CALIBRATE if args.data else 0.0
    build(files, corpus, model=args.model, workers=args.workers, calibrate=calibrate)
    takes = load_takes(corpus)
    testing = people(args.fold, "test") if args.data else {"simulated/S8", "simulated/S9"}
    selecting = people(args.fold, "validation") if args.data else set()
    known = [t for t in takes if t.subject not in testing | selecting]
    asked, judges = (
        [t for t in takes if t.subject in group and not t.calibrates]
        for group in (testing, selecting)
    )
    print(f"{len(known)} takes to learn from, {len(asked)} of {len(testing)} people to read")

    codec = Codec.from_pretrained(args.model)
    tokenizer = text_tokenizer(sorted({take.dataset for take in takes}))
    extend_tokenizer(tokenizer, codec)
    model, writer = language_model(tokenizer, codec, args.fold), Writer(tokenizer)
    train(model, writer, known, args.out, args.minutes, args.fold)
    model.save_pretrained(args.out / "model")
    tokenizer.save_pretrained(args.out / "model")
    return Learned(codec, writer, model, known, judges, asked)


def read(found: Learned) -> dict[str, dict[str, dict[str, float]]]:
    """Accuracy of the language model and of what else reads tokens."""
    asked, size = found.asked, found.codec.codebook_size
    return {
        "language model": accuracy(asked, evidence(found.model, found.writer, asked)),
        "codec's own head": accuracy(asked, head_evidence(found.codec, asked)),
        "nearest histograms": accuracy(asked, neighbour_evidence(found.known, asked, size)),
    }


def main() -> None:
    """Builds, trains, reads, and prints how well."""
    for name, found in read(learn(arguments(__doc__).parse_args())).items():
        means = (f"{d} {100 * np.mean(list(each.values())):.1f}" for d, each in found.items())
        print(f"{name:20} {', '.join(means)}")


if __name__ == "__main__":
    main()
