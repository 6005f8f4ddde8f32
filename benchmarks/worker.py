"""Workers alone, without HTTP: how soon a new one is there, what it costs, and the way to it and back.

Run as `python -m benchmarks.worker`. The model is a multilayer perceptron of 16, 32 and 4 units that
runs in microseconds, so that the figures are those of the way and not of the model.
"""

from __future__ import annotations

import asyncio
import json
import logging
import os
import signal
import statistics
import tempfile
import time
from pathlib import Path

from benchmarks.report import spread, table
from node.models.slots import Slots
from node.runtime.host import WorkerHost
from node.runtime.plan import LoadPlan
from node.runtime.remote import Worker
from node.settings import Settings
from node.types import Address, ModelKey, Options, Payload, TokenId

FORKS = 20
REQUESTS = {1: 4_000, 16: 40_000, 64: 40_000}
KEY = ModelKey(1, Address("0x" + "00" * 20), TokenId(1))
CONTENT = Payload("tensor", json.dumps([round(0.0625 * n, 4) for n in range(16)]).encode(), "json")


def perceptron(path: Path) -> LoadPlan:
    """The model, written to `path`, and the plan that serves it."""
    import numpy as np

    from tests.fakes import onnx_models
    from tests.fakes.onnx_models import helper, value

    random = np.random.default_rng(0)
    model = onnx_models.model(
        [
            helper.make_node("Gemm", ["x", "w1", "b1"], ["h"]),
            helper.make_node("Relu", ["h"], ["r"]),
            helper.make_node("Gemm", ["r", "w2", "b2"], ["y"]),
        ],
        [value("x", ["n", 16])],
        [value("y", ["n", 4])],
        constants={
            "w1": random.normal(size=(16, 32)).astype(np.float32),
            "b1": np.zeros(32, np.float32),
            "w2": random.normal(size=(32, 4)).astype(np.float32),
            "b2": np.zeros(4, np.float32),
        },
    )
    manifest = {
        "input": {"kind": "tensor", "shape": [16]},
        "output": {"task": "classification", "activation": "softmax"},
    }
    return LoadPlan(
        model=json.dumps(manifest).encode(),
        weights_path=str(onnx_models.save(model, path)),
        labels=["north", "east", "south", "west"],
        threads=1,
    )


async def rows() -> list[tuple[str, str, str]]:
    """What was measured, the figure, its unit."""
    with tempfile.TemporaryDirectory() as folder:
        plan = perceptron(Path(folder) / "model.onnx")
        began = time.perf_counter()
        host = await WorkerHost.start(Settings())
        started = time.perf_counter() - began
        await host.ready()
        ready = time.perf_counter() - began
        try:
            return [
                ("starting the forkserver delays the caller by", f"{started * 1e3:.1f}", "ms"),
                ("forkserver ready after", f"{ready * 1e3:.0f}", "ms"),
                *await _life(host, plan),
                *await _way(await host.spawn(plan)),
            ]
        finally:
            await host.close()


async def _life(host: WorkerHost, plan: LoadPlan) -> list[tuple[str, str, str]]:
    from node.runtime.loading import proportional_set_size

    forks, loads, bare = [], [], []
    for _ in range(FORKS):
        began = time.perf_counter()
        worker = await host.fork()
        forks.append((time.perf_counter() - began) * 1e3)
        bare.append(proportional_set_size(worker.pid) / 1e6)
        began = time.perf_counter()
        await worker.load(plan, timeout=60)
        loads.append((time.perf_counter() - began) * 1e3)
        await worker.close(drain=0)
    kept = [await host.spawn(plan) for _ in range(3)]
    loaded = [proportional_set_size(worker.pid) / 1e6 for worker in kept]
    forkserver = proportional_set_size(host.forkserver_pid) / 1e6
    for worker in kept:
        await worker.close(drain=0)
    return [
        ("new worker, before its model loads, ready after", spread(forks), "ms"),
        ("small model loaded and warmed up after", spread(loads), "ms"),
        ("memory of a worker without a model (PSS)", spread(bare), "MB"),
        ("memory of a worker with the small model (PSS, three of them)", spread(loaded), "MB"),
        ("memory of the forkserver beside three workers (PSS)", f"{forkserver:.1f}", "MB"),
        ("hung worker replaced, after deadline and grace", await _replacement(host, plan), "ms"),
    ]


async def _replacement(host: WorkerHost, plan: LoadPlan) -> str:
    """From the moment at which a worker may be killed until the next one can answer."""
    loop, times = asyncio.get_running_loop(), []

    async def load(_key: ModelKey, _revision: int) -> Worker:
        worker = await host.spawn(plan)
        worker.when_dead(slots.lost)
        return worker

    slots = Slots(capacity=1, load=load, close=lambda worker: worker.close(drain=0))
    for _ in range(3):
        worker = await slots.load(KEY, 1)
        os.kill(worker.pid, signal.SIGSTOP)
        allowed = loop.time() + 0.05
        await asyncio.gather(worker.run(CONTENT, Options(), deadline=allowed), return_exceptions=True)
        dead = asyncio.Event()
        worker.when_dead(lambda _, dead=dead: dead.set())
        await dead.wait()
        await slots.load(KEY, 1)
        times.append((loop.time() - allowed - Settings().worker_grace / 1e3) * 1e3)
    await slots.close()
    return spread(times, digits=0)


async def _way(worker: Worker) -> list[tuple[str, str, str]]:
    loop, found = asyncio.get_running_loop(), []

    async def client(count: int, latencies: list[float], outside: list[float]) -> None:
        for _ in range(count):
            began = time.perf_counter()
            result = await worker.run(CONTENT, Options(), deadline=loop.time() + 30)
            took = time.perf_counter() - began
            timings = result.timings
            latencies.append(took)
            outside.append(took - (timings.preprocessing + timings.inference + timings.postprocessing) / 1e3)

    for clients, requests in REQUESTS.items():
        await client(200, [], [])
        latencies: list[float] = []
        outside: list[float] = []
        used, began = time.process_time(), time.perf_counter()
        each = requests // clients
        await asyncio.gather(*(client(each, latencies, outside) for _ in range(clients)))
        took, used = time.perf_counter() - began, time.process_time() - used
        if clients == 1:
            found.append(
                ("way to the worker and back, alone", f"{statistics.median(outside) * 1e3:.3f}", "ms p50")
            )
        found += [
            (f"requests, {clients} at a time", f"{requests / took:,.0f}", "/s"),
            (f"latency, {clients} at a time", f"{statistics.median(latencies) * 1e3:.2f}", "ms p50"),
            (
                f"processor time of the main process, {clients} at a time",
                f"{used / requests * 1e6:.1f}",
                "us a request",
            ),
        ]
    return found


def main() -> None:
    """Print the table."""
    import uvloop

    logging.disable(logging.ERROR)  # the killed workers are meant
    print(table(["measured", "figure", "unit"], uvloop.run(rows())))


if __name__ == "__main__":
    main()
