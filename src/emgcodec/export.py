"""A codec as ONNX graphs, for devices without torch; `emgcodec.runtime` runs them.

Each graph takes its state and gives the next one. `encode_step` is of one frame, so that nothing in
it loops; `encode` and `decode` take 1 to `BLOCK_FRAMES` frames. What is written is run against
torch before it takes its place.
"""

from __future__ import annotations

import copy
import json
import logging
import os
import tempfile
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from emgcodec.folder import ModelError
from emgcodec.golden import agree, golden_recording, golden_tokens
from emgcodec.montage import Montage
from emgcodec.nn.frontend import SpectralFrontend
from emgcodec.nn.heads import LabelHead
from emgcodec.nn.normalize import State
from emgcodec.nn.transformer import QUERY_BLOCK
from emgcodec.runtime import (
    BLOCK_FILE,
    DECODE_FILE,
    FORMAT_VERSION,
    NEXT,
    STEP_FILE,
    EdgeCodec,
    ExportError,
    Graph,
)
from emgcodec.steps import read_step
from emgcodec.tensors import TensorCodec
from emgcodec.tokens import Tokens

BLOCK_FRAMES = QUERY_BLOCK
"""Frames that a graph takes at most: queries of one block see one stretch of keys."""

_OPSET = 20
_KEPT_EXACT = ("spectrum", "pool", "quantizer")  # what int8 must not round


class _Spectrum(nn.Module):
    """The spectrum as one product: runtimes are slow at short transforms."""

    matrix: Tensor

    def __init__(self, taper: Tensor) -> None:
        super().__init__()
        waves = torch.fft.rfft(torch.diag(taper.double()))
        self.register_buffer("matrix", torch.view_as_real(waves).flatten(1).float())

    def forward(self, windows: Tensor) -> Tensor:
        """See `nn.frontend.Spectrum`."""
        centred = windows - windows.mean(dim=-1, keepdim=True)
        parts: Tensor = (centred @ self.matrix).unflatten(-1, (-1, 2))
        return parts


class _Encode(nn.Module):
    """`encode_step` over tensors in the order of their names."""

    def __init__(self, codec: TensorCodec, names: list[str]) -> None:
        super().__init__()
        self.codec, self.names = codec, names

    def forward(self, x: Tensor, mask: Tensor, positions: Tensor, *state: Tensor) -> Any:
        """Codes (B, K, T), and the next state."""
        known = dict(zip(self.names, state, strict=True))
        known |= {"positions": positions, "mask": torch.ones(1, 1, dtype=torch.bool)}
        latents, valid, following = self.codec.latent_step(x, known, mask)
        assert self.codec.quantizer is not None
        codes = self.codec.quantizer.encode(latents, valid).mT
        return codes, *(following[name] for name in self.names)


class _Decode(nn.Module):
    """What a decode stream does with some frames, over tensors in the order of their names."""

    def __init__(self, codec: TensorCodec, names: list[str]) -> None:
        super().__init__()
        self.codec, self.names = codec, names

    def forward(self, codes: Tensor, positions: Tensor, *state: Tensor) -> Any:
        """Output of each head, and the next state."""
        known = dict(zip(self.names, state, strict=True)) | {"positions": positions}
        out, following = read_step(self.codec, codes, known)
        return *out.values(), *(following[name] for name in self.names)


