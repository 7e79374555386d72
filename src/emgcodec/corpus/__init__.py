"""Token data sets for language models, made from any number of recordings; see `build`."""

from emgcodec.corpus.builder import build
from emgcodec.corpus.settings import CorpusError
from emgcodec.corpus.store import Report

__all__ = ["CorpusError", "Report", "build"]
