"""Makes hostile files, has them opened, and counts what came of it: ``make fuzz``.

Example:
  python tests/fuzz.py --json docs/results/robustness.json --page docs/robustness.md
"""

from __future__ import annotations

import argparse
import json
import os
import queue
import shutil
import subprocess
import sys
import tempfile
import threading
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import Any

import pytest
from fuzz_bombs import BOMBS, Bomb
from fuzz_files import make, specimens
from tqdm import tqdm

from emgcodec.evaluate.provenance import made_by
from emgcodec.files import write_json, write_section

GOOD = ("read", "refused")
LIMITS = {"seconds": 10, "bytes": 1 << 30}
SHARES = {
    "recording": 35,
    "dataset": 5,
    "archive": 10,
    "tokens": 15,
    "config": 10,
    "safetensors": 10,
    "packets": 15,
}
"""Hostile files of each kind, in percent."""

_WAIT = 60  # seconds until a process that says nothing is taken for hung


Kinds = dict[str, list[Path]]
Bombs = dict[str, Bomb]


@dataclass(frozen=True)
class Case:
    """A hostile file.

    Attributes:
        kind: See `SHARES`.
        name: Of the bomb, or the good file and the number of its damage.
        path: Where it is.
    """

    kind: str
    name: str
    path: Path


class Opener:
    """A process that opens files, replaced when it dies."""

    def __init__(self, good: Path, warm: Iterable[tuple[str, Path]], home: Path) -> None:
        self._argv = [sys.executable, str(Path(__file__).with_name("fuzz_worker.py")), str(good)]
        self._warm = ";".join(f"{kind} {path}" for kind, path in warm)
        self._home = home
        self._errors = (home.parent / "errors").open("w+b")
        self._begin()

    def _begin(self) -> None:
        quiet = {"PYTHONDONTWRITEBYTECODE": "1", "MALLOC_ARENA_MAX": "1", "HOME": str(self._home)}
        self._process = subprocess.Popen(
            self._argv,
            cwd=self._home,
            env={**os.environ, **quiet, "OMP_NUM_THREADS": "1", "PYTHONFAULTHANDLER": "1"},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._errors,
            text=True,
        )
        self._lines: queue.Queue[str] = queue.Queue()
        threading.Thread(
            target=self._listen, args=(self._process, self._lines), daemon=True
        ).start()
        self._say(self._warm)
        if (line := self._lines.get(timeout=300)) != "ready\n":
            raise RuntimeError(f"good files cannot be opened: {line} {self._last_words()}")

    @staticmethod
    def _listen(process: subprocess.Popen[str], lines: queue.Queue[str]) -> None:
        for line in process.stdout or ():
            lines.put(line)
        lines.put("")

    def _say(self, line: str) -> None:
        assert self._process.stdin is not None
        self._process.stdin.write(line + "\n")
        self._process.stdin.flush()

    def __call__(self, case: Case) -> dict[str, Any]:
        """What came of a file."""
        self._say(f"{case.kind}\t{case.path}")
        try:
            line = self._lines.get(timeout=_WAIT)
        except queue.Empty:
            self._process.kill()
            return self._anew("hang")
        if line:
            found: dict[str, Any] = json.loads(line)
            if found["bytes"] > LIMITS["bytes"]:
                found["outcome"] = "memory"
            return found
        return self._anew("crash")

    def _anew(self, outcome: str) -> dict[str, Any]:
        words = f"exit {self._process.wait()}: {self._last_words()}"
        self._begin()
        return {"outcome": outcome, "words": words, "seconds": 0.0, "bytes": 0}

    def _last_words(self) -> str:
        self._errors.seek(max(0, self._errors.seek(0, 2) - 2000))
        return self._errors.read().decode(errors="replace")

    def close(self) -> None:
        self._process.kill()
        self._process.wait()


