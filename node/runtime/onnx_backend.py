"""ONNX Runtime as a backend.

Enters: a model file, alone or in a folder with its external data. Leaves:
a session whose graph was checked before it was made (`graph.py`) and whose input and outputs are
those that the manifest speaks of.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import numpy as np
import onnxruntime as ort

from node.runtime import graph
from node.runtime.backend import Array, Refused, Stop, Stopped, TensorInfo

_DTYPES: Final = {
    "tensor(float)": "float32",
    "tensor(float16)": "float16",
    "tensor(double)": "float64",
    "tensor(int8)": "int8",
    "tensor(int16)": "int16",
    "tensor(int32)": "int32",
    "tensor(int64)": "int64",
    "tensor(uint8)": "uint8",
    "tensor(uint16)": "uint16",
    "tensor(uint32)": "uint32",
    "tensor(uint64)": "uint64",
    "tensor(bool)": "bool",
    "tensor(string)": "string",
}
_PREFIX: Final = re.compile(r"^\[ONNXRuntimeError\] : \d+ : (\w+) : ")
_SOURCE: Final = re.compile(r"\S+\.(?:cc|h|cpp):\d+ ")
_MAX_TEXT: Final = 500
_NO_MEMORY: Final = "the model needs more memory for this input than a worker may have"


class OnnxBackend:
    """A session and what its tensors are."""

    def __init__(self, session: ort.InferenceSession, *, threads: int) -> None:
        self.threads = threads
        self.starts_threads = False  # the session's pool is made with it
        self._session = session
        inputs = [_info(node) for node in session.get_inputs()]
        if len(inputs) != 1:
            listed = ", ".join(map(str, inputs)) or "none"
            raise Refused("model_invalid", f"a model takes exactly one input; this graph has {listed}")
        self.input = inputs[0]
        self.outputs = tuple(_info(node) for node in session.get_outputs())
        self._names = [output.name for output in self.outputs]
        self._feed = self.input.name
        self._dtype = np.dtype(object if self.input.dtype == "string" else self.input.dtype)
        batch = self.input.shape[0] if self.input.shape else 1
        dynamic = batch is None and all(output.shape and output.shape[0] is None for output in self.outputs)
        self.rows: int | None = None if dynamic else batch if batch is not None else 1

    def run(self, rows: Array, stop: Stop) -> Mapping[str, Array]:
        """See `Backend.run`."""
        options = ort.RunOptions()
        options.log_severity_level = 4

        def terminate() -> None:
            options.terminate = True

        stop.calls(terminate)
        if rows.dtype != self._dtype:
            rows = rows.astype(self._dtype)
        try:
            outputs = self._session.run(self._names, {self._feed: rows}, options)
        except MemoryError:
            raise Refused("fault", _NO_MEMORY) from None
        except Exception as error:  # ONNX Runtime's own types share no base but Exception
            if stop.asked:
                raise Stopped from None
            raise _refused(error) from None
        return dict(zip(self._names, outputs, strict=True))


def load(weights: Path, name: str | None = None, *, threads: int, max_bytes: int) -> OnnxBackend:
    """Check the graph, then make the session.

    Parameters
    ----------
    weights, name : the file; or the folder, and the file's place in it.
    max_bytes : most bytes that graph and weights may have together.

    Raises
    ------
    Refused
        With the code `model_invalid` and a text for the publisher.
    """
    file = graph.entry(weights, name)
    graph.check(file, folder=None if name is None else file.parent, max_bytes=max_bytes)
    options = ort.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.execution_mode = ort.ExecutionMode.ORT_SEQUENTIAL
    options.enable_cpu_mem_arena = False
    options.log_severity_level = 4  # what matters comes back as an exception
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    options.add_session_config_entry("session.inter_op.allow_spinning", "0")
    try:
        session = ort.InferenceSession(str(file), options, providers=["CPUExecutionProvider"])
    except MemoryError:
        raise Refused("model_invalid", "the model needs more memory to load than a worker may use") from None
    except Exception as error:  # see above
        raise Refused("model_invalid", f"ONNX Runtime cannot load the model: {_text(error, file)}") from None
    return OnnxBackend(session, threads=threads)


def _info(node: Any) -> TensorInfo:
    shape = tuple(size if isinstance(size, int) and size >= 0 else None for size in node.shape)
    return TensorInfo(node.name, _DTYPES.get(node.type, node.type), shape)


def _refused(error: Exception) -> Refused:
    found = _PREFIX.match(str(error))
    text = _text(error)
    if found and found.group(1) == "INVALID_ARGUMENT":
        return Refused("invalid_input", f"the model does not take this input: {text}")
    if "bad_alloc" in text or "Failed to allocate memory" in text:
        return Refused("fault", _NO_MEMORY)
    return Refused("fault", f"the model failed on this input: {text}")


def _text(error: Exception, file: Path | None = None) -> str:
    """ONNX Runtime's message without its source paths and ours."""
    text = _SOURCE.sub("", _PREFIX.sub("", str(error)))
    if file is not None:
        text = text.replace(str(file), file.name).replace(str(file.parent), "")
    return " ".join(text.split())[:_MAX_TEXT]
