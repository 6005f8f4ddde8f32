"""Calls into the libraries that kernels are measured beside; each is None where its library is not installed.

One thread each. ONNX Runtime and OpenVINO run the same ONNX graph, OpenVINO in float32 and without copies.
"""

from __future__ import annotations

import functools
import importlib
import importlib.util
from collections.abc import Callable
from typing import Any

import numpy as np

Call = Callable[[], object]

SINGLE = {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}
AVX2 = {
    "OPENBLAS_CORETYPE": "Haswell",
    "ATEN_CPU_CAPABILITY": "avx2",
    "ONEDNN_MAX_CPU_ISA": "AVX2",
    "MKL_ENABLE_INSTRUCTIONS": "AVX2",
    "OPENCV_CPU_DISABLE": "AVX512F,AVX512-SKX,AVX512-CLX,AVX512-ICL",
}
"""What keeps each library to AVX2, as far as it can be told; ONNX Runtime cannot. Read when they load."""


def avx2() -> dict[str, str]:
    """`AVX2` and what this NumPy calls the features above it."""
    from numpy._core import _multiarray_umath as umath

    above = [name for name in umath.__cpu_dispatch__ if name.startswith(("AVX512", "X86_V4"))]
    return AVX2 | {"NPY_DISABLE_CPU_FEATURES": " ".join(above)}


@functools.cache
def library(name: str) -> Any:
    """The module, set to one thread, or None."""
    if not importlib.util.find_spec(name):
        return None
    module = importlib.import_module(name)
    if name == "torch":
        module.set_num_threads(1)
        module.set_grad_enabled(False)
    if name == "cv2":
        module.setNumThreads(1)
    return module


def node(operator: str, inputs: list[str], outputs: list[str], **attributes: object) -> Any:
    """A node of an ONNX graph."""
    onnx = library("onnx")
    return onnx and onnx.helper.make_node(operator, inputs, outputs, **attributes)


def graph_calls(
    nodes: list[Any], inputs: dict[str, np.ndarray], constants: dict[str, np.ndarray]
) -> dict[str, Call]:
    """`ort` and `openvino` over a graph whose outputs are those of its last node."""
    onnx, ort, openvino = library("onnx"), library("onnxruntime"), library("openvino")
    if not onnx:
        return {}
    kind = onnx.helper.np_dtype_to_tensor_dtype
    graph = onnx.helper.make_graph(
        nodes,
        "bench",
        [onnx.helper.make_tensor_value_info(n, kind(a.dtype), a.shape) for n, a in inputs.items()],
        [onnx.helper.make_value_info(n, onnx.TypeProto()) for n in nodes[-1].output],
        [onnx.numpy_helper.from_array(a, n) for n, a in constants.items()],
    )
    made = onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 17)], ir_version=9)
    model = onnx.shape_inference.infer_shapes(made).SerializeToString()
    calls: dict[str, Call] = {}
    if ort:
        options = ort.SessionOptions()
        options.intra_op_num_threads = options.inter_op_num_threads = 1
        session = ort.InferenceSession(model, options, providers=["CPUExecutionProvider"])
        calls["ort"] = lambda: session.run(None, inputs)
    if openvino:
        core = openvino.Core()
        hints = {
            "INFERENCE_NUM_THREADS": 1,
            "INFERENCE_PRECISION_HINT": "f32",
            "PERFORMANCE_HINT": "LATENCY",
        }
        request = core.compile_model(core.read_model(model), "CPU", hints).create_infer_request()
        calls["openvino"] = lambda: request.infer(inputs, share_inputs=True, share_outputs=True)
    return calls


def torch_softmax(x: np.ndarray, k: int) -> dict[str, Call]:
    """Softmax and the k best of each row."""
    torch = library("torch")
    if not torch:
        return {}
    t = torch.from_numpy(x)
    return {"torch": lambda: torch.topk(torch.softmax(t, 1), k)}


def torch_network(layers: list[tuple[np.ndarray, np.ndarray]], x: np.ndarray) -> dict[str, Call]:
    """Linear layers with relu between them, in eager mode."""
    torch = library("torch")
    if not torch:
        return {}
    parts, t = [(torch.from_numpy(w), torch.from_numpy(b)) for w, b in layers], torch.from_numpy(x)

    def call() -> object:
        h = t
        for i, (w, b) in enumerate(parts):
            h = torch.nn.functional.linear(torch.relu_(h) if i else h, w, b)
        return h

    return {"torch": call}


def torch_cosine(rows: np.ndarray, query: np.ndarray, k: int) -> dict[str, Call]:
    """The k best of rows @ query."""
    torch = library("torch")
    if not torch:
        return {}
    r, q = torch.from_numpy(rows), torch.from_numpy(query)
    return {"torch": lambda: torch.topk(torch.mv(r, q), k)}


def opencv_image(pixels: np.ndarray, mean: tuple[float, ...], std: tuple[float, ...]) -> dict[str, Call]:
    """Normalised planes: `blobFromImage` with a scale for each channel."""
    cv2 = library("cv2")
    if not cv2:
        return {}
    settings = cv2.dnn.Image2BlobParams(
        scalefactor=tuple(1 / 255 / s for s in std), mean=tuple(255 * m for m in mean)
    )
    return {"opencv": lambda: cv2.dnn.blobFromImageWithParams(pixels, settings)}


def opencv_nms(boxes: np.ndarray, scores: np.ndarray, threshold: float) -> dict[str, Call]:
    """`NMSBoxes`, which takes corner, width and height."""
    cv2 = library("cv2")
    if not cv2:
        return {}
    corners = np.hstack([boxes[:, :2], boxes[:, 2:] - boxes[:, :2]]).astype(np.float64)
    return {"opencv": lambda: cv2.dnn.NMSBoxes(corners, scores, 0.0, threshold)}
