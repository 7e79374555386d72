"""Your own gestures on the frozen codec: fit a head on some takes of a person, read it in others.

    python examples/own_gestures.py                   # two simulated people
    python examples/own_gestures.py person.h5 ...     # recordings with gesture events

Of each wearing, the first take calibrates, unlabelled, and is not used otherwise; every other one
of the rest fits the head, those between them test it. With --json the result is kept.
"""

from __future__ import annotations

import argparse
import statistics
from collections import defaultdict
from itertools import chain
from pathlib import Path

import numpy as np
import torch

from emgcodec import Calibration, Codec, Recording, read_all
from emgcodec.evaluate.provenance import made_by
from emgcodec.files import write_json
from emgcodec.metrics import balanced_accuracy
from emgcodec.simulate import Person, gesture_recording
from emgcodec.train.data import reaction_time

GESTURES = ("hand_close", "hand_open", "pinch_grip", "wrist_flexion", "wrist_extension")

Takes = dict[str, dict[str, list[Recording]]]  # by wearing and take


def simulated(seed: int) -> Takes:
    """Seven takes of one wearing."""
    person = Person.draw(seed)
    return {
        "": {
            str(take): [gesture_recording(person, "myo", 200.0, gestures=GESTURES, seed=take)]
            for take in range(7)
        }
    }


def recorded(path: Path) -> Takes:
    """A file's recordings; a take may be several, one for each gesture."""
    takes: Takes = defaultdict(lambda: defaultdict(list))
    for rec in read_all(path):
        name = str(rec.metadata.get("recording", "")).split(".")[0]
        takes[str(rec.metadata.get("session", ""))][name].append(rec)
    return takes


def accuracy(codec: Codec, tests: list[tuple[Recording, Calibration]], reaction: float) -> float:
    """Balanced accuracy of the fitted head's frames, read from tokens."""
    labels = codec.labels("mine")
    truth, guess = [], []
    for rec, calibration in tests:
        tokens = codec.tokenize(rec, calibration=calibration)
        codes = torch.from_numpy(tokens.codes.astype(np.int64))[None]
        best = codec.predict(codes, "mine")[0].argmax(dim=-1).numpy()
        time = tokens.token_times() - rec.start_time
        for event in rec.events:
            inside = tokens.valid & event.during(time, reaction)
            if event.label in labels:
                truth.append(np.full(inside.sum(), labels.index(event.label)))
                guess.append(best[inside])
    return balanced_accuracy(np.concatenate(truth), np.concatenate(guess))


def own_gestures(codec: Codec, takes: Takes) -> dict[str, float]:
    """Fits on half of a person's takes, and tests on the others."""
    fit, test = [], []
    for named in takes.values():
        first, *others = named.values()
        calibration = codec.calibrate(first)
        for i, recs in enumerate(others):
            (test if i % 2 else fit).extend((rec, calibration) for rec in recs)
    if not test:
        raise SystemExit("a person needs at least three takes in a session: one is not enough")
    dataset = str(test[0][0].metadata.get("dataset", ""))
    reaction = reaction_time(dataset)
    found = codec.fit_head(
        [rec for rec, _ in fit], "mine", calibration=[c for _, c in fit], reaction=reaction
    )
    return {
        "classes": len(found.labels),
        "fitted_on_seconds": sum(rec.num_samples / rec.sample_rate for rec, _ in fit),
        "balanced_accuracy": accuracy(codec, test, reaction),
    }


def main() -> None:
    """Prints a line for each person, and their mean."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("files", nargs="*", type=Path, help="one person each")
    parser.add_argument("--model", help="folder or name; the bundled student by default")
    parser.add_argument("--json", type=Path, help="write the result here")
    args = parser.parse_args()
    codec = Codec.from_pretrained(args.model)
    model = codec.codec_id
    people: dict[str, dict[str, float]] = {}
    named = [(f"simulated {seed}", simulated(seed)) for seed in (70, 71)] if not args.files else []
    for name, takes in chain(named, ((path.stem, recorded(path)) for path in args.files)):
        people[name] = own_gestures(codec, takes)
        facts = people[name]
        score, classes = facts["balanced_accuracy"], facts["classes"]
        seconds = facts["fitted_on_seconds"]
        print(f"{name}: {score:.2f} balanced, {classes} classes, fitted on {seconds:.0f} s")
    scores = [facts["balanced_accuracy"] for facts in people.values()]
    print(f"mean over {len(scores)} people: {statistics.mean(scores):.2f}")
    if args.json:
        named = " ".join(f"$EMGCODEC_DATA/{path.name}" for path in args.files)
        result = made_by(f"python examples/own_gestures.py {named} --json {args.json}") | {
            "score": "balanced accuracy of frames on takes that the head was not fitted on; "
            "the first take of each session calibrates and is not scored; state reset at each "
            "contiguous recording",
            "codec": model,
            "people": people,
        }
        write_json(args.json, result)


if __name__ == "__main__":
    main()
