"""A model's card: what it is, whom it was made from, and how good it is, from result files."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence

import numpy as np

from emgcodec.config import CodecConfig
from emgcodec.evidence import (
    CORPORA,
    MODES,
    NUM_FOLDS,
    Result,
    Summary,
    cell,
    lost_to,
    pooled,
    rerun,
    table_head,
    table_line,
)

LARGEST_LOSS = 0.015
"""Loss against a twin or a teacher that its upper 95 % bound must stay under, to be shown."""

LEAST_USE = 0.3
"""Perplexity of a codebook, as a share of its size, below which it is called underused."""

TEACHER_OF = {"student": "teacher", "student-open": "teacher-open"}
_TWIN_OF = {"teacher": "twin"}

TUNING = (
    "one recipe for all folds was chosen on people who select in some of them, and who test in "
    "another. While it grew, three versions were scored on the people who test in fold 0 (3dc "
    "calibrated 36.1, 42.0, 42.5); then that recipe was scored on all folds (52.0). This one, with "
    "heads of their own and readers that learn last, was chosen on people who select in fold 0, "
    "and scored once on all folds. It is the teacher's. The student learns from it with a rate and "
    "weights that were chosen on people who select; that a tenth of the encoder is enough, and a "
    "fiftieth is not, was seen on people who test in folds 0 to 2, of the same trainings. The open "
    "models have the settings of these two, untried."
)


def model_card(
    config: CodecConfig,
    results: Mapping[str, Sequence[Result]] | None = None,
    *,
    parameters: int,
) -> str:
    """The card as Markdown.

    Args:
        config: Of the model.
        results: By row, see `evidence.load_results`; the row of the model's name is its own.
        parameters: Of the model, codebooks included.
    """
    quantizer = config.quantizer
    codes = f"{quantizer.levels} x {quantizer.size} codes" if quantizer.levels else "no codebooks"
    lines = [
        f"# {config.name}",
        "",
        f"Codec for surface EMG: {config.sample_rate} Hz inside, {config.frame_rate:g} frames/s, "
        f"{codes}, {parameters:,} parameters and codebook values.",
        "",
        f"Weights licence: {config.weights_license or 'none stated: these weights are untrained'}",
        "",
    ]
    rows = results or {}
    if own := rows.get(config.name, ()):
        lines += _scores(own, rows.get(f"{config.name}-shared", ()))
        lines += _caveats(config, own, rows)
    facts = json.dumps(dict(config.provenance), indent=1, ensure_ascii=False)
    return "\n".join([*lines, "## Training", "", "```json", facts, "```", ""])


def _scores(own: Sequence[Result], shared: Sequence[Result]) -> Iterator[str]:
    yield from ("## Scores on people it never met", "")
    yield (
        f"{len(own)} of {NUM_FOLDS} folds: models of this recipe, each trained on three fifths of "
        "the people and scored on others; the released weights are one more training. Percent, "
        "mean over people [95 % interval by bootstrap over people, if they are five or more] ± "
        "deviation over people. Each corpus is read by its own head, if there is one."
    )
    ways = {"": own} | ({", by the head of all corpora": shared} if shared else {})
    heads = ["corpus", "people", *(f"{mode}{way}" for way in ways for mode in MODES)]
    yield from ("", *table_head(heads))
    for corpus in CORPORA:
        if people := pooled(own, "scores", "cold", corpus):
            cells = [cell(way, "scores", m, corpus) for way in ways.values() for m in MODES]
            yield table_line([corpus, f"{len(people)}", *cells])
    yield ""
    if agreed := [
        f"{level} on {100 * float(np.mean(list(found.values()))):.0f} %"
        for level in ("1", "2", "2 given 1")
        if (found := pooled(own, "agreement", "all", f"level {level}"))
    ]:
        yield (
            "- on the teacher's codebooks: calibrated, it agrees with the teacher's codes of level "
            f"{', '.join(agreed)} of these people's frames (mean over people), 2 given 1 where "
            "level 1 agrees; each model with the one that taught it."
        )
    for name, text in own[0]["protocol"].items():
        yield f"- {name}: {text}."
    yield f"- tuning: {TUNING}"
    command, commits = rerun(own)
    yield f"- rerun: `{command}`, commit {commits}."
    yield ""


def _caveats(
    config: CodecConfig, own: Sequence[Result], rows: Mapping[str, Sequence[Result]]
) -> Iterator[str]:
    yield from ("## What the numbers do not show", "")
    lda = rows.get("lda-context", ())
    if teacher := TEACHER_OF.get(config.name):
        against, called, cost = teacher, "its teacher", "learning from it at its size costs"
    else:
        against = _TWIN_OF.get(config.name, "")
        called, cost = "the unquantized twin", "the codebooks cost"
    for mode in MODES:
        behind = []
        for corpus in CORPORA:
            lost, _ = lost_to(own, lda, mode, corpus)
            behind += [f"{corpus} by {100 * lost:.1f} points"] if lost > 0 else []
        if behind:
            yield (
                f"- From the start {mode!r} the gesture head is behind a linear discriminant that "
                f"is fitted to the corpus, with the teacher's context: {', '.join(behind)}."
            )
    if compared := over_the_one_before(config.name, rows):
        yield f"- {compared}"
    for corpus in CORPORA:
        ours = pooled(own, "scores", "calibrated", corpus)
        bounds = []
        for mode in MODES:
            lost, most = lost_to(own, rows.get(against, ()), mode, corpus)
            if pooled(own, "scores", mode, corpus) and not most < LARGEST_LOSS:
                told = "of few people" if np.isnan(most) else f"at most {100 * most:.2f}"
                bounds += [f"{mode} not run" if np.isnan(lost) else f"{mode} {told}"]
        if ours and bounds:
            yield (
                f"- {corpus}: that {cost} less than {100 * LARGEST_LOSS:g} points against {called} "
                f"is not shown ({', '.join(bounds)})."
            )
        if 0 < len(ours) < NUM_FOLDS:
            yield f"- {corpus}: {len(ours)} people are no evidence."
        for metric, better in (("envelope_correlation", 1), ("log_spectral_distance", -1)):
            means = {
                way: float(np.mean(list(found.values())))
                for way in ("codec", "noise", "mean_spectrum", "level_pca")
                if (found := pooled(own, "reconstruction", corpus, metric, way))
            }
            if above := [w for w, v in means.items() if better * v > better * means["codec"]]:
                yield f"- {corpus}, {metric.replace('_', ' ')}: not better than {', '.join(above)}."
    for level in range(config.quantizer.levels):
        shares = [r["usage"]["perplexity"][level] / r["usage"]["size"] for r in own if "usage" in r]
        if shares:
            word = "under" if np.mean(shares) < LEAST_USE else "over"
            yield (
                f"- Level {level + 1}: perplexity is {np.mean(shares):.2f} of the codebook's size "
                f"({word} {LEAST_USE:g}), on people who were not trained on."
            )
    yield "- Whether some people appear under several names in the collections is not known."
    yield ""


def over_the_one_before(name: str, rows: Mapping[str, Sequence[Result]]) -> str:
    """What a student gains or loses against whose place it took: its teacher of now.

    Args:
        name: Of the student.
        rows: Results by row.
    """
    told, worse = [], []
    for mode in MODES:
        ours, theirs = (
            {n: v for c in CORPORA for n, v in pooled(rows.get(row, ()), "scores", mode, c).items()}
            for row in (name, TEACHER_OF.get(name, ""))
        )
        both = ours.keys() & theirs.keys()
        gained = Summary.of({person: ours[person] - theirs[person] for person in both})
        if gained and gained.interval(1):
            mean, low, high = (100 * v + 0.0 for v in (gained.mean, gained.low, gained.high))
            told.append(f"{mode} {mean:+.1f} [{low:+.1f}, {high:+.1f}] of {gained.people} people")
            worse += [mode] if high < 0 else []
    if not told:
        return ""
    verdict = f"it is worse beyond that interval when {', '.join(worse)}" if worse else "not worse"
    return (
        f"Points of `{name}` over its teacher, which had its name before, over the people "
        f"of all data sets [95 % by paired bootstrap over people]: {'; '.join(told)}: {verdict}."
    )
