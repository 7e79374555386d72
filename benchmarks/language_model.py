r"""What a small language model makes of EMG tokens: gestures that it reads, and signals it writes.

    python benchmarks/language_model.py --data $EMGCODEC_DATA --fold 0 \
        --model runs/teacher-0/model --out runs/llm-0 --json docs/results/language_model/0.json
    python benchmarks/language_model.py --page docs/llm.md      # the tables, of what was run

Trains `examples/train_llm.py` on the people of a fold, and lets it read those whom neither it nor
the codec has met. Then it writes gestures; they are decoded, and a discriminant that has heard
nothing but real waveforms says what they are.
"""

from __future__ import annotations

import sys
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import torch
from tqdm import tqdm

sys.path.insert(0, str(Path(__file__).parents[1] / "examples"))
import train_llm
from llm_results import check_alike, mean_over_people, run
from train_llm import CYCLE, FRAMES, NONE, SHORTEST, Learned, Take

from emgcodec import GESTURES, Recording, Tokens
from emgcodec.corpus.sessions import gesture_parts
from emgcodec.evaluate.frames import Track, compressed, standardized, time_domain_features
from emgcodec.evaluate.lda import Discriminant, Moments
from emgcodec.evidence import people
from emgcodec.gestures import own_head
from emgcodec.io import read_all
from emgcodec.llm import generated_tokens
from emgcodec.train.data import gesture_frames

SHRINKAGES = (0.01, 0.1, 0.4, 0.8)
WRITTEN = 8  # of each gesture of each data set
NGRAM = 8  # ids: four frames of two levels
ROWS = {
    "language model": "language model on tokens",
    "codec's own head": "codec's head on tokens",
    "nearest histograms": "15 nearest histograms of tokens",
    "discriminant": "LDA of classic features of the waveform",
}


# What tokens and waveforms tell without a language model


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


@dataclass(frozen=True)
class Ear:
    """A discriminant of the real waveforms of one data set.

    Attributes:
        model: On z-scored logarithms of classic features.
        tracks: Features of each take of everybody, z-scored on what calibrates the session.
    """

    model: Discriminant
    tracks: list[Track]

    @classmethod
    def of(cls, tracks: list[Track], fold: int) -> Ear:
        """Fitted on those who train; its shrinkage is the best for those who select."""
        normal = standardized(compressed(tracks), [], calibrated=True)
        training = [t for t in normal if t.subject in people(fold, "train")]
        judges = [t for t in normal if t.subject in people(fold, "validation")]
        judges = [t for t in judges or training if not t.calibrates]
        moments = Moments.of(training)

        def right(model: Discriminant) -> float:
            hits = [evidence_of(model, t).argmax() == t.labels[0] for t in judges]
            return float(np.mean(hits)) if hits else 0.0

        return cls(max((moments.discriminant(s) for s in SHRINKAGES), key=right), normal)

    def heard(self, tracks: list[Track]) -> list[int]:
        """Gestures of features that are z-scored by all that are given, taken together."""
        everything = [replace(t, wearing="", calibrates=True) for t in compressed(tracks)]
        normal = standardized(everything, [], calibrated=True)
        return [int(evidence_of(self.model, t).argmax()) for t in normal]


def evidence_of(model: Discriminant, track: Track) -> np.ndarray:
    """Log-probability of each gesture (V,), summed over the track's frames."""
    found = np.full(len(GESTURES), -np.inf)
    found[model.classes] = model.log_posteriors(track.x).sum(axis=0)
    return found


def waveforms(data: Path, corpus: Path, frame_rate: float) -> dict[str, list[Track]]:
    """By data set: features of each take of everybody, labelled as the language model's are."""
    calibrates = {
        row["id"]: row["calibrates"]
        for path in corpus.rglob("*.parquet")
        for row in pq.read_table(path, columns=["id", "calibrates"]).to_pylist()
    }
    found: dict[str, list[Track]] = defaultdict(list)
    for file in tqdm(sorted(data.glob("*.h5")), desc="waveforms", unit="files"):
        for rec in read_all(file):
            for name, part in gesture_parts(rec):
                if (row := f"{file.name}:{name}") in calibrates:
                    dataset = str(rec.metadata["dataset"])
                    found[dataset] += tracks_of(part, calibrates[row], frame_rate)
    return found


