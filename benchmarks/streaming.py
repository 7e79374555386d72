"""What a live stream costs: one step warm and cold, 16 streams side by side, state, recomputation.

    python benchmarks/streaming.py                       # prints the table
    python benchmarks/streaming.py --json docs/results/streaming.json --page docs/streaming.md

One thread, pinned to a core where the system can, and its processor time: the clock on the wall
would measure the neighbours on a busy machine. A
step is a `push` of one frame's samples at the codec's own rate. Warm steps come in bursts of one
contender. Cold ones take turns, and other work fills the core's own caches between them; that of
the last row of `OTHER_WORK` fills those that cores share, too, so that weights come from memory.
Signals are noise, weights random but for the bundled student's: neither changes the work.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
import time
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import torch

from emgcodec import Codec, Montage
from emgcodec.evaluate.provenance import made_by, versions_of
from emgcodec.export import export
from emgcodec.files import write_json, write_section
from emgcodec.runtime import EdgeCodec
from emgcodec.stream import EncodeStream

STREAMS = 16
BURST = 50
WARM_UP_SECONDS = 12  # of signal: past the check of its unit, and all caches full
MONTAGE = Montage.preset("emg2qwerty")
OTHER_WORK = {"cold": 1 << 21, "memory": 1 << 25}  # bytes copied before a step


@cache
def exported(codec: Codec) -> EdgeCodec:
    """The codec as graphs; takes a minute or two."""
    with tempfile.TemporaryDirectory() as folder:
        export(codec, folder)
        return EdgeCodec(folder)


# What runs a codec, by name.
RUNTIMES: dict[str, Callable[[Codec], Codec | EdgeCodec]] = {
    "torch": lambda codec: codec,
    "onnxruntime": exported,
}


def codecs() -> dict[str, Codec]:
    """The bundled student, and the whole transformer at a frame of 8 ms."""
    tiny = {"hop_length": 16, "frontend.strides": (4, 2, 2)}
    books = {"quantizer.kind": "rvq", "quantizer.levels": 2, "quantizer.size": 1024}
    return {
        "bundled student": Codec.from_pretrained(),
        "tiny, 8 ms": Codec.from_preset("tiny", **tiny, **books),
    }


def state_bytes(codec: Codec) -> int:
    """Of one stream's state in the model."""
    return sum(t.nbytes for t in codec.init_state(1, MONTAGE).values())


class Steps:
    """Processor seconds of a piece of work, called over and over."""

    def __init__(self, work: Callable[[], object]) -> None:
        self.work = work
        self.seconds: list[float] = []

    def __call__(self) -> None:
        """Does it once."""
        start = time.thread_time()
        self.work()
        self.seconds.append(time.thread_time() - start)

    def milliseconds(self, quantile: float) -> float:
        """A quantile of all calls."""
        return float(np.quantile(self.seconds, quantile)) * 1e3


def push(session: EncodeStream, hop: int) -> Callable[[], object]:
    """One frame of every slot; the session has heard some signal before."""
    shape = session.batch_size, len(session.montage)
    rng = np.random.default_rng(0)
    rate = int(session.sample_rate)
    for _ in range(WARM_UP_SECONDS):
        session.push(rng.standard_normal((*shape, rate)).astype(np.float32) * 30)
    frame = rng.standard_normal((*shape, hop)).astype(np.float32) * 30
    return lambda: session.push(frame)


def recompute(session: EncodeStream, samples: int) -> Callable[[], object]:
    """What it would take without a state: the codes of a whole window, for its last frame."""
    x = np.random.default_rng(0).standard_normal((len(session.montage), samples)) * 30

    def work() -> None:
        session.reset()
        session.push(x.astype(np.float32))

    return work