def export(codec: TensorCodec, directory: str | Path, *, int8: bool = False) -> float:
    """Writes encode.onnx, encode_step.onnx and decode.onnx, each with what it is in its metadata.

    Args:
        codec: With codebooks.
        directory: Folder to write to; a file takes its place when all have been checked.
        int8: Rounds the encoder's weights to 8 bits. Faster and smaller, and another codec: its
            codes differ, depend on what is fed together, and have a `codec_id` of their own.

    Returns:
        Share of the codes of a simulated recording that are those of torch. Without `int8`, those
        that are not are near-ties.

    Raises:
        ExportError: if there are no codebooks, a library is missing, or the graphs give something
            else than torch.
    """
    if codec.quantizer is None:
        raise ExportError(f"codec {codec.config.name!r} has no quantizer, so there are no codes")
    try:
        import onnxscript  # noqa: F401
        import tqdm
    except ImportError as error:
        raise ExportError("export needs ONNX: pip install 'emgcodec[export]'") from error
    target = Path(directory)
    target.mkdir(parents=True, exist_ok=True)
    traced = _traceable(codec)
    facts = _facts(codec, int8)
    with tempfile.TemporaryDirectory(dir=target.parent, prefix=f".{target.name}.") as beside:
        paths = {name: Path(beside) / name for name in (STEP_FILE, BLOCK_FILE, DECODE_FILE)}
        for name, path in tqdm.tqdm(paths.items(), desc="export", disable=None):
            if name == DECODE_FILE:
                _write_decoder(traced, path)
            else:
                _write_encoder(traced, path, one_frame=name == STEP_FILE)
                if int8:
                    _round_weights(path)
            _describe(path, facts)
        _check_decoder(codec, paths[DECODE_FILE])
        agreement = _check_encoder(codec, EdgeCodec(beside))
        for name, path in paths.items():
            _describe(path, facts | {"agreement": agreement})
            os.replace(path, target / name)
    return agreement


def _traceable(codec: TensorCodec) -> TensorCodec:
    traced = copy.deepcopy(codec).cpu().eval()
    if isinstance(traced.frontend, SpectralFrontend):
        traced.frontend.spectrum = _Spectrum(traced.frontend.spectrum.taper)  # type: ignore[assignment]
    return traced


def _facts(codec: TensorCodec, int8: bool) -> dict[str, Any]:
    codec_id = codec.codec_id
    if int8:
        codec_id = f"{codec.config.name}-int8-{sha256(codec_id.encode()).hexdigest()[:12]}"
    return {
        "format_version": FORMAT_VERSION,
        "codec_id": codec_id,
        "vocab_id": codec.vocab_id,
        "precision": "int8" if int8 else "float32",
        "agreement": None,
        "sample_rate": codec.sample_rate,
        "hop_length": codec.hop_length,
        "block_frames": BLOCK_FRAMES,
        "features": codec.features,
        "labels": {
            name: codec.labels(name)
            for name, head in codec.head.items()
            if isinstance(head, LabelHead)
        },
        "config": codec.config.to_dict(),
    }


def _write_encoder(codec: TensorCodec, path: Path, *, one_frame: bool) -> None:
    frames = 1 if one_frame else 20  # more than whatever is treated apart
    state = codec.init_state(2, codec.config.montage or Montage.ring(5))
    positions = state["positions"]
    kept = {n: t for n, t in state.items() if n not in ("codec", "positions", "mask")}
    shape = (*positions.shape[:2], frames)
    x = torch.randn(*shape[:2], frames * codec.hop_length)
    inputs = {"x": x, "mask": torch.ones(shape, dtype=torch.bool), "positions": positions}
    time = {} if one_frame else {"x": codec.hop_length, "mask": 1}
    _write(_Encode(codec, list(kept)), path, codec, inputs, kept, ["codes"], time)


def _write_decoder(codec: TensorCodec, path: Path) -> None:
    state = codec.init_decode_state(2)
    positions = codec.init_state(2, codec.config.montage or Montage.ring(5))["positions"]
    if codec.shaper is not None:
        state |= codec.shaper.init_state(2, positions.shape[1], codec.device)
    codes = torch.zeros(2, codec.num_codebooks, 20, dtype=torch.long)
    inputs = {"codes": codes, "positions": positions}
    _write(_Decode(codec, list(state)), path, codec, inputs, state, list(codec.heads), {"codes": 1})


