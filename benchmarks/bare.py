"""A small bare model served by a node, beside what people serve such a model with.

One 16-64-10 network with the same weights everywhere, asked over JSON on loopback. The node checks the
license and the session of every request, the others nothing. Flask and NumPy run under gunicorn, with one
sync worker and with two workers of four threads; MLServer without parallel workers; aiohttp and ONNX
Runtime as one handler in one process. Rounds go turn by turn, so that other load on the machine meets all
alike; ratios are of the same round. The load generator shares the cores.
`benchmarks/peers/install` makes the peers' environment; without it they are left out.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from bare_models.layers import DenseLayer, Layer, needs
from bare_models.to_onnx import write_onnx
from bare_models.writer import write_raw, write_safetensors
from benchmarks import load
from benchmarks.node import EXECUTE, INPUTS, ROOT, Sold, _plain_environment, _until_answers, pss, sold
from benchmarks.peers import ENVIRONMENT
from benchmarks.report import spread, table
from lonja import AsyncClient
from lonja.devnet.world import World, running_world

PEERS = ENVIRONMENT / "bin"
CONTENT = [round(0.0625 * i, 4) for i in range(INPUTS)]
LAYERS: list[Layer] = [
    DenseLayer(inputs=INPUTS, outputs=64, activation="relu"),
    DenseLayer(inputs=64, outputs=10),
]


@dataclass(frozen=True, slots=True)
class Files:
    """The network in three forms, and its manifests."""

    safetensors: Path
    raw: Path
    onnx: Path
    bare_manifest: Path
    onnx_manifest: Path


def build(folder: Path) -> Files:
    rng = np.random.default_rng(0)
    numbers = {need.name: rng.standard_normal(need.shape).astype(np.float32) for need in needs(LAYERS)}
    names = ("small.safetensors", "small.bin", "small.onnx", "bare.json", "onnx.json")
    files = Files(*(folder / name for name in names))
    write_safetensors(files.safetensors, LAYERS, numbers)
    write_raw(files.raw, LAYERS, numbers)
    write_onnx(files.onnx, LAYERS, numbers, row=(INPUTS,))
    for path, kind in ((files.bare_manifest, "bare"), (files.onnx_manifest, "onnx")):
        path.write_text(
            json.dumps(
                {
                    "name": f"small-{kind}",
                    "model": {
                        "schema": 1,
                        "model_id": f"small-{kind}",
                        "model_type": "tabular_classification",
                        "format": kind,
                        "labels": [f"class {i}" for i in range(10)],
                        "input": {"kind": "tensor", "shape": [INPUTS]},
                        "output": {"task": "classification", "top_k": 3},
                    },
                }
            )
        )
    return files


@dataclass(frozen=True, slots=True)
class Server:
    """Something that answers, and how to ask it."""

    name: str
    url: str
    body: bytes
    headers: dict[str, str]
    pid: int

    def measure(self, *, connections: int, seconds: float) -> load.Load:
        run = load.run(
            self.url, body=self.body, headers=self.headers, connections=connections, seconds=seconds
        )
        if run.failures:
            raise RuntimeError(f"{self.name} refused requests of the benchmark")
        return run


def execute_body(model: str) -> bytes:
    return json.dumps({"model_id": model, "input_data": {"format": "tensor", "content": CONTENT}}).encode()


JSON = {"Content-Type": "application/json"}
Maker = Callable[[], AbstractContextManager["Server"]]
"""Starts a server, and gives it once it has answered."""


@contextmanager
def _process(
    name: str, command: list[str], *, url: str, body: bytes, env: dict[str, str]
) -> Iterator[Server]:
    process = subprocess.Popen(
        command,
        cwd=ROOT,
        env=os.environ | env | {"PYTHONPATH": str(ROOT)},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        answered(url, body, JSON)
        yield Server(name, url, body, JSON, process.pid)
    finally:
        process.terminate()
        process.wait(timeout=20)


def answered(url: str, body: bytes, headers: dict[str, str], *, within: float = 60) -> bytes:
    """Ask until there is a 200. Polls every 2 ms."""
    ends = time.perf_counter() + within
    while time.perf_counter() < ends:
        try:
            with urllib.request.urlopen(
                urllib.request.Request(url, body, headers, method="POST"), timeout=10
            ) as answer:
                return bytes(answer.read())
        except OSError:
            time.sleep(0.002)
    raise TimeoutError(url)


def free_port() -> int:
    import socket

    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def gunicorn(files: Files, name: str, *options: str) -> Maker:
    port = free_port()
    command = [
        str(PEERS / "gunicorn"),
        "--bind",
        f"127.0.0.1:{port}",
        *options,
        "benchmarks.peers.flask_numpy:app",
    ]
    return lambda: _process(
        name,
        command,
        url=f"http://127.0.0.1:{port}{EXECUTE}",
        body=execute_body("small"),
        env={"WEIGHTS": str(files.raw), "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"},
    )


def mlserver(files: Files, folder: Path) -> Maker:
    port = free_port()
    tensor = {"name": "x", "shape": [1, INPUTS], "datatype": "FP32", "data": CONTENT}
    command = [str(PEERS / "python"), "-m", "benchmarks.peers.mlserver_numpy", str(folder), str(port)]
    return lambda: _process(
        "MLServer",
        command,
        url=f"http://127.0.0.1:{port}/v2/models/small/infer",
        body=json.dumps({"inputs": [tensor]}).encode(),
        env={"WEIGHTS": str(files.raw)},
    )


def bare_handler(files: Files) -> Maker:
    port = free_port()
    command = [sys.executable, "-m", "benchmarks.peers.bare_aiohttp", str(files.onnx), str(port)]
    return lambda: _process(
        "aiohttp + ONNX Runtime, one handler",
        command,
        url=f"http://127.0.0.1:{port}{EXECUTE}",
        body=execute_body("small"),
        env={},
    )


def throughput(ours: list[Server], peers: list[Server], *, seconds: float, rounds: int) -> str:
    """Requests per second of all, turn by turn, and the first one's ratio to each."""
    rows = []
    for connections in (1, 16, 64):
        runs: dict[str, list[load.Load]] = {}
        for _ in range(rounds):
            for server in (*ours, *peers):
                runs.setdefault(server.name, []).append(
                    server.measure(connections=connections, seconds=seconds)
                )
        first = [run.requests_per_second for run in runs[ours[0].name]]
        for name, taken in runs.items():
            speeds = [run.requests_per_second for run in taken]
            ratios = [mine / theirs for mine, theirs in zip(first, speeds, strict=True)]
            rows.append(
                [
                    str(connections),
                    name,
                    spread(speeds, digits=0),
                    f"{statistics.median(run.p50_ms for run in taken):.2f}",
                    "" if name == ours[0].name else spread(ratios, digits=2),
                ]
            )
    return table(
        ["connections", "server", "requests/s", "p50 ms", "bare model on the node is faster by"], rows
    )


