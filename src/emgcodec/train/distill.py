"""Learning from a teacher: its scores, what its heads read, and its codes."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from emgcodec.codec import Codec
from emgcodec.config import ConfigError, LabelHeadConfig
from emgcodec.nn.network import CodecOutput
from emgcodec.nn.quantizer import Quantizer
from emgcodec.train.losses import forward
from emgcodec.train.recipe import DistillRecipe, LossRecipe, Recipe
from emgcodec.train.windows import Batch

_SOFTNESS = 0.5  # at the start, of squared distances as shares of the teacher's variance
_PACE = 10.0  # of each level's sharpness: a few hundred steps take it to where codes are told apart


class Distiller(nn.Module):
    """A frozen teacher, and how far a student is from it.

    Divergence of scores with a temperature is that of Hinton et al. (2015), features are those of
    Romero et al. (2015). What Mehlman et al. (2025) distilled with is not known.

    Args:
        teacher: Of the student's frames, features and labels.
        student: Who learns; takes the teacher's codebooks if the recipe says so.
        recipe: The temperature, and whether codebooks are shared.
        loss: Terms of a weight above 0 are worked out.

    Raises:
        ConfigError: if the two do not fit.
    """

    def __init__(
        self, teacher: Codec, student: Codec, recipe: DistillRecipe, loss: LossRecipe
    ) -> None:
        super().__init__()
        self._teacher = (teacher.to(student.device).eval().requires_grad_(False),)  # no part of us
        self._student = (student,)
        self.teacher_id = teacher.codec_id
        self.teacher_facts = {"codec_id": teacher.codec_id} | {  # whom it met, for who scores
            name: told
            for name in ("data", "teacher", "started_from")
            if (told := teacher.config.provenance.get(name))
        }
        self._temperature, self._loss = recipe.temperature, loss
        self._heads = _shared_heads(teacher, student) if loss.scores > 0 else []
        _require_alike(teacher, student)
        if recipe.codebooks:
            _share_codebooks(teacher, student)
        elif loss.codes > 0 or loss.latents > 0:
            raise ConfigError(
                f"loss.codes={loss.codes}, loss.latents={loss.latents} are of shared codebooks: "
                "set distill.codebooks=true, or both to 0"
            )
        self.map = (
            nn.Linear(student.decoder.dim, teacher.decoder.dim, device=student.device)
            if loss.features > 0
            else None
        )
        self.sharpness = (  # each level's own, and learned: no temperature to tune
            nn.Parameter(torch.zeros(student.num_codebooks, device=student.device))
            if loss.codes > 0
            else None
        )

    def forward(self, batch: Batch, out: CodecOutput) -> dict[str, Tensor]:
        """Those of ``scores``, ``features``, ``codes`` and ``latents`` that are wanted.

        Of an encoder that no longer learns, codes and latents are what they are: they are left out.

        Args:
            batch: What both hear; the teacher also what is hidden from the student.
            out: What the student makes of it.
        """
        reads = bool(self._heads) or self.map is not None
        if not reads and not out.latents.requires_grad:
            return {}
        with torch.no_grad():
            wanted = forward(self._teacher[0], batch.unhidden(), read=reads)
        counted = out.valid & wanted.valid
        if batch.keys is not None:
            counted = counted & batch.keys.inside(counted.shape[1])
        terms = {}
        if self._heads:
            terms["scores"] = self._divergence(batch, out, wanted, counted)
        if self.map is not None:
            apart = (self.map(out.decoded.mT) - wanted.decoded.mT).float().square().mean(dim=-1)
            terms["features"] = (apart * counted).sum() / counted.sum().clamp(min=1)
        return terms | self._of_codebooks(out, wanted, counted)

    def _divergence(
        self, batch: Batch, out: CodecOutput, wanted: CodecOutput, counted: Tensor
    ) -> Tensor:
        """Mean over frames, summed over the heads that are asked about them.

        Times its square, the temperature leaves the size of gradients alone.
        """
        total = out.decoded.new_zeros((), dtype=torch.float32)
        for head in self._heads:
            given, told = (
                self._log_probs(o.heads[head], batch, head == "gesture") for o in (out, wanted)
            )
            apart = F.kl_div(given, told, reduction="none", log_target=True).sum(dim=-1)
            asked = counted & batch.asked(head)[:, None]
            total = total + (apart * asked).sum() / counted.sum().clamp(min=1)
        return total * self._temperature**2

    def _log_probs(self, scores: Tensor, batch: Batch, masked: bool) -> Tensor:
        scores = scores.float() / self._temperature
        if masked:
            # Who has no labels may be asked about every class.
            known = batch.classes | ~batch.classes.any(dim=1, keepdim=True)
            scores = scores.masked_fill(~known[:, None], -1e4)
        return torch.log_softmax(scores, dim=-1)

    def _of_codebooks(
        self, out: CodecOutput, wanted: CodecOutput, counted: Tensor
    ) -> dict[str, Tensor]:
        """How far what both round lies apart, and how likely the student rounds it alike."""
        wanting = self._loss.codes > 0 or self._loss.latents > 0
        if not wanting or not out.latents.requires_grad:
            return {}
        student, teacher = (_quantizer(c[0]) for c in (self._student, self._teacher))
        with torch.autocast(out.latents.device.type, enabled=False):
            given = student.project_in(out.latents.mT.float())[counted]
            told = teacher.project_in(wanted.latents.mT.float())[counted]
            spread = (told - told.mean(dim=0)).square().sum(dim=-1).mean().clamp(min=1e-9)
            terms = {}
            if self._loss.latents > 0:
                terms["latents"] = (given - told).square().sum(dim=-1).mean() / spread
            if self.sharpness is not None:
                terms["codes"] = self._surprise(given, wanted.codes.mT[counted], spread)
            return terms if len(given) else {name: given.sum() for name in terms}

    def _surprise(self, given: Tensor, codes: Tensor, spread: Tensor) -> Tensor:
        """Cross-entropy of each level's code, given the teacher's own codes of those before it."""
        assert self.sharpness is not None
        total = given.new_zeros(())
        for level, book in enumerate(_quantizer(self._teacher[0]).codebooks):
            # The squared distance, without the part that all codes have alike.
            near = 2.0 * given @ book.T - book.square().sum(dim=-1)
            scale = (_PACE * self.sharpness[level]).exp() / (_SOFTNESS * spread)
            total = total + F.cross_entropy(near * scale, codes[:, level])
            given = given - book[codes[:, level]]
        return total


def build_distiller(recipe: Recipe, student: Codec) -> Distiller | None:
    """The recipe's teacher, if it has one."""
    if not recipe.distill.teacher:
        return None
    teacher = Codec.from_pretrained(recipe.distill.teacher)
    return Distiller(teacher, student, recipe.distill, recipe.loss)


