"""Show what a model or a token file is.

Example:
  emgcodec info
  emgcodec info rec.tokens
  emgcodec info --verify student
  emgcodec info --provenance teacher
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

from emgcodec.files import printable


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Arguments of the command."""
    parser.add_argument(
        "what",
        nargs="?",
        help="model name or folder, Hub repository, or token file; default: the student",
    )
    parser.add_argument(
        "--verify", action="store_true", help="make the model's golden codes again and compare"
    )
    parser.add_argument(
        "--provenance", action="store_true", help="how the model was trained, in JSON"
    )
    parser.add_argument("--list", action="store_true", help="list bundled models and presets")


def run(args: argparse.Namespace) -> int:
    """Prints the facts, one a line."""
    if args.list:
        from emgcodec.presets import list_presets
        from emgcodec.pretrained import list_pretrained

        print("bundled models:", *list_pretrained())
        print("presets:", *list_presets())
        return 0
    if args.verify:
        _verify(args.what)
    elif args.provenance:
        _show_provenance(args.what)
    elif args.what is not None and Path(args.what).is_file():
        _show_tokens(Path(args.what))
    else:
        _show_model(args.what)
    return 0


def _show_tokens(path: Path) -> None:
    from emgcodec.tokens import Tokens

    tokens = Tokens.load(path)
    print(printable(tokens))
    _say("vocabulary", tokens.vocab_id)
    _say("codec", tokens.codec_id)
    _say("valid frames", f"{int(tokens.valid.sum())} of {tokens.num_frames}")
    _say("calibration", tokens.calibration or "cold")
    print(tokens.compression())
    for key, value in tokens.metadata.items():
        _say(key, value)


def _verify(name: str | None) -> None:
    from emgcodec.codec import Codec
    from emgcodec.golden import verify
    from emgcodec.pretrained import find_model

    folder = find_model(name)
    codec = Codec.from_pretrained(folder)
    for frame, choice in verify(codec, folder).items():
        print(
            f"near-tie at frame {frame}, level {choice.level + 1}: {choice.gap:.2e} apart, below "
            f"{choice.resolved:.2e}"
        )
    print(f"{codec.codec_id}: golden codes reproduced")


def _show_model(name: str | None) -> None:
    from emgcodec.codec import Codec

    codec = Codec.from_pretrained(name)
    config = codec.config
    _say("name", config.name)
    _say("codec id", codec.codec_id)
    _say("vocabulary", codec.vocab_id)
    _say("sample rate", f"{codec.sample_rate} Hz inside; any from 100 Hz is resampled")
    montage = config.montage
    _say("electrodes", "1 to 128, any montage" if montage is None else montage.name)
    field = f"receptive field {codec.receptive_field} samples"
    _say("frames", f"{codec.frame_rate:g} /s, {field}")
    bits = f"{codec.bits_per_frame} bits a frame, {codec.bits_per_frame * codec.frame_rate:g} bit/s"
    _say("codes", f"{codec.num_codebooks} x {codec.codebook_size}, {bits}")
    for part in ("encoder", "codebooks", "decoder", "heads"):
        _say(part, f"{codec.num_parameters(part):,} parameters")
    _say("heads", ", ".join(codec.heads))
    _say("devices", ", ".join(codec.devices) or "none known")
    _say("weights", config.weights_license or "untrained")
    told = ", ".join(config.provenance)
    _say("provenance", f"{told}: see --provenance" if told else "none told")


def _show_provenance(name: str | None) -> None:
    from emgcodec.codec import Codec

    print(json.dumps(dict(Codec.from_pretrained(name).config.provenance), indent=1))


def _say(what: str, fact: object) -> None:
    print(printable(f"{what:<13} {fact}"))
