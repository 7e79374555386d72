"""What a small language model makes of EMG tokens: gestures that it reads, and signals it writes.

    python benchmarks/language_model.py --data $EMGCODEC_DATA --fold 0 \
        --model runs/student-0/model --out runs/llm-0 --json docs/results/language_model/0.json
    python benchmarks/language_model.py --page docs/llm.md      # the tables, of what was run

Trains `examples/train_llm.py` on the people of a fold, and lets it read those whom neither it nor
the codec has met. Then it writes gestures; they are decoded, and a discriminant that has heard
nothing but real waveforms says what they are.
"""

from __future__ import annotations

import json
import sys
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import torch
from tqdm import tqdm

sys.path.insert(0, str(Path(__file__).parents[1] / "examples"))
import train_llm
from train_llm import FRAMES, REACTION, Learned, Take

from emgcodec import GESTURES, Recording, Tokens
from emgcodec.evaluate.frames import Track, compressed, standardized, time_domain_features
from emgcodec.evaluate.lda import Discriminant, Moments
from emgcodec.evaluate.provenance import made_by
from emgcodec.evidence import people
from emgcodec.files import write_json
from emgcodec.gestures import canonical_gesture
from emgcodec.io import read_all
from emgcodec.llm import GridLogitsProcessor, generated_tokens

OPEN, CLOSE = "<!-- numbers -->", "<!-- end of numbers -->"
SHRINKAGES = (0.01, 0.1, 0.4, 0.8)
WRITTEN = 8  # of each gesture of each data set
NGRAM = 8
ROWS = {
    "language model": "language model on tokens",
    "codec's own head": "codec's head for the data set",
    "nearest histograms": "15 nearest histograms of tokens",
    "discriminant": "LDA of classic features of the waveform",
}


@dataclass(frozen=True)
class Ear:
    """A discriminant of one data set's real waveforms, and whom it was fitted on.

    Attributes:
        tracks: Features of all its recordings, as they are.
        training: Who it learned from.
        model: On z-scored logarithms.
    """

    tracks: list[Track]
    training: frozenset[str]
    model: Discriminant

    @classmethod
    def of(cls, tracks: list[Track], fold: int) -> Ear:
        """Fits it; shrinkage is chosen on those who select, if there are any."""
        training = people(fold, "train")
        normal = standardized(compressed(tracks), [], calibrated=True)
        moments = Moments.of([t for t in normal if t.subject in training])
        judges = [t for t in normal if t.subject in people(fold, "validation")]
        judges = [t for t in judges or normal if not t.calibrates]

        def right(model: Discriminant) -> float:
            return float(np.mean([gesture(model, t) == t.labels.max() for t in judges]))

        models = [moments.discriminant(shrinkage) for shrinkage in SHRINKAGES]
        return cls(tracks, training, max(models, key=right))

    def heard(self, tracks: list[Track]) -> list[int]:
        """Gestures of tracks of features, z-scored by all that are given of their wearing."""
        everything = [replace(t, calibrates=True) for t in compressed(tracks)]
        return [gesture(self.model, t) for t in standardized(everything, [], calibrated=True)]


def gesture(model: Discriminant, track: Track) -> int:
    """What the labelled frames of a track are, taken together."""
    total = model.log_posteriors(track.x[track.labels >= 0]).sum(axis=0)
    return int(model.classes[total.argmax()])


def waveforms(data: Path, corpus: Path, frame_rate: float) -> dict[str, list[Track]]:
    """By data set: features of each take of all people, labelled as the language model's are."""
    columns = ["dataset", "subject", "session", "recording", "calibrates"]
    rows = (
        row
        for p in corpus.glob("*/*.parquet")
        for row in pq.read_table(p, columns=columns).to_pylist()
    )
    calibrates = {tuple(row[c] for c in columns[:4]): row["calibrates"] for row in rows}
    found: dict[str, list[Track]] = defaultdict(list)
    for file in tqdm(sorted(data.glob("*.h5")), desc="waveforms", unit="files"):
        for rec in read_all(file):
            key = tuple(str(rec.metadata.get(c, "")) for c in columns[:4])
            if key in calibrates:
                found[key[0]] += takes_of(rec, key, calibrates[key], frame_rate)
    return found


