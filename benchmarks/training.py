"""What the quantizer costs in a training step of the TDS preset, as ratios from one run.

    python benchmarks/training.py                     # prints the tables
    python benchmarks/training.py --json docs/results/training.json --page docs/training_speed.md

A step is forward, CTC, backward and AdamW on 8 windows of 5 s, from the raw signal. Signals are
noise, keys are random: neither changes the work.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from timing import Contenders, median, median_ratio, rounds, timed
from torch import Tensor, nn

from emgcodec import Codec
from emgcodec.config import QuantizerConfig
from emgcodec.evaluate.provenance import made_by, versions_of
from emgcodec.files import write_json
from emgcodec.nn.quantizer import CodebookTrainer, Quantized
from emgcodec.train.losses import text_loss
from emgcodec.train.windows import Keys

BATCH, SECONDS, KEYS = 8, 5, 25
LEVELS, SIZE, DECAY = 2, 1024, 0.9


class Plain(nn.Module):
    """The library's `ResidualVQ` with its own defaults, on all frames."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        from vector_quantize_pytorch import ResidualVQ

        self.rvq = ResidualVQ(
            dim=dim, num_quantizers=LEVELS, codebook_size=SIZE, decay=DECAY, kmeans_init=True
        )

    def forward(self, latents: Tensor, valid: Tensor, quantize: bool) -> Quantized:
        """(B, T, D) to what `Quantizer` gives."""
        quantized, codes, losses = self.rvq(latents)
        return Quantized(quantized, codes, losses.sum(), {})


