"""The command line: one file for each command; arguments are parsed before torch is loaded."""

from __future__ import annotations

import _thread
import argparse
import os
import signal
import sys
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from importlib.metadata import version

from emgcodec.cli import (
    corpus,
    data,
    decode,
    evaluate,
    export,
    info,
    inspect,
    publish,
    stream,
    tokenize,
    train,
)
from emgcodec.cli.options import complain

COMMANDS = {
    "info": info,
    "inspect": inspect,
    "tokenize": tokenize,
    "decode": decode,
    "corpus": corpus,
    "stream": stream,
    "data": data,
    "train": train,
    "evaluate": evaluate,
    "export": export,
    "publish": publish,
}


def build_parser() -> argparse.ArgumentParser:
    """The parser with all commands."""
    parser = argparse.ArgumentParser(
        prog="emgcodec",
        description="A neural codec for surface EMG: recordings to tokens and back.",
    )
    parser.add_argument("--version", action="version", version=f"emgcodec {version('emgcodec')}")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    for name, module in COMMANDS.items():
        summary, example = (module.__doc__ or "").split("\n\nExample:")
        sub = commands.add_parser(
            name,
            help=summary,
            description=summary,
            epilog=f"example:{example}",
            formatter_class=argparse.RawDescriptionHelpFormatter,
        )
        module.add_arguments(sub)
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Runs a command; 0, or 2 and one line on stderr where the input is bad."""
    args = build_parser().parse_args(argv)
    try:
        with _terminable():
            result: int = COMMANDS[args.command].run(args)
        return result
    except BrokenPipeError:  # whoever read the output has seen enough; Python would flush again
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except (ValueError, OSError) as error:
        complain(args.command, error)
        return 2
    except KeyboardInterrupt:
        complain(args.command, "interrupted; finished files are whole")
        return 130


@contextmanager
def _terminable() -> Iterator[None]:
    """SIGTERM leaves as Ctrl-C does, so that nothing half written stays; one ignored stays so."""
    main_thread = threading.current_thread() is threading.main_thread()
    if not main_thread or signal.getsignal(signal.SIGTERM) != signal.SIG_DFL:
        yield
        return
    hook = sys.unraisablehook
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    sys.unraisablehook = lambda dropped: _again(dropped) or hook(dropped)
    try:
        yield
    finally:
        sys.unraisablehook = hook
        signal.signal(signal.SIGTERM, signal.SIG_DFL)


def _again(dropped: sys.UnraisableHookArgs) -> bool:
    """Interrupts anew where Python drops an exception, as in a destructor."""
    if not issubclass(dropped.exc_type, KeyboardInterrupt):
        return False
    later = threading.Timer(0.01, _thread.interrupt_main, (signal.SIGTERM,))
    later.daemon = True
    later.start()
    return True
