"""The pictures of docs/studies.md, from docs/results/studies: python docs/make_study_pictures.py.

On a transparent ground in colours that are seen on light and dark ones.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from emgcodec.evaluate.studies import STUDIES
from emgcodec.evaluate.study import Study
from emgcodec.evaluate.study_tables import picture
from emgcodec.evidence import Result, Summary, load_results, pooled

INK = "#7b8794"
COLOURS = ("#4e9bd8", "#f28e2b", "#59a14f", "#e15759", "#b07aa1", "#9c755f")
MARKS = ("o", "s", "^")
LEGEND = {"frameon": False, "fontsize": 8, "labelcolor": INK, "loc": "center left",
          "bbox_to_anchor": (1, 0.5)}  # fmt: skip
STARTS = {
    "cold": "cold",
    "first 5 s": "first 5 s",
    "5 s of the whole block": "any 5 s",
    "first 20 s": "20 s",
    "one block": "block",
    "all, what is scored too": "all",
}
BITS = (100, 200, 500, 1000, 2000, 5000)
DOCS = Path(__file__).parent


def draw(results: Path, folder: Path) -> None:
    """Writes the pictures of the studies that were run into a folder."""
    own = {"rates": draw_rates, "calibration": draw_calibration}
    for name, study in STUDIES.items():
        found = load_results(results / name)
        if not any(found.values()):
            continue
        drawn = own[name](found) if name in own else draw_people(study, found)
        with mpl.rc_context({"svg.hashsalt": "emgcodec", "svg.fonttype": "none"}):
            drawn.savefig(folder / picture(name), transparent=True, metadata={"Date": None})


def panels(number: int, *, alike: bool = True) -> tuple[Figure, list[Axes]]:
    """Panels side by side, percent over something; `alike` in their percents or not."""
    figure, axes = blank_panels(number, 3.6, alike=alike)
    axes[0].set_ylabel("balanced accuracy, %", color=INK, fontsize=9)
    return figure, axes


def blank_panels(number: int, height: float, *, alike: bool = True) -> tuple[Figure, list[Axes]]:
    """Panels side by side, of a height in inches, that share what is on the left if `alike`."""
    figure = Figure(figsize=(4.5 * number + 2, height), layout="constrained")
    axes = list(figure.subplots(1, number, sharey=alike, squeeze=False)[0])
    for axis in axes:
        axis.tick_params(colors=INK, labelsize=8)
        axis.spines[["top", "right"]].set_visible(False)
        axis.spines[["left", "bottom"]].set_color(INK)
        axis.grid(color=INK, alpha=0.25, lw=0.5)
    return figure, axes


def corpora(found: Mapping[str, Sequence[Result]]) -> list[str]:
    """Data sets that were scored."""
    modes = (mode for each in found.values() for r in each for mode in r["scores"].values())
    return list(dict.fromkeys(corpus for mode in modes for corpus in mode))


def mean(found: Sequence[Result], mode: str, corpus: str) -> float:
    """Over people, in percent."""
    return 100 * float(np.mean(list(pooled(found, "scores", mode, corpus).values())))


def draw_people(study: Study, found: Mapping[str, Sequence[Result]]) -> Figure:
    """Means over people with their 95 % intervals, one row for each variant or data set."""
    run = [variant for variant in study.variants if found.get(variant)]
    modes = list(found[run[0]][0]["scores"])
    if study.contrasts:  # ways of scoring beside each other
        own = {variant: corpora({variant: found[variant]}) for variant in run}
        rows = [(v, mode, corpus) for v in run for corpus in own[v] for mode in modes]
        titles, columns = [""], [[(f"{c}, without {v}: {m}", (v, m, c)) for v, m, c in rows]]
    else:
        titles = corpora(found)
        columns = [[(variant, (variant, modes[-1], c)) for variant in run] for c in titles]
    what = "character error rate" if study.error else "balanced accuracy"
    figure, axes = blank_panels(len(columns), 0.9 + 0.28 * len(columns[0]))
    for axis, title, column in zip(axes, titles, columns, strict=True):
        for y, (_, (variant, mode, corpus)) in enumerate(column):
            told = Summary.of(pooled(found[variant], "scores", mode, corpus))
            if told is None:
                continue
            colour = COLOURS[modes.index(mode) if study.contrasts else 0]
            axis.plot([100 * told.low, 100 * told.high], [y, y], color=colour, lw=1.5)
            axis.plot([100 * told.mean], [y], "o", color=colour, ms=5)
        axis.set_title(title, color=INK, fontsize=9)
        axis.set_xlabel(f"{what}, %, mean and 95 % interval", color=INK, fontsize=9)
    folds = len(study.folds)
    lacking = {v: f" ({len(found[v])} of {folds})" for v in run if len(found[v]) < folds}
    names = [name + lacking.get(variant, "") for name, (variant, *_) in columns[0]]
    axes[0].set_yticks(range(len(names)), names)
    axes[0].invert_yaxis()
    return figure


def draw_calibration(found: Mapping[str, Sequence[Result]]) -> Figure:
    """Accuracy from each start; dashed, from what other people recorded."""
    figure, (axis,) = panels(1)
    (model,) = found.values()
    for corpus, colour in zip(corpora(found), COLOURS, strict=False):
        heard = [mean(model, start, corpus) for start in STARTS]
        axis.plot(range(len(STARTS)), heard, "o-", color=colour, label=corpus, ms=4)
        axis.axhline(mean(model, "other people", corpus), color=colour, ls=":", lw=0.8)
    axis.set_xticks(range(len(STARTS)), STARTS.values())
    axis.set_xlabel("heard of the wearing; dotted: of other people", color=INK, fontsize=9)
    axis.legend(**LEGEND)
    return figure


def draw_rates(found: Mapping[str, Sequence[Result]]) -> Figure:
    """Accuracy over bits a second; a line is a model of all folds, its points are first levels."""
    figure, axes = panels(len(corpora(found)), alike=False)
    most = max(map(len, found.values()))  # others are of other people
    run = [v for v in STUDIES["rates"].variants if len(found.get(v, ())) == most]
    rates, sizes = ({variant.split(", ")[part]: None for variant in run} for part in (0, 1))
    colour = dict(zip(rates, COLOURS, strict=False))
    mark = dict(zip(sizes, MARKS, strict=False))
    for axis, corpus in zip(axes, corpora(found), strict=True):
        for variant in run:
            rate, size = variant.split(", ")
            levels = list(found[variant][0]["scores"])
            bits = [
                np.mean([r["bit_rate"][level][corpus] for r in found[variant]]) for level in levels
            ]
            heard = [mean(found[variant], level, corpus) for level in levels]
            axis.plot(bits, heard, f"{mark[size]}-", color=colour[rate], ms=4, lw=0.8)
        axis.set_xscale("log")
        axis.set_xticks(BITS, BITS)
        axis.minorticks_off()
        axis.set_xlabel("bits a second, with levels of electrodes", color=INK, fontsize=9)
        axis.set_title(corpus, color=INK, fontsize=9)
    told = [axes[0].plot([], [], color=colour[rate], label=rate)[0] for rate in rates]
    told += [axes[0].plot([], [], mark[size], color=INK, ms=4, label=size)[0] for size in sizes]
    axes[-1].legend(handles=told, **LEGEND)
    return figure


if __name__ == "__main__":
    draw(
        DOCS / "results" / "studies",
        Path(sys.argv[1]) if len(sys.argv) > 1 else DOCS / "pictures",
    )
