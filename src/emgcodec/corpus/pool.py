"""The local engine: shards in this process, or in several of them."""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
from collections.abc import Generator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from multiprocessing.connection import wait

from emgcodec.corpus.jobs import Job
from emgcodec.corpus.settings import CorpusError
from emgcodec.corpus.shard import Record, ShardMaker


def run_local(jobs: Sequence[Job], make: ShardMaker, workers: int) -> Generator[Record]:
    """Records of the shards as they are done; closed early, it ends the workers where they are.

    Raises:
        CorpusError: if a worker dies.
    """
    if (workers := min(workers, len(jobs))) <= 1:
        yield from map(make, jobs)
        return
    before = set(multiprocessing.active_children())
    context = multiprocessing.get_context("spawn")  # torch has threads, which a fork may hang on
    pool = ProcessPoolExecutor(workers, context, initializer=_start)
    try:
        for future in as_completed([pool.submit(make, job) for job in jobs]):
            yield future.result()
    except BrokenProcessPool as error:
        raise CorpusError(
            "a worker died, perhaps for want of memory; finished shards are kept: run it again, "
            "with fewer workers if need be (a script that starts workers needs "
            "`if __name__ == '__main__':`)"
        ) from error
    except BaseException:
        for worker in set(multiprocessing.active_children()) - before:
            worker.terminate()
        raise
    finally:
        pool.shutdown(cancel_futures=True)


def _start() -> None:
    """Leaves Ctrl-C to the parent, and lets no worker outlive it."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_leave_with_parent, daemon=True).start()


def _leave_with_parent() -> None:
    """A worker whose parent was killed would wait for work for ever."""
    parent = multiprocessing.parent_process()
    assert parent is not None
    wait([parent.sentinel])
    os._exit(1)
