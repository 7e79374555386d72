"""Encoding speed, distance to the floor, lookup and memory, as ratios from one single-threaded run.

    python benchmarks/encode.py                       # prints the tables
    python benchmarks/encode.py --json docs/results/encode.json

Signals are noise, weights are random: neither changes the work. Contenders take turns within a
round, ratios are formed within rounds, and the median over rounds is given.
"""

from __future__ import annotations

import argparse
import math
import statistics
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from timing import Contenders, median, median_ratio, rounds
from torch import Tensor

from emgcodec import Codec, Montage
from emgcodec.config import (
    ConvConfig,
    ElectrodeSetConfig,
    LogSpectrogramConfig,
    QuantizerConfig,
    TDSConfig,
    TransformerConfig,
)
from emgcodec.evaluate.provenance import made_by, versions_of
from emgcodec.files import write_json
from emgcodec.nn.quantizer import CodebookTrainer, Quantizer

SECONDS = 60
ROUNDS = 7
HEAVY = ("large",)  # 6 s instead of 60


def needed_flop(codec: Codec, electrodes: int) -> float:
    """Floating-point operations that a second of signal needs, without any waste.

    Products of the layers, the Fourier transform, attention to the window only, and the lookup;
    element-wise work is left out.
    """
    config = codec.config
    part, encoder, quantizer = config.frontend, config.encoder, config.quantizer
    split, dim = quantizer.after_block, codec.frontend.dim
    flop = 0.0
    if isinstance(part, LogSpectrogramConfig | ElectrodeSetConfig):
        flop += electrodes * 2.5 * part.window * math.log2(part.window)
    if isinstance(part, LogSpectrogramConfig):
        flop += 2 * sum(m.weight.numel() for m in codec.frontend.mlps) * len(part.rolls)
    elif isinstance(part, ElectrodeSetConfig):
        front = codec.frontend
        each = (front.spectral, front.mix, front.score)
        flop += electrodes * 2 * sum(layer.weight.numel() for layer in each)
        flop += electrodes * 2 * part.queries * part.width + 2 * front.project.weight.numel()
    elif isinstance(part, ConvConfig):
        steps = config.hop_length
        for layer, stride in zip(codec.frontend.layers, part.strides, strict=True):
            steps //= stride
            flop += 2 * layer.weight.numel() * steps
        flop += 2 * codec.frontend.project.weight.numel()
    if isinstance(encoder, TDSConfig):
        width = dim // encoder.channels
        block = 2 * encoder.channels**2 * encoder.kernel * width + 2 * 2 * dim**2
        flop += split * block
    elif isinstance(encoder, TransformerConfig):
        flop += split * (2 * 12 * dim**2 + 2 * 2 * (encoder.window + 1) * dim)
        if encoder.conv_position:
            flop += 2 * dim * dim // encoder.conv_groups * encoder.conv_position
    if codec.quantizer is not None:
        width = codec.quantizer.codebooks.shape[-1]
        flop += 2 * quantizer.levels * quantizer.size * width
        if quantizer.dim:
            flop += 2 * dim * width
    return flop * config.frame_rate


def sgemm() -> tuple[Callable[[], Tensor], float]:
    """A 1024-cubed product, and its operations."""
    a, b, out = torch.randn(1024, 1024), torch.randn(1024, 1024), torch.empty(1024, 1024)
    return lambda: torch.mm(a, b, out=out), 2 * 1024.0**3


def encoding(names: list[str], count: int) -> list[dict[str, object]]:
    """Rows of the table of presets."""
    product, product_flop = sgemm()
    rows = []
    for name in names:
        codec = Codec.from_preset(name)
        montages = [codec.config.montage or Montage.preset("emg2qwerty")]
        if name == "student":
            montages += [Montage.preset("myo"), Montage.preset("flexemg")]
        seconds = 6 if name in HEAVY else SECONDS
        for montage in montages:
            x = torch.randn(1, len(montage), seconds * codec.sample_rate) * 30
            method = codec.encode if codec.quantizer is not None else codec.encode_latent
            contenders: Contenders = {
                "codec": lambda m=method, x=x, g=montage: m(x, montage=g),
                "sgemm": lambda: [product() for _ in range(8)],
            }
            found = rounds(contenders, 3 if name in HEAVY else count)
            gflop = needed_flop(codec, len(montage)) / 1e9
            floor = gflop * 1e9 * seconds / (8 * product_flop)  # in units of the product's time
            rows.append(
                {
                    "preset": name,
                    "electrodes": len(montage),
                    "gflop_per_signal_second": gflop,
                    "times_real_time": seconds / median(found, "codec"),
                    "times_floor": median_ratio(found, "codec", "sgemm") / floor,
                }
            )
            row = rows[-1]
            print(
                f"{name:15s} {len(montage):3d} electrodes  {gflop:7.3f} GFLOP/s  "
                f"{row['times_real_time']:7.1f} x real time  {row['times_floor']:5.2f} x floor",
                flush=True,
            )
    return rows


