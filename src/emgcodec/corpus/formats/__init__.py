"""Files that trainers of language models read: one writer a format, for the rows of one shard."""

from __future__ import annotations

from importlib.util import find_spec

from emgcodec.corpus.formats.megatron import write_megatron
from emgcodec.corpus.formats.npy import write_npy
from emgcodec.corpus.formats.parquet import write_parquet
from emgcodec.corpus.formats.webdataset import write_webdataset
from emgcodec.corpus.settings import CorpusError
from emgcodec.layouts import Layout

FORMATS = {
    "parquet": write_parquet,
    "npy": write_npy,
    "megatron": write_megatron,
    "webdataset": write_webdataset,
}
"""What each is given: where its files' names begin, the rows and the settings."""


def check_format(name: str, layout: Layout) -> None:
    """Raises a `CorpusError` if there is no such format here, or it cannot hold such ids."""
    if name not in FORMATS:
        raise CorpusError(f"format={name!r} is unknown: choose from {list(FORMATS)}")
    if name == "parquet" and find_spec("pyarrow") is None:
        raise CorpusError("format='parquet' needs pyarrow: pip install 'emgcodec[llm]'")
    if name in ("npy", "megatron") and layout.has_rows:
        raise CorpusError(
            f"format={name!r} is one line of ids, a {layout.kind!r} layout has {layout.rows}: use "
            "layout='flat', or format='parquet'"
        )
    if name == "npy" and (ids := layout.offset + layout.vocab_size) > 1 << 16:
        raise CorpusError(
            f"format='npy' holds ids below 65536, the layout needs {ids}: use layout='flat' from "
            "offset=0, or format='megatron'"
        )
