"""What a codec is trained on, and what is measured when it is."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor
from torch.nn import functional as F

from emgcodec.codec import Codec
from emgcodec.gestures import GESTURES, own_head
from emgcodec.nn.network import CodecOutput
from emgcodec.train.data import UNLABELLED
from emgcodec.train.windows import Batch, Keys


def forward(codec: Codec, batch: Batch, *, quantize: bool = True, read: bool = True) -> CodecOutput:
    """The codec's output for a batch; see `Codec.forward`."""
    out: CodecOutput = codec(
        batch.x,
        batch.lengths,
        montage=batch.montages,
        mask=batch.mask,
        calibration=batch.calibrations,
        quantize=quantize,
        hidden=batch.hidden,
        read=read,
    )
    return out


def gesture_loss(
    scores: Tensor, batch: Batch, valid: Tensor, label_smoothing: float = 0.05
) -> Tensor:
    """Cross-entropy over each data set's own classes; rare classes of the batch weigh more.

    Args:
        scores: (B, T, V).
        batch: Its labels and classes.
        valid: (B, T) frames to count.
        label_smoothing: Share of the target that all classes of the data set have alike.
    """
    known = batch.classes[:, None]
    surprise = -torch.log_softmax(scores.masked_fill(~known, -1e4), dim=-1)
    labels = torch.where(valid, batch.labels, UNLABELLED)
    labelled, index = labels >= 0, labels.clamp(min=0)
    counts = torch.bincount(labels[labelled], minlength=scores.shape[-1]).float()
    weight = counts.clamp(min=1).rsqrt()[index] * labelled
    own = surprise.gather(-1, index[..., None])[..., 0]
    mean = (surprise * known).sum(dim=-1) / known.sum(dim=-1).clamp(min=1)
    loss = (1.0 - label_smoothing) * own + label_smoothing * mean
    return (loss * weight).sum() / weight.sum().clamp(min=1e-6)  # a batch may have no label


def own_gesture_loss(
    codec: Codec, out: CodecOutput, batch: Batch, label_smoothing: float = 0.05
) -> Tensor:
    """`gesture_loss` of each data set's own head; one without has no part in it."""
    scores = out.decoded.new_zeros((*batch.labels.shape, len(GESTURES)), dtype=torch.float32)
    counted = torch.zeros_like(out.valid)
    for dataset in dict.fromkeys(batch.datasets):
        if (head := own_head(dataset)) in out.heads:
            rows = batch.asked(head)
            where = [GESTURES.index(label) for label in codec.labels(head)]
            own = torch.zeros_like(scores)
            own[..., where] = out.heads[head].float()
            scores = torch.where(rows[:, None, None], own, scores)
            counted = counted | (out.valid & rows[:, None])
    return gesture_loss(scores, batch, counted, label_smoothing)


def text_loss(scores: Tensor, keys: Keys) -> tuple[Tensor, dict[str, float]]:
    """CTC (Graves et al., 2006) per key, over the frames in which keys may come out.

    Args:
        scores: (B, T, V) of any type; the last class is the blank.
        keys: What was typed.

    Returns:
        The loss, and for the log the share of frames whose best class is the blank and how many
        windows have more keys than frames can tell, which count for nothing.
    """
    lengths = keys.stop - keys.first
    frame = keys.first[:, None] + torch.arange(int(lengths.max()), device=scores.device)
    frame = frame.clamp(max=scores.shape[1] - 1)
    chosen = scores.gather(1, frame[..., None].expand(-1, -1, scores.shape[-1]))
    blank = scores.shape[-1] - 1
    with torch.autocast(scores.device.type, enabled=False):
        surprise = F.ctc_loss(
            torch.log_softmax(chosen.float(), dim=-1).transpose(0, 1),
            keys.labels,
            lengths,
            keys.counts,
            blank=blank,
            reduction="none",
            zero_infinity=True,
        )
    told = (surprise > 0) | (keys.counts == 0)
    loss = surprise.sum() / (keys.counts * told).sum().clamp(min=1)
    inside = keys.inside(scores.shape[1])
    blanks = (scores.detach().argmax(dim=-1) == blank) & inside
    facts = {
        "blank": float(blanks.sum() / inside.sum().clamp(min=1)),
        "untold": float((~told).sum()),
    }
    return loss, facts


@torch.no_grad()
def correct_power(codec: Codec, batches: Iterable[Batch]) -> None:
    """Measures what the signal head's logarithms lack of the true power, band by band."""
    wanted, given = torch.zeros(2, codec.frontend.num_features, device=codec.device)
    for batch in batches:
        out = forward(codec, batch)
        assert out.spectrum is not None
        target, known = out.spectrum
        wanted += (torch.pow(10.0, target) * known).sum(dim=(0, 1, 2))
        given += (torch.pow(10.0, out.heads["signal"]) * known).sum(dim=(0, 1, 2))
    measured = (wanted > 0) & (given > 0)
    correction = codec.get_buffer("head.signal.correction")
    correction.copy_(torch.where(measured, torch.log10(wanted / given), correction))
