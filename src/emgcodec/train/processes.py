"""One process or several: how they start, are interrupted, and end."""

from __future__ import annotations

import logging
import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch

from emgcodec.config import ConfigError
from emgcodec.train.recipe import RunRecipe


def launch(run: RunRecipe) -> Any:
    """Starts the processes; what is built after this may talk to the others.

    Raises:
        ConfigError: if lightning is not installed, or there is no such accelerator.
    """
    try:
        from lightning.fabric import Fabric
    except ImportError as error:
        raise ConfigError("training needs lightning: pip install 'emgcodec[train]'") from error
    for name in ("fabric", "pytorch"):  # the one says what the other logs
        logging.getLogger(f"lightning.{name}").setLevel(logging.WARNING)
    try:
        fabric = Fabric(
            accelerator=run.accelerator,
            devices=run.processes,
            strategy="ddp" if run.processes > 1 else "auto",
            precision="bf16-mixed" if run.precision == "bf16" else "32-true",
        )
    except RuntimeError as error:
        raise ConfigError(f"run.accelerator={run.accelerator!r}: {error}") from error
    fabric.launch()
    return fabric


def is_first_process() -> bool:
    """Whether this one was started by hand and not by another; can be asked before `launch`."""
    return os.environ.get("RANK", os.environ.get("LOCAL_RANK", "0")) == "0"


@contextmanager
def interrupts() -> Iterator[threading.Event]:
    """Catches SIGINT and SIGTERM once: a step is finished, a second signal is not waited for.

    A signal that is ignored, as a shell's background jobs ignore SIGINT, stays ignored.
    """
    asked = threading.Event()
    if threading.current_thread() is not threading.main_thread():
        yield asked
        return
    handlers = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    before = {number: handler for number, handler in handlers.items() if handler != signal.SIG_IGN}

    def ask(number: int, frame: object) -> None:
        asked.set()
        for each, handler in before.items():
            signal.signal(each, handler)

    for number in before:
        signal.signal(number, ask)
    try:
        yield asked
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def leave_together(fabric: Any) -> None:
    """Ends the process group; helpers leave at once, for their threads may abort at exit."""
    fabric.barrier()
    torch.distributed.destroy_process_group()
    if not fabric.is_global_zero:
        os._exit(0)
