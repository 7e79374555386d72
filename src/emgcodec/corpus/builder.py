"""`build`: recordings in, a corpus of tokens out, however often it is interrupted."""

from __future__ import annotations

import os
import time
from collections.abc import Iterable, Mapping
from contextlib import closing
from pathlib import Path

from tqdm import tqdm

from emgcodec.corpus.cluster import run_ray
from emgcodec.corpus.formats import check_format
from emgcodec.corpus.jobs import find_inputs, make_jobs
from emgcodec.corpus.pool import run_local
from emgcodec.corpus.settings import SPLITS, CorpusError, Settings
from emgcodec.corpus.shard import ShardMaker, load_codec
from emgcodec.corpus.store import Report, Store
from emgcodec.layouts import Layout

ENGINES = ("local", "ray")
SHARD_MEGABYTES = 256.0


def build(
    inputs: Iterable[str | os.PathLike[str]],
    out: str | os.PathLike[str],
    *,
    model: str | os.PathLike[str] | None = None,
    device: str = "cpu",
    format: str = "parquet",
    layout: str = "flat",
    offset: int = 0,
    stack: int = 1,
    gaps: str = "frames",
    splits: Mapping[str, float] = SPLITS,
    shard_megabytes: float = SHARD_MEGABYTES,
    engine: str = "local",
    workers: int = 1,
    address: str | None = None,
    sample_rate: float | None = None,
    unit: str | None = None,
    montage: str | None = None,
    dataset: str | None = None,
    calibrate: float = 0.0,
    by_gesture: bool = False,
    retry: bool = False,
) -> Report:
    """Tokenizes recordings, each by itself, into files that language models train on.

    Interrupted or killed, it goes on where it was when called again. With the same recordings,
    settings, kind of device and libraries the files are the same to the bit, whatever the engine,
    the number of workers and the order. Memory grows with the tokens of a shard, not with the
    corpus.

    Args:
        inputs: Files and folders; see `read_all`.
        out: Folder of the corpus: new, or begun with the same settings.
        model: Bundled model or folder; None is the bundled student.
        device: Where the codec runs, ``cpu`` or ``cuda``.
        format: ``parquet``, ``npy``, ``megatron`` or ``webdataset``.
        layout: Kind of layout; see `Layout`, as for the next three.
        offset: First id.
        stack: Frames of each column.
        gaps: ``frames`` or ``runs``.
        splits: Shares of the people; all recordings of one are in the same split.
        shard_megabytes: Of recordings that share a shard: what a kill costs a worker at most,
            unless a file is larger.
        engine: ``local``, or ``ray`` for several machines.
        workers: Processes of one thread; 1 works in this one. With Ray, actors.
        address: Of a Ray cluster; None starts one here.
        sample_rate: Hz, of files that state none.
        unit: Instead of the files' own.
        montage: Instead of the files' own.
        dataset: Which signal, of files that hold several.
        calibrate: Seconds of the first recordings of each session in a file that calibrate it,
            unlabelled; rows tell which recordings those are. 0 starts each recording cold.
        by_gesture: Makes each gesture a recording of its own where several follow one another;
            what lies between is left out. Codes know what came before them: so nobody learns from
            them in which order people were asked.
        retry: Reads again what was skipped before, for want of a library or a disk.

    Returns:
        What the corpus holds, what was skipped and what repaired.

    Raises:
        CorpusError: if it cannot be made so, or `out` holds something else.
        CodecError: if there is no such device.
        ModelError: if there is no such model.
    """
    from emgcodec.checks import check_device
    from emgcodec.pretrained import find_model

    if engine not in ENGINES:
        raise CorpusError(f"engine={engine!r} is unknown: choose from {list(ENGINES)}")
    if workers < 1:
        raise CorpusError(f"workers={workers}: give at least 1")
    check_device(device)
    name = None
    if model is not None:
        folder = find_model(model if isinstance(model, str) else Path(model))
        # Workers may have another current folder, or this model in another place.
        name = str(folder.resolve() if folder == Path(model) else model)
    codec = load_codec(name, "cpu")
    shape = (codec.num_codebooks, codec.codebook_size)
    settings = Settings(
        codec_id=codec.codec_id,
        model_licence=codec.config.weights_license,
        layout=Layout(layout, *shape, offset, codec.vocab_id, stack, gaps),
        format=format,
        splits=dict(splits),
        shard_megabytes=shard_megabytes,
        sample_rate=sample_rate,
        unit=unit,
        montage=montage,
        dataset=dataset,
        calibrate=calibrate,
        by_gesture=by_gesture,
    )
    check_format(format, settings.layout)
    jobs = make_jobs(find_inputs(inputs), settings)
    with Store(Path(out).resolve(), settings).opened() as store:
        todo = store.missing(jobs, retry)
        make = ShardMaker(settings, str(store.folder), name, device, store.backend)
        if engine == "local" or not todo:
            run = run_local(todo, make, workers)
        else:
            run = run_ray(todo, make, workers, address)
        sizes, start, seconds = {job.name: job.size for job in jobs}, time.monotonic(), 0.0
        total, left = sum(sizes.values()), sum(job.size for job in todo)
        bar = tqdm(total=total, initial=total - left, unit="B", unit_scale=True, disable=None)
        with bar, closing(run) as records:
            for record in records:
                store.commit(record)
                seconds += sum(split["seconds"] for split in record["splits"].values())
                speed = seconds / 3600 / (time.monotonic() - start)
                bar.set_postfix_str(f"{speed:.3g} h/s", refresh=False)
                bar.update(sizes[record["name"]])
        return store.finish(jobs)
