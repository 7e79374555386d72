"""An exported codec without torch: NumPy prepares, onnxruntime runs; needs ``emgcodec[export]``."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from emgcodec import encoding
from emgcodec.calibration import Calibration, CalibrationError, Calibrations
from emgcodec.config import CodecConfig
from emgcodec.montage import Montage
from emgcodec.recording import Recording
from emgcodec.stream import BoolArray, EncodeStream, FloatArray, IntArray
from emgcodec.tokens import Tokens

FORMAT_VERSION = 1
STEP_FILE, BLOCK_FILE, DECODE_FILE = "encode_step.onnx", "encode.onnx", "decode.onnx"
NEXT = "next."
"""What stands before the name of a state where it comes out."""

Arrays = dict[str, npt.NDArray[Any]]


class ExportError(ValueError):
    """A codec that cannot be exported, or exported files that cannot be run."""


class Graph:
    """One exported file, from inputs and state to outputs and the next state.

    Attributes:
        facts: What the file says of itself.
    """

    def __init__(self, path: Path, threads: int) -> None:
        try:
            import onnxruntime
        except ImportError as error:
            raise ExportError(
                "exported codecs need onnxruntime: pip install 'emgcodec[export]'"
            ) from error
        if not path.is_file():
            raise ExportError(f"{path} is missing: make it with emgcodec export MODEL -o FOLDER")
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        options.log_severity_level = 3  # errors
        try:
            session = onnxruntime.InferenceSession(
                path, options, providers=["CPUExecutionProvider"]
            )
            stored = session.get_modelmeta().custom_metadata_map
            self.facts = {name: json.loads(text) for name, text in stored.items()}
            version = self.facts["format_version"]
        except Exception as error:  # onnxruntime's have no common base
            raise ExportError(f"{path} is damaged or not one of ours: {error}") from error
        if version != FORMAT_VERSION:
            raise ExportError(
                f"{path}: its format_version is {version!r}, this emgcodec runs {FORMAT_VERSION}: "
                "export the model anew"
            )
        self._session = session
        self._outputs = [output.name for output in session.get_outputs()]
        named = {name.removeprefix(NEXT) for name in self._outputs if name.startswith(NEXT)}
        self._inputs = {part.name: part for part in session.get_inputs()}
        self._states = [part for part in session.get_inputs() if part.name in named]

    def __call__(self, inputs: Arrays) -> tuple[Arrays, Arrays]:
        """Outputs and next state, by name; inputs that the graph does not use are left out."""
        feed = {name: array for name, array in inputs.items() if name in self._inputs}
        found = dict(zip(self._outputs, self._session.run(None, feed), strict=True))
        state = {n.removeprefix(NEXT): t for n, t in found.items() if n.startswith(NEXT)}
        return {n: t for n, t in found.items() if not n.startswith(NEXT)}, state

    def init_state(self, batch_size: int, num_electrodes: int) -> Arrays:
        """The state before the first frame: zeros, and true where it is about validity."""
        sizes = {"batch": batch_size, "electrodes": num_electrodes}
        state = {}
        for part in self._states:
            shape = [sizes.get(n, n) for n in part.shape]
            dtype = {"bool": bool, "int64": np.int64, "double": np.float64}
            kind = dtype.get(part.type[len("tensor(") : -1], np.float32)
            state[part.name] = np.full(shape, kind is bool, kind)
        return state


class EdgeCodec:
    """A codec that `emgcodec.export` wrote: recordings and streams to the same tokens.

    Attributes:
        config: Of the codec.
        vocab_id: Which codebooks.
        codec_id: Which codec; an int8 one has an id of its own, for its codes are others.
        precision: ``float32`` or ``int8``.
        agreement: Share of the codes of a simulated recording that are those of torch.
    """

    def __init__(self, directory: str | Path, *, threads: int = 1) -> None:
        """Opens the folder.

        Args:
            directory: With encode.onnx and encode_step.onnx.
            threads: Of each; a step is too small for more than one.

        Raises:
            ExportError: if onnxruntime is missing, or files are missing, damaged, of another
                version or of different codecs.
        """
        self.block, self.step = (
            Graph(Path(directory) / name, threads) for name in (BLOCK_FILE, STEP_FILE)
        )
        if self.block.facts != self.step.facts:
            raise ExportError(f"{directory} holds files of different codecs: export them together")
        facts = self.step.facts
        self.config = CodecConfig.from_dict(facts["config"])
        self.vocab_id, self.codec_id = facts["vocab_id"], facts["codec_id"]
        self.precision, self.agreement = facts["precision"], facts["agreement"]
        # What `Packer` asks for.
        self.num_codebooks = self.config.quantizer.levels
        self.codebook_size = self.config.quantizer.size

    def tokenize(
        self,
        recording: Recording | str | Path | npt.ArrayLike,
        *,
        sample_rate: float | None = None,
        unit: str | None = None,
        montage: Montage | str | None = None,
        calibration: Calibration | None = None,
    ) -> Tokens:
        """See `Codec.tokenize`."""
        return encoding.tokenize(
            self,
            self._start,
            recording,
            sample_rate=sample_rate,
            unit=unit,
            montage=montage,
            calibration=calibration,
        )

    def encode_stream(
        self,
        batch_size: int = 1,
        *,
        sample_rate: float | None = None,
        unit: str = "uV",
        montage: Montage | str | None = None,
        calibration: Calibrations = None,
    ) -> EncodeStream:
        """See `Codec.encode_stream`."""
        return encoding.encode_stream(
            self, self._start, batch_size, sample_rate, unit, montage, calibration
        )

    def _start(self, batch_size: int, montage: Montage, calibration: Calibrations) -> EdgeSteps:
        return EdgeSteps(self, batch_size, montage, calibration)


class EdgeSteps:
    """An exported codec on some slots of a batch at a time; a `stream.Stepper`."""

    def __init__(
        self, codec: EdgeCodec, batch_size: int, montage: Montage, calibration: Calibrations
    ) -> None:
        self._codec = codec
        self.sample_rate, self.hop_length = codec.config.sample_rate, codec.config.hop_length
        self.num_codebooks = codec.num_codebooks
        self.block_frames: int = codec.step.facts["block_frames"]
        self._positions = np.repeat(montage.positions()[None], batch_size, axis=0)
        self._fresh = codec.step.init_state(batch_size, len(montage))
        if calibration is not None:
            self._fresh["frontend.stats"] = self._prior(batch_size, montage, calibration)
        self._state = self._fresh

    def _prior(self, batch_size: int, montage: Montage, known: Calibrations) -> FloatArray:
        """What calibrations know, as the statistics that a stream would have by then."""
        each = [known] * batch_size if isinstance(known, Calibration) else list(known or ())
        if len(each) != batch_size:
            raise CalibrationError(f"calibration: {len(each)} given for a batch of {batch_size}")
        stats = self._fresh["frontend.stats"].copy()
        config, features = self._codec.config, self._codec.step.facts["features"]
        most = config.normalization.time_constant * config.frame_rate
        for slot, item in enumerate(each):
            if item is None:
                continue
            if item.features != features:
                raise CalibrationError(
                    f"calibration is for features {item.features!r}, this codec's are "
                    f"{features!r}: make one with codec.calibrate(...)"
                )
            fitted = item.for_montage(montage)
            weight = np.minimum(fitted.frames, most)[:, None]
            first, second = fitted.mean, fitted.std**2 + fitted.mean**2
            stats[slot] = np.concatenate([weight, weight * first, weight * second], axis=1)
        return stats

    def restart(self, slots: Sequence[int]) -> None:
        """Forgets what these slots have seen."""
        self._put(slots, {name: array[list(slots)] for name, array in self._fresh.items()})

    def encode(self, slots: Sequence[int], x: FloatArray, usable: BoolArray) -> IntArray:
        """Whole frames (b, C, t * hop) and electrodes to use (b, C, t), to codes (b, K, t)."""
        time = usable.shape[2]
        graph = self._codec.step if time == 1 else self._codec.block
        state = self._state
        if len(slots) < len(self._positions):
            state = {name: array[list(slots)] for name, array in state.items()}
        inputs = {"x": x, "mask": usable, "positions": self._positions[: len(slots)]}
        out, following = graph(inputs | state)
        self._put(slots, following)
        codes: IntArray = out["codes"]
        return codes

    def _put(self, slots: Sequence[int], part: Arrays) -> None:
        if len(slots) == len(self._positions):
            self._state = part
            return
        self._state = {name: array.copy() for name, array in self._state.items()}
        for name, array in part.items():
            self._state[name][list(slots)] = array
