"""Score codecs and their rivals on people whom they never met; write tables and cards of it.

Example:
  emgcodec evaluate run --row lda --fold 0 --data corpora/
  emgcodec evaluate run --data corpora/
  emgcodec evaluate model runs/mine/model --fold 0 --corpus 3dc --data corpora/
  emgcodec evaluate study bottleneck-gestures --data corpora/
  emgcodec evaluate table
  emgcodec evaluate card student
  emgcodec evaluate --benchmark emg2qwerty --data sessions/
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from itertools import product
from pathlib import Path
from typing import Any, TypeVar

from emgcodec.cli import options
from emgcodec.evidence import CORPORA, NUM_FOLDS, cell, load_results
from emgcodec.files import write_json

EVIDENCE = Path("docs/results/evidence")
STUDIES = Path("docs/results/studies")

_T = TypeVar("_T")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Arguments of the command."""
    typing = parser.add_argument_group("benchmark", "instead of a verb")
    typing.add_argument("--benchmark", metavar="NAME", help="emg2qwerty: typing, by whole sessions")
    typing.add_argument(
        "--models",
        type=Path,
        help="one model, or a folder for each person's; default: runs/emg-codec",
    )
    typing.add_argument("--users", default="*", metavar="PATTERN", help="of people or split files")
    typing.add_argument("--kenlm", type=Path, help="letter model for the beam search")
    for name, text in (("data", "folder of the sessions"), ("json", "write the result here")):
        typing.add_argument(f"--{name}", type=Path, dest=f"benchmark_{name}", help=text)
    verbs = parser.add_subparsers(dest="verb", metavar="VERB")
    run = verbs.add_parser("run", help="rows of the table, fold by fold; skips what is there")
    run.add_argument("--row", action="append", metavar="NAME", help="only this row (repeatable)")
    study = verbs.add_parser("study", help="variants of one choice; skips what is there")
    study.add_argument("study", help="which; docs/studies.md has them")
    study.add_argument("--variant", action="append", help="only this (repeatable)")
    for verb in (run, study):
        verb.add_argument("--fold", action="append", type=int, help="only this fold (repeatable)")
        verb.add_argument("--runs", type=Path, default=Path("runs"), help="folder of trainings")
        verb.add_argument(
            "--set",
            dest="changes",
            action="append",
            default=[],
            metavar="KEY=VALUE",
            help="change a field of a training's recipe, for example optim.minutes=30",
        )
    model = verbs.add_parser("model", help="any model, on the people who test in a fold")
    model.add_argument("model", help="bundled model or folder")
    model.add_argument("--fold", type=int, required=True, help="whose people it has not met")
    model.add_argument("--corpus", action="append", choices=CORPORA, help="only this (repeatable)")
    model.add_argument("--json", type=Path, help="write the result here")
    table = verbs.add_parser("table", help="docs/results.md, studies.md, the table in README.md")
    table.add_argument("--page", type=Path, default=Path("docs/results.md"))
    table.add_argument("--studies-page", type=Path, default=Path("docs/studies.md"))
    table.add_argument("--readme", type=Path, default=Path("README.md"))
    card = verbs.add_parser("card", help="README.md in a model's folder, with its scores")
    card.add_argument("model", help="bundled model or folder")
    for verb in (run, study, model):
        verb.add_argument(
            "--data", type=Path, help="folder of the corpora; default: the variable EMGCODEC_DATA"
        )
    for verb in (run, table, card):
        verb.add_argument("--results", type=Path, default=EVIDENCE, help="folder of result files")
    for verb in (study, table):
        verb.add_argument("--studies", type=Path, default=STUDIES, help="folder of their results")


def run(args: argparse.Namespace) -> int:
    """Does what the verb says, or runs a benchmark."""
    if args.benchmark is not None:
        return _benchmark(args)
    if args.verb is None:
        raise ValueError(
            "name a verb (run, study, model, table or card) or a --benchmark: see --help"
        )
    for name in ("benchmark_data", "benchmark_json", "models", "kenlm"):
        if getattr(args, name) is not None:
            option = name.removeprefix("benchmark_")
            raise ValueError(f"--{option} before {args.verb!r} is of --benchmark: put it behind")
    action: dict[str, Any] = {
        "run": _run,
        "study": _study,
        "model": _model,
        "table": _table,
        "card": _card,
    }
    status: int = action[args.verb](args)
    return status


def _run(args: argparse.Namespace) -> int:
    from emgcodec.evaluate.rows import ROWS, run_job

    rows = _chosen("row", args.row, ROWS)
    folds = _chosen("fold", args.fold, range(NUM_FOLDS))
    data = options.needed_data(args.data)
    for row, fold in product(rows, folds):
        job = partial(run_job, row, fold, data, args.runs, args.changes)
        _once(args.results / f"{row}.{fold}.json", job)
    return 0


