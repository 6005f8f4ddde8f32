"""What the kernels are measured on, one `Work` a row: our call, the target, and the peers' calls."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import partial
from itertools import pairwise

import numpy as np

import cython_ops
from benchmarks.peers.compute import (
    Call,
    graph_calls,
    node,
    opencv_image,
    opencv_nms,
    torch_cosine,
    torch_network,
    torch_softmax,
)

MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
SMALL_NET, LARGE_NET = (784, 256, 128, 10), (512, 2048, 2048, 512)


@dataclass(frozen=True, slots=True)
class Work:
    """One row: the target in microseconds, our call with a number of threads, and the peers' calls.

    `reads`: of a row large enough for a second thread, what a call reads from end to end.
    """

    name: str
    target: float
    ours: Callable[[int], Call]
    peers: dict[str, Call] = field(default_factory=dict)
    reads: tuple[np.ndarray, ...] = ()


def aligned(array: np.ndarray) -> np.ndarray:
    """A copy at a multiple of 64 bytes, as the bare container stores tensors."""
    room = np.empty(array.nbytes + 64, np.uint8)
    start = -room.ctypes.data % 64
    copy: np.ndarray = room[start : start + array.nbytes].view(array.dtype).reshape(array.shape)
    copy[...] = array
    return copy


def softmax_work(n: int, c: int, target: float) -> Work:
    """Softmax and the five best of each row."""
    x = np.random.default_rng(0).standard_normal((n, c), np.float32)

    def numpy() -> object:
        e = np.exp(x - x.max(axis=1, keepdims=True))
        part = np.argpartition(x, -5, axis=1)[:, -5:]
        order = np.argsort(-np.take_along_axis(x, part, axis=1), axis=1)
        best = np.take_along_axis(part, order, axis=1)
        return np.take_along_axis(e, best, axis=1) / e.sum(axis=1, keepdims=True), best

    nodes = [node("Softmax", ["x"], ["p"], axis=1), node("TopK", ["p", "k"], ["v", "i"], axis=1)]
    peers = {"numpy": numpy} | graph_calls(nodes, {"x": x}, {"k": np.array([5])}) | torch_softmax(x, 5)
    return Work(f"softmax + top-5, {n}x{c}", target, lambda _: partial(cython_ops.softmax_topk, x, 5), peers)


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
        nodes.append(node("Gemm", [name, f"w{i}", f"b{i}"], [f"g{i}"], transB=1))
        if i != last:
            nodes.append(node("Relu", [f"g{i}"], [f"r{i}"]))
        name = f"r{i}"
    constants = {f"w{i}": w for i, w in enumerate(weights)} | {f"b{i}": b for i, b in enumerate(biases)}
    peers = {"numpy": numpy} | graph_calls(nodes, {"x": x}, constants)
    peers |= torch_network(list(zip(weights, biases, strict=True)), x)
    np.testing.assert_allclose(network(x), numpy(), rtol=1e-3, atol=1e-3)
    return Work(
        f"{'dense' if last == 0 else 'MLP'} {'-'.join(map(str, sizes))}, batch {n}",
        target,
        lambda threads: partial(network, x) if threads == 1 else partial(network, x, threads=threads),
        peers,
        tuple(weights) if sum(w.size for w in weights) * max(n, 8) > 30_000_000 else (),
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

    ours = partial(cython_ops.normalize_image, pixels, mean=MEAN, std=STD, out=out)
    name = "image 224 normalise to CHW" + (", unaligned" if offset else "")
    return Work(name, target, lambda _: ours, {"numpy": numpy} | opencv_image(pixels, MEAN, STD))


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

    suppression = node("NonMaxSuppression", ["b", "s", "m", "t"], ["o"])
    inputs = {"b": boxes[None], "s": scores[None, None]}
    constants = {"m": np.array([8400]), "t": np.array([0.5], np.float32)}
    peers = {"numpy": numpy} | graph_calls([suppression], inputs, constants) | opencv_nms(boxes, scores, 0.5)
    ours = partial(cython_ops.nms, boxes, scores, iou_threshold=0.5)
    return Work("NMS 8400 boxes", target, lambda _: ours, peers)


def cosine_work(target: float, *, coded: bool) -> Work:
    """The ten rows of 100,000 x 384 nearest to a query."""
    rng = np.random.default_rng(0)
    rows = rng.standard_normal((100_000, 384), np.float32)
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    query = rows[17] + 0.05 * rng.standard_normal(384, np.float32)
    query /= np.linalg.norm(query)
    codes = cython_ops.quantize_rows(rows)

    def numpy() -> object:
        scores = rows @ query
        best = np.argpartition(scores, -10)[-10:]
        return best[np.argsort(-scores[best])]

    peers = {"numpy": numpy} | torch_cosine(rows, query, 10)
    search = partial(cython_ops.cosine_topk, rows, query, 10)
    if coded:
        search = partial(cython_ops.cosine_topk_codes, codes, rows, query, 10)
    np.testing.assert_array_equal(search()[1], numpy())
    return Work(
        f"cosine top-10, 100k x 384 {'int8 + re-rank' if coded else 'f32'}",
        target,
        lambda threads: partial(search, threads=threads),
        peers,
        codes[:1] if coded else (rows,),
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
