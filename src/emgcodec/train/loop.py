"""A plain loop that fits a montage-free codec: reconstruction, gestures, codebooks.

python -m emgcodec.train.loop --data $EMGCODEC_DATA --out runs/student --minutes 20
"""

from __future__ import annotations

import argparse
import json
import math
import time
from collections.abc import Iterable, Iterator
from importlib.metadata import version
from itertools import islice
from pathlib import Path

import numpy as np
import torch
from torch.nn import functional as F
from tqdm import tqdm

from emgcodec.codec import Codec
from emgcodec.gestures import GESTURES
from emgcodec.io import read_all
from emgcodec.montage import Montage
from emgcodec.nn.network import CodecOutput
from emgcodec.recording import Recording
from emgcodec.simulate import Person, gesture_recording
from emgcodec.train.data import (
    UNLABELLED,
    Batch,
    Segment,
    WindowSampler,
    calibrations,
    load_segments,
)
from emgcodec.train.score import score_gestures

WEIGHTS = {
    "3dc": 3.0,
    "contraction_intensity": 1.5,
    "flexemg": 0.2,
    "myo_laval": 2.0,
    "myo_ciil": 1.5,
    "myo_readings": 2.0,
    "simulated": 1.0,
}
"""Chance of each data set in a batch, hand-set: more people and classes weigh more."""

WARM_UP = 0.25
"""Share of the time before codebooks start."""

LICENSE = (
    "We license our own rights in these weights for research use. Four of the source collections "
    "state no licence and two are GPL-3.0; we cannot grant rights in them."
)


def simulated_recordings(people: int) -> Iterator[Recording]:
    """Recordings of simulated people, two wearings' worth of blocks each, on many montages."""
    montages = [
        (Montage.preset("emg2qwerty"), 2000.0),
        (Montage.ring(12), 1000.0),
        (Montage.preset("emg2pose"), 2000.0),
        (Montage.grid(8, 2), 2048.0),
    ]
    for seed in range(people):
        montage, rate = montages[seed % len(montages)]
        for take in range(2):
            rec = gesture_recording(
                Person.draw(1000 + seed), montage, rate, hold=2.0, rest=0.5, seed=take
            )
            rec.metadata.update(dataset="simulated", subject=str(seed), recording=f"take{take}")
            yield rec


def run(codec: Codec, batch: Batch, *, quantize: bool = True) -> CodecOutput:
    """The codec's output for a batch."""
    out: CodecOutput = codec(
        batch.x,
        batch.lengths,
        montage=batch.montages,
        mask=batch.mask,
        calibration=batch.calibrations,
        quantize=quantize,
    )
    return out


def gesture_loss(scores: torch.Tensor, batch: Batch, valid: torch.Tensor) -> torch.Tensor:
    """Cross-entropy over each data set's own classes; rare classes of the batch weigh more."""
    scores = scores.masked_fill(~batch.classes[:, None], -1e4)
    labels = torch.where(valid, batch.labels, UNLABELLED)
    counts = torch.bincount(labels[labels >= 0], minlength=scores.shape[-1]).float()
    weight = torch.where(counts > 0, counts.clamp(min=1).rsqrt(), 0.0)
    if not weight.any():  # no label in the whole batch: a mean of nothing would be nan
        return scores.sum() * 0.0
    return F.cross_entropy(scores.flatten(0, 1), labels.flatten(), weight, label_smoothing=0.05)


def fit(
    codec: Codec, sampler: WindowSampler, minutes: float, rate: float
) -> list[dict[str, float]]:
    """Trains in place for so many minutes; gives the log, one entry for every 25 steps."""
    codec.train()
    optimizer = torch.optim.AdamW(codec.parameters(), lr=rate, betas=(0.9, 0.98), weight_decay=0.05)
    log: list[dict[str, float]] = []
    start, share = time.monotonic(), 0.0
    progress = tqdm(
        total=minutes, unit="min", bar_format="{l_bar}{bar}| {n:.1f}/{total:.1f} min{postfix}"
    )
    for step, batch in enumerate(sampler):
        for group in optimizer.param_groups:
            group["lr"] = rate * min(1.0, (step + 1) / 100) * 0.5 * (1 + math.cos(math.pi * share))
        out = run(codec, batch, quantize=share > WARM_UP)
        gesture = gesture_loss(out.heads["gesture"], batch, out.valid)
        loss = gesture + 0.5 * out.losses["reconstruction"] + out.losses["commitment"]
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(codec.parameters(), 1.0)
        optimizer.step()
        elapsed = (time.monotonic() - start) / 60
        share = min(elapsed / minutes, 1.0)
        if step % 25 == 0 or share >= 1.0:
            terms = {"gesture": gesture} | out.losses
            entry = {name: float(value.detach()) for name, value in terms.items()} | out.stats
            log.append({"step": step} | entry)
            progress.set_postfix_str(f"step {step} gesture {entry['gesture']:.2f}")
        progress.update(share * minutes - progress.n)
        if share >= 1.0:
            break
    progress.close()
    codec.eval()
    return log