@contextmanager
def _own_node(world: World, folder: Path, port: int) -> Iterator[int]:
    """The process of a node with a store and sessions of its own, just started; its pid."""
    env = _plain_environment() | {
        "PORT": str(port),
        "DATA_DIR": str(folder / "data"),
        "MODEL_DIR": str(folder / "models"),
        "AVALANCHE_RPC_URL": world.rpc_url,
        "CONTRACT_ADDRESS": world.contract,
        "SERVE_MODELS": "all",
        "LOG_LEVEL": "error",
        "LICENSE_CONFIRMATIONS": "0",
        "IPFS_GATEWAYS": world.node_url,
        "NODE_KEY_FILE": str(world.key_files["operator"]),
    }
    process = subprocess.Popen(
        [sys.executable, "-m", "lonja", "serve"], cwd=folder, env=env, stdout=subprocess.DEVNULL
    )
    try:
        yield process.pid
    finally:
        process.terminate()
        process.wait(timeout=30)


@contextmanager
def _restarted(world: World, folder: Path, port: int, model: str, token: str) -> Iterator[Server]:
    """Such a node until it has answered."""
    url, headers = f"http://127.0.0.1:{port}{EXECUTE}", JSON | {"Authorization": f"Bearer {token}"}
    with _own_node(world, folder, port) as pid:
        answered(url, execute_body(model), headers)
        yield Server("node, model in its store", url, execute_body(model), headers, pid)