class Loop(nn.Module):
    """Moving averages by a loop over codes, as they are easily written."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        books = torch.randn(LEVELS, SIZE, dim)
        self.register_buffer("books", books)
        self.register_buffer("sums", books.clone())
        self.register_buffer("counts", torch.ones(LEVELS, SIZE))

    def forward(self, latents: Tensor, valid: Tensor, quantize: bool) -> Quantized:
        """(B, T, D) to what `Quantizer` gives."""
        residual, found = latents.detach().flatten(0, 1), []
        for books, sums, counts in zip(self.books, self.sums, self.counts, strict=True):
            codes = torch.cdist(residual, books).argmin(dim=1)
            nearest = books[codes]
            for code in range(SIZE):
                rows = residual[codes == code]
                counts[code] = DECAY * counts[code] + (1 - DECAY) * len(rows)
                sums[code] = DECAY * sums[code] + (1 - DECAY) * rows.sum(dim=0)
            books.copy_(sums / counts.clamp(min=1e-5)[:, None])
            residual = residual - nearest
            found.append(codes)
        quantized = latents - residual.unflatten(0, latents.shape[:2])
        codes = torch.stack(found, dim=1).unflatten(0, latents.shape[:2])
        return Quantized(quantized, codes, latents.new_zeros(()), {})


def training_step(codec: Codec) -> Callable[[], object]:
    """One step of a codec on the same batch, again and again."""
    codec.train()
    optimizer = torch.optim.AdamW(codec.parameters(), lr=1e-4, fused=True)
    montage = codec.config.montage
    assert montage is not None
    x = torch.randn(BATCH, len(montage), SECONDS * codec.sample_rate) * 30
    labels = torch.randint(len(codec.labels("text")), (BATCH * KEYS,))
    first, stop = torch.zeros(BATCH, dtype=torch.long), torch.full((BATCH,), x.shape[-1])
    keys = Keys(labels, torch.full((BATCH,), KEYS), first, stop // codec.hop_length)

    def step() -> None:
        optimizer.zero_grad()
        out = codec(x, montage=montage)
        loss, _ = text_loss(out.heads["text"], keys)
        (loss + out.losses.get("commitment", 0.0)).backward()
        optimizer.step()

    return step


def steps(count: int) -> dict[str, float]:
    """Seconds of a step of ours, and of the others relative to it."""
    torch.manual_seed(0)
    none, ours, plain, loop = (
        Codec.from_preset(name)
        for name in ("emg-codec-none", "emg-codec", "emg-codec", "emg-codec")
    )
    plain.quantizer, loop.quantizer = Plain(plain.frontend.dim), Loop(loop.frontend.dim)  # type: ignore[assignment]
    codecs = {"none": none, "ours": ours, "vqp": plain, "loop": loop}
    found = rounds({name: training_step(codec) for name, codec in codecs.items()}, count)
    ratios = {f"{name} / ours": median_ratio(found, name, "ours") for name in codecs}
    return {"ours, seconds": median(found, "ours"), **ratios}


def start(count: int) -> dict[str, float]:
    """The first step of codebooks, which is k-means, relative to a later one."""
    dim = Codec.from_preset("emg-codec").frontend.dim
    rows = torch.randn(BATCH * SECONDS * 125, dim)
    found = []
    for seed in range(count):
        torch.manual_seed(seed)
        config = QuantizerConfig("rvq", LEVELS, SIZE, 0, decay=DECAY)
        trainer = CodebookTrainer(config, dim, torch.device("cpu"))
        plain = Plain(dim)
        valid = torch.ones(1, len(rows), dtype=torch.bool)
        contenders: Contenders = {
            "ours": lambda t=trainer: t.step(rows),
            "vqp": lambda p=plain, v=valid: p(rows[None], v, True),
        }
        first = {f"{name}, start": timed(work) for name, work in contenders.items()}
        found.append(first | {name: timed(work) for name, work in contenders.items()})
    return {
        "start, seconds": median(found, "ours, start"),
        "start / later update": median_ratio(found, "ours, start", "ours"),
        "start of vqp / ours": median_ratio(found, "vqp, start", "ours, start"),
    }


def page(result: dict[str, Any]) -> str:
    """The numbers as a page."""
    lines = [
        "# Speed of a training step",
        "",
        f"Made by `{result['command']}` at commit `{result['commit']}` ({versions_of(result)}; "
        f"{result['machine']}). A step of `emg-codec` is forward, CTC, backward and AdamW on "
        f"{BATCH} windows of {SECONDS} s from the raw signal. Contenders take turns; ratios are "
        "medians over rounds of one run. Ours takes k-means, averages and revival from "
        "vector-quantize-pytorch, behind our lookup; vqp is that library with its defaults; "
        "the loop updates its moving averages code by code.",
        "",
        "| threads | step of ours, s | no quantizer | vqp | loop over codes | quantizer's share of "
        "the step: ours / vqp / loop |",
        "|---|---|---|---|---|---|",
    ]
    for threads, found in result["steps"].items():
        ratios = {name: found[f"{name} / ours"] for name in ("none", "ours", "vqp", "loop")}
        shares = (1 - ratios["none"] / ratios[name] for name in ("ours", "vqp", "loop"))
        cells = [threads, f"{found['ours, seconds']:.2f}"]
        cells += [f"{ratios[name]:.2f}" for name in ("none", "vqp", "loop")]
        lines.append(f"| {' | '.join(cells)} | {' / '.join(f'{100 * s:.0f} %' for s in shares)} |")
    begin = result["start"]
    lines += [
        "",
        "Times are relative to ours; a quantizer's share is what its step takes longer than one "
        "without any. The loop is cheap here: it neither revives codes nor starts with k-means, "
        "and it too looks codes up by a product.",
        "",
        f"Codebooks start with k-means (50 iterations, {LEVELS} levels of {SIZE} codes on "
        f"{BATCH * SECONDS * 125} frames): {begin['start, seconds']:.1f} s on one thread, as long "
        f"as {begin['start / later update']:.0f} later updates; the library's default (10 "
        f"iterations) takes {begin['start of vqp / ours']:.2f} of that.",
        "",
    ]
    return "\n".join(lines)


def main() -> None:
    """Prints the tables and, if asked, writes them."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", type=Path, help="write the numbers here")
    parser.add_argument("--page", type=Path, help="and a page of them here")
    parser.add_argument("--rounds", type=int, default=5)
    args = parser.parse_args()
    command = "python benchmarks/training.py --json docs/results/training.json"
    result = made_by(f"{command} --page docs/training_speed.md") | {"steps": {}}
    for threads in (1, 2):
        torch.set_num_threads(threads)
        result["steps"][str(threads)] = steps(args.rounds)
        print(f"{threads} threads:", result["steps"][str(threads)], flush=True)
    torch.set_num_threads(1)
    result["start"] = start(3)
    print("k-means:", result["start"])
    if args.json:
        write_json(args.json, result)
    if args.page:
        args.page.write_text(page(result), encoding="utf-8")


if __name__ == "__main__":
    main()