@torch.no_grad()
def lookup(count: int) -> dict[str, float]:
    """Our lookup against its bare matrix products, and against the library's eval forward."""
    rows, dim = 10_000, 256
    config = QuantizerConfig("rvq", 2, 1024, 0)
    ours = Quantizer(config, dim).eval()
    x = torch.randn(rows, dim)
    theirs = CodebookTrainer(config, dim, torch.device("cpu"))
    for layer, book in zip(theirs.rvq.layers, ours.codebooks, strict=True):
        layer._codebook.embed.copy_(book[None])
        layer._codebook.initted.fill_(True)
    theirs.rvq.eval()
    assert (ours.lookup(x) == theirs.rvq(x[None])[1][0]).float().mean() > 0.9999
    transposed = [book.T for book in ours.codebooks]
    contenders: Contenders = {
        "ours": lambda: ours.lookup(x),
        "products": lambda: [part @ book for part in x.split(512) for book in transposed],
        "vqp": lambda: theirs.rvq(x[None]),
    }
    found = rounds(contenders, count)
    return {
        "lookup_over_products": median_ratio(found, "ours", "products"),
        "lookup_over_vqp": median_ratio(found, "ours", "vqp"),
    }


_MEMORY = """
import sys, torch
from emgcodec import Codec, Montage
torch.set_num_threads(1)
codec = Codec.from_preset(sys.argv[1])
montage = codec.config.montage or Montage.preset("emg2qwerty")
x = torch.randn(1, 32, int(sys.argv[2]) * codec.sample_rate)
codec.encode(x[..., :8000], montage=montage)
def status(key):
    lines = open("/proc/self/status").read().splitlines()
    return int(next(l for l in lines if l.startswith(key)).split()[1]) / 1024
open("/proc/self/clear_refs", "w").write("5")
base = status("VmRSS")
codec.encode(x, montage=montage)
print(status("VmHWM") - base)
"""


def peak_memory(name: str, seconds: int) -> float:
    """MiB above the loaded process while so many seconds are encoded; median of three processes."""
    command = [sys.executable, "-c", _MEMORY, name, str(seconds)]
    found = [
        float(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
        for _ in range(3)
    ]
    return statistics.median(found)


def page(result: dict[str, Any]) -> str:
    """The numbers as a page."""
    lines = [
        "# Encoding speed",
        "",
        f"Made by `{result['command']}` at commit `{result['commit']}` "
        f"({versions_of(result)}; one thread of "
        f"{result['machine']}). Ratios are medians over rounds of one run. The floor is the time "
        "of the operations that the codec needs (products, fast Fourier transform, attention "
        "within the window; no element-wise work) at the rate of a 1024-cubed float32 product in "
        "the same round.",
        "",
        "| preset | electrodes | GFLOP per second of signal | times real time | times the floor |",
        "|---|---|---|---|---|",
    ]
    for row in result["encode"]:
        lines.append(
            f"| `{row['preset']}` | {row['electrodes']} | {row['gflop_per_signal_second']:.3f} "
            f"| {row['times_real_time']:.0f} | {row['times_floor']:.2f} |"
        )
    found = result["lookup"]
    lines += [
        "",
        f"Lookup of 10 000 frames x 256 in 2 x 1024 codes: {found['lookup_over_products']:.2f} of "
        f"its bare matrix products, {found['lookup_over_vqp']:.2f} of the library's eval forward.",
        "",
        "| preset | peak at 1 min, MiB | peak at 10 min, MiB |",
        "|---|---|---|",
    ]
    for name, peak in result["peak_memory_mib"].items():
        lines.append(f"| `{name}` | {peak['1 min']:.1f} | {peak['10 min']:.1f} |")
    lines += ["", "Peaks are above the loaded process, which holds torch, model and signal.", ""]
    return "\n".join(lines)


def main() -> None:
    """Prints the tables and, if asked, writes them."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", type=Path, help="write the numbers here")
    parser.add_argument("--page", type=Path, help="and a page of them here")
    parser.add_argument("--rounds", type=int, default=ROUNDS)
    parser.add_argument("--presets", nargs="*", help="only these")
    args = parser.parse_args()
    if args.page and not args.json:
        parser.error("--page tells what --json holds: give both")
    torch.set_num_threads(1)
    torch.manual_seed(0)
    from emgcodec import list_presets

    # First, while the memory allocator is as a user of the library alone has it.
    result: dict[str, Any] = {"lookup": lookup(args.rounds)}
    print("lookup:", {name: round(ratio, 2) for name, ratio in result["lookup"].items()})
    result["encode"] = encoding(args.presets or list_presets(), args.rounds)
    memory = {
        name: {"1 min": peak_memory(name, 60), "10 min": peak_memory(name, 600)}
        for name in ("emg-codec", "student")
    }
    result["peak_memory_mib"] = memory
    print("peak memory above the loaded process, MiB:", memory)
    if args.json:
        command = "python benchmarks/encode.py " + " ".join(sys.argv[1:])
        result |= made_by(command)
        write_json(args.json, result)
        if args.page:
            args.page.write_text(page(result))


if __name__ == "__main__":
    main()