async def _prepared(world: World, folder: Path, port: int, model: str) -> str:
    """Let such a node fetch the model and open a session, which both outlive it; returns the token."""
    folder.mkdir()
    with _own_node(world, folder, port):
        await asyncio.to_thread(_until_answers, f"http://127.0.0.1:{port}/health/ready")
        async with AsyncClient(
            f"http://127.0.0.1:{port}",
            key_file=world.key_files["licensee"],
            rpc=world.rpc_url,
            contract=world.contract,
        ) as client:
            await client.infer(model, tensor=CONTENT)
            return (await client.signer().session()).token


def _milliseconds(make: Maker, *, rounds: int) -> list[float]:
    """From the start of a process to its first prediction."""
    taken = []
    for _ in range(rounds):
        began = time.perf_counter()
        with make():
            taken.append((time.perf_counter() - began) * 1000)
    return taken


async def measure(*, quick: bool) -> None:
    with tempfile.TemporaryDirectory(prefix="lonja-bench-") as folder, ExitStack() as stack:
        here = Path(folder)
        files = build(here)
        settings = {"RPC_POLL_INTERVAL": "1000", "LOG_LEVEL": "warning", "IPFS_PEERS": ""}
        async with (
            running_world(here / "world", settings=settings) as world,
            sold(world, files.safetensors, files.bare_manifest) as bare,
            sold(world, files.onnx, files.onnx_manifest) as graph,
        ):
            weight = await _memory(world, bare, graph)
            ours = [
                Server(
                    f"node, {kind}",
                    world.node_url + EXECUTE,
                    execute_body(model.name),
                    JSON | {"Authorization": f"Bearer {model.token}"},
                    world.node.pid,
                )
                for kind, model in (("bare model", bare), ("same network in ONNX", graph))
            ]
            makers = [bare_handler(files)]
            if (PEERS / "gunicorn").exists():
                (here / "mlserver").mkdir()
                makers += [
                    gunicorn(files, "Flask + NumPy, gunicorn, 1 sync worker", "--workers", "1"),
                    gunicorn(
                        files,
                        "Flask + NumPy, gunicorn, 2 workers x 4 threads",
                        "--workers",
                        "2",
                        "--threads",
                        "4",
                    ),
                    mlserver(files, here / "mlserver"),
                ]
            node_port, own = free_port(), here / "own"
            token = await _prepared(world, own, node_port, bare.name)
            started = [
                await asyncio.to_thread(_milliseconds, make, rounds=2 if quick else 7)
                for make in (lambda: _restarted(world, own, node_port, bare.name, token), *makers)
            ]
            peers = [await asyncio.to_thread(stack.enter_context, make()) for make in makers]
            seconds, rounds = (2, 2) if quick else (5, 5)
            print(await asyncio.to_thread(throughput, ours, peers, seconds=seconds, rounds=rounds))
            names = ["node, model in its store", *(peer.name for peer in peers)]
            starts = [[name, spread(taken, digits=0)] for name, taken in zip(names, started, strict=True)]
            print("\n" + table(["from start to first prediction", "ms"], starts))
            print(
                "\n"
                + table(["memory, PSS", "MB"], [*weight, *([p.name, f"{pss(p.pid)[2]:.0f}"] for p in peers)])
            )


async def _memory(world: World, bare: Sold, graph: Sold) -> list[list[str]]:
    """The node's memory before any model, and what each model adds once it has answered."""
    url = world.node_url + EXECUTE
    rows, before = [], pss(world.node.pid)[2]
    rows.append(["node without a model: main process and forkserver", f"{before:.0f}"])
    for kind, model in (("the bare model", bare), ("the same network in ONNX", graph)):
        headers = JSON | {"Authorization": f"Bearer {model.token}"}
        for _ in range(100):
            await asyncio.to_thread(answered, url, execute_body(model.name), headers)
        now = pss(world.node.pid)[2]
        rows.append([f"{kind}, its worker and engine add", f"{now - before:.1f}"])
        before = now
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="fewer and shorter rounds")
    asyncio.run(measure(quick=parser.parse_args().quick))


if __name__ == "__main__":
    main()
