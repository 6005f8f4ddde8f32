"""The kernels beside NumPy, ONNX Runtime and (where installed) torch, in one run, called from Python.

`python -m benchmarks.kernels` prints a Markdown table: one pinned thread, microseconds, median (minimum).
`python -m benchmarks.kernels --threads 2` adds what a second thread brings to the large rows.
"""

from __future__ import annotations

import importlib.util
import os
import statistics
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

import numpy as np

import cython_ops
from cython_ops import _kernels

Call = Callable[[], object]
SINGLE = {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
SMALL_NET, LARGE_NET = (784, 256, 128, 10), (512, 2048, 2048, 512)


@dataclass(frozen=True, slots=True)
class Sample:
    """Microseconds a call over all rounds."""

    median: float
    least: float
    most: float

    def __str__(self) -> str:
        return f"{_short(self.median)} ({_short(self.least)})"


@dataclass(frozen=True, slots=True)
class Work:
    """One row: the target in microseconds, ours with a number of threads, and the peers' calls."""

    name: str
    target: float
    ours: Callable[[int], object]
    peers: dict[str, Call] = field(default_factory=dict)
    shares_threads: bool = False


def _short(value: float) -> str:
    return f"{value:.2f}" if value < 10 else f"{value:.1f}" if value < 100 else f"{value:.0f}"


def measure(call: Call, *, seconds: float = 0.4) -> Sample:
    """Time `call` in rounds of about two milliseconds (one call, if that is longer)."""
    call()
    start = time.perf_counter()
    call()
    number = max(1, int(2e-3 / max(time.perf_counter() - start, 1e-7)))
    rounds: list[float] = []
    stop = time.perf_counter() + seconds
    while time.perf_counter() < stop or len(rounds) < 7:
        start = time.perf_counter()
        for _ in range(number):
            call()
        rounds.append((time.perf_counter() - start) / number * 1e6)
    return Sample(statistics.median(rounds), min(rounds), max(rounds))


def aligned(array: np.ndarray) -> np.ndarray:
    """A copy at a multiple of 64 bytes, as the bare container stores tensors."""
    room = np.empty(array.nbytes + 64, np.uint8)
    start = -room.ctypes.data % 64
    copy: np.ndarray = room[start : start + array.nbytes].view(array.dtype).reshape(array.shape)
    copy[...] = array
    return copy


def onnx_session(
    nodes: list[Any], inputs: dict[str, np.ndarray], constants: dict[str, np.ndarray]
) -> Call | None:
    """A one-thread ONNX Runtime call over a graph whose outputs are those of its last node."""
    if not (importlib.util.find_spec("onnx") and importlib.util.find_spec("onnxruntime")):
        return None
    import onnx
    import onnxruntime

    kind = onnx.helper.np_dtype_to_tensor_dtype
    graph = onnx.helper.make_graph(
        nodes,
        "bench",
        [onnx.helper.make_tensor_value_info(n, kind(a.dtype), a.shape) for n, a in inputs.items()],
        [onnx.helper.make_value_info(n, onnx.TypeProto()) for n in nodes[-1].output],
        [onnx.numpy_helper.from_array(a, n) for n, a in constants.items()],
    )
    model = onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 17)], ir_version=9)
    model = onnx.shape_inference.infer_shapes(model)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    session = onnxruntime.InferenceSession(
        model.SerializeToString(), options, providers=["CPUExecutionProvider"]
    )
    return lambda: session.run(None, inputs)


def _peers(**calls: Call | None) -> dict[str, Call]:
    return {name: call for name, call in calls.items() if call is not None}


def _node(operator: str, inputs: list[str], outputs: list[str], **attributes: object) -> Any:
    if not importlib.util.find_spec("onnx"):
        return None
    import onnx

    return onnx.helper.make_node(operator, inputs, outputs, **attributes)


def softmax_work(n: int, c: int, target: float) -> Work:
    """Softmax and the five best of each row."""
    x = np.random.default_rng(0).standard_normal((n, c), np.float32)

    def numpy() -> object:
        e = np.exp(x - x.max(axis=1, keepdims=True))
        part = np.argpartition(x, -5, axis=1)[:, -5:]
        order = np.argsort(-np.take_along_axis(x, part, axis=1), axis=1)
        best = np.take_along_axis(part, order, axis=1)
        return np.take_along_axis(e, best, axis=1) / e.sum(axis=1, keepdims=True), best

    nodes = [_node("Softmax", ["x"], ["p"], axis=1), _node("TopK", ["p", "k"], ["v", "i"], axis=1)]
    ort = onnx_session(nodes, {"x": x}, {"k": np.array([5])})
    torch_call = None
    if importlib.util.find_spec("torch"):
        import torch

        t = torch.from_numpy(x)
        torch_call = lambda: torch.topk(torch.softmax(t, 1), 5)  # noqa: E731
    ours = lambda _: cython_ops.softmax_topk(x, 5)  # noqa: E731
    return Work(f"softmax + top-5, {n}x{c}", target, ours, _peers(numpy=numpy, ort=ort, torch=torch_call))