def tracks_of(rec: Recording, calibrates: bool, frame_rate: float) -> Iterator[Track]:
    """The takes of a recording, each with one label for all of its frames."""
    dataset, subject, session = (str(rec.metadata[n]) for n in ("dataset", "subject", "session"))
    if (frames := int(rec.duration * frame_rate)) < SHORTEST:
        return
    x = time_domain_features(rec, frames, frame_rate)
    for gesture, during in gesture_frames(rec.events, frames, frame_rate, dataset):
        if during.sum() >= SHORTEST:
            labels, person = np.full(during.sum(), gesture), f"{dataset}/{subject}"
            yield Track(person, f"{person}/{session}", calibrates, labels, x[during])


@dataclass(frozen=True)
class Asked:
    """A take of a waveform, for `train_llm.accuracy`."""

    dataset: str
    subject: str
    gesture: int


def discriminant_accuracy(
    known: Sequence[Take], ears: dict[str, Ear], testing: frozenset[str]
) -> dict[str, dict[str, float]]:
    """Of takes of people who test, by data set and person."""
    asked, said = [], []
    for dataset, ear in ears.items():
        for track in ear.tracks:
            if track.subject in testing and not track.calibrates:
                asked.append(Asked(dataset, track.subject, int(track.labels[0])))
                said.append(evidence_of(ear.model, track))
    return train_llm.accuracy(known, asked, said)


def unigram_perplexity(found: Learned) -> list[float]:
    """Of each level, from how often each code occurs in what was learned, and nothing else."""
    size, result = found.codec.codebook_size, []
    for level in range(found.codec.num_codebooks):
        learned, asked = (
            np.bincount(np.concatenate([t.codes[level] for t in takes]), minlength=size)
            for takes in (found.known, found.asked)
        )
        chance = (learned + 1) / (learned + 1).sum()
        result.append(float(np.exp(-(asked * np.log(chance)).sum() / asked.sum())))
    return result


# What the language model writes


def listen(
    found: Learned, ear: Ear, sequences: Sequence[tuple[list[int], int]], like: Recording
) -> float:
    """Balanced share of sequences whose decoded signal the ear hears as their gesture.

    Args:
        found: Whose codec decodes.
        ear: Who listens.
        sequences: Ids, and the gesture.
        like: A recording of the device.
    """
    tracks, rate = [], found.codec.frame_rate
    for ids, label in sequences:
        tokens = as_tokens(found, ids, like)
        x = time_domain_features(found.codec.detokenize(tokens), tokens.num_frames, rate)
        tracks.append(Track("", "", True, np.full(len(x), label), x))
    right: dict[int, list[bool]] = defaultdict(list)
    for (_, label), guess in zip(sequences, ear.heard(tracks), strict=True):
        right[label].append(guess == label)
    return float(np.mean([np.mean(each) for each in right.values()]))


def as_tokens(found: Learned, ids: Sequence[int], rec: Recording) -> Tokens:
    """A sequence as tokens of the electrodes and the rate of a recording."""
    (tokens,) = generated_tokens(ids, found.writer.tokenizer, found.codec, montage=rec.montage)
    samples = int(tokens.codes.shape[1] / tokens.frame_rate * rec.sample_rate)
    return replace(tokens, sample_rate=rec.sample_rate, num_samples=samples)


def ngrams(ids: Sequence[int], n: int) -> Iterator[tuple[int, ...]]:
    """All of a sequence."""
    return (tuple(ids[i : i + n]) for i in range(len(ids) - n + 1))


def variety(sequences: Sequence[Sequence[int]], n: int) -> float:
    """Share of n-grams that differ."""
    counts = Counter(gram for ids in sequences for gram in ngrams(ids, n))
    return len(counts) / max(counts.total(), 1)


