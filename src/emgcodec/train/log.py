"""What a training says while it runs: JSON lines, TensorBoard, a progress bar."""

from __future__ import annotations

import json
import sys
import time
from collections import defaultdict
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import torch
from torch import Tensor
from tqdm import tqdm

from emgcodec.files import written_beside

_BAR = "{desc}: {percentage:3.0f}%|{bar}| {elapsed}<{remaining}{postfix}"


class Log:
    """Means of every few steps.

    Args:
        folder: Where ``log.jsonl`` and ``tensorboard`` go; lines beyond `step` are dropped, for a
            resumed training writes them again.
        step: Steps done.
        share: Of the training that is done.
        every: Steps of one line.
        quiet: Writes nothing: processes beside the first one.
    """

    def __init__(
        self, folder: Path, step: int, share: float, every: int, *, quiet: bool = False
    ) -> None:
        self._every, self._quiet = every, quiet
        self._path = folder / "log.jsonl"
        self._board: Any = None
        self._written = step
        self._clear()
        slow = None if sys.stderr.isatty() else 30.0  # seconds: a file of it stays short
        self._bar = tqdm(
            total=1.0,
            initial=share,
            desc="training",
            bar_format=_BAR,
            mininterval=slow or 0.2,
            maxinterval=slow or 10.0,
            disable=quiet,
        )
        if not quiet:
            if self._path.is_file():
                kept = [
                    line
                    for line in self._path.read_text("utf-8").splitlines(keepends=True)
                    if line.endswith("\n") and json.loads(line)["step"] <= step
                ]
                with written_beside(self._path) as beside:
                    beside.write_text("".join(kept), encoding="utf-8")
            self._board = _tensorboard(folder, step)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._bar.close()
        if self._board is not None:
            self._board.close()

    def _clear(self) -> None:
        self._sums: dict[str, Tensor | float] = defaultdict(float)
        self._counts: dict[str, int] = defaultdict(int)
        self._signal = self._waited = 0.0
        self._since = time.monotonic()

    def add(self, terms: Mapping[str, Tensor | float], signal: float, waited: float) -> None:
        """Takes one step.

        Args:
            terms: What is averaged over the steps that have it.
            signal: Seconds of signal that it learned from.
            waited: Seconds that it waited for them.
        """
        for name, value in terms.items():
            self._sums[name] += value.detach() if isinstance(value, Tensor) else value
            self._counts[name] += 1
        self._signal += signal
        self._waited += waited

    def write(self, step: int, share: float, facts: Mapping[str, float]) -> None:
        """Moves the bar, and every few steps and at the end writes a line.

        Args:
            step: Steps done.
            share: Of the training that is done.
            facts: What is true now.
        """
        self._bar.update(share - self._bar.n)
        if step % self._every and share < 1.0:
            return
        means = {name: float(total) / self._counts[name] for name, total in self._sums.items()}
        passed = max(time.monotonic() - self._since, 1e-9)
        rates = {
            "speed": self._signal / passed,
            "waiting": self._waited / passed,
            "step_seconds": passed / max(step - self._written, 1),
            "peak_gib": _peak_memory() / 2**30,
        }
        self._written = step
        self._clear()
        if self._quiet:
            return
        numbers = {"share": share} | dict(facts) | means | rates
        entry = {"step": step} | {name: float(f"{v:.6g}") for name, v in numbers.items()}
        with self._path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(entry) + "\n")
        if self._board is not None:
            for name, value in entry.items():
                self._board.add_scalar(name, value, step)
        self._bar.set_postfix_str(
            f"step {step}, loss {entry['loss']:.3f}, {entry['speed']:.0f} times real time",
            refresh=False,
        )


def _peak_memory() -> float:
    """Bytes that the process needed at most: of the GPU where it uses one."""
    if torch.cuda.is_initialized():
        return torch.cuda.max_memory_allocated()
    try:
        from resource import RUSAGE_SELF, getrusage
    except ImportError:  # Windows
        return float("nan")
    unit = 1 if sys.platform == "darwin" else 1024
    return getrusage(RUSAGE_SELF).ru_maxrss * unit


def _tensorboard(folder: Path, step: int) -> Any:
    """A writer that hides what an interrupted training wrote beyond `step`, or None."""
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError:
        tqdm.write("tensorboard is not installed: the log is in log.jsonl only", file=sys.stderr)
        return None
    return SummaryWriter(str(folder / "tensorboard"), purge_step=step + 1)
