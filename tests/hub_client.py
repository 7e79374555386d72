"""A process that does what it is told in lines of JSON: the client reads its settings only once.

A line is the name of a function below and its keyword arguments; the answer, another line, is what
it gave or the error it raised, and what it printed.
"""

from __future__ import annotations

import contextlib
import io
import json
import sys
from collections.abc import Callable
from typing import Any

import huggingface_hub

from emgcodec import Codec
from emgcodec.cli import main


def load(**options: Any) -> str:
    return Codec.from_pretrained(**options).codec_id


def push(model: str, **options: Any) -> str:
    return Codec.from_pretrained(model).push_to_hub(**options)


def set_offline(offline: bool) -> None:
    """What HF_HUB_OFFLINE does, which is read only once."""
    huggingface_hub.constants.HF_HUB_OFFLINE = offline


def command(argv: list[str]) -> int:
    return main(argv)


CALLS: dict[str, Callable[..., Any]] = {
    "load": load,
    "push": push,
    "set_offline": set_offline,
    "command": command,
}


def answer(name: str, options: dict[str, Any]) -> dict[str, Any]:
    out, err = io.StringIO(), io.StringIO()
    found: dict[str, Any] = {}
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        try:
            found["value"] = CALLS[name](**options)
        except Exception as error:
            found["error"], found["kind"] = str(error), type(error).__name__
    return found | {"out": out.getvalue(), "err": err.getvalue()}


if __name__ == "__main__":
    for line in sys.stdin:
        print(json.dumps(answer(*json.loads(line))), flush=True)
