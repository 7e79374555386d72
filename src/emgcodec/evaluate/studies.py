"""The studies that there are: what is varied, and what all variants share."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from emgcodec.card import LARGEST_LOSS
from emgcodec.config import ElectrodeSetConfig
from emgcodec.evaluate.study import Study
from emgcodec.evaluate.study_scores import (
    agreement_with_teacher,
    by_calibration,
    by_levels,
    gestures,
    probes,
    typing,
)
from emgcodec.evidence import CORPORA
from emgcodec.simulate import SIMULATOR_VERSION
from emgcodec.train.typists import write_typists

_BOTTLENECKS: Mapping[str, tuple[str, ...]] = {
    "none": ("quantizer.kind=none",),
    "vq 1024": ("quantizer.kind=vq",),
    "rvq 2x1024": ("quantizer.levels=2",),
    "rvq 3x1024": ("quantizer.levels=3",),
    "rvq 4x1024": ("quantizer.levels=4",),
    "rvq 4x32": ("quantizer.levels=4", "quantizer.size=32"),
    "rvq 4x512": ("quantizer.levels=4", "quantizer.size=512"),
}

_SMALL = (  # 5 M parameters; attention reaches no further than windows are long
    "encoder.dropout=0.1",
    "encoder.window=32",
    "encoder.conv_position=32",
)
_TINY = (  # 0.1 M parameters
    *_SMALL,
    "model.name=tinier",
    "encoder.dim=48",
    "encoder.blocks=3",
    "encoder.heads=4",
    "quantizer.after_block=3",
    "frontend.mlp_dim=24",
)
_TAUGHT = (*_TINY, "distill.teacher=$RUNS/distillation-typing/teacher-$FOLD/model")
_PAIR: Mapping[str, tuple[str, ...]] = {
    "teacher": _SMALL,
    "student alone": _TINY,
    "student, scores": _TAUGHT,
    "student, scores and features": (*_TAUGHT, "loss.features=1.0"),
    "student, scores without text": (*_TAUGHT, "loss.text=0.0"),
}

_ONE_PART = (  # as the teacher's recipe was when this was run
    "model.own_heads=false",
    "data.calibrated=0.75",
    "data.usual=0.0",
    "decoder.steps=0",
    "loss.gesture=1.0",
    "loss.own_gesture=1.0",
)

_QUARTER = ("model.name=quarter", "encoder.dim=64", "frontend.width=64")
_TENTH = ("model.preset=student", "model.name=tenth")
_FIFTIETH = (*_TENTH, "model.name=fiftieth", "encoder.dim=20", "frontend.width=24")
_ON_CODEBOOKS = (
    "distill.teacher=$RUNS/distillation-gestures/teacher-$FOLD/model",
    "distill.codebooks=true",
    "encoder.dropout=0.0",  # who copies learns nobody by heart, and dropout blurs codes
    "data.batch_size=24",
    "optim.lr=4e-3",
    "loss.scores=0.0",
)
_SCORES, _LATENTS, _CODES = ("loss.scores=1.0",), ("loss.latents=5.0",), ("loss.codes=2.5",)
_ALL = (*_ON_CODEBOOKS, *_SCORES, *_LATENTS, *_CODES)
_SIZES: Mapping[str, tuple[str, ...]] = {
    "teacher": (),
    # Too small to learn people by heart.
    "1/50 from scratch": (*_FIFTIETH, "encoder.dropout=0.1"),
    "1/50 scores": (*_FIFTIETH, *_ON_CODEBOOKS, *_SCORES),
    "1/50 latents": (*_FIFTIETH, *_ON_CODEBOOKS, *_LATENTS),
    "1/50 codes": (*_FIFTIETH, *_ON_CODEBOOKS, *_CODES),
    "1/50 all": (*_FIFTIETH, *_ALL),
    "1/10 all": (*_TENTH, *_ALL),
    "1/4 all": (*_QUARTER, *_ALL),
}
_TEACHERS: Mapping[str, tuple[str, ...]] = {
    "teacher": (),
    "teacher-large": (
        "model.preset=teacher-large",
        "optim.steps=1200",
        "decoder.steps=400",
    ),
    "teacher-large in full": ("model.preset=teacher-large",),
}

_RULES: Mapping[str, tuple[str, ...]] = {
    "ours": (),
    "revival as published": ("codebooks.revival=fixed",),
    "decay 0.9": ("quantizer.decay=0.9",),
    "random start": ("codebooks.start=random",),
    "no level dropout": ("quantizer.level_dropout=0.0",),
}

_PEOPLE = (
    "data.split=generic",
    "data.batch_size=8",
    "optim.warm_up=200",
)


def _rate(hop: int, size: int) -> tuple[str, ...]:
    """Frames of so many samples; the same bands, and as many seconds for attention to reach."""
    usual = ElectrodeSetConfig()
    window = max(usual.window, 2 * hop)
    edges = [min(round(e * window / usual.window), window // 2 + 1) for e in usual.band_edges]
    return (
        f"hop_length={hop}",
        f"frontend.window={window}",
        f"frontend.band_edges={edges}",
        f"encoder.window={64 * 64 // hop}",
        f"quantizer.size={size}",
    )


_RATES = {
    f"{2000 / hop:.3g} frames/s, {size} codes": _rate(hop, size)
    for hop in (16, 32, 64, 96, 160)
    for size in (32, 256, 1024)
}

_WIDTHS: Mapping[str, tuple[str, ...]] = {
    "4 x 64": (
        "encoder.dim=64",
        "encoder.blocks=4",
        "encoder.heads=2",
        "quantizer.after_block=2",
        "frontend.width=64",
    ),
    "6 x 128": (),
    "6 x 192": ("encoder.dim=192", "encoder.heads=6"),
    "8 x 256": ("model.preset=teacher-large",),
}

_WITHOUT: Mapping[str, tuple[str, ...]] = {
    "3DC armband": ("data.weights.3dc=0.0",),
    "forearm cuff": ("data.weights.contraction_intensity=0.0",),
    "Myo": tuple(f"data.weights.myo_{name}=0.0" for name in ("laval", "ciil", "readings")),
}

_USERS, _UNSEEN, _SESSIONS, _MINUTES = 40, 8, 5, 1.0


def _typing_protocol(model: str, steps: int) -> dict[str, str]:
    return {
        "score": "character error rate of each simulated person who was never met, greedy, whole "
        "sessions, cold",
        "training": f"{model}; {_USERS - _UNSEEN} simulated people of {_SESSIONS - 1} sessions of "
        f"{_MINUTES:g} min, {steps} steps of 8 windows, of which only 200 warm up, few as "
        "they are; seed = fold. Too few steps to learn it well",
    }


def _typists(runs: Path) -> Path:
    folder = runs / f"typists-{SIMULATOR_VERSION}"
    write_typists(folder, _USERS, _SESSIONS, _MINUTES, test_users=_UNSEEN)
    return folder


STUDIES = {
    "bottleneck-gestures": Study(
        "What the bottleneck costs: gestures of 3dc",
        "teacher",
        ("data.weights={ 3dc = 1.0 }", "optim.steps=600", *_ONE_PART),
        _BOTTLENECKS,
        ("none",),
        range(5),
        {
            "score": "balanced accuracy of frames of each person, as in the evidence table",
            "training": "an earlier recipe of the teacher, without a last part for readers, on 3dc "
            "alone; 600 steps, codebooks from step 450 on; seed = fold",
        },
        gestures("3dc"),
        minutes=4,
        tolerated=LARGEST_LOSS,
    ),
    "quantizer-rules": Study(
        "How codebooks are learned",
        "teacher",
        (
            "data.weights={ 3dc = 2.0, myo_laval = 1.0 }",
            "optim.steps=600",
            "decoder.steps=200",
            "loss.quantizer_start=0.25",  # so that codes have the time to die and to come back
        ),
        _RULES,
        ("ours",),
        range(3),
        {
            "score": "balanced accuracy of frames of each person, from the first levels alone; "
            "calibrated",
            "training": "the teacher's recipe on 3dc and myo_laval, 600 steps, codebooks from step "
            "150 on, 200 more for readers; windows lose levels with a chance of 0.3, but for the "
            "last row; seed = fold",
        },
        by_levels("3dc", "myo_laval"),
        minutes=5,
    ),
    "teachers": Study(
        "Which model teaches",
        "teacher",
        (),
        _TEACHERS,
        ("teacher",),
        range(1),
        {
            "score": "balanced accuracy of frames of each person who selects, as in the evidence "
            "table",
            "training": "the teacher's recipe, of which the large one has 1200 steps and 400 for "
            "its readers, or all 2200 and 800; seed = fold",
        },
        gestures(*CORPORA, part="validation"),
        minutes=50,
    ),
    "distillation-gestures": Study(
        "What students keep of a teacher on its codebooks: gestures",
        "teacher",
        (),
        _SIZES,
        ("teacher", "1/50 from scratch"),
        range(3),
        {
            "score": "balanced accuracy of frames of each person, as in the evidence table",
            "training": "the teacher's recipe on all corpora and simulated people; less dropout "
            "for the one from scratch. Who learns from a teacher has its codebooks from the start, "
            "no dropout, 24 windows a step, and a learning rate of 0.004, which was found on "
            "people who select, as were the weights. seed = fold; sizes count the encoder before "
            "the quantizer",
            "sequence model": "a recurrent network of 128, trained on the teacher's tokens of the "
            "training people; calibrated. Beside it the teacher's own head, which reads the "
            "student's tokens",
        },
        gestures("3dc", "myo_laval", likeness=True),
        minutes=15,
        compare=agreement_with_teacher("3dc", "myo_laval"),
        tolerated=LARGEST_LOSS,
    ),
    "bottleneck-typing": Study(
        "What the bottleneck costs: simulated typing",
        "emg-codec",
        (
            *_PEOPLE,
            "hop_length=64",  # at 125 frames a second nothing is learned in the time that there is
            "frontend.window=128",
            "encoder.kernel=8",
            "typing.longer=0.0",
            "augment.time_masks=0",
            "augment.band_masks=0",
            "optim.steps=2500",
            "optim.lr=3e-3",
        ),
        _BOTTLENECKS,
        ("none",),
        range(3),
        _typing_protocol(
            "the TDS preset at 31.25 frames a second instead of 125, windows of 128 samples for "
            "the spectrum and a kernel of 8 frames, no masks, no longer windows, learning rate "
            "0.003",
            2500,
        ),
        typing,
        minutes=9,
        simulated=_typists,
        error=True,
        tolerated=LARGEST_LOSS,
    ),
    "distillation-typing": Study(
        "What a teacher of 5 M gives a student of 0.1 M: simulated typing",
        "small",
        (
            *_PEOPLE,
            "optim.steps=3000",
            "optim.accumulate=1",
            "model.license=Trained on simulated typing alone.",
            "optim.lr=1e-3",
            "optim.clip=1.0",
            "optim.weight_decay=0.01",
            "augment.time_masks=0",
            "hop_length=64",
            # On the raw signal CTC stays at its plateau for all the steps that there are.
            'frontend={kind="log_spectrogram", window=128, mlp_dim=128, rolls=[-1, 0, 1]}',
        ),
        _PAIR,
        ("teacher", "student alone"),
        range(3),
        _typing_protocol(
            "transformers on log spectrograms instead of the raw signal, at 31.25 frames a second",
            3000,
        ),
        typing,
        minutes=22,
        simulated=_typists,
        error=True,
    ),
    "rates": Study(
        "Frames a second, codes and levels",
        "teacher",
        (
            "data.weights={ 3dc = 2.0, myo_laval = 1.0 }",
            "optim.steps=600",
            "decoder.steps=200",
            "loss.quantizer_start=0.25",
            "quantizer.levels=4",
            "model.preset=student",  # alone, as there is no teacher of each rate
            "encoder.dropout=0.1",
            "optim.lr=3e-3",
        ),
        _RATES,
        ("31.2 frames/s, 1024 codes",),
        range(3),
        {
            "score": "balanced accuracy of frames of each person, from the first levels alone; "
            "calibrated",
            "training": "the small student without a teacher, by the teacher's recipe, but dropout "
            "0.1 and a learning rate of 0.003, which was found at 31.2 frames a second, on 3dc and "
            "myo_laval; 600 steps, 4 levels of which windows lose some, codebooks from step 150 "
            "on, 200 more for readers; seed = fold",
            "bits": "levels of electrodes are told once in a recording, of which most last five "
            "seconds here, in 32 bits for each of 10 or 8 electrodes: 64 and 51 bits a second; "
            "the mean of both data sets",
            "encoding": "matrix products of the whole at once, without Fourier transforms",
        },
        by_levels("3dc", "myo_laval"),
        minutes=5,
    ),
    "sizes": Study(
        "Parameters",
        "teacher",
        ("optim.steps=800", "decoder.steps=200"),
        _WIDTHS,
        ("6 x 128",),
        range(3),
        {
            "score": "balanced accuracy of frames of each person, as in the evidence table",
            "training": "the teacher's recipe, of which dropout of 0.3 and the learning rate were "
            "found for 6 x 128; 800 steps each and 200 for readers, instead of 2200 and 800; codes "
            "from step 600 on, so that the loss rises there, and the task's own part of it tells "
            "whether it still falls, as the learning rate goes to nothing; seed = fold",
        },
        gestures("3dc", "myo_laval"),
        minutes=15,
    ),
    "devices": Study(
        "Devices that the codec never met",
        "teacher",
        ("optim.steps=1200", "decoder.steps=0"),  # probes read the codes themselves
        _WITHOUT,
        (),
        range(3),
        {
            "score": "balanced accuracy of frames of each person, by a linear probe that is "
            "fitted on other people of the device, its shrinkage and how long it sums evidence "
            "chosen on those who select, of whom contraction_intensity has one or two; calibrated",
            "training": "the teacher's recipe without any recording of the device, 1200 steps "
            "instead of 2200, codes from step 900 on; seed = fold. Simulated people are left in, "
            "who wear none of these devices. flexemg has too few people to fit a probe on",
            "codes": "all have as many bits, frames and context. Codebooks of random weights' "
            "codes are fitted to the same corpora as the codec, calibrated; k-means to classic "
            "features of the very device, z-scored, on which it spends all of its bits",
            "people": "some may have worn two devices: 3dc and myo_laval are of one laboratory, "
            "and contraction_intensity and myo_ciil, some ten years apart, probably of another",
        },
        probes(*(corpus for corpus in CORPORA if corpus != "flexemg")),
        minutes=12,
        contrasts=(("its codes", "k-means codes"), ("its codes", "random weights' codes")),
    ),
    "calibration": Study(
        "Seconds of calibration",
        "teacher",
        (),
        {"teacher": ()},
        ("teacher",),
        range(5),
        {
            "score": "balanced accuracy of frames of each person, as in the evidence table, of the "
            "same models",
            "calibration": "on the first blocks of the training people of the corpus; or on the "
            "first seconds of the wearing's own first block, on five seconds from everywhere in "
            "it, on all of it, or on all that there is; without labels, but that recordings of "
            "several gestures are cut where these change, if they are scored. What is scored is "
            "always the same",
            "the first five seconds": "are mostly rest: 96 to 100 percent in 3dc, myo_laval, "
            "myo_readings and flexemg, 61 in contraction_intensity; in myo_ciil two gestures",
        },
        by_calibration(*CORPORA),
        minutes=5,
        contrasts=(
            ("one block", "cold"),
            ("one block", "other people"),
            ("first 20 s", "cold"),
            ("5 s of the whole block", "cold"),
            ("one block", "5 s of the whole block"),
        ),
        row="teacher",
    ),
}