def network_work(sizes: tuple[int, ...], n: int, target: float) -> Work:
    """A chain of dense layers with relu between them."""
    rng = np.random.default_rng(0)
    weights = [aligned((rng.standard_normal((b, a)) / a**0.5).astype(np.float32)) for a, b in pairwise(sizes)]
    biases = [aligned(rng.standard_normal(w.shape[0]).astype(np.float32)) for w in weights]
    x = aligned(rng.standard_normal((n, sizes[0]), np.float32))
    last = len(weights) - 1
    network = cython_ops.DenseNetwork(
        [
            (w, b, "identity" if i == last else "relu")
            for i, (w, b) in enumerate(zip(weights, biases, strict=True))
        ]
    )

    def numpy() -> object:
        h = x
        for i, (w, b) in enumerate(zip(weights, biases, strict=True)):
            h = h @ w.T + b
            if i != last:
                np.maximum(h, 0, out=h)
        return h

    nodes, name = [], "x"
    for i in range(len(weights)):
        nodes.append(_node("Gemm", [name, f"w{i}", f"b{i}"], [f"g{i}"], transB=1))
        if i != last:
            nodes.append(_node("Relu", [f"g{i}"], [f"r{i}"]))
        name = f"r{i}"
    constants = {f"w{i}": w for i, w in enumerate(weights)} | {f"b{i}": b for i, b in enumerate(biases)}
    ort = onnx_session(nodes, {"x": x}, constants)
    torch_call = None
    if importlib.util.find_spec("torch"):
        import torch

        parts = [(torch.from_numpy(w), torch.from_numpy(b)) for w, b in zip(weights, biases, strict=True)]
        t = torch.from_numpy(x)

        def torch_call() -> object:
            h = t
            with torch.inference_mode():
                for i, (w, b) in enumerate(parts):
                    h = torch.nn.functional.linear(h, w, b)
                    if i != last:
                        h = torch.relu_(h)
            return h

    np.testing.assert_allclose(network(x), numpy(), rtol=1e-3, atol=1e-3)
    return Work(
        f"{'dense' if last == 0 else 'MLP'} {'-'.join(map(str, sizes))}, batch {n}",
        target,
        lambda threads: network(x, threads=threads),
        _peers(numpy=numpy, ort=ort, torch=torch_call),
        shares_threads=sum(w.size for w in weights) * n > 10_000_000,
    )


def image_work(target: float, *, offset: int) -> Work:
    """A 224 x 224 picture to normalised planes, the result's memory used again."""
    rng = np.random.default_rng(0)
    pixels = rng.integers(0, 256, (224, 224, 3), dtype=np.uint8)
    room = aligned(np.empty(3 * 224 * 224 + 16, np.float32))
    out = room[offset : offset + 3 * 224 * 224].reshape(1, 3, 224, 224)
    gain = (1 / 255 / np.array(STD)).astype(np.float32)
    shift = (-np.array(MEAN) / np.array(STD)).astype(np.float32)
    planes = np.empty((1, 3, 224, 224), np.float32)

    def numpy() -> object:
        for c in range(3):
            np.multiply(pixels[..., c], gain[c], out=planes[0, c])
            planes[0, c] += shift[c]
        return planes

    ours = lambda _: cython_ops.normalize_image(pixels, mean=MEAN, std=STD, out=out)  # noqa: E731
    name = "image 224 normalise to CHW" + (", unaligned" if offset else "")
    return Work(name, target, ours, {"numpy": numpy})


def nms_work(target: float) -> Work:
    """8400 boxes, as a detector of 640 x 640 pictures gives them: clusters around objects, and clutter."""
    rng = np.random.default_rng(0)
    centre = rng.uniform(40, 600, (60, 2))[rng.integers(0, 60, 8400)] + rng.normal(0, 8, (8400, 2))
    size = rng.uniform(30, 120, (60, 2))[rng.integers(0, 60, 8400)]
    boxes = np.hstack([centre - size / 2, centre + size / 2]).astype(np.float32)
    scores = rng.random(8400, np.float32)

    def numpy() -> object:
        x1, y1, x2, y2 = boxes.T
        areas, order, stay = (x2 - x1) * (y2 - y1), np.argsort(-scores), []
        while order.size:
            i, rest = order[0], order[1:]
            stay.append(i)
            w = np.minimum(x2[i], x2[rest]) - np.maximum(x1[i], x1[rest])
            h = np.minimum(y2[i], y2[rest]) - np.maximum(y1[i], y1[rest])
            inter = np.maximum(w, 0) * np.maximum(h, 0)
            order = rest[inter <= 0.5 * (areas[i] + areas[rest] - inter)]
        return stay

    node = _node("NonMaxSuppression", ["b", "s", "m", "t"], ["o"])
    inputs = {"b": boxes[None], "s": scores[None, None]}
    ort = onnx_session([node], inputs, {"m": np.array([8400]), "t": np.array([0.5], np.float32)})
    ours = lambda _: cython_ops.nms(boxes, scores, iou_threshold=0.5)  # noqa: E731
    return Work("NMS 8400 boxes", target, ours, _peers(numpy=numpy, ort=ort))