def cases(kinds: Kinds, bombs: Bombs, count: int, seed: int, at: Path) -> Iterator[Case]:
    """Bombs, then so many damaged files, each gone when the next is asked for."""
    for name, (kind, write) in bombs.items():
        folder = at / name
        folder.mkdir()
        yield Case(kind, name, write(folder))
        shutil.rmtree(folder)
    for kind, share in SHARES.items():
        for number in range(count * share // 100):
            chance = Random(f"{seed} {kind} {number}")
            source = kinds[kind][number % len(kinds[kind])]
            folder = at / f"{kind}{number}"
            path = make(chance, kind, source, folder)
            yield Case(kind, f"{source.name} {number}", path)
            shutil.rmtree(folder)


def fuzz(
    count: int, seed: int = 0, keep: Path | None = None, bombs: Bombs = BOMBS
) -> dict[str, Any]:
    """Opens hostile files.

    Args:
        count: How many, besides the bombs.
        seed: Which.
        keep: Folder for those that were not handled well.
        bombs: Which of them.

    Returns:
        Counts of outcomes by kind, the most of time and memory, and what was not handled well.
    """
    with tempfile.TemporaryDirectory() as name:
        folder, home = Path(name), Path(name) / "home"
        home.mkdir()
        kinds = specimens(folder / "good")
        opener = Opener(folder / "good", [(k, p) for k, ps in kinds.items() for p in ps], home)
        counts: dict[str, Counter[str]] = {kind: Counter() for kind in SHARES}
        failures, slowest, largest = [], (0.0, ""), (0, "")
        (at := folder / "hostile").mkdir()
        before = _state(folder / "good")
        try:
            todo = cases(kinds, bombs, count, seed, at)
            for case in tqdm(todo, total=count + len(bombs), desc="fuzz", disable=None):
                state = _state(case.path.parent)
                found = opener(case)
                if _state(case.path.parent) != state or any(home.iterdir()):
                    found |= {"outcome": "touched", "words": f"wrote {sorted(home.iterdir())}"}
                counts[case.kind][found["outcome"]] += 1
                slowest = max(slowest, (found["seconds"], case.name))
                largest = max(largest, (found["bytes"], case.name))
                if found["outcome"] not in GOOD:
                    failures.append({"kind": case.kind, "case": case.name, **found})
                    if keep:
                        shutil.copytree(case.path.parent, keep / f"{case.kind}-{case.name}")
        finally:
            opener.close()
        assert _state(folder / "good") == before
    return {
        "cases": sum(counts[kind].total() for kind in counts),
        "bombs": len(bombs),
        "outcomes": {kind: dict(sorted(found.items())) for kind, found in counts.items()},
        "slowest": {"seconds": round(slowest[0], 3), "case": slowest[1]},
        "largest": {"megabytes": round(largest[0] / 1e6, 1), "case": largest[1]},
        "failures": failures,
    }


def _state(folder: Path) -> dict[str, tuple[int, int]]:
    files = (path for path in folder.rglob("*") if path.is_file())
    return {str(p): ((s := p.stat()).st_size, s.st_mtime_ns) for p in files}


class Faults:
    """Counts what the tests of `test_faults.py` come to, as a plugin of pytest."""

    def __init__(self) -> None:
        self.counts: Counter[str] = Counter()

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        if report.when == "call" or report.outcome != "passed":
            self.counts[report.outcome] += 1


def table(result: dict[str, Any]) -> str:
    """The counts as a table."""
    lines = ["| kind | files | read | refused | anything else |", "|---|---|---|---|---|"]
    for kind, found in result["fuzz"]["outcomes"].items():
        total, good = sum(found.values()), [found.get(each, 0) for each in GOOD]
        lines.append(f"| {kind} | {total} | {good[0]} | {good[1]} | {total - sum(good)} |")
    slowest, largest = result["fuzz"]["slowest"], result["fuzz"]["largest"]
    faults = ", ".join(f"{n} {outcome}" for outcome, n in sorted(result["faults"].items()))
    lines += [
        "",
        f"The slowest took {slowest['seconds']:.1f} s of processor time ({slowest['case']}), the "
        f"largest {largest['megabytes']:.0f} MB ({largest['case']}). Tests of faults: {faults}.",
    ]
    return "\n".join(lines)


def main() -> int:
    """Runs both suites; 1 if anything was not handled well."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--count", type=int, default=10_000, help="hostile files (10000)")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--keep", type=Path, help="folder for files that were not handled well")
    parser.add_argument("--json", type=Path, help="write the counts here")
    parser.add_argument("--page", type=Path, help="and a table of them into this page")
    args = parser.parse_args()
    result = made_by("python tests/fuzz.py " + " ".join(sys.argv[1:]))
    result |= {"seed": args.seed, "limits": LIMITS, "fuzz": fuzz(args.count, args.seed, args.keep)}
    faults = Faults()
    pytest.main(["-q", str(Path(__file__).with_name("test_faults.py"))], plugins=[faults])
    result["faults"] = dict(faults.counts)
    print(json.dumps(result["fuzz"]["failures"], indent=1), table(result), sep="\n")
    if args.json:
        write_json(args.json, result)
    if args.page:
        write_section(args.page, "counts", table(result))
    return 1 if result["fuzz"]["failures"] or faults.counts["failed"] else 0


if __name__ == "__main__":
    sys.exit(main())
