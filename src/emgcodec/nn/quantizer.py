"""Residual vector quantizer: our own lookup on one buffer; vqp's `ResidualVQ` only trains it."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor, distributed, nn

from emgcodec.config import QuantizerConfig

_ROWS_AT_ONCE = 512  # scores of a block stay in the cache
_ROWS_A_CODE = 2  # to start on: of fewer, k-means leaves most codes of the later levels alone


@dataclass(frozen=True)
class CodebookRules:
    """How codebooks start, and how dead codes come back; what to compare, no setting of a codec.

    Attributes:
        start: ``kmeans`` of the first rows, or ``random`` values.
        revival: ``uniform``: a code is dead below `QuantizerConfig.dead_below` of uniform use, and
            comes back as if uniformly used. ``fixed``: it is dead below 2 rows and comes back with
            1, as in the published tokenizer: dead again at once, unless many rows choose it.
    """

    start: Literal["kmeans", "random"] = "kmeans"
    revival: Literal["uniform", "fixed"] = "uniform"


@dataclass
class Quantized:
    """What the quantizer gives in training.

    Attributes:
        latents: (B, T, D) quantized, with the gradient of the identity; zeros where invalid.
        codes: (B, T, K) int64, -1 where invalid.
        commitment: Weighted distance of the encoder's output to its codes.
        stats: For each level the perplexity (in training of the moving averages, else of these
            codes), the share of codes that occur, and in training how many dead ones were replaced.
    """

    latents: Tensor
    codes: Tensor
    commitment: Tensor
    stats: dict[str, float]


class Quantizer(nn.Module):
    """K codebooks of `size` codes, each on what the levels before it left over.

    Works in `config.dim` dimensions behind linear projections (0: the encoder's own width, no
    projections). Codebooks are float32 whatever the rest of the model is.

    Args:
        config: Levels, sizes and training rules.
        dim: Width D of the latents.
    """

    codebooks: Tensor

    def __init__(self, config: QuantizerConfig, dim: int) -> None:
        super().__init__()
        self.config = config
        self.project_in: nn.Module = nn.Identity()
        self.project_out: nn.Module = nn.Identity()
        width = config.dim or dim
        if config.dim:
            self.project_in, self.project_out = nn.Linear(dim, width), nn.Linear(width, dim)
        self.register_buffer("codebooks", torch.randn(config.levels, config.size, width))
        self.register_load_state_dict_post_hook(_mark_trained)  # type: ignore[no-untyped-call]
        self.trained = False  # codebooks that mean something are not started anew by training
        self.frozen = False  # those of a teacher stay as they are
        self.rules = CodebookRules()
        self._trainer: CodebookTrainer | None = None
        self._waiting: Tensor | None = None  # rows, until there are enough to start on

    @torch.no_grad()
    def set_codebooks(self, codebooks: Tensor) -> None:
        """Replaces the codebooks, (K, size, width)."""
        self.codebooks.copy_(codebooks)
        self.trained = True

    def lookup(self, vectors: Tensor, num_codebooks: int | None = None) -> Tensor:
        """Nearest codes, level by level.

        Args:
            vectors: (M, width) in the codebooks' space.
            num_codebooks: Levels to use; all by default.

        Returns:
            (M, K) int64.
        """
        levels = self.config.levels if num_codebooks is None else num_codebooks
        half_norms = self.codebooks.square().sum(dim=-1) / 2
        codes = []
        rows = vectors.float()
        # A graph for any size cannot count its loops.
        parts = [rows] if torch.compiler.is_compiling() else rows.split(_ROWS_AT_ONCE)
        for residual in parts:
            indices: list[Tensor] = []
            for level in range(levels):
                if indices:
                    residual = residual - self.codebooks[level - 1][indices[-1]]
                indices.append(nearest(residual, self.codebooks[level], half_norms[level]))
            codes.append(torch.stack(indices, dim=1))
        return torch.cat(codes) if codes else vectors.new_zeros((0, levels), dtype=torch.long)

    def encode(self, latents: Tensor, valid: Tensor, num_codebooks: int | None = None) -> Tensor:
        """(B, T, D) latents and (B, T) validity to (B, T, K) codes, -1 where invalid."""
        vectors = self.project_in(latents).flatten(0, 1)
        codes = self.lookup(vectors, num_codebooks).unflatten(0, latents.shape[:2])
        return torch.where(valid[..., None], codes, -1)

    def decode(self, codes: Tensor) -> Tensor:
        """(B, T, K') codes to (B, T, D) latents; fewer levels give the partial sum, -1 zeros."""
        known = codes >= 0
        total = torch.zeros((), device=codes.device)
        for level in range(codes.shape[-1]):
            vectors = self.codebooks[level][codes[..., level].clamp(min=0)]
            total = total + vectors * known[..., level, None]
        latents: Tensor = self.project_out(total)
        return latents * known.any(dim=-1)[..., None]

    def forward(self, latents: Tensor, valid: Tensor, quantize: bool = True) -> Quantized:
        """Training: quantizes, moves the codebooks, and passes the gradient straight through.

        Only valid and finite frames reach the codebooks.

        Args:
            latents: (B, T, D).
            valid: (B, T).
            quantize: False leaves the vectors as they are and the codebooks alone: warm-up, for
                codebooks that start on untrained latents collapse.
        """
        with torch.autocast(latents.device.type, enabled=False):
            return self._forward(latents.float(), valid, quantize)

    def _forward(self, latents: Tensor, valid: Tensor, quantize: bool) -> Quantized:
        vectors = self.project_in(latents)
        usable = valid & vectors.isfinite().all(dim=-1)
        if not quantize:
            codes = latents.new_full((*usable.shape, self.config.levels), -1, dtype=torch.long)
            decoded = self.project_out(vectors) * usable[..., None]
            return Quantized(decoded, codes, vectors.new_zeros(()), {})
        rows = vectors[usable]
        moves = self.training and not self.frozen
        found = self._train_codebooks(rows.detach()) if moves else self._look(rows)
        if found is None:
            return self._forward(latents, valid, False)
        codes, parts = found
        kept = self._kept_levels(usable)
        nearest = (parts * kept[..., None]).sum(dim=0)
        passed = torch.zeros_like(vectors)
        # One straight-through step for the whole stack: the encoder's gradient is the decoder's.
        passed[usable] = rows + (nearest - rows).detach()
        commitment = (rows - nearest.detach()).square().mean() if len(rows) else rows.sum()
        decoded = self.project_out(passed) * usable[..., None]
        all_codes = codes.new_full((*usable.shape, self.config.levels), -1)
        all_codes[usable] = codes
        return Quantized(
            decoded, all_codes, self.config.commitment * commitment, self._usage(codes)
        )

    def _look(self, rows: Tensor) -> tuple[Tensor, Tensor]:
        codes = self.lookup(rows)
        parts = [self.codebooks[k][codes[:, k]] for k in range(self.config.levels)]
        return codes, torch.stack(parts)

    def _train_codebooks(self, rows: Tensor) -> tuple[Tensor, Tensor] | None:
        """Codes of the rows and what they stand for; None while there are too few to start on."""
        counts, fresh = rows_of_processes(rows), len(rows)
        starts = self._trainer is None and not self.trained and self.rules.start == "kmeans"
        if min(counts) == 0:  # one process alone would wait for the others for ever
            return None if starts else self._look(rows)
        if starts:
            rows = rows if self._waiting is None else torch.cat([self._waiting, rows])
            if sum(rows_of_processes(rows)) < _ROWS_A_CODE * self.config.size:
                self._waiting = rows
                return None
            self._waiting = None
        if self._trainer is None:
            width = rows.shape[1]
            self._trainer = CodebookTrainer(self.config, width, rows.device, self.rules)
            if self.trained:
                self._trainer.start_from(self.codebooks, sum(counts))
        codes, parts = self._trainer.step(rows)
        self.set_codebooks(self._trainer.codebooks)
        return codes[-fresh:], parts[:, -fresh:]

    def _kept_levels(self, usable: Tensor) -> Tensor:
        """(K, M) which levels each row keeps: all, or by chance the first few of its item."""
        levels = self.config.levels
        kept = torch.full(usable.shape[:1], levels, device=usable.device)
        if self.training and self.config.level_dropout > 0 and levels > 1:
            dropped = torch.rand(len(kept), device=kept.device) < self.config.level_dropout
            fewer = torch.randint(1, levels, kept.shape, device=kept.device)
            kept = torch.where(dropped, fewer, kept)
        rows = kept[:, None].expand_as(usable)[usable]
        return torch.arange(levels, device=rows.device)[:, None] < rows

    def _usage(self, codes: Tensor) -> dict[str, float]:
        stats = {}
        for level in range(self.config.levels):
            counts = torch.bincount(codes[:, level], minlength=self.config.size).float()
            stats[f"used_{level}"] = float((counts > 0).float().mean())
            if self.training and self._trainer is not None:
                counts, dead = self._trainer.usage(level)
                stats[f"dead_{level}"] = dead
            share = counts / counts.sum().clamp(min=1)
            entropy = -(share * share.clamp(min=1e-12).log()).sum()
            stats[f"perplexity_{level}"] = float(entropy.exp())
        return stats

    def training_state(self) -> dict[str, Tensor]:
        """What training beyond this step needs beside the weights."""
        state = {} if self._trainer is None else dict(self._trainer.rvq.state_dict())
        waiting = {} if self._waiting is None else {"waiting": self._waiting}
        return state | waiting | {"trained": torch.tensor(self.trained)}

    def load_training_state(self, state: dict[str, Tensor]) -> None:
        """Goes on from what `training_state` gave."""
        own = {"trained", "waiting"}
        averages = {name: tensor for name, tensor in state.items() if name not in own}
        self.trained, self._trainer = bool(state["trained"]), None
        self._waiting = state.get("waiting")
        if averages:
            width, device = self.codebooks.shape[-1], self.codebooks.device
            self._trainer = CodebookTrainer(self.config, width, device, self.rules)
            self._trainer.rvq.load_state_dict(averages)


def nearest(rows: Tensor, book: Tensor, half_norms: Tensor) -> Tensor:
    """Which codes of a book (size, width) are nearest to the rows (M, width): indices (M,)."""
    # argmin of |c|^2 / 2 - r.c, the distance without its constant part
    return first_smallest(torch.addmm(half_norms, rows, book.T, alpha=-1))


def first_smallest(score: Tensor) -> Tensor:
    """`score.argmin(dim=1)` in half the time: the minima of groups, then a place in one."""
    if torch.compiler.is_exporting():  # a graph has less to do with one operation
        return score.argmin(dim=1)
    size = math.gcd(score.shape[1], 64)
    groups = score.unflatten(1, (-1, size))
    group = groups.amin(dim=2).argmin(dim=1)
    inside = groups.gather(1, group[:, None, None].expand(-1, 1, size))[:, 0].argmin(dim=1)
    found: Tensor = group * size + inside
    return found


def _mark_trained(quantizer: Quantizer, _keys: Any) -> None:
    quantizer.trained = True


def _shared() -> bool:
    return distributed.is_available() and distributed.is_initialized()


def rows_of_processes(rows: Tensor) -> list[int]:
    """How many rows each process has: this one's alone, unless there is a process group."""
    if not _shared():
        return [len(rows)]
    counts = torch.zeros(distributed.get_world_size(), dtype=torch.long, device=rows.device)
    counts[distributed.get_rank()] = len(rows)
    distributed.all_reduce(counts)
    return list(map(int, counts.tolist()))


def _sample_of_processes(samples: Tensor, num: int) -> Tensor:
    """`num` rows of all processes' samples (1, M, width), the same (1, num, width) for each.

    The library's own does not wait for what it gathers.
    """
    rows = samples[0]
    counts = rows_of_processes(rows)
    start, total = sum(counts[: distributed.get_rank()]), sum(counts)
    chosen = (
        torch.randperm(total, device=rows.device)[:num]
        if total >= num
        else torch.randint(total, (num,), device=rows.device)
    )
    distributed.broadcast(chosen, 0)
    mine = (chosen >= start) & (chosen < start + len(rows))
    found = rows.new_zeros(num, rows.shape[1])
    found[mine] = rows[chosen[mine] - start]
    distributed.all_reduce(found)
    return found[None]


def _look_up(rows: Tensor, book: Tensor) -> tuple[Tensor, Tensor]:
    """Nearest codes (M,) of the rows, and what they stand for (M, width)."""
    half_norms = book.square().sum(dim=-1) / 2
    codes = torch.cat([nearest(some, book, half_norms) for some in rows.split(_ROWS_AT_ONCE)])
    return codes, book[codes]


def _track(book: Any, rows: Tensor, codes: Tensor) -> None:
    """Moves the library's averages of a code's rows, their number and their sum, in place."""
    counts = torch.bincount(codes, minlength=book.codebook_size).to(rows)
    sums = torch.zeros_like(book.embed_avg[0]).index_add_(0, codes, rows)
    for average, fresh in ((book.cluster_size, counts), (book.embed_avg, sums)):
        book.all_reduce_fn(fresh)
        average.lerp_(fresh[None], 1.0 - book.decay)


class CodebookTrainer:
    """The library's `ResidualVQ` with every argument that changes numbers pinned.

    Moving-average codebooks (van den Oord et al., 2017) in a residual stack (Zeghidour et al.,
    2021). Not a module: its state is for training only and never in a model's file. Build it after
    the process group, if there is one: only then are codebooks shared.
    """

    def __init__(
        self,
        config: QuantizerConfig,
        width: int,
        device: torch.device,
        rules: CodebookRules | None = None,
    ) -> None:
        from vector_quantize_pytorch import ResidualVQ

        self._config, self._rules = config, rules or CodebookRules()
        self._revived = torch.zeros(())
        self.rvq: Any = ResidualVQ(
            dim=width,
            num_quantizers=config.levels,
            codebook_size=config.size,
            codebook_dim=width,
            shared_codebook=False,
            quantize_dropout=False,
            kmeans_init=self._rules.start == "kmeans",
            kmeans_iters=50,
            sync_kmeans=True,
            decay=config.decay,
            eps=1e-5,
            threshold_ema_dead_code=1.0,
            commitment_weight=0.0,
            rotation_trick=False,
            quant_grad_frac=1.0,
            use_cosine_sim=False,
            stochastic_sample_codes=False,
            ema_update=True,
            learnable_codebook=False,
            sync_codebook=_shared(),
        ).to(device)
        self.rvq.train()
        if _shared():
            for layer in self.rvq.layers:
                layer._codebook.sample_fn = _sample_of_processes
                layer._codebook.replace_sample_fn = _sample_of_processes

    @property
    def codebooks(self) -> Tensor:
        """(K, size, width)."""
        books: Tensor = self.rvq.codebooks
        return books

    @torch.no_grad()
    def start_from(self, codebooks: Tensor, num_rows: int) -> None:
        """Takes over trained codebooks (K, size, width), each code as if uniformly used."""
        for layer, book in zip(self.rvq.layers, codebooks, strict=True):
            inner = layer._codebook
            inner.embed.copy_(book[None])
            inner.cluster_size.fill_(num_rows / self._config.size)
            inner.embed_avg.copy_(book[None] * inner.cluster_size[..., None])
            inner.initted.fill_(True)

    @torch.no_grad()
    def step(self, rows: Tensor) -> tuple[Tensor, Tensor]:
        """The codebooks move towards the rows (M, width); the first time they start on them.

        What the library's own training step does, without its matrices of a row and a code each.

        Returns:
            Codes (M, K), and what they stood for before the codebooks moved, (K, M, width).
        """
        # Dead means rarely used for this number of rows; a revived code starts at uniform use,
        # or it would be dead again at once.
        uniform = sum(rows_of_processes(rows)) / self._config.size
        fewest, revived = self._config.dead_below * uniform, uniform
        if self._rules.revival == "fixed":
            fewest, revived = 2.0, 1.0
        self._revived = torch.tensor(revived, device=rows.device)
        codes, parts = [], []
        with torch.autocast(rows.device.type, enabled=False):
            for layer in self.rvq.layers:
                book = layer._codebook
                book.threshold_ema_dead_code = fewest
                book.reset_cluster_size = revived
                book.init_embed_(rows[None])  # k-means, unless that was done
                found, part = _look_up(rows, book.embed[0])
                _track(book, rows, found)
                book.update_ema()
                book.expire_codes_(rows[None])
                rows = rows - part
                codes.append(found)
                parts.append(part)
        return torch.stack(codes, dim=1), torch.stack(parts)

    def usage(self, level: int) -> tuple[Tensor, float]:
        """Moving average of each code's rows, and how many dead codes the last step replaced."""
        sizes: Tensor = self.rvq.layers[level]._codebook.cluster_size[0]
        return sizes, float((sizes == self._revived).sum())