def cosine_work(target: float, *, coded: bool) -> Work:
    """The ten rows of 100,000 x 384 nearest to a query."""
    rng = np.random.default_rng(0)
    rows = rng.standard_normal((100_000, 384), np.float32)
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    query = rows[17] + 0.05 * rng.standard_normal(384, np.float32)
    query /= np.linalg.norm(query)
    codes, gains = cython_ops.quantize_rows(rows)

    def numpy() -> object:
        scores = rows @ query
        best = np.argpartition(scores, -10)[-10:]
        return best[np.argsort(-scores[best])]

    if not coded:
        ours = lambda threads: cython_ops.cosine_topk(rows, query, 10, threads=threads)  # noqa: E731
        return Work("cosine top-10, 100k x 384 f32", target, ours, {"numpy": numpy}, shares_threads=True)
    found = cython_ops.cosine_topk_codes(codes, gains, rows, query, 10)[1]
    np.testing.assert_array_equal(found, numpy())
    ours = lambda threads: cython_ops.cosine_topk_codes(codes, gains, rows, query, 10, threads=threads)  # noqa: E731
    return Work(
        "cosine top-10, 100k x 384 int8 + re-rank", target, ours, {"numpy": numpy}, shares_threads=True
    )


def works() -> Iterator[Work]:
    """Every row of the table, built when it is its turn."""
    for n, c, target in ((1, 1000, 0.55), (64, 1000, 22), (1, 50_000, 13)):
        yield softmax_work(n, c, target)
    for sizes, targets in ((SMALL_NET, (7.5, 21, 170, 645)), (LARGE_NET, (850, 880, 4500, 18000))):
        for n, target in zip((1, 8, 64, 256), targets, strict=True):
            yield network_work(sizes, n, target)
    yield network_work((2048, 20), 1, 1.1)
    yield network_work((2048, 20), 64, 35)
    yield image_work(15, offset=0)
    yield image_work(32, offset=4)
    yield nms_work(350)
    yield cosine_work(16_000, coded=False)
    yield cosine_work(1800, coded=True)


def rows(*, threads: int = 1, seconds: float = 0.4, only: str = "") -> Iterator[dict[str, str]]:
    """One dict a row of the table: the work, its target, each tier and each peer; medians with minima."""
    before = _kernels.active_tier()
    for work in works():
        if only not in work.name or (threads > 1 and not work.shares_threads):
            continue
        row = {"work": work.name, "target": _short(work.target)}
        for tier in _kernels.available_tiers():
            _kernels.use_tier(tier)
            one = measure(lambda: work.ours(1), seconds=seconds)  # noqa: B023
            row[tier] = str(one)
            if threads > 1:
                more = measure(lambda: work.ours(threads), seconds=seconds)  # noqa: B023
                row[f"{tier} x{threads}"] = f"{more} {one.median / more.median:.2f}x"
        _kernels.use_tier(before)
        if threads == 1:
            row |= {name: str(measure(call, seconds=seconds)) for name, call in work.peers.items()}
        yield row


def main(arguments: list[str] | None = None) -> None:
    """Print the table."""
    arguments = sys.argv[1:] if arguments is None else arguments
    if any(
        os.environ.get(name) != value for name, value in SINGLE.items()
    ):  # read by the peers when they load
        os.execve(
            sys.executable, [sys.executable, "-m", "benchmarks.kernels", *arguments], os.environ | SINGLE
        )
    threads = int(arguments[arguments.index("--threads") + 1]) if "--threads" in arguments else 1
    only = arguments[arguments.index("--only") + 1] if "--only" in arguments else ""
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[-threads:])
    print(f"{cython_ops.build_info()}; microseconds, median (minimum)\n")
    header: list[str] = []
    for row in rows(threads=threads, only=only):
        if not header:
            header = [*row, *(name for name in ("ort", "torch") if name not in row and threads == 1)]
            print("| " + " | ".join(header) + " |\n|" + "---|" * len(header))
        print("| " + " | ".join(row.get(name, "") for name in header) + " |", flush=True)


if __name__ == "__main__":
    main()
