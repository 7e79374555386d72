"""Bulk tokenization: speed, where the time goes, scaling, Ray's cost, bytes, memory.

    python benchmarks/corpus.py
    python benchmarks/corpus.py --json docs/results/corpus.json --page docs/llm.md

Sessions are noise on two wristbands of 16 electrodes at 2 kHz, which changes the speed of nothing.
Contenders take turns within a round; the median over rounds of their ratio is given.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import torch
from timing import median_ratio, rounds, timed

from emgcodec import Codec, Recording, read
from emgcodec.corpus import build
from emgcodec.corpus.formats import FORMATS
from emgcodec.corpus.row import Row
from emgcodec.corpus.settings import Settings
from emgcodec.evaluate.provenance import made_by
from emgcodec.files import write_json, write_section
from emgcodec.io import write_session
from emgcodec.layouts import Layout
from emgcodec.signal import Preparation

RATE, ELECTRODES = 2000, 32


def sessions(folder: Path, count: int, seconds: int) -> Path:
    """A folder of session files, without compression."""
    folder.mkdir()
    for number in range(count):
        emg = np.random.default_rng(number).normal(0, 30, (ELECTRODES, seconds * RATE))
        facts = {"dataset": "noise", "subject": f"S{number}"}
        write_session(
            Recording(emg.astype("f4"), RATE, montage="emg2qwerty", metadata=facts),
            folder / f"{number:03d}.hdf5",
        )
    return folder


def zipped(path: Path) -> Path:
    """The same session compressed, as the published ones are."""
    target = path.with_suffix(".gzip.hdf5")
    with h5py.File(path) as source, h5py.File(target, "w") as file:
        group = file.create_group("emg2qwerty")
        group.attrs.update(source["emg2qwerty"].attrs)
        rows = source["emg2qwerty/timeseries"][:]
        group.create_dataset("timeseries", data=rows, chunks=True, compression="gzip")
    return target


def reading(codec: Codec, path: Path, count: int) -> dict[str, float]:
    """What `tokenize` of a file costs over `tokenize` and `encode` of the array in it."""
    plain, packed = read(path), zipped(path)
    array = Recording(plain.emg, RATE, montage=plain.montage)
    x = torch.from_numpy(array.emg)[None]
    found = rounds(
        {
            "encode": lambda: codec.encode(x, montage=plain.montage),
            "array": lambda: codec.tokenize(array),
            "plain": lambda: codec.tokenize(path),
            "gzip": lambda: codec.tokenize(packed),
        },
        count,
    )
    pairs = (("array", "encode"), ("plain", "encode"), ("gzip", "encode"), ("gzip", "plain"))
    return {f"{above}_over_{below}": median_ratio(found, above, below) for above, below in pairs}


def shares(codec: Codec, path: Path, folder: Path, count: int) -> dict[str, float]:
    """Shares of reading, preparing, model and writing in their sum."""
    rec = read(path)
    tokens = codec.tokenize(rec)
    layout = Layout("flat", codec.num_codebooks, codec.codebook_size)
    settings = Settings("", "", layout, "parquet", {"train": 1.0}, 1.0, None, None, None)
    x = torch.from_numpy(rec.emg)[None]

    def prepare() -> None:
        preparation = Preparation(RATE, codec.sample_rate, ELECTRODES, None)
        for start in range(0, x.shape[2], 60 * RATE):
            preparation.push(x[0, :, start : start + 60 * RATE].numpy())
        preparation.flush()

    def write() -> None:
        row = Row("x", tokens, tokens.to_ids(layout).astype(np.int32), ())
        FORMATS["parquet"](folder / "one", [row], settings)

    found = rounds(
        {
            "reading": lambda: sum(block.shape[1] for block in rec.blocks()),
            "preparing": prepare,
            "model": lambda: codec.encode(x, montage=rec.montage),
            "writing": write,
        },
        count,
    )
    median = {name: statistics.median(each[name] for each in found) for name in found[0]}
    return {name: seconds / sum(median.values()) for name, seconds in median.items()}


def engines(source: Path, folder: Path, count: int, ray: bool) -> list[dict[str, float]]:
    """Seconds of whole builds, workers' start and all, taking turns."""
    found = []
    for number in range(count):
        chosen = {"one": {"workers": 1}, "two": {"workers": 2}}
        if ray:
            chosen["ray"] = {"workers": 2, "engine": "ray"}
        each = {}
        for name, options in chosen.items():
            out = folder / f"{name}{number}"
            each[name] = timed(
                lambda out=out, o=options: build([source], out, shard_megabytes=20, **o)
            )
        found.append(each)
    return found