def takes_of(
    rec: Recording, key: Sequence[str], calibrates: bool, frame_rate: float
) -> Iterator[Track]:
    """The takes of a recording."""
    frames = int(rec.duration * frame_rate)
    x, time = time_domain_features(rec, frames, frame_rate), (np.arange(frames) + 1) / frame_rate
    for event in rec.events:
        name = canonical_gesture(event.label)
        if event.kind == "gesture" and name is not None:
            during = (time > event.start + REACTION.get(key[0], 0.0)) & (time <= event.end)
            if during.sum() >= 8:
                labels = np.full(during.sum(), GESTURES.index(name))
                wearing = f"{key[0]}/{key[1]}/{key[2]}"
                yield Track(f"{key[0]}/{key[1]}", wearing, calibrates, labels, x[during])


def discriminant_accuracy(ears: dict[str, Ear], testing: frozenset[str]) -> dict[str, Any]:
    """Balanced accuracy over takes of unseen people, by data set and person."""
    right: dict[str, dict[int, list[bool]]] = defaultdict(lambda: defaultdict(list))
    for ear in ears.values():
        tracks = [t for t in ear.tracks if t.subject in testing]
        for t in standardized(compressed(tracks), [], calibrated=True) if tracks else ():
            if not t.calibrates:
                truth = int(t.labels.max())
                right[t.subject][truth].append(gesture(ear.model, t) == truth)
    result: dict[str, dict[str, float]] = defaultdict(dict)
    for subject, found in right.items():
        result[subject.split("/")[0]][subject] = balanced(found)
    return dict(result)


def balanced(right: dict[int, list[bool]]) -> float:
    """Mean over gestures."""
    return float(np.mean([np.mean(each) for each in right.values()]))


@torch.no_grad()
def perplexity(found: Learned, takes: Sequence[Take]) -> list[float]:
    """Of each level's codes, in sequences that begin with the gesture's name."""
    writer, nats = found.writer, []
    for take in tqdm(takes, desc="perplexity", unit="takes"):
        for codes in take.passages():
            ids = writer.writing(take.dataset, take.gesture) + writer.recording(codes)
            logits = found.model(input_ids=torch.tensor([ids])).logits[0]
            inside = torch.tensor(ids[4:-1])  # behind the opening mark
            loss = torch.nn.functional.cross_entropy(logits[3:-2], inside, reduction="none")
            nats.append(loss.view(-1, len(codes)))
    return torch.cat(nats).mean(dim=0).exp().tolist()