def _write(
    module: nn.Module,
    path: Path,
    codec: TensorCodec,
    inputs: State,
    state: State,
    outputs: list[str],
    time: dict[str, int],
) -> None:
    """Traces a module for any batch, electrodes where the codec takes any, and time."""
    batch = torch.export.Dim("batch")
    electrodes = torch.export.Dim("electrodes", max=128)
    frames = torch.export.Dim("time", max=BLOCK_FRAMES)
    per_electrode = ("x", "mask", "positions", "frontend.", "tail")

    def sizes(name: str) -> dict[int, Any]:
        free = codec.config.montage is None and name.startswith(per_electrode)
        moving = {2: time[name] * frames} if name in time else {}
        return {0: batch} | ({1: electrodes} if free else {}) | moving

    with _quiet(), torch.no_grad():
        program = torch.onnx.export(
            module,
            # One tensor in two places would become one input.
            (*inputs.values(), *(tensor.clone() for tensor in state.values())),
            dynamo=True,
            dynamic_shapes=(*map(sizes, inputs), tuple(map(sizes, state))),
            input_names=[*inputs, *state],
            output_names=[*outputs, *(NEXT + name for name in state)],
            opset_version=_OPSET,
            external_data=False,
            verbose=False,
        )
        assert program is not None
        program.save(path)


@contextmanager
def _quiet() -> Iterator[None]:
    """Without the tracer's words about libraries that nobody asked for."""
    logger = logging.getLogger("torch.onnx")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logger.setLevel(level)


def _round_weights(path: Path) -> None:
    """Products with stored weights become int8, but for spectrum and codebooks."""
    import onnx
    from onnxruntime.quantization import quantize_dynamic

    nodes = onnx.load(path).graph.node
    exact = [n.name for n in nodes if any(part in i for i in n.input for part in _KEPT_EXACT)]
    with _quiet():
        quantize_dynamic(path, path, op_types_to_quantize=["MatMul"], nodes_to_exclude=exact)


def _describe(path: Path, facts: dict[str, Any]) -> None:
    import onnx

    model = onnx.load(path)
    onnx.helper.set_model_props(model, {name: json.dumps(fact) for name, fact in facts.items()})
    onnx.save(model, path)


def _check_encoder(codec: TensorCodec, edge: EdgeCodec) -> float:
    """Share of equal codes, of a recording in blocks and of its stream frame by frame."""
    expected, rec = golden_tokens(codec), golden_recording(codec.config)
    assert expected is not None
    whole = edge.tokenize(rec)
    stream = edge.encode_stream(sample_rate=rec.sample_rate, unit=rec.unit, montage=rec.montage)
    parts = [stream.push(block) for block in rec.blocks(1 / codec.frame_rate)] + [stream.flush()]
    codes, valid = (np.concatenate(each, axis=-1)[0] for each in zip(*parts, strict=True))
    found = whole, replace(whole, codes=codes, valid=valid)
    if edge.precision == "float32":
        for tokens in found:
            _require_agreement(codec, expected, tokens)
    return float(min((tokens.codes == expected.codes).mean() for tokens in found))


def _require_agreement(codec: TensorCodec, expected: Tokens, found: Tokens) -> None:
    try:
        agree(codec, expected, found)
    except ModelError as error:
        raise ExportError(f"the exported graph gives other codes than torch: {error}") from error


def _check_decoder(codec: TensorCodec, path: Path) -> None:
    """A block and one more frame, in torch and in the graph."""
    cpu = copy.deepcopy(codec).cpu().eval()
    montage = codec.config.montage or Montage.ring(5)
    graph, state = Graph(path, 1), cpu.init_decode_state(1)
    positions = cpu.init_state(1, montage)["positions"]
    if cpu.shaper is not None:
        state |= cpu.shaper.init_state(1, len(montage), cpu.device)
    state["positions"] = positions
    held = graph.init_state(1, len(montage))
    generator = torch.Generator().manual_seed(0)
    shape = (1, cpu.num_codebooks, BLOCK_FRAMES + 1)
    codes = torch.randint(-1, cpu.codebook_size, shape, generator=generator)
    for part in codes.split(BLOCK_FRAMES, dim=-1):
        expected, state = read_step(cpu, part, state)
        inputs = {"codes": part.numpy(), "positions": positions.numpy()}
        found, held = graph(inputs | held)
        for name, wanted in expected.items():
            if not np.allclose(found[name], wanted.detach().numpy(), rtol=1e-3, atol=1e-3):
                raise ExportError(f"the exported {name!r} head gives something else than torch")
