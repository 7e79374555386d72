"""The training loop: reconstruction, gestures and codebooks, in one process or several."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from emgcodec.codec import Codec
from emgcodec.config import ConfigError
from emgcodec.files import locked
from emgcodec.folder import CONFIG_FILE, load_config
from emgcodec.nn.network import CodecOutput
from emgcodec.pretrained import find_model
from emgcodec.train.checkpoint import Checkpoint, differences, load_optimizer, optimizer_tensors
from emgcodec.train.data import Segment, calibrations, usual_calibrations
from emgcodec.train.distill import build_distiller
from emgcodec.train.log import Log
from emgcodec.train.losses import (
    correct_power,
    forward,
    gesture_loss,
    own_gesture_loss,
    text_loss,
)
from emgcodec.train.prepared import content, default_cache, load_prepared, sources
from emgcodec.train.processes import interrupts, is_first_process, launch, leave_together
from emgcodec.train.recipe import DataRecipe, Recipe
from emgcodec.train.result import add_own_heads, build_codec, save_model
from emgcodec.train.sessions import DATASET
from emgcodec.train.typing import TypingWindows
from emgcodec.train.windows import Batch, GestureWindows

_MEASURED = 20  # batches to measure the signal head's power on


class TrainingError(ValueError):
    """A training that cannot go on."""


def train(
    recipe: Recipe,
    out: str | Path,
    *,
    data: Path | None = None,
    cache: Path | None = None,
    resume: bool = False,
) -> Path | None:
    """Trains a codec; a finished training is not repeated.

    Args:
        recipe: What to train.
        out: Folder for ``model``, ``log.jsonl``, ``tensorboard`` and ``checkpoint.safetensors``;
            ``lock`` in it is held meanwhile.
        data: Folder of the corpora; simulated people need none.
        cache: Folder for prepared recordings.
        resume: Go on from the checkpoint in `out`, if there is one.

    Returns:
        The folder of the model, or None where the training was interrupted; `resume` goes on.

    Raises:
        ConfigError: if `out` holds another training, an unfinished one without `resume`, or the
            recipe asks for what is not there.
        TrainingError: if the gradient is no longer finite, or another process trains in `out`.
    """
    out = Path(out)
    with ExitStack() as held:
        if is_first_process():
            out.mkdir(parents=True, exist_ok=True)
            held.enter_context(locked(out / "lock", TrainingError))
        return _train(recipe, out, data, cache, resume)


def _train(
    recipe: Recipe, out: Path, data: Path | None, cache: Path | None, resume: bool
) -> Path | None:
    """`train`, alone in its folder."""
    model, state, checkpoint = out / "model", out / "checkpoint.safetensors", None
    if (model / CONFIG_FILE).is_file():
        _require_same(recipe, load_config(model).provenance.get("recipe", {}), model)
        return model
    if state.is_file():
        if not resume:
            raise ConfigError(f"{out} holds an unfinished training: resume it, or name another")
        checkpoint = Checkpoint.load(state)
        _require_same(recipe, checkpoint.recipe.to_dict(), state)
    fabric = launch(recipe.run)
    if fabric.is_global_zero:
        for stale in out.glob(f".{state.stem}.*"):  # half a checkpoint of a killed process
            stale.unlink()
    training, segments = _begin(recipe, fabric, out, data, cache)
    if checkpoint is not None:
        training.load(checkpoint)
    finished = training.run()
    if finished:
        training.finish()
        if fabric.is_global_zero:
            save_model(training.codec, recipe, segments, model, training.facts())
    if fabric.world_size > 1:
        leave_together(fabric)
    return model if finished else None


def _begin(
    recipe: Recipe, fabric: Any, out: Path, data: Path | None, cache: Path | None
) -> tuple[Training, list[Segment]]:
    """A training before its first step, and what it learns from."""
    if recipe.distill.teacher:
        find_model(recipe.distill.teacher)  # or this were noticed after all data is prepared
    torch.manual_seed(recipe.run.seed)
    codec = build_codec(recipe.model)
    _require_fitting(recipe, codec)
    if codec.quantizer is not None:
        codec.quantizer.rules = recipe.codebooks
    with fabric.rank_zero_first():
        found = sources(recipe.data, data)
        segments = load_prepared(found, codec, cache or default_cache())
    if recipe.model.own_heads:
        add_own_heads(codec, segments)
    seconds = recipe.typing.calibration if "text" in codec.heads else None
    codec.devices = usual_calibrations(segments, codec, seconds)
    known = calibrations(segments, codec, seconds)

    def windows(data: DataRecipe) -> GestureWindows | TypingWindows:
        if "text" in codec.heads:
            return TypingWindows(segments, known, codec, recipe)
        return GestureWindows(
            segments, known, codec.devices, codec, data, recipe.augment, recipe.run.seed
        )

    return Training(recipe, codec, windows, fabric, out, content(found)), segments


class Training:
    """A codec on its way: everything that a checkpoint holds, and what to do with it."""

    def __init__(
        self,
        recipe: Recipe,
        codec: Codec,
        windows: Callable[[DataRecipe], GestureWindows | TypingWindows],
        fabric: Any,
        out: Path,
        data: str,
    ) -> None:
        self.recipe, self.fabric, self.out, self.data = recipe, fabric, out, data
        self.codec = codec.to(fabric.device).train()
        self._windows = windows
        self.windows = windows(recipe.data)
        self.step, self.seconds = 0, 0.0
        self.begun = 0  # the step that this part of the training began with
        self.distiller = build_distiller(recipe, self.codec)
        self.parameters = list(codec.parameters())
        if self.distiller is not None:
            self.parameters += self.distiller.parameters()
        self._learn_with(self.parameters)

    @property
    def learned_from(self) -> str:
        """Recordings and teacher, as a checkpoint tells them."""
        return self.data if self.distiller is None else f"{self.data} {self.distiller.teacher_id}"

    def _learn_with(self, parameters: list[torch.nn.Parameter]) -> None:
        """Begins a part of the training, on these parameters."""
        optim = self.recipe.optim
        self.parameters = parameters
        self.average = [p.detach().clone() for p in parameters]
        self.optimizer = torch.optim.AdamW(
            parameters, betas=optim.betas, weight_decay=optim.weight_decay, fused=True
        )

    def _leave_encoder(self) -> None:
        """Begins the part in which only what reads the codes learns."""
        self.begun = self.recipe.optim.steps
        data, decoder = self.recipe.data, self.recipe.decoder
        longer = replace(data, seconds=decoder.seconds, batch_size=decoder.batch_size)
        self.windows = self._windows(longer)
        quantizer = self.codec.quantizer
        for part in (self.codec.frontend, self.codec.encoder):
            part.eval().requires_grad_(False)
        if quantizer is not None:
            quantizer.project_in.requires_grad_(False)
            quantizer.frozen = True
        self._learn_with([p for p in self.parameters if p.requires_grad])

    def share(self) -> float:
        """How much of the training is done, 0 to 1, in steps or in minutes."""
        optim = self.recipe.optim
        done = [self.step / (optim.steps + self.recipe.decoder.steps)] if optim.steps else []
        done += [self.seconds / 60.0 / optim.minutes] if optim.minutes else []
        return min(max(done), 1.0)

    def part_share(self) -> float:
        """The same of the part of the training that runs."""
        decoder = self.recipe.decoder.steps
        if self.begun:
            return (self.step - self.begun) / decoder
        return self.step / self.recipe.optim.steps if decoder else self.share()

    def rate(self, share: float) -> float:
        """Learning rate: a linear rise over some steps, then half a cosine over the part."""
        optim = self.recipe.optim
        highest = self.recipe.decoder.lr if self.begun else optim.lr
        cosine = optim.floor + (1.0 - optim.floor) * 0.5 * (1.0 + math.cos(math.pi * share))
        return highest * cosine * min(1.0, (self.step - self.begun + 1) / max(optim.warm_up, 1))

    def run(self) -> bool:
        """Trains until the end, which it reports, or until interrupted; leaves a checkpoint."""
        run, first = self.recipe.run, self.fabric.is_global_zero
        start, saved = time.monotonic() - self.seconds, time.monotonic()
        share, stop = self.share(), False
        log = Log(self.out, self.step, share, run.log_steps, quiet=not first)
        with log, interrupts() as interrupted:
            while share < 1.0 and not stop:
                if self.recipe.decoder.steps and self.step == self.recipe.optim.steps:
                    self._settle()
                    self._leave_encoder()
                facts = self._learn(self.part_share(), log)
                self.step += 1
                self.seconds, stop = self._agree(time.monotonic() - start, interrupted.is_set())
                share = self.share()
                log.write(self.step, share, facts | {"minutes": self.seconds / 60.0})
                late = time.monotonic() - saved > run.checkpoint_seconds
                if late or (run.checkpoint_steps and self.step % run.checkpoint_steps == 0):
                    self.save()
                    saved = time.monotonic()
        self.save()
        return share >= 1.0

    def _learn(self, share: float, log: Log) -> dict[str, float]:
        """One step of the optimizer."""
        recipe, optim = self.recipe, self.recipe.optim
        rank, world = self.fabric.global_rank, self.fabric.world_size
        chance = np.random.SeedSequence([recipe.run.seed, self.step, rank])
        torch.manual_seed(int(chance.generate_state(1)[0]))
        self.optimizer.zero_grad()
        for part in range(optim.accumulate):
            began = time.monotonic()
            batch = self.windows.batch(self.step, part * world + rank).to(self.codec.device)
            waited = time.monotonic() - began
            with self.fabric.autocast():
                made = share >= recipe.loss.quantizer_start or self.begun > 0
                out = forward(self.codec, batch, quantize=made)
                taught = {} if self.distiller is None else self.distiller(batch, out)
            terms, facts = self._losses(out, batch, taught)
            (terms["loss"] / optim.accumulate).backward()
            signal = float(batch.lengths.sum()) / self.codec.sample_rate
            log.add({**terms, **facts, **out.stats}, signal * world, waited)
        if world > 1:
            self._average_gradients()
        norm = float(torch.nn.utils.clip_grad_norm_(self.parameters, optim.clip))
        if not math.isfinite(norm):
            raise TrainingError(
                f"step {self.step}: the gradient is not finite; start again in another folder with "
                f"a lower optim.lr (now {optim.lr}); {self.out / 'log.jsonl'} tells how it came"
            )
        rate = self.rate(share)
        for group in self.optimizer.param_groups:
            group["lr"] = rate
        self.optimizer.step()
        # A young average forgets faster, or it would remember the untrained weights.
        age = self.step - self.begun
        memory = min(optim.ema, (1.0 + age) / (10.0 + age))
        with torch.no_grad():
            for mean, parameter in zip(self.average, self.parameters, strict=True):
                mean.lerp_(parameter, 1.0 - memory)
        return {"lr": rate, "gradient_norm": norm}

    def _losses(
        self, out: CodecOutput, batch: Batch, taught: dict[str, Tensor]
    ) -> tuple[dict[str, Tensor], dict[str, float]]:
        """Each term, and their weighted sum as ``loss``; and what else the log should tell."""
        loss = self.recipe.loss
        terms = out.losses | taught
        facts: dict[str, float] = {}
        if "gesture" in out.heads:
            scores = out.heads["gesture"].float()
            terms["gesture"] = gesture_loss(scores, batch, out.valid, loss.label_smoothing)
        if self.recipe.model.own_heads:
            own = own_gesture_loss(self.codec, out, batch, loss.label_smoothing)
            terms["own_gesture"] = own
        if batch.keys is not None:
            terms["text"], facts = text_loss(out.heads["text"], batch.keys)
        total = sum((getattr(loss, name) * term for name, term in terms.items()), torch.zeros(()))
        return terms | {"loss": total}, facts

    def _average_gradients(self) -> None:
        """Over processes; who has none counts as zero, as a head does whose people were not drawn.

        What nobody has a gradient for keeps none, so that the optimizer leaves it alone.
        """
        known = torch.tensor([float(p.grad is not None) for p in self.parameters])
        own = [torch.zeros_like(p) if p.grad is None else p.grad for p in self.parameters]
        flat = torch.cat([known.to(self.codec.device), *(g.flatten() for g in own)])
        mean = self.fabric.all_reduce(flat, reduce_op="mean")
        known, *parts = mean.split([len(own), *(g.numel() for g in own)])
        for parameter, anybody, part in zip(self.parameters, known > 0, parts, strict=True):
            parameter.grad = part.view_as(parameter) if anybody else None

    def _agree(self, seconds: float, stop: bool) -> tuple[float, bool]:
        """The first process's time, and whether any process was asked to stop."""
        if self.fabric.world_size == 1:
            return seconds, stop
        own = seconds if self.fabric.is_global_zero else 0.0
        said = torch.tensor([own, float(stop)], dtype=torch.float64, device=self.codec.device)
        said = self.fabric.all_reduce(said, reduce_op="sum")
        return float(said[0]), bool(said[1])

    def save(self) -> None:
        """Writes the checkpoint; the first process does it for all."""
        if not self.fabric.is_global_zero:
            return
        tensors = {f"model.{name}": t for name, t in self.codec.state_dict().items()}
        tensors |= {f"average.{i}": t for i, t in enumerate(self.average)}
        tensors |= {f"optimizer.{name}": t for name, t in optimizer_tensors(self.optimizer)}
        if self.codec.quantizer is not None:
            state = self.codec.quantizer.training_state()
            tensors |= {f"codebooks.{name}": t for name, t in state.items()}
        if self.distiller is not None:
            state = self.distiller.state_dict()
            tensors |= {f"distiller.{name}": t for name, t in state.items()}
        path = self.out / "checkpoint.safetensors"
        Checkpoint(self.recipe, self.learned_from, self.step, self.seconds, tensors).save(path)

    def load(self, checkpoint: Checkpoint) -> None:
        """Goes on from a checkpoint.

        Raises:
            ConfigError: if it learned from other recordings, or another teacher.
        """
        if checkpoint.data != self.learned_from:
            raise ConfigError(
                f"{self.out} learned from other recordings than --data now holds, or from another "
                "teacher: bring those back, or start again in another folder"
            )
        self.step, self.seconds = checkpoint.step, checkpoint.seconds
        self.codec.load_state_dict(checkpoint.part("model"))
        if self.recipe.decoder.steps and self.step > self.recipe.optim.steps:
            self._leave_encoder()
        for i, mean in enumerate(self.average):
            mean.copy_(checkpoint.tensors[f"average.{i}"])
        load_optimizer(self.optimizer, checkpoint.part("optimizer"))
        if self.codec.quantizer is not None:
            self.codec.quantizer.load_training_state(checkpoint.part("codebooks"))
        if self.distiller is not None:
            self.distiller.load_state_dict(checkpoint.part("distiller"))

    def facts(self) -> dict[str, Any]:
        """What the model shall say of its training."""
        return {
            "steps": self.step,
            "processes": self.fabric.world_size,
            "device": str(self.codec.device),
            "data_hash": self.data,
            **({"teacher": self.distiller.teacher_facts} if self.distiller else {}),
        }

    @torch.no_grad()
    def _settle(self) -> None:
        """Puts the averaged weights in place, rounded."""
        for mean, parameter in zip(self.average, self.parameters, strict=True):
            parameter.copy_(mean)
        self.codec.round_weights()

    @torch.no_grad()
    def finish(self) -> None:
        """Makes the model that is saved, and measures the power of its signal head."""
        self._settle()
        self.codec.eval()
        if "signal" in self.codec.heads:
            batches = (self.windows.batch(self.step + i) for i in range(_MEASURED))
            correct_power(self.codec, (batch.to(self.codec.device) for batch in batches))


def _require_fitting(recipe: Recipe, codec: Codec) -> None:
    """Typing is for codecs that read text, and all else for those that do not."""
    wanted = {name for name, weight in recipe.data.weights.items() if weight > 0}
    types = "text" in codec.heads
    if wanted != {DATASET} if types else DATASET in wanted:
        fit = f"{DATASET} alone" if types else "recordings of gestures"
        raise ConfigError(
            f"data.weights={dict(recipe.data.weights)}: codec {codec.config.name!r} with the heads "
            f"{codec.heads} learns from {fit}"
        )
    if types and (recipe.decoder.steps or recipe.model.own_heads):
        raise ConfigError(
            f"decoder.steps={recipe.decoder.steps}, model.own_heads={recipe.model.own_heads} are "
            "for gestures: leave both out for a codec that reads text"
        )


def _require_same(recipe: Recipe, other: dict[str, Any], where: Path) -> None:
    if changed := differences(recipe.to_dict(), other):
        listed = ", ".join(changed[:5]) + (" and more" if len(changed) > 5 else "")
        raise ConfigError(f"{where} is of another recipe ({listed} differ): name another folder")
