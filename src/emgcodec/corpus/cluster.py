"""The Ray engine: shards by actors on any number of machines that see the same files."""

from __future__ import annotations

from collections.abc import Generator, Sequence
from typing import Any

from emgcodec.corpus.jobs import Job
from emgcodec.corpus.settings import CorpusError
from emgcodec.corpus.shard import Record, ShardMaker

_TRIES = 3  # of an actor or a job whose machine is lost


def run_ray(
    jobs: Sequence[Job], make: ShardMaker, workers: int, address: str | None
) -> Generator[Record]:
    """Records of the shards as they are done.

    Args:
        jobs: What to do.
        make: How; its folder and the inputs have the same paths on all machines.
        workers: Actors, of one processor each, and of one GPU if the codec runs there; no more
            than the cluster has of those.
        address: Of a cluster; None starts one on this machine.

    Raises:
        CorpusError: without Ray, or a processor for it.
    """
    try:
        import ray
        from ray.util import ActorPool
    except ImportError as error:
        raise CorpusError("engine='ray' needs Ray: pip install 'emgcodec[ray]'") from error
    ours = not ray.is_initialized()
    if ours:
        ray.init(address=address, include_dashboard=False, log_to_driver=False)
    actor: Any = ray.remote(_Worker)
    on_gpu = make.device.startswith("cuda")
    actor = actor.options(
        num_cpus=1, num_gpus=int(on_gpu), max_restarts=_TRIES, max_task_retries=_TRIES
    )
    actors: list[Any] = []
    try:
        kind = "GPU" if on_gpu else "CPU"
        # An actor that never gets its place would hold the jobs that it is dealt for ever.
        places = int(ray.cluster_resources().get(kind, 0))
        if not places:
            raise CorpusError(f"the Ray cluster has no {kind}: add one, or choose another device")
        actors = [actor.remote(make) for _ in range(min(workers, places, len(jobs)))]
        yield from ActorPool(actors).map_unordered(lambda a, job: a.make.remote(job), list(jobs))
    finally:
        for each in actors:
            ray.kill(each)
        if ours:
            ray.shutdown()


class _Worker:
    def __init__(self, make: ShardMaker) -> None:
        self._make = make

    def make(self, job: Job) -> Record:
        return self._make(job)
