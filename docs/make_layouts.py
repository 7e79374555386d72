"""docs/layouts.md and its picture, made from the code: python docs/make_layouts.py."""

from __future__ import annotations

from collections.abc import Iterator
from html import escape
from pathlib import Path

import numpy as np

from emgcodec.layouts import Layout
from emgcodec.presets import preset

CODES = np.array([[17, 3, 0, 0, 512], [903, 1023, 0, 0, 64]])
VALID = np.array([True, True, False, False, True])
SHOWN = (
    ("flat", {}),
    ("flat", {"gaps": "runs"}),
    ("parallel", {}),
    ("parallel", {"stack": 2}),
    ("delay", {}),
    ("joint", {}),
)
PRESETS = ("student", "emg-codec")
MEANING = {
    "flat": "one id after the other, level after level within a frame: any language model as it is",
    "parallel": "a row for each level: embeddings are summed, a head for each row",
    "delay": "the same with row k shifted by k: each level can hear the coarser one of its frame",
    "joint": "one id for both levels: for storage, or with embeddings factorised by level",
}
COLOURS = {0: "#cfe3f7", 1: "#f9dcb5", "joint": "#d9ead0", "special": "#e4e4e4"}
CELL, LINE, LEFT = 84, 26, 150


def title(kind: str, options: dict[str, object]) -> str:
    """What the picture and the table call a layout."""
    return ", ".join([kind, *(f"{name}={value}" for name, value in options.items())])


def cells(layout: Layout) -> list[list[str]]:
    """The ids of the example as the layout has them, as token texts in rows."""
    ids = np.atleast_2d(layout.to_ids(CODES, VALID))
    names = {token: f"<emg_{token}>" for token in ("bos", "eos", "pad", "gap")}
    special = {getattr(layout, token): name for token, name in names.items()}
    return [[special.get(int(i)) or _code(layout, int(i)) for i in row] for row in ids]


def _code(layout: Layout, token: int) -> str:
    size = layout.codebook_size
    if layout.kind == "joint":
        return f"<emg_{token // size:04d}_{token % size:04d}>"
    return f"<emg_{token // size}_{token % size:04d}>"


def picture() -> str:
    """All layouts of one example, as SVG."""
    parts: list[str] = []
    top, widest = 8, 0
    for kind, options in SHOWN:
        rows = cells(Layout(kind, 2, 1024, **options))  # type: ignore[arg-type]
        parts.append(_text(8, top, title(kind, options), "start"))
        for number, row in enumerate(rows):
            for column, token in enumerate(row):
                y = top + number * LINE
                parts.append(_box(LEFT + column * CELL, y, token))
        widest = max(widest, LEFT + len(rows[0]) * CELL + 8)
        top += len(rows) * LINE + 12
    head = f'<svg xmlns="http://www.w3.org/2000/svg" width="{widest}" height="{top}" '
    head += 'font-family="monospace" font-size="11">'
    return "\n".join([head, '<rect width="100%" height="100%" fill="white"/>', *parts, "</svg>\n"])


def _box(x: int, y: int, token: str) -> str:
    name = token.removeprefix("<emg_").removesuffix(">")
    level, _, rest = name.partition("_")
    colour = COLOURS["special" if not rest else "joint" if len(level) > 1 else int(level)]
    box = f'<rect x="{x}" y="{y}" width="{CELL - 4}" height="{LINE - 4}" fill="{colour}"/>'
    return box + _text(x + (CELL - 4) // 2, y, name, "middle")


def _text(x: int, y: int, text: str, anchor: str) -> str:
    return f'<text x="{x}" y="{y + 15}" text-anchor="{anchor}">{escape(text)}</text>'


def document() -> str:
    """The page."""
    return "\n".join(_lines())


def _lines() -> Iterator[str]:
    yield from (
        "# Layouts",
        "",
        "Made by `python docs/make_layouts.py`; a test keeps it true.",
        "",
        "A `Layout` turns codes (levels, frames) into the ids of a language model, and back "
        "without loss. Below are five frames of 2 x 1024 codes, the third and fourth without valid "
        "signal; each box is an id, named as `to_text` writes it.",
        "",
        "![Each layout of the same five frames](layouts.svg)",
        "",
        "Code c of level k is `offset + k * 1024 + c`; behind the codes come bos, eos, pad and "
        "gap. In stacks a row takes the ids of its level. `joint` is `offset + c0 * 1024 + c1`: a "
        "million ids, too many for a softmax.",
        "",
    )
    yield from (f"- `{kind}`: {text}." for kind, text in MEANING.items())
    yield from (
        "- `stack=S` (`parallel`, `delay`): S frames share a step of the model, which gets S times "
        "as many rows.",
        '- `gaps="runs"`: a run of frames without valid signal is one gap, however long; its '
        "length is in `valid`, which a corpus keeps beside the ids: `to_codes(ids, valid)`.",
        "",
        "Ids a second, and steps of the model a second, of a recording without gaps:",
        "",
        "| layout | vocabulary | " + " | ".join(f"`{name}`" for name in PRESETS) + " |",
        "|---|---|" + "---|" * len(PRESETS),
    )
    for kind, options in SHOWN:
        if "gaps" not in options:
            yield _row(kind, options)
    yield ""


def _row(kind: str, options: dict[str, object]) -> str:
    found = []
    for name in PRESETS:
        config = preset(name)
        levels, size = config.quantizer.levels, config.quantizer.size
        layout = Layout(kind, levels, size, **options)  # type: ignore[arg-type]
        ids = config.frame_rate * layout.tokens_per_frame
        found.append(f"{ids:g} ids, {ids / layout.rows:g} steps")
    vocabulary = Layout(kind, 2, 1024, **options).vocab_size  # type: ignore[arg-type]
    return " | ".join([f"| {title(kind, options)}", f"{vocabulary:,}", *found]) + " |"


if __name__ == "__main__":
    folder = Path(__file__).parent
    (folder / "layouts.md").write_text(document(), encoding="utf-8")
    (folder / "layouts.svg").write_text(picture(), encoding="utf-8")
