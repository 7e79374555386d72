"""`Layout`: how codes become the token ids of a language model, and back without loss."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any

import numpy as np
import numpy.typing as npt

KINDS = ("flat", "parallel", "delay", "joint")
GAPS = ("frames", "runs")
SPECIALS = ("bos", "eos", "pad", "gap")
MAX_CODEBOOKS = 64
MAX_STACK = 64
MAX_CODEBOOK_SIZE = 65_536  # codes are uint16
MAX_ID = 2**31 - 1
MAX_LISTED_CODES = 65_536

_FORMAT_VERSION = 1
_TOKEN = re.compile(r"<[^<>\s]+>")
_NUMBERS = re.compile(r"[0-9]{1,9}(_[0-9]{1,9})*")

IdArray = npt.NDArray[np.int64]
CodeArray = npt.NDArray[np.uint16]
BoolArray = npt.NDArray[np.bool_]


class LayoutError(ValueError):
    """Codes that do not fit a layout, or ids that no codes could have produced."""


@dataclass(frozen=True)
class Layout:
    """An invertible map between codes (K, T) and token ids.

    Code c of level k has the id ``offset + k * V + c``, so that no two levels share an id;
    `joint` has one id for all levels of a frame, ``offset + (c0 * V + c1) * V + ...``. Behind the
    codes come four special ids: bos, eos, pad, gap. Kinds, and the shape of their ids:

    - ``flat``: (T * K,), frame after frame, level after level within each.
    - ``parallel``: (K, T), one row for each level.
    - ``delay``: (K, T + K - 1), row k shifted right by k frames, pad around it.
    - ``joint``: (T,), one id for each frame.

    A frame that is not valid is written as the gap id, on every level. With ``gaps="runs"`` a run
    of such frames takes the place of one; how long it was, only `valid` tells.

    ``stack=S`` puts S frames into each column of a layout with rows: (S * K,) rows, the levels of
    the first frame on top, pad where the last column is not full. Ids stay what they are.

    Attributes:
        kind: One of the above.
        num_codebooks: K, levels of the codec, 1 to 64.
        codebook_size: V, codes of each level, 2 to 65 536.
        offset: First id, for example the size of the text vocabulary.
        vocab_id: Which codebooks the codes belong to; empty where nobody said.
        stack: S, frames of each column, 1 to 64; more than 1 for ``parallel`` and ``delay`` only.
        gaps: ``frames``, a gap for each frame without valid signal, or ``runs``, one for each run.
    """

    kind: str
    num_codebooks: int
    codebook_size: int
    offset: int = 0
    vocab_id: str = ""
    stack: int = 1
    gaps: str = "frames"

    def __post_init__(self) -> None:
        for name, known in (("kind", KINDS), ("gaps", GAPS)):
            if (value := getattr(self, name)) not in known:
                raise LayoutError(f"layout {name}={value!r} is unknown: choose from {list(known)}")
        for name, low, high in (
            ("num_codebooks", 1, MAX_CODEBOOKS),
            ("codebook_size", 2, MAX_CODEBOOK_SIZE),
            ("offset", 0, MAX_ID),
            ("stack", 1, MAX_STACK),
        ):
            value = getattr(self, name)
            whole = isinstance(value, int | np.integer) and not isinstance(value, bool)
            if not whole or not low <= value <= high:
                raise LayoutError(
                    f"layout {name}={value!r}: give a whole number from {low} to {high}"
                )
            object.__setattr__(self, name, int(value))
        if not isinstance(self.vocab_id, str):
            raise LayoutError(f"layout vocab_id={self.vocab_id!r}: give a string")
        if self.stack > 1 and not self.has_rows:
            raise LayoutError(
                f"layout stack={self.stack}: a {self.kind!r} layout has no rows to stack frames "
                "in, use kind='parallel' or 'delay'"
            )
        if self.offset + self.vocab_size > MAX_ID + 1:
            fix = "use kind='flat'" if self.kind == "joint" else "lower the offset"
            raise LayoutError(
                f"a {self.kind!r} layout of {self.num_codebooks} x {self.codebook_size} codes from "
                f"offset {self.offset} has ids beyond 2^31 - 1: {fix}"
            )

    @property
    def vocab_size(self) -> int:
        """Ids in use, from `offset` on: all codes and the four special ids."""
        return self._num_codes + len(SPECIALS)

    @property
    def tokens_per_frame(self) -> int:
        """Ids of one frame, over all rows: K, or 1 for `joint`."""
        return 1 if self.kind == "joint" else self.num_codebooks

    @property
    def has_rows(self) -> bool:
        """Whether ids are two-dimensional, a column for each step of the model."""
        return self.kind in ("parallel", "delay")

    @property
    def rows(self) -> int:
        """Ids of one step of the model: stacked levels, or 1 for ``flat`` and ``joint``."""
        return self.stack * self.num_codebooks if self.has_rows else 1

    @property
    def bos(self) -> int:
        """Id that opens a sequence."""
        return self._special("bos")

    @property
    def eos(self) -> int:
        """Id that closes a sequence."""
        return self._special("eos")

    @property
    def pad(self) -> int:
        """Id around shifted rows and in unfilled stacks, and free for padding batches."""
        return self._special("pad")

    @property
    def gap(self) -> int:
        """Id of a frame without valid signal."""
        return self._special("gap")

    def to_ids(
        self, codes: npt.ArrayLike, valid: npt.ArrayLike | None = None, *, specials: bool = False
    ) -> IdArray:
        """Codes as token ids.

        Args:
            codes: (K, T) integers below V; what stands in frames that are not valid is ignored.
            valid: (T,) bool, False for frames without valid signal; None if there is none.
            specials: Put bos before and eos behind a one-dimensional layout.

        Returns:
            int64 ids, shaped as the kind says (see the class).

        Raises:
            LayoutError: if the codes do not fit the layout, or for `specials` on rows.
        """
        rows, mask = self._check_codes(codes, valid)
        if self.gaps == "runs":
            kept = _one_of_each_run(mask)
            rows, mask = rows[:, kept], mask[kept]
        if self.kind == "joint":
            rows = (self._weights @ rows)[None]
        rows = np.where(mask, rows + self._first_ids, self.gap)
        if not self.has_rows:
            ids = rows.T.reshape(-1)
            return np.concatenate([[self.bos], ids, [self.eos]]) if specials else ids
        if specials:
            raise LayoutError(
                f"specials=True: a {self.kind!r} layout has rows, so add bos and eos columns "
                "yourself, or use 'flat' or 'joint'"
            )
        rows = self._stacked(rows)
        return self._shift(rows) if self.kind == "delay" else rows

    def to_codes(
        self, ids: npt.ArrayLike, valid: npt.ArrayLike | None = None
    ) -> tuple[CodeArray, BoolArray]:
        """The codes behind token ids: the inverse of `to_ids`, with or without its specials.

        Args:
            ids: Integers, shaped as the kind says (see the class).
            valid: With ``gaps="runs"``, (T,) bool as `to_ids` was given it, which gives gaps
                their length back; None leaves each gap one frame long.

        Returns:
            codes (K, T), 0 in frames that are not valid, and valid (T,).

        Raises:
            LayoutError: for ids that no codes could have produced, naming the place.
        """
        codes, found = self._decoded(self._check_ids(ids))
        if self.gaps == "frames":
            if valid is not None and not np.array_equal(valid, found):
                raise LayoutError("valid is not where the ids have their gaps: leave it out")
            return codes, found
        if valid is None:
            valid = found
        mask = np.asarray(valid, bool)
        if not np.array_equal(found, mask[_one_of_each_run(mask)]):
            raise LayoutError(
                "gaps of the ids are not the runs of valid=False: two gaps stand side by side, or "
                "valid is of another recording"
            )
        full = np.zeros((self.num_codebooks, len(mask)), np.uint16)
        full[:, mask] = codes[:, found]
        return full, mask

    def _decoded(self, rows: IdArray) -> tuple[CodeArray, BoolArray]:
        """Codes and validity of unstacked rows of ids."""
        gaps = rows == self.gap
        valid = ~gaps.any(axis=0)
        if (half := ~valid & ~gaps.all(axis=0)).any():
            raise LayoutError(
                f"frame {int(half.argmax())} is a gap on some levels only: a gap takes all of them"
            )
        codes = np.where(gaps, 0, rows - self._first_ids)
        size = self._num_codes // self._first_ids.size
        if (bad := (codes < 0) | (codes >= size)).any():
            level, frame = (int(i) for i in np.argwhere(bad)[0])
            first = int(self._first_ids[level, 0])
            raise LayoutError(
                f"id {rows[level, frame]} cannot stand at level {level} of frame {frame}: "
                f"ids {first} to {first + size - 1} can; is the order of levels right?"
            )
        if self.kind == "joint":
            codes = codes // self._weights[:, None] % self.codebook_size
        return codes.astype(np.uint16), valid

    def to_text(self, codes: npt.ArrayLike, valid: npt.ArrayLike | None = None) -> str:
        """Codes as text, ``<emg_0_0017><emg_1_0903>...``; of rows, column after column.

        `codes`, `valid` and errors are those of `to_ids`. For bulk data use ids: text is slow.
        """
        ids = self.to_ids(codes, valid)
        return "".join(map(self._token, ids.T.reshape(-1).tolist()))

    def from_text(self, text: str) -> tuple[CodeArray, BoolArray]:
        """Reads what `to_text` wrote, also with spaces between the tokens.

        Returns:
            codes (K, T), 0 in frames that are not valid, and valid (T,).

        Raises:
            LayoutError: for text that no codes could have produced.
        """
        if stray := _TOKEN.sub("", text).strip():
            raise LayoutError(f"text holds {stray[:40]!r} between its tokens: cut it out first")
        ids = np.array([self._parse(token) for token in _TOKEN.findall(text)], np.int64)
        if not self.has_rows:
            return self.to_codes(ids)
        if ids.size % self.rows:
            raise LayoutError(f"text holds {ids.size} tokens, not a multiple of {self.rows} rows")
        return self.to_codes(ids.reshape(-1, self.rows).T)

    def special_tokens(self) -> list[str]:
        """All token strings in the order of their ids, to extend a text tokenizer with.

        Raises:
            LayoutError: for a layout of more than 65 536 codes.
        """
        if self._num_codes > MAX_LISTED_CODES:
            other = "kind='flat'" if self.kind == "joint" else "fewer levels or smaller codebooks"
            raise LayoutError(
                f"a {self.kind!r} layout of {self._num_codes} codes is too big to list as text "
                f"tokens (at most {MAX_LISTED_CODES}): use {other}"
            )
        return [self._token(self.offset + index) for index in range(self.vocab_size)]

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON types; `from_dict` gives the same layout back."""
        return {"format_version": _FORMAT_VERSION, **asdict(self)}

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Layout:
        """Reads what `to_dict` wrote.

        Raises:
            LayoutError: for another format version, and for unknown or missing fields.
        """
        if not isinstance(data, Mapping):
            raise LayoutError(f"not a stored layout: {data!r}")
        values = dict(data)
        version = values.pop("format_version", None)
        if version != _FORMAT_VERSION:
            raise LayoutError(
                f"layout format_version={version!r}: this emgcodec reads {_FORMAT_VERSION}; "
                "upgrade it if the layout is newer"
            )
        if odd := values.keys() ^ {field.name for field in fields(cls)}:
            raise LayoutError(f"layout fields {sorted(map(str, odd))} are unknown or missing")
        return cls(**values)

    @property
    def _num_codes(self) -> int:
        if self.kind == "joint":
            return int(self.codebook_size**self.num_codebooks)
        return self.num_codebooks * self.codebook_size

    @property
    def _first_ids(self) -> IdArray:
        """Id of code 0 in each row, (K, 1), or (1, 1) for `joint`."""
        rows = 1 if self.kind == "joint" else self.num_codebooks
        return self.offset + np.arange(rows)[:, None] * self.codebook_size

    @property
    def _weights(self) -> IdArray:
        """What one step of each level adds to a joint id, (K,)."""
        return self.codebook_size ** np.arange(self.num_codebooks)[::-1]

    def _special(self, name: str) -> int:
        return self.offset + self._num_codes + SPECIALS.index(name)

    def _check_codes(
        self, codes: npt.ArrayLike, valid: npt.ArrayLike | None
    ) -> tuple[IdArray, BoolArray]:
        array = _integers("codes", codes)
        if array.ndim != 2 or array.shape[0] != self.num_codebooks:
            raise LayoutError(f"codes have shape {array.shape}: give ({self.num_codebooks}, T)")
        frames = array.shape[1]
        mask = np.ones(frames, bool) if valid is None else np.asarray(valid)
        if mask.shape != (frames,) or (mask.dtype != bool and frames):
            raise LayoutError(
                f"valid is {mask.dtype} of shape {mask.shape}: give one bool for each of the "
                f"{frames} frames"
            )
        mask = mask.astype(bool)
        if (bad := ((array < 0) | (array >= self.codebook_size)) & mask).any():
            level, frame = (int(i) for i in np.argwhere(bad)[0])
            raise LayoutError(
                f"code {array[level, frame]} at level {level} of frame {frame} is not in 0 to "
                f"{self.codebook_size - 1}; mark frames without codes (-1) with valid=False"
            )
        return np.where(mask, array, 0).astype(np.int64), mask

    def _check_ids(self, ids: npt.ArrayLike) -> IdArray:
        """Ids as (K, T) rows, or (1, T) for `joint`, without specials and padding."""
        array = _integers("ids", ids)
        last = self.offset + self.vocab_size - 1
        if (bad := (array < self.offset) | (array > last)).any():
            raise LayoutError(
                f"id {array[bad][0]} is not of this layout, whose ids are {self.offset} to {last}"
            )
        rows = array.astype(np.int64)
        levels = self.tokens_per_frame
        if self.has_rows:
            if rows.ndim != 2 or len(rows) != self.rows:
                raise LayoutError(
                    f"ids have shape {rows.shape}: {self.kind!r} has {self.rows} rows"
                )
            return self._unstacked(self._unshift(rows) if self.kind == "delay" else rows)
        if rows.ndim != 1:
            raise LayoutError(f"ids have shape {rows.shape}: {self.kind!r} has one dimension")
        rows = rows[1:] if rows.size and rows[0] == self.bos else rows
        rows = rows[:-1] if rows.size and rows[-1] == self.eos else rows
        if rows.size % levels:
            raise LayoutError(
                f"{rows.size} ids are not whole frames of {levels}: the last frame is incomplete"
            )
        return rows.reshape(-1, levels).T

    def _stacked(self, rows: IdArray) -> IdArray:
        """(K, T) to (S * K, ceil(T / S))."""
        spare = np.full((len(rows), -rows.shape[1] % self.stack), self.pad)
        filled = np.concatenate([rows, spare], axis=1)
        return filled.T.reshape(-1, self.rows).T

    def _unstacked(self, stacked: IdArray) -> IdArray:
        rows = stacked.T.reshape(-1, self.num_codebooks).T
        padded = (rows == self.pad).all(axis=0)
        frames = rows.shape[1] - int(padded[-self.stack :].sum() if self.stack > 1 else 0)
        if not np.array_equal(self._stacked(rows[:, :frames]), stacked):
            raise LayoutError(
                f"pad ids ({self.pad}) do not stand exactly where a stack of {self.stack} is left "
                "unfilled: at the end of the last column"
            )
        return rows[:, :frames]

    def _shift(self, rows: IdArray) -> IdArray:
        levels, frames = rows.shape
        shifted = np.full((levels, frames + levels - 1), self.pad)
        for level, row in enumerate(rows):
            shifted[level, level : level + frames] = row
        return shifted

    def _unshift(self, shifted: IdArray) -> IdArray:
        levels, columns = shifted.shape
        frames = columns - levels + 1
        if frames < 0:
            raise LayoutError(
                f"ids have {columns} columns: 'delay' of {levels} levels has at least {levels - 1}"
            )
        rows = np.stack([shifted[level, level : level + frames] for level in range(levels)])
        stray = self.stack == 1 and (rows == self.pad).any()
        if stray or not np.array_equal(shifted, self._shift(rows)):
            raise LayoutError(
                f"pad ids ({self.pad}) do not stand exactly where 'delay' puts them: row k begins "
                f"with k of them and ends with {levels - 1} - k"
            )
        return rows

    def _token(self, token_id: int) -> str:
        index, size = token_id - self.offset, self.codebook_size
        width = max(4, len(str(size - 1)))
        if index >= self._num_codes:
            return f"<emg_{SPECIALS[index - self._num_codes]}>"
        if self.kind == "joint":
            codes = (index // weight % size for weight in self._weights.tolist())
            return f"<emg_{'_'.join(f'{code:0{width}d}' for code in codes)}>"
        return f"<emg_{index // size}_{index % size:0{width}d}>"

    def _parse(self, token: str) -> int:
        name, index = token.removeprefix("<emg_").removesuffix(">"), 0
        if name in SPECIALS:
            return self._special(name)
        if _NUMBERS.fullmatch(name):
            for number in name.split("_"):  # the same sum for a level and its code as for codes
                index = index * self.codebook_size + int(number)
            # Written back, any token that is not ours (a level too many, other digits) differs.
            if index < self._num_codes and self._token(self.offset + index) == token:
                return self.offset + index
        raise LayoutError(f"token {token!r} is not of this layout: did another one write it?")


def _one_of_each_run(valid: BoolArray) -> BoolArray:
    """Which frames stay when each run of frames that are not valid is cut down to its first."""
    first: BoolArray = np.concatenate([[True], valid[:-1]])[: len(valid)]
    return valid | first


def _integers(name: str, values: npt.ArrayLike) -> npt.NDArray[np.integer[Any]]:
    try:
        array = np.asarray(values)
    except ValueError as error:
        raise LayoutError(f"{name} are not an array: rows must be equally long") from error
    if array.size and array.dtype.kind not in "iu":
        raise LayoutError(f"{name} have dtype {array.dtype}: give integers")
    return array if array.size else array.astype(np.int64)
