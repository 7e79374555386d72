"""Contenders take turns within a round; ratios are formed within rounds."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable

Contenders = dict[str, Callable[[], object]]


def timed(work: Callable[[], object]) -> float:
    """Seconds of one call."""
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def rounds(contenders: Contenders, count: int) -> list[dict[str, float]]:
    """Seconds of every contender in every round, after one that does not count."""
    for work in contenders.values():
        work()
    return [{name: timed(work) for name, work in contenders.items()} for _ in range(count)]


def median(found: list[dict[str, float]], name: str) -> float:
    """Median over rounds of a contender's seconds."""
    return statistics.median(r[name] for r in found)


def median_ratio(found: list[dict[str, float]], above: str, below: str) -> float:
    """Median over rounds of the ratio of two contenders' times."""
    return statistics.median(r[above] / r[below] for r in found)
