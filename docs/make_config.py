"""docs/config.md, made from the dataclasses: python docs/make_config.py > docs/config.md."""

from __future__ import annotations

import inspect
import re
from collections.abc import Iterable, Iterator
from dataclasses import MISSING, Field, fields
from typing import get_type_hints

from emgcodec import config
from emgcodec.config import to_plain
from emgcodec.train import recipe

_CODEC = (
    config.CodecConfig,
    config.NormalizationConfig,
    config.LogSpectrogramConfig,
    config.ConvConfig,
    config.ElectrodeSetConfig,
    config.TDSConfig,
    config.TransformerConfig,
    config.QuantizerConfig,
    config.SignalHeadConfig,
    config.LabelHeadConfig,
)
_RECIPE = get_type_hints(recipe.Recipe)
_HEAD = (
    "# Configuration",
    "",
    "Made by `python docs/make_config.py > docs/config.md`; a test keeps it true.",
    "",
    "A recipe is a TOML file with the sections below; what it leaves out has its default, what it",
    'does not know is an error. With `extends = "tiny"` as its first line it starts from another',
    "recipe instead of the defaults. `emgcodec train RECIPE.toml --out DIR` trains;",
    "`--set section.field=value` changes one field, `--set quantizer.levels=4` one of the codec's.",
    "Bundled recipes:",
)


def document() -> str:
    """The page."""
    names = ", ".join(f"`{name}`" for name in recipe.list_recipes())
    lines = [*_HEAD, f"{names}.", "", "## Recipe", ""]
    for name, cls in _RECIPE.items():
        lines += _section(f"[{name}]", cls)
    lines += ["## Codec", ""]
    lines += ["What `config.json` of a model holds, and `model.overrides` of a recipe changes."]
    lines += ["Parts are chosen by their `kind`.", ""]
    for part in _CODEC:
        lines += _section(part.__name__, part)
    return "\n".join(lines)


def _section(title: str, cls: type) -> Iterator[str]:
    text = inspect.getdoc(cls) or ""
    summary, _, attributes = text.partition("\nAttributes:\n")
    meanings = _meanings(attributes.splitlines())
    yield from (f"### {title}", "", summary.strip(), "")
    yield from ("| field | type | default | meaning |", "|---|---|---|---|")
    for each in fields(cls):
        meaning = meanings.get(each.name, "Names this part." if each.name == "kind" else "")
        cells = [f"`{each.name}`", f"`{each.type}`", _default(each), meaning]
        yield "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"
    yield ""


def _meanings(lines: Iterable[str]) -> dict[str, str]:
    """Attributes of a docstring by name; what is indented further goes on."""
    found: dict[str, str] = {}
    name = ""
    for line in lines:
        if start := re.fullmatch(r" {4}(\w+): (.*)", line):
            name, text = start.groups()
            found[name] = text
        elif name:
            found[name] += f" {line.strip()}"
    return {name: text.strip().replace("``", "`") for name, text in found.items()}


def _default(each: Field[object]) -> str:
    if each.default is not MISSING:
        value = each.default
    elif each.default_factory is not MISSING:
        value = each.default_factory()
        if hasattr(value, "__dataclass_fields__"):
            return f"`{type(value).__name__}`"
    else:
        return "needed"
    return f"`{to_plain(value)!r}`" if value != "" else "empty"


if __name__ == "__main__":
    print(document())
