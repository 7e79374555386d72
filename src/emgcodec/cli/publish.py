"""Put models on the Hugging Face Hub, each with its card and golden codes.

Example:
  emgcodec publish student --org my-lab
  emgcodec publish runs/mine/model --org my-lab --private
"""

from __future__ import annotations

import argparse
from pathlib import Path

from emgcodec.cli import options


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Arguments of the command."""
    parser.add_argument(
        "models", nargs="*", metavar="MODEL", help="names or folders; default: all that are here"
    )
    parser.add_argument("--org", required=True, help="user or organisation on the Hub")
    parser.add_argument("--private", action="store_true", help="make private repositories")
    parser.add_argument(
        "--record", type=Path, metavar="JSON", help="file of names and repositories to fill in"
    )


def run(args: argparse.Namespace) -> int:
    """Prints where each model went; one that fails is named, the others are still done."""
    from emgcodec.codec import Codec
    from emgcodec.golden import verify
    from emgcodec.hub import upload
    from emgcodec.pretrained import find_model, list_pretrained

    failed = 0
    for name in args.models or list_pretrained():
        try:
            folder = find_model(name)
            codec = Codec.from_pretrained(folder)
            if codec.num_codebooks:
                verify(codec, folder)
            repo = f"{args.org}/emgcodec-{codec.config.name}"
            print(upload(folder, repo, private=args.private))
            if args.record is not None:
                _record(args.record, name, repo)
        except (ValueError, OSError) as error:
            failed += 1
            options.complain("publish", f"{name}: {error}")
    return 2 if failed else 0


def _record(path: Path, name: str, repo: str) -> None:
    """Fills in where a released model is; others are nobody else's business."""
    import json

    from emgcodec.files import write_json

    known = json.loads(path.read_text("utf-8"))
    if name in known:
        write_json(path, known | {name: repo})