def _study(args: argparse.Namespace) -> int:
    from emgcodec.evaluate.studies import STUDIES
    from emgcodec.evaluate.study import file_name, run_study_job

    (name,) = _chosen("study", [args.study], STUDIES)
    study = STUDIES[name]
    variants = _chosen("variant", args.variant, study.variants)
    folds = _chosen("fold", args.fold, study.folds)
    data = options.needed_data(args.data) if study.simulated is None else Path()
    for fold, variant in product(folds, variants):
        job = partial(run_study_job, name, study, variant, fold, data, args.runs, args.changes)
        _once(args.studies / name / f"{file_name(variant)}.{fold}.json", job)
    return 0


def _chosen(kind: str, wanted: Sequence[_T] | None, known: Iterable[_T]) -> list[_T]:
    """What is wanted, or all that there is."""
    names = list(known)
    if unknown := [each for each in wanted or () if each not in names]:
        raise ValueError(f"{kind} {unknown} unknown: choose from {names}")
    return names if wanted is None else list(wanted)


def _once(path: Path, job: Callable[[], dict[str, Any]]) -> None:
    """Does a job whose result is not there yet."""
    if path.is_file():
        print(f"{path}: there already")
        return
    options.make_folder(path.parent)
    result = job()
    write_json(path, result)
    print(f"{path}: {result['seconds']} s", flush=True)
    _show(result)


def _model(args: argparse.Namespace) -> int:
    from emgcodec.codec import Codec
    from emgcodec.evaluate.jobs import facts
    from emgcodec.evaluate.rows import PROTOCOL, score_model

    corpora = args.corpus or CORPORA
    command = f"emgcodec evaluate model {args.model} --fold {args.fold} --data $EMGCODEC_DATA"
    command += "".join(f" --corpus {corpus}" for corpus in args.corpus or ())
    codec = Codec.from_pretrained(args.model)
    data = options.needed_data(args.data)
    result = facts(codec.config.name, args.fold, data, command) | {"protocol": PROTOCOL}
    result |= score_model(codec, args.fold, data, corpora)
    if args.json:
        write_json(args.json, result)
    _show(result)
    return 0


def _benchmark(args: argparse.Namespace) -> int:
    from emgcodec.beam import BeamDecoder, KenLetters
    from emgcodec.evaluate.benchmark import BENCHMARKS, score_benchmark, table
    from emgcodec.evaluate.typing import greedy

    if args.benchmark not in BENCHMARKS or args.verb is not None:
        raise ValueError(f"--benchmark {args.benchmark}: give {' or '.join(BENCHMARKS)}, no verb")
    models = args.models or Path("runs/emg-codec")
    data = options.needed_data(args.benchmark_data)
    language = None if args.kenlm is None else KenLetters(args.kenlm)
    command = f"emgcodec evaluate --benchmark {args.benchmark} --models {models}"
    command += "" if args.users == "*" else f" --users '{args.users}'"
    result = score_benchmark(
        data,
        models,
        {"greedy": greedy, "beam": BeamDecoder(language)},
        pattern=args.users,
        command=f"{command} --data $EMGCODEC_DATA",
    )
    if args.benchmark_json:
        write_json(args.benchmark_json, result)
    print(*table(result["people"]), sep="\n")
    if result["not_run"]:
        print(f"not run: {', '.join(result['not_run'])}")
    return 0


def _table(args: argparse.Namespace) -> int:
    from emgcodec.evaluate.study_tables import write_studies
    from emgcodec.evaluate.tables import write_tables

    write_tables(load_results(args.results), args.page, args.readme)
    write_studies(args.studies, args.studies_page)
    print(f"{args.page}, {args.studies_page} and {args.readme}")
    return 0


def _card(args: argparse.Namespace) -> int:
    from emgcodec.card import model_card
    from emgcodec.codec import Codec
    from emgcodec.files import written_beside
    from emgcodec.folder import CARD_FILE
    from emgcodec.pretrained import find_model

    codec = Codec.from_pretrained(args.model)
    text = model_card(codec.config, load_results(args.results), parameters=codec.num_parameters())
    path = find_model(args.model) / CARD_FILE
    with written_beside(path) as beside:
        beside.write_text(text, encoding="utf-8")
    print(path)
    return 0


def _show(result: dict[str, Any]) -> None:
    """Mean, interval and deviation over this fold's people."""
    for mode, corpora in result["scores"].items():
        for corpus in corpora:
            print(f"  {corpus:<22} {mode:<11} {cell([result], 'scores', mode, corpus)}")