@torch.no_grad()
def correct_power(codec: Codec, batches: Iterable[Batch]) -> None:
    """Measures what the signal head's logarithms lack of the true power, band by band."""
    wanted, given = torch.zeros(2, codec.frontend.num_features)
    for batch in batches:
        out = run(codec, batch)
        assert out.spectrum is not None
        target, known = out.spectrum
        wanted += (torch.pow(10.0, target) * known).sum(dim=(0, 1, 2))
        given += (torch.pow(10.0, out.heads["signal"]) * known).sum(dim=(0, 1, 2))
    measured = (wanted > 0) & (given > 0)
    correction = codec.get_buffer("head.signal.correction")
    correction.copy_(torch.where(measured, torch.log10(wanted / given), correction))


def summary(scores: dict[str, dict[str, float]]) -> dict[str, dict[str, float]]:
    """Mean and standard deviation over people, for each data set."""
    return {
        name: {
            "mean": float(np.mean(list(people.values()))),
            "sd": float(np.std(list(people.values()))),
            "people": len(people),
        }
        for name, people in sorted(scores.items())
    }


def main() -> None:
    """Fits, rounds, scores on the validation people, and saves."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, required=True, help="folder of the corpus")
    parser.add_argument("--out", type=Path, required=True, help="where the model goes")
    parser.add_argument("--preset", default="student")
    parser.add_argument("--init", type=Path, help="start from this model; --minutes 0: score it")
    parser.add_argument("--minutes", type=float, default=20.0)
    parser.add_argument("--rate", type=float, default=1e-3)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--batch-size", type=int, default=12)
    args = parser.parse_args()
    torch.manual_seed(args.seed)
    codec = Codec.from_pretrained(args.init) if args.init else Codec.from_preset(args.preset)
    splits = json.loads((args.data / "splits.json").read_text())
    parts: dict[str, list[Segment]] = {}
    for part in ("train", "validation"):
        files = [args.data / name for name in splits[part]]
        parts[part] = load_segments((r for f in files for r in read_all(f)), codec)
    parts["train"] += load_segments(simulated_recordings(40), codec)
    known = {name: calibrations(segments, codec) for name, segments in parts.items()}
    sampler = WindowSampler(
        parts["train"],
        known["train"],
        codec,
        seconds=6.0,
        batch_size=args.batch_size,
        weights=WEIGHTS,
        seed=args.seed,
    )
    log = fit(codec, sampler, args.minutes, args.rate) if args.minutes else []
    correct_power(codec, islice(sampler, 40))
    codec.round_weights()
    scores = {
        "cold": summary(score_gestures(codec, parts["validation"], None)),
        "calibrated": summary(score_gestures(codec, parts["validation"], known["validation"])),
    }
    facts = {
        "data": "train people of the corpus (splits.json) and 40 simulated people",
        "steps": log[-1]["step"] if log else 0,
        "minutes": args.minutes,
        "seed": args.seed,
        "started_from": dict(codec.config.provenance) if args.init else None,
        "versions": {name: version(name) for name in ("emgcodec", "torch")},
        "score": "balanced accuracy of frames, mean over validation people, one seed; state reset "
        "at each contiguous recording; the first block of each session calibrates and is not "
        "scored; these people were looked at while the recipe was made",
        "scores": scores,
        "classes": len(GESTURES),
    }
    codec.config = codec.config.replace(weights_license=LICENSE, provenance=facts)
    codec.save_pretrained(args.out)
    (args.out / "log.jsonl").write_text("".join(json.dumps(entry) + "\n" for entry in log))
    print(json.dumps(scores, indent=1))


if __name__ == "__main__":
    main()