def _quantizer(codec: Codec) -> Quantizer:
    assert codec.quantizer is not None
    return codec.quantizer


def _share_codebooks(teacher: Codec, student: Codec) -> None:
    """Gives the student the teacher's codebooks, to keep."""
    if teacher.quantizer is None or student.quantizer is None:
        raise ConfigError(
            "distill.codebooks: both need a quantizer; set quantizer.kind=rvq, or do without"
        )
    own, theirs = student.quantizer.codebooks, teacher.quantizer.codebooks
    if own.shape != theirs.shape:
        raise ConfigError(
            f"distill.codebooks: those of the student are {tuple(own.shape)} (levels, size, dim), "
            f"of the teacher {tuple(theirs.shape)}: set quantizer.levels, size and dim alike"
        )
    student.quantizer.set_codebooks(theirs)
    student.quantizer.frozen = True


def _require_alike(teacher: Codec, student: Codec) -> None:
    for name in ("sample_rate", "hop_length", "features"):
        mine, theirs = getattr(student, name), getattr(teacher, name)
        if mine != theirs:
            raise ConfigError(
                f"distill.teacher has {name} {theirs}, the student {mine}: they must hear the same"
            )


def _shared_heads(teacher: Codec, student: Codec) -> list[str]:
    """Label heads of both, alike in labels."""
    shared = [
        name
        for name, head in student.config.heads.items()
        if isinstance(head, LabelHeadConfig) and teacher.config.heads.get(name) == head
    ]
    if not shared:
        raise ConfigError(
            f"distill.teacher has the heads {teacher.heads}, the student {student.heads}: none "
            "with the same labels; set loss.scores=0 to do without"
        )
    return shared