def written_scores(found: Learned, ears: dict[str, Ear], data: Path, seed: int) -> dict[str, Any]:
    """What is heard in written signals and in decoded real ones, and how new they are."""
    torch.manual_seed(seed)
    rng = np.random.default_rng(seed)
    heard, written, real = {}, [], []
    for dataset, ear in ears.items():
        takes = [t for t in found.named if t.dataset == dataset]
        rec = next(iter(read_all(sorted(data.glob(f"{dataset}_*.h5"))[0])))
        labels = sorted({take.gesture for take in takes})
        own = [
            (ids, label)
            for label in tqdm(labels, desc=f"writing {dataset}", unit="gestures")
            for ids in train_llm.write_emg(found, dataset, label, WRITTEN)
        ]
        theirs = [
            (found.writer.recording(take.codes[:, :FRAMES]), label)
            for label in labels
            for take in some([t for t in takes if t.gesture == label], rng)
        ]
        if labels:
            heard[dataset] = {
                "chance": 1 / len(labels),
                "written": listen(found, ear, own, rec),
                "decoded": listen(found, ear, theirs, rec),
            }
        opened = found.writer.vocabulary.open
        written += [ids[ids.index(opened) + 1 : -1] for ids, _ in own]
        real += [ids[1:-1] for ids, _ in theirs]
    # As many sequences of either: the more there are, the less of them is new.
    written, real = (_thinned(each, min(len(written), len(real)), rng) for each in (written, real))
    learned = {g for t in found.known for g in ngrams(found.writer.recording(t.codes), NGRAM)}

    def overlap(sequences: list[list[int]]) -> float:
        return float(np.mean([g in learned for ids in sequences for g in ngrams(ids, NGRAM)]))

    new = {
        name: {f"distinct {n}": variety(sequences, n) for n in (1, 2, 4)}
        | {"in the training": overlap(sequences)}
        for name, sequences in (("written", written), ("unseen people", real))
    }
    return {"heard": heard, "new": new}


def _thinned(sequences: list[list[int]], number: int, rng: np.random.Generator) -> list[list[int]]:
    return [sequences[i] for i in rng.permutation(len(sequences))[:number]]


def some(takes: list[Take], rng: np.random.Generator) -> list[Take]:
    """As many as are written, or all."""
    return [takes[i] for i in rng.permutation(len(takes))[:WRITTEN]]


def measure(args: Any) -> dict[str, Any]:
    """Everything of one fold."""
    found = train_llm.learn(args)
    known, testing = [t for t in found.known if t.gesture != NONE], people(args.fold, "test")
    tracks = waveforms(args.data, args.out / "corpus", found.codec.frame_rate)
    ears = {dataset: Ear.of(each, args.fold) for dataset, each in sorted(tracks.items())}
    neighbours = neighbour_evidence(known, found.named, found.codec.codebook_size)
    scores = train_llm.read(found) | {
        "nearest histograms": train_llm.accuracy(known, found.named, neighbours),
        "discriminant": discriminant_accuracy(known, ears, testing),
    }
    return {
        "fold": args.fold,
        "steps": found.steps,
        "codec_id": found.codec.codec_id,
        "own_heads": all(own_head(dataset) in found.codec.heads for dataset in CYCLE),
        "parameters": found.model.num_parameters(),
        "takes": dict(Counter(take.dataset for take in found.named)),
        "scores": scores,
        "perplexity": train_llm.perplexity(found.model, found.writer, found.asked),
        "unigram perplexity": unigram_perplexity(found),
        **written_scores(found, ears, args.data, args.fold),
    }


def aims(
    pooled: Mapping[str, Mapping[str, Sequence[float]]], heard: Mapping[str, float]
) -> Iterator[str]:
    """For which data sets the means reach what was aimed at, and for which they do not.

    Args:
        pooled: By data set and reader: scores of people.
        heard: By data set: share of written signals that are recognised.
    """
    mean = {
        d: {row: float(np.mean(each)) for row, each in rows.items()} for d, rows in pooled.items()
    }
    reached = {
        "at most 3 points behind the codec's head": {
            d: m["language model"] >= m["codec's own head"] - 0.03 for d, m in mean.items()
        },
        "5 points before the nearest histograms": {
            d: m["language model"] >= m["nearest histograms"] + 0.05 for d, m in mean.items()
        },
        "60 % of what it writes recognised": {d: share >= 0.6 for d, share in heard.items()},
    }
    yield "Aims, by the means:"
    yield ""
    for aim, sets in reached.items():
        yes, no = (
            ", ".join(d for d in sets if sets[d] is want) or "none" for want in (True, False)
        )
        yield f"- {aim}: reached for {yes}; not for {no}."