@torch.no_grad()
def write(found: Learned, dataset: str, gesture: int, number: int) -> list[list[int]]:
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
    return balanced(right)


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
        takes = [t for t in found.asked if t.dataset == dataset]
        rec = next(iter(read_all(sorted(data.glob(f"{dataset}_*.h5"))[0])))
        labels = sorted({take.gesture for take in takes})
        own = [
            (ids, label)
            for label in tqdm(labels, desc=f"writing {dataset}", unit="gestures")
            for ids in write(found, dataset, label, WRITTEN)
        ]
        theirs = [
            (found.writer.recording(take.codes[:, :FRAMES]), label)
            for label in labels
            for take in _some([t for t in takes if t.gesture == label], rng)
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
    learned = {g for t in found.known for g in ngrams(found.writer.recording(t.codes), NGRAM)}

    def overlap(sequences: list[list[int]]) -> float:
        return float(np.mean([g in learned for ids in sequences for g in ngrams(ids, NGRAM)]))

    new = {
        name: {f"distinct {n}": variety(sequences, n) for n in (1, 2, 4)}
        | {"in the training": overlap(sequences)}
        for name, sequences in (("written", written), ("unseen people", real))
    }
    return {"heard": heard, "new": new}


def _some(takes: list[Take], rng: np.random.Generator) -> list[Take]:
    """As many as are written, or all."""
    return [takes[i] for i in rng.permutation(len(takes))[:WRITTEN]]


def measure(args: Any) -> dict[str, Any]:
    """Everything of one fold."""
    found = train_llm.learn(args)
    scores = train_llm.read(found)
    tracks = waveforms(args.data, args.out / "corpus", found.codec.frame_rate)
    ears = {dataset: Ear.of(each, args.fold) for dataset, each in sorted(tracks.items())}
    scores["discriminant"] = discriminant_accuracy(ears, people(args.fold, "test"))
    return {
        "fold": args.fold,
        "minutes": args.minutes,
        "codec_id": found.codec.codec_id,
        "parameters": found.model.num_parameters(),
        "scores": scores,
        "perplexity": perplexity(found, found.asked),
        **written_scores(found, ears, args.data, args.fold),
    }


def page(results: Sequence[dict[str, Any]]) -> str:
    """The tables."""
    folds, minutes = len(results), results[0]["minutes"]
    pooled: dict[str, dict[str, list[float]]] = defaultdict(lambda: defaultdict(list))
    for result in results:
        for row, corpora in result["scores"].items():
            for dataset, found in corpora.items():
                pooled[dataset][row] += found.values()
    lines = [
        f"{folds} of 5 folds, one language model of {results[0]['parameters'] / 1e6:.1f} M "
        f"parameters and {minutes:g} minutes on two cores for each. Takes of people whom neither "
        "codec nor language model has met; balanced accuracy in percent, mean over people "
        "± deviation over people; sessions are calibrated on their first minute, which is not "
        "scored.",
        "",
        "| data set (people) | " + " | ".join(ROWS.values()) + " |",
        "|---|" + "---|" * len(ROWS),
    ]
    for dataset, rows in sorted(pooled.items()):
        cells = (f"{100 * np.mean(rows[r]):.1f} ± {100 * np.std(rows[r]):.1f}" for r in ROWS)
        lines.append(f"| {dataset} ({len(rows['language model'])}) | " + " | ".join(cells) + " |")
    levels = np.mean([result["perplexity"] for result in results], axis=0)
    lines += [
        "",
        "Perplexity of what comes next, on the same people: "
        + ", ".join(f"{value:.0f} of level {k + 1}" for k, value in enumerate(levels))
        + " (mean over folds; each level has 1024 codes, and the second knows the first).",
        "",
        f"Gestures that it writes: {WRITTEN} of each gesture and data set, {FRAMES} frames each, "
        "sampled as they are likely, decoded, and named by that LDA, which has heard nothing but "
        "real waveforms of the people who train. Beside them codes of unseen people, decoded in "
        "the same way. Percent, mean over folds.",
        "",
        "| data set | chance | written | unseen people's codes |",
        "|---|---|---|---|",
    ]
    for dataset in sorted(pooled):
        found = [r["heard"][dataset] for r in results if dataset in r["heard"]]
        cells = (
            f"{100 * np.mean([f[key] for f in found]):.0f}"
            for key in ("chance", "written", "decoded")
        )
        lines.append(f"| {dataset} | " + " | ".join(cells) + " |")
    lines += ["", f"| codes of | distinct 1 / 2 / 4-grams | {NGRAM}-grams of the training |"]
    lines += ["|---|---|---|"]
    for name in ("written", "unseen people"):
        new = [r["new"][name] for r in results]
        shares = (f"{np.mean([n[f'distinct {k}'] for n in new]):.2f}" for k in (1, 2, 4))
        known = 100 * np.mean([n["in the training"] for n in new])
        lines.append(f"| {name} | {' / '.join(shares)} | {known:.1f} % |")
    return "\n".join(lines)


def main() -> None:
    """Measures a fold, or writes the tables of those that were."""
    parser = train_llm.arguments(__doc__)
    parser.add_argument("--json", type=Path, help="write the result here")
    parser.add_argument("--page", type=Path, help="write tables of what was run into this page")
    args = parser.parse_args()
    if args.page:
        folder = Path(__file__).parents[1] / "docs" / "results" / "language_model"
        results = [json.loads(path.read_text()) for path in sorted(folder.glob("*.json"))]
        before, rest = args.page.read_text("utf-8").split(OPEN)
        after = rest.split(CLOSE)[1]
        args.page.write_text(f"{before}{OPEN}\n{page(results)}\n{CLOSE}{after}", "utf-8")
        return
    if args.data is None:
        parser.error("--data: name the folder of the corpora")
    command = f"python benchmarks/language_model.py --data $EMGCODEC_DATA --fold {args.fold}"
    command += f" --minutes {args.minutes:g} --model runs/student-{args.fold}/model"
    result = made_by(command, "transformers") | measure(args)
    print(json.dumps(result, indent=1))
    if args.json:
        args.json.parent.mkdir(parents=True, exist_ok=True)
        write_json(args.json, result)


if __name__ == "__main__":
    main()
