"""Language models that read and write EMG tokens, through transformers (extra ``llm``)."""

from emgcodec.llm.embeddings import init_embeddings
from emgcodec.llm.generation import GridLogitsProcessor, generated_tokens
from emgcodec.llm.prompts import EmgCollator, EmgProcessor
from emgcodec.llm.vocabulary import CLOSE, OPEN, EmgVocabulary, LLMError, extend_tokenizer

__all__ = [
    "CLOSE",
    "OPEN",
    "EmgCollator",
    "EmgProcessor",
    "EmgVocabulary",
    "GridLogitsProcessor",
    "LLMError",
    "extend_tokenizer",
    "generated_tokens",
    "init_embeddings",
]