_MEMORY = """
import sys
from emgcodec.corpus import build
build([sys.argv[1]], sys.argv[2], shard_megabytes=20)
lines = open("/proc/self/status").read().splitlines()
print(int(next(l for l in lines if l.startswith("VmHWM")).split()[1]) / 1024)
"""


def peak_memory(source: Path, out: Path) -> float:
    """MiB of a whole process that builds."""
    command = [sys.executable, "-c", _MEMORY, str(source), str(out)]
    return float(subprocess.run(command, check=True, capture_output=True, text=True).stdout)


def section(result: dict[str, Any]) -> str:
    """The numbers in words."""
    tokenize, memory = result["tokenize"], result["peak_memory_mib"]
    parts = ", ".join(f"{name} {100 * share:.0f} %" for name, share in result["shares"].items())
    ray = (
        f"Ray takes {result['ray_seconds_more_than_pool']:.0f} s more than the pool, to start. "
        if "ray_seconds_more_than_pool" in result
        else ""
    )
    return (
        f"A core makes {60 * result['hours_per_minute_and_core']:.0f} hours of {ELECTRODES} "
        f"electrodes at {RATE / 1000:g} kHz into Parquet in an hour, two workers "
        f"{result['two_workers_over_one']:.2f} times as many (whole builds of "
        f"{60 * result['hours']:.0f} min of signal, the workers' start and all). {ray}"
        f"Of the work in one process: {parts}. `tokenize` of ten minutes in a plain HDF5 file "
        f"takes {tokenize['plain_over_encode']:.2f} times as long as `encode` of the array alone, "
        f"{tokenize['gzip_over_encode']:.2f} times if it is compressed with gzip (at most 1.05 and "
        f"1.10 were aimed at), of the array {tokenize['array_over_encode']:.2f} times: one block "
        "is read and prepared while another is encoded, which at this speed takes no longer than "
        "to read it. An hour becomes "
        f"{result['bytes_per_hour'] / 2**20:.1f} MiB. At most "
        f"{', '.join(f'{mib:.0f} MiB for {name}' for name, mib in memory.items())}, torch and all. "
        f"`{result['command']}`, commit `{result['commit']}`, medians of one run on "
        f"{result['cores']} cores of {result['machine']}."
    )


def main() -> None:
    """Prints the numbers and, if asked, writes them."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", type=Path, help="write the numbers here")
    parser.add_argument("--page", type=Path, help="and in words into this page")
    parser.add_argument("--rounds", type=int, default=5, help="of the short ones (5)")
    parser.add_argument("--builds", type=int, default=2, help="rounds of whole builds (2)")
    parser.add_argument("--minutes", type=float, default=480.0, help="of signal in them (480)")
    parser.add_argument("--no-ray", action="store_true")
    args = parser.parse_args()
    torch.set_num_threads(1)
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    codec = Codec.from_pretrained()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        one = next(sessions(folder / "one", 1, 600).iterdir())
        result: dict[str, Any] = {"tokenize": reading(codec, one, args.rounds)}
        print(result["tokenize"], flush=True)
        result["shares"] = shares(codec, one, folder, args.rounds)
        print(result["shares"], flush=True)
        files = round(args.minutes)
        source, fourth = (sessions(folder / f"{n}", n, 60) for n in (files, files // 4))
        found = engines(source, folder, args.builds, not args.no_ray)
        hours = files / 60
        alone = statistics.median(each["one"] for each in found)
        result |= {
            "hours_per_minute_and_core": hours / (alone / 60),
            "two_workers_over_one": median_ratio(found, "one", "two"),
            "seconds": found,
            "hours": hours,
        }
        if not args.no_ray:
            result["ray_seconds_more_than_pool"] = statistics.median(
                each["ray"] - each["two"] for each in found
            )
        written = sum(p.stat().st_size for p in (folder / "one0").glob("*/*.parquet"))
        result["bytes_per_hour"] = round(written / hours)
        memory = [peak_memory(s, folder / f"m{i}") for i, s in enumerate((fourth, source))]
        result["peak_memory_mib"] = {f"{files // 4} min": memory[0], f"{files} min": memory[1]}
    result |= made_by(" ".join(["python benchmarks/corpus.py", *sys.argv[1:]]), "pyarrow")
    result |= {"cores": os.cpu_count(), "load_before": os.getloadavg()[2]}
    print(json.dumps(result, indent=1))
    if args.json:
        write_json(args.json, result)
    if args.page:
        write_section(args.page, "corpus", section(result))


if __name__ == "__main__":
    main()