def page(results: Sequence[dict[str, Any]]) -> str:
    """The tables.

    Raises:
        ValueError: if the results are not of one kind.
    """
    check_alike(results, ("minutes", "precision", "parameters", "own_heads", "threads"))
    one = results[0]
    pooled: dict[str, dict[str, list[float]]] = defaultdict(lambda: defaultdict(list))
    takes: Counter[str] = Counter()
    for result in results:
        takes.update(result["takes"])
        for row, corpora in result["scores"].items():
            for dataset, found in corpora.items():
                pooled[dataset][row] += found.values()
    steps = ", ".join(str(result["steps"]) for result in results)
    lines = [
        f"{len(results)} of 5 folds, for each a language model of {one['parameters'] / 1e6:.1f} M "
        f"parameters and {one['minutes']:g} minutes ({steps} steps) of {one['threads']} threads, "
        f"{one['precision']}. "
        "Takes of people whom neither codec nor language model has met; balanced accuracy in "
        "percent, mean over people ± deviation over people; answers are the gestures of the data "
        "set. Each session is calibrated on its first 15 to 45 s, in most data sets one cycle "
        "through the gestures, in myo_readings a single one and rest; what calibrates is not "
        "scored, and the waveforms' features are z-scored on the same. Each gesture is a recording "
        "of its own, so that no order of gestures can be learned. "
        + ("The codec's head is that of the data set." if one["own_heads"] else ""),
        "",
        "| data set (people, takes) | " + " | ".join(ROWS.values()) + " |",
        "|---|" + "---|" * len(ROWS),
    ]
    for dataset, rows in sorted(pooled.items()):
        cells = (mean_over_people(rows[r]) for r in ROWS)
        about = f"{dataset} ({len(rows['language model'])}, {takes[dataset]})"
        lines.append(f"| {about} | " + " | ".join(cells) + " |")
    levels, alone = (
        ", ".join(f"{value:.0f} of level {k + 1}" for k, value in enumerate(means))
        for means in (
            np.mean([result[name] for result in results], axis=0)
            for name in ("perplexity", "unigram perplexity")
        )
    )
    lines += [
        "",
        f"Perplexity of what comes next in those takes, device and gesture known: {levels}; "
        f"from how often each code occurs, and nothing else: {alone}. A level knows those before "
        "it.",
        "",
        f"Gestures that it writes: {WRITTEN} of each gesture and data set, {FRAMES} frames each, "
        "sampled as they are likely, decoded, and named by that LDA, which was fitted on nothing "
        "but real waveforms of the people who train. Beside them codes of unseen people, decoded "
        "in the same way. Features are z-scored over all that is heard of a data set. Percent, "
        "mean over folds.",
        "",
        "| data set | chance | written | unseen people's codes |",
        "|---|---|---|---|",
    ]
    heard: dict[str, list[float]] = {}
    for dataset in sorted(pooled):
        each = [r["heard"][dataset] for r in results if dataset in r["heard"]]
        heard[dataset] = [
            float(np.mean([h[key] for h in each])) for key in ("chance", "written", "decoded")
        ]
        cells = (f"{100 * share:.0f}" for share in heard[dataset])
        lines.append(f"| {dataset} | " + " | ".join(cells) + " |")
    lines += ["", *aims(pooled, {d: each[1] for d, each in heard.items()})]
    lines += ["", f"| ids of | distinct 1 / 2 / 4-grams | {NGRAM}-grams of the training |"]
    lines += ["|---|---|---|"]
    for name in ("written", "unseen people"):
        new = [r["new"][name] for r in results]
        shares = (f"{np.mean([n[f'distinct {k}'] for n in new]):.2f}" for k in (1, 2, 4))
        known = 100 * np.mean([n["in the training"] for n in new])
        lines.append(f"| {name} | {' / '.join(shares)} | {known:.1f} % |")
    commits = ", ".join(sorted({result["commit"] for result in results}))
    lines += ["", f"`{one['command']}` and so on, commit {commits}."]
    return "\n".join(lines)


def main() -> None:
    """Measures a fold, or writes the tables of those that were."""
    run(
        train_llm.arguments(__doc__),
        lambda args: (
            f"python benchmarks/language_model.py --data $EMGCODEC_DATA --fold {args.fold}"
        ),
        measure,
        page,
        "language_model",
        "numbers",
    )


if __name__ == "__main__":
    main()