def measure(count: int) -> list[dict[str, Any]]:
    """Rows of the table: each codec in each runtime."""
    models = codecs()
    pairs = [(name, runtime) for name in models for runtime in RUNTIMES]
    work, again = {}, {}
    for name, runtime in pairs:
        codec, run = models[name], RUNTIMES[runtime](models[name])
        for streams in (1, STREAMS):
            session = run.encode_stream(streams, montage=MONTAGE)
            work[name, runtime, streams] = push(session, codec.hop_length)
        field = -(-codec.receptive_field // codec.hop_length)
        for what, frames in (("window", 128), ("field", field)):
            # No unit, for its check looks at the first seconds of each session.
            session = run.encode_stream(montage=MONTAGE, unit="adc")
            again[name, runtime, what] = recompute(session, frames * codec.hop_length)
    warm = {key: Steps(each) for key, each in work.items()}
    cold = {
        kind: {key[:2]: Steps(each) for key, each in work.items() if key[2] == 1}
        for kind in OTHER_WORK
    }
    slow = {key: Steps(each) for key, each in again.items()}
    copies = {kind: torch.zeros(2, size, dtype=torch.uint8) for kind, size in OTHER_WORK.items()}
    for _ in range(count):
        for steps in warm.values():
            steps.work()
            for _ in range(BURST):
                steps()
        for kind, (old, new) in copies.items():
            for _ in range(BURST):
                for steps in cold[kind].values():
                    old.copy_(new)
                    steps()
        for steps in slow.values():
            steps()
    rows = []
    for name, runtime in pairs:
        one, many = warm[name, runtime, 1], warm[name, runtime, STREAMS]
        frame = 1e3 / models[name].frame_rate
        median = one.milliseconds(0.5)
        taken = {"warm": one} | {kind: each[name, runtime] for kind, each in cold.items()}
        rows.append(
            {
                "codec": name,
                "runtime": runtime,
                "frame_ms": frame,
                **{
                    f"{kind}_ms": [steps.milliseconds(q) for q in (0.5, 0.99)]
                    for kind, steps in taken.items()
                },
                "share_of_core": [steps.milliseconds(0.5) / frame for steps in taken.values()],
                "streams_16_over_1": many.milliseconds(0.5) / median,
                "recompute_128_frames_over_step": slow[name, runtime, "window"].milliseconds(0.5)
                / median,
                "recompute_field_over_step": slow[name, runtime, "field"].milliseconds(0.5)
                / median,
                "state_bytes": state_bytes(models[name]),
            }
        )
    return rows


def table(rows: list[dict[str, Any]]) -> str:
    """The rows as a table."""
    lines = [
        "| codec | runtime | step warm p50 / p99, ms | cold p50 / p99, ms | from memory p50 / p99, "
        "ms | share of a core warm / cold / from memory | 16 streams / 1 | 128 frames anew / step "
        "| whole field anew / step | state, KiB |",
        "|---|---|---|---|---|---|---|---|---|---|",
    ]
    for row in rows:
        steps = (row[f"{kind}_ms"] for kind in ("warm", *OTHER_WORK))
        cells = " | ".join(" / ".join(f"{ms:.2f}" for ms in each) for each in steps)
        share = " / ".join(f"{100 * part:.1f} %" for part in row["share_of_core"])
        lines.append(
            f"| {row['codec']} | {row['runtime']} | {cells} | {share} "
            f"| {row['streams_16_over_1']:.1f} | {row['recompute_128_frames_over_step']:.1f} "
            f"| {row['recompute_field_over_step']:.1f} | {row['state_bytes'] / 1024:.0f} |"
        )
    return "\n".join(lines)


def aims(rows: list[dict[str, Any]]) -> str:
    """What was aimed at beside what was measured."""
    by = {(row["codec"], row["runtime"]): row for row in rows}
    tiny, student = (by[name, "onnxruntime"] for name in ("tiny, 8 ms", "bundled student"))
    told = [
        ("`tiny`, onnxruntime, warm p50", tiny["warm_ms"][0], 1.0, "ms"),
        ("cold p50", tiny["cold_ms"][0], 2.5, "ms"),
        ("cold p99", tiny["cold_ms"][1], 3.0, "ms"),
        ("torch, warm p50", by["tiny, 8 ms", "torch"]["warm_ms"][0], 2.5, "ms"),
        ("student, onnxruntime, warm", 100 * student["share_of_core"][0], 2.0, "% of a core"),
        ("cold", 100 * student["share_of_core"][1], 4.0, "% of a core"),
    ]
    parts = [
        f"{what} at most {most:g} {unit}: {found:.2f}"
        + ("" if found <= most else ", **not reached**")
        for what, found, most, unit in told
    ]
    again = min(row["recompute_128_frames_over_step"] for row in (tiny, student))
    parts.append(
        f"a window of 128 frames anew at least 25 steps: {again:.0f}"
        + ("" if again >= 25 else ", **not reached**")
    )
    return "Aimed at: " + "; ".join(parts) + "."


def main() -> None:
    """Prints the table and, if asked, writes it."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", type=Path, help="write the numbers here")
    parser.add_argument("--page", type=Path, help="and the table into this page")
    parser.add_argument("--rounds", type=int, default=20)
    args = parser.parse_args()
    if args.page and not args.json:
        parser.error("--page tells what --json holds: give both")
    torch.set_num_threads(1)
    torch.manual_seed(0)
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, [max(os.sched_getaffinity(0))])
    rows = measure(args.rounds)
    text = f"{table(rows)}\n\n{aims(rows)}"
    print(text)
    if args.json is None:
        return
    command = "python benchmarks/streaming.py " + " ".join(sys.argv[1:])
    result = made_by(command, "onnxruntime") | {
        "steps": args.rounds * BURST,
        "electrodes": len(MONTAGE),
        "rows": rows,
    }
    write_json(args.json, result)
    if args.page:
        made = f"Commit `{result['commit']}`, {versions_of(result)}, {result['machine']}."
        write_section(args.page, "benchmark", f"{text}\n\n{made}")


if __name__ == "__main__":
    main()
