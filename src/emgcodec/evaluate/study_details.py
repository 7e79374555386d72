"""Further tables of a study: first levels, likeness to the signal, and a teacher's codes."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

import numpy as np

from emgcodec.evaluate.study import Study
from emgcodec.evaluate.study_scores import WHOSE
from emgcodec.evidence import (
    Result,
    Summary,
    paired_loss,
    points,
    pooled,
    table_head,
    table_line,
)

Results = Mapping[str, Sequence[Result]]

_RELEASED = "2 levels"  # as the released models have
_LIKENESS = {"envelope_correlation": 2, "log_spectral_distance": 1}  # and digits


def places(results: Results) -> list[tuple[str, str]]:
    """Modes and data sets that are scored."""
    every = (result["scores"] for found in results.values() for result in found)
    found = ((mode, corpus) for scores in every for mode in scores for corpus in scores[mode])
    return list(dict.fromkeys(found))


def levels(study: Study, results: Results) -> Iterator[str]:
    """What the first levels cost and tell, and how like the signal what they give is."""
    corpora = list(dict.fromkeys(corpus for _, corpus in places(results)))
    base, *_ = study.baselines
    released = {c: pooled(results.get(base, ()), "scores", _RELEASED, c) for c in corpora}
    heads = ["", "levels", "tokens a second", "bits a second", "with levels of electrodes"]
    heads += [f"accuracy, {corpus}" for corpus in corpora]
    heads += [f"lost against {base}, {_RELEASED}, {corpus}" for corpus in corpora]
    heads += _likenesses(corpora)
    heads += ["encoding, Mflop for a second of 8 electrodes", "folds"]
    yield from ("", *table_head(heads))
    for variant in study.variants:
        found = results.get(variant, ())
        for number, mode in enumerate(found[0]["scores"] if found else (), start=1):
            own = (variant, mode) == (base, _RELEASED)
            share = number / len(found[0]["scores"])
            rates = [rate for r in found for rate in r["bit_rate"][mode].values()]
            cells = [variant, str(number), f"{number * found[0]['frame_rate']:.4g}"]
            cells += [f"{share * found[0]['bits_per_frame'] * found[0]['frame_rate']:.4g}"]
            cells += [f"{np.mean(rates):.0f}"]
            people = {corpus: pooled(found, "scores", mode, corpus) for corpus in corpora}
            cells += [str(Summary.of(each)) for each in people.values()]
            cells += [
                "" if own else points(*paired_loss(each, released[corpus]))
                for corpus, each in people.items()
            ]
            cells += _like(found, mode, corpora)
            cells += [f"{found[0]['flops'][mode] / 1e6:.3g}"]
            yield table_line([*cells, f"{len(found)} of {len(study.folds)}"])


def likeness(study: Study, results: Results) -> Iterator[str]:
    """How like the signal what is decoded is."""
    corpora = list(dict.fromkeys(corpus for _, corpus in places(results)))
    yield from ("", *table_head(["decoded, calibrated", *_likenesses(corpora)]))
    for variant in study.variants:
        found = results.get(variant, ())
        if any("reconstruction" in result for result in found):
            yield table_line([variant, *_like(found, "calibrated", corpora)])


def _likenesses(corpora: Sequence[str]) -> list[str]:
    return [f"{metric.replace('_', ' ')}, {corpus}" for metric in _LIKENESS for corpus in corpora]


def _like(found: Sequence[Result], mode: str, corpora: Sequence[str]) -> Iterator[str]:
    """Means over people [95 % interval], of each metric and data set."""
    for metric, digits in _LIKENESS.items():
        for corpus in corpora:
            people = pooled(found, "reconstruction", mode, corpus, metric, "codec")
            summary = Summary.of(people)
            yield summary.plain(digits) if summary else ""


def codes(study: Study, results: Results) -> Iterator[str]:
    """Agreement of codes with the teacher's, and a sequence model of those on either's."""
    shares = ("level 1", "chance 1", "level 2", "chance 2", "level 2 given 1", "chance 2 given 1")
    heads = [f"codes as the {study.baselines[0]}'s, calibrated", "frames", *shares]
    yield from ("", *table_head(heads))
    compared = {
        variant: found
        for variant in study.variants
        if (found := [r for r in results.get(variant, ()) if "agreement" in r])
    }
    for variant, found in compared.items():
        for where in ("all", "gestures"):
            people = (pooled(found, "agreement", where, share) for share in shares)
            cells = [variant, where, *(str(Summary.of(each)) for each in people)]
            yield table_line(cells)
    marks = ("accuracy", "perplexity")
    heads = ["sequence model", *(f"{mark}, {w} tokens" for mark in marks for w in WHOSE)]
    heads += ["points lost", "times the perplexity"]
    read = list(dict.fromkeys(c for each in compared.values() for c in each[0]["read by teacher"]))
    heads += [f"lost by the teacher's head, {corpus}" for corpus in read]
    yield from ("", *table_head(heads))
    for variant, found in compared.items():
        by = {(m, w): pooled(found, "sequence model", w, m) for m in marks for w in WHOSE}
        cells = [variant] + [
            str(Summary.of(by[each])) if each[0] == "accuracy" else f"{_mean(by[each]):.1f}"
            for each in by
        ]
        lost = paired_loss(*(by["accuracy", w] for w in WHOSE))
        ours, theirs = (_mean(by["perplexity", w]) for w in WHOSE)
        cells += [points(*lost), f"{ours / theirs:.2f}"]
        for corpus in read:
            own = pooled(results[study.baselines[0]], "scores", "calibrated", corpus)
            cells += [points(*paired_loss(pooled(found, "read by teacher", corpus), own))]
        yield table_line(cells)
    yield from ("", "Perplexity is of a token, a geometric mean over people.")


def _mean(people: Mapping[str, float]) -> float:
    """Geometric."""
    return float(np.exp(np.mean(np.log(list(people.values())))))
