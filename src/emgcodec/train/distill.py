"""Learning from a teacher: to score each frame as it does, and to read the same behind a map."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from emgcodec.codec import Codec
from emgcodec.config import ConfigError, LabelHeadConfig
from emgcodec.nn.network import CodecOutput
from emgcodec.train.losses import forward
from emgcodec.train.recipe import DistillRecipe, Recipe
from emgcodec.train.windows import Batch


class Distiller(nn.Module):
    """A frozen teacher, and how far a student is from it.

    Divergence of scores with a temperature is that of Hinton et al. (2015), features are those of
    Romero et al. (2015). What Mehlman et al. (2025) distilled with is not known.

    Args:
        teacher: Of the student's frames, features and labels.
        student: Who learns.
        recipe: The temperature.
        features: Whether to compare what the heads read.

    Raises:
        ConfigError: if the two do not fit.
    """

    def __init__(
        self, teacher: Codec, student: Codec, recipe: DistillRecipe, *, features: bool
    ) -> None:
        super().__init__()
        self._teacher = (teacher.to(student.device).eval().requires_grad_(False),)  # no part of us
        self._temperature = recipe.temperature
        self._heads = _shared_heads(teacher, student)
        self.map = (
            nn.Linear(student.decoder.dim, teacher.decoder.dim, device=student.device)
            if features
            else None
        )

    def forward(self, batch: Batch, out: CodecOutput) -> dict[str, Tensor]:
        """The terms ``scores`` and, if wanted, ``features``.

        Args:
            batch: What both hear; the teacher also what is hidden from the student.
            out: What the student makes of it.
        """
        with torch.no_grad():
            wanted = forward(self._teacher[0], batch.unhidden())
        counted = out.valid & wanted.valid
        if batch.keys is not None:
            counted = counted & batch.keys.inside(counted.shape[1])
        terms = {"scores": self._divergence(batch, out, wanted, counted)}
        if self.map is not None:
            apart = (self.map(out.decoded.mT) - wanted.decoded.mT).float().square().mean(dim=-1)
            terms["features"] = (apart * counted).sum() / counted.sum().clamp(min=1)
        return terms

    def _divergence(
        self, batch: Batch, out: CodecOutput, wanted: CodecOutput, counted: Tensor
    ) -> Tensor:
        """Mean over frames, summed over heads; squared, the temperature leaves gradients alone."""
        total = out.decoded.new_zeros((), dtype=torch.float32)
        for head in self._heads:
            given, told = (
                self._log_probs(o.heads[head], batch, head == "gesture") for o in (out, wanted)
            )
            apart = F.kl_div(given, told, reduction="none", log_target=True).sum(dim=-1)
            total = total + (apart * counted).sum() / counted.sum().clamp(min=1)
        return total * self._temperature**2

    def _log_probs(self, scores: Tensor, batch: Batch, masked: bool) -> Tensor:
        scores = scores.float() / self._temperature
        if masked:
            scores = scores.masked_fill(~batch.classes[:, None], -1e4)
        return torch.log_softmax(scores, dim=-1)


def build_distiller(recipe: Recipe, student: Codec) -> Distiller | None:
    """The recipe's teacher, if it has one."""
    if not recipe.distill.teacher:
        return None
    teacher = Codec.from_pretrained(recipe.distill.teacher)
    return Distiller(teacher, student, recipe.distill, features=recipe.loss.features > 0)


def _shared_heads(teacher: Codec, student: Codec) -> list[str]:
    """Label heads of both, alike in labels; whatever else they must share is checked."""
    for name in ("sample_rate", "hop_length", "features"):
        mine, theirs = getattr(student, name), getattr(teacher, name)
        if mine != theirs:
            raise ConfigError(
                f"distill.teacher has {name} {theirs}, the student {mine}: they must hear the same"
            )
    shared = [
        name
        for name, head in student.config.heads.items()
        if isinstance(head, LabelHeadConfig) and teacher.config.heads.get(name) == head
    ]
    if not shared:
        raise ConfigError(
            f"distill.teacher has the heads {teacher.heads}, the student {student.heads}: none "
            "with the same labels"
        )
    return shared
