"""A whole node on a development chain: what it adds to a model, how much it carries, what it weighs.

The small model is a 16-64-10 network in ONNX Runtime, asked over JSON with a session and a license check;
its peer is aiohttp and ONNX Runtime in one process with neither. The load generator shares the cores. The
image model is EfficientNet-Lite0 where the sample models lie beside the checkout, else the demo's digits.
Start is timed from the start of the process, from an unpacked wheel as an operator would install it.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import re
import statistics
import subprocess
import sys
import sysconfig
import tempfile
import time
import urllib.error
import urllib.request
import zipfile
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from benchmarks import load
from benchmarks.report import spread, table
from lonja import AsyncClient
from lonja.devnet.world import World, running_world

ROOT = Path(__file__).resolve().parent.parent
SAMPLES = ROOT.parent / "shared" / "data" / "imagenet"
INPUTS = 16
EXECUTE = "/api/inference/execute"
MISSION_COLD_MS, MISSION_WARM_MS = 1566, 66
"""What the mission statement's own example reports for a cold and a warm request."""


def small_model(folder: Path, name: str) -> tuple[Path, Path]:
    """A 16-64-10 network and its metadata."""
    rng = np.random.default_rng(0)
    w1 = rng.standard_normal((INPUTS, 64)).astype(np.float32)
    w2 = rng.standard_normal((64, 10)).astype(np.float32)
    graph = helper.make_graph(
        [
            helper.make_node("MatMul", ["input", "w1"], ["h"]),
            helper.make_node("Relu", ["h"], ["r"]),
            helper.make_node("MatMul", ["r", "w2"], ["logits"]),
        ],
        name,
        [helper.make_tensor_value_info("input", TensorProto.FLOAT, ["n", INPUTS])],
        [helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["n", 10])],
        [numpy_helper.from_array(w1, "w1"), numpy_helper.from_array(w2, "w2")],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    path = folder / f"{name}.onnx"
    onnx.save(model, path)
    metadata = {
        "name": name,
        "model": {
            "schema": 1,
            "model_id": name,
            "model_type": "tabular_classification",
            "format": "onnx",
            "labels": [f"class {i}" for i in range(10)],
            "input": {"name": "input", "kind": "tensor", "shape": [INPUTS]},
            "output": {"name": "logits", "task": "classification", "activation": "softmax", "top_k": 3},
        },
    }
    manifest = folder / f"{name}.json"
    manifest.write_text(json.dumps(metadata))
    return path, manifest


def image_model(folder: Path) -> tuple[Path, Path, Path]:
    """Model, metadata and a picture."""
    if not SAMPLES.is_dir():
        from lonja.devnet import digits

        built = digits.build(folder / "digits")
        return built.onnx, built.metadata, built.picture
    (folder / "labels.json").write_bytes((SAMPLES / "labels.json").read_bytes())
    manifest = folder / "efficientnet.json"
    manifest.write_text(
        json.dumps(
            {
                "name": "EfficientNet-Lite0",
                "model": {
                    "schema": 1,
                    "model_id": "efficientnet-lite0",
                    "model_type": "image_classification",
                    "format": "onnx",
                    "labels": {"file": "labels.json"},
                    "input": {"name": "input", "kind": "image", "preset": "imagenet"},
                    "output": {"name": "logits", "task": "classification", "activation": "softmax"},
                },
            }
        )
    )
    return SAMPLES / "efficientnet-lite0.onnx", manifest, SAMPLES / "bald_eagle.jpeg"


@dataclass(frozen=True, slots=True)
class Sold:
    """A model on the chain and a licensee's client for it."""

    name: str
    token_id: int
    client: AsyncClient
    token: str


@asynccontextmanager
async def sold(world: World, path: Path, manifest: Path) -> AsyncIterator[Sold]:
    """Publish the model and buy a license."""
    async with (
        AsyncClient.from_devnet(world.devnet_json, role="publisher") as publisher,
        AsyncClient.from_devnet(world.devnet_json) as client,
    ):
        from lonja.terms import parse_offer

        published = await publisher.publish(
            path, manifest=manifest, offers=[parse_offer("price=0,perpetual")]
        )
        await client.buy(published.token_id)
        session = await client.signer().session()
        name = json.loads(manifest.read_bytes())["model"]["model_id"]
        yield Sold(name, published.token_id, client, session.token)


def body(name: str) -> bytes:
    content = [round(0.0625 * i, 4) for i in range(INPUTS)]
    return json.dumps({"model_id": name, "input_data": {"format": "tensor", "content": content}}).encode()


def throughput(world: World, small: Sold, path: Path, *, seconds: float, rounds: int) -> str:
    """Requests per second of the node and of the bare handler, turn by turn."""
    headers = {"Content-Type": "application/json", "Authorization": f"Bearer {small.token}"}
    rows = []
    with _bare(path) as bare_url:
        for connections in (1, 16, 64):
            runs: dict[str, list[load.Load]] = {"node": [], "bare": []}
            for _ in range(rounds):
                for name, url in (("node", world.node_url), ("bare", bare_url)):
                    runs[name].append(
                        load.run(
                            url + EXECUTE, body=body(small.name), headers=headers,
                            connections=connections, seconds=seconds,
                        )
                    )  # fmt: skip
            if any(run.failures for run in runs["node"]):
                raise RuntimeError("the node refused requests of the benchmark")
            node, bare = ([run.requests_per_second for run in runs[name]] for name in ("node", "bare"))
            ratios = [ours / theirs for ours, theirs in zip(node, bare, strict=True)]
            p50 = statistics.median(run.p50_ms for run in runs["node"])
            rows.append(
                [
                    str(connections),
                    spread(node, digits=0),
                    f"{p50:.2f}",
                    spread(bare, digits=0),
                    spread(ratios, digits=2),
                ]
            )
    return table(
        ["connections", "node, requests/s", "p50 ms", "bare handler, requests/s", "ratio, run by run"], rows
    )


class _bare:  # noqa: N801 - used as a with-block
    """The peer's process."""

    def __init__(self, model: Path) -> None:
        self.model = model

    def __enter__(self) -> str:
        import socket

        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = probe.getsockname()[1]
        self.process = subprocess.Popen(
            [sys.executable, "-m", "benchmarks.peers.bare_aiohttp", str(self.model), str(port)], cwd=ROOT
        )
        _until_answers(f"http://127.0.0.1:{port}/")
        return f"http://127.0.0.1:{port}"

    def __exit__(self, *_: object) -> None:
        self.process.terminate()
        self.process.wait(timeout=10)


async def own_cost(image: Sold, picture: bytes, *, count: int) -> tuple[list[float], list[float]]:
    """Milliseconds of the node beyond pre + run + post, and of the whole request, at one connection."""
    own, whole = [], []
    for _ in range(count):
        started = time.perf_counter()
        answer = await image.client.infer(image.name, image=picture)
        whole.append((time.perf_counter() - started) * 1000)
        m = answer.metrics
        own.append(m.total_time_ms - m.preprocessing_time_ms - m.inference_time_ms - m.postprocessing_time_ms)
    return own, whole


def pss(pid: int) -> tuple[float, float, float]:
    """Megabytes: resident of the main process, proportional of main, and of all its descendants with it."""
    children: dict[int, list[int]] = {}
    for status in Path("/proc").glob("[0-9]*/status"):
        try:
            text = status.read_text()
        except OSError:
            continue
        parent = int(re.search(r"PPid:\s+(\d+)", text)[1])  # type: ignore[index]
        children.setdefault(parent, []).append(int(status.parent.name))
    family, todo = [], [pid]
    while todo:
        family.append(todo.pop())
        todo += children.get(family[-1], [])
    return _kib(pid, "Rss") / 1024, _kib(pid, "Pss") / 1024, sum(_kib(one, "Pss") for one in family) / 1024


def _kib(pid: int, what: str) -> int:
    text = Path(f"/proc/{pid}/smaps_rollup").read_text()
    return int(re.search(rf"^{what}:\s+(\d+)", text, re.MULTILINE)[1])  # type: ignore[index]


async def memory(world: World, small: Sold, *, requests: int) -> list[list[str]]:
    """Memory with the image model resident, and its change over many small requests."""
    headers = {"Content-Type": "application/json", "Authorization": f"Bearer {small.token}"}
    rss, main_pss, whole = pss(world.node.pid)
    rows = [
        ["main process, RSS", f"{rss:.0f} MB", "80 MB"],
        ["main process, PSS", f"{main_pss:.0f} MB", ""],
        ["node, forkserver and workers of two models, PSS", f"{whole:.0f} MB", "180 MB"],
    ]
    await _many(world, small, headers, requests // 10)  # buffers and caches have their size after this
    before = pss(world.node.pid)
    done = await _many(world, small, headers, requests)
    after = pss(world.node.pid)
    change = (after[2] / before[2] - 1) * 100
    rows.append([f"change of all PSS over {done:,} requests", f"{change:+.1f} %", "±2 %"])
    return rows


async def _many(world: World, small: Sold, headers: dict[str, str], requests: int) -> int:
    done = 0
    while done < requests:
        run = await asyncio.to_thread(
            load.run,
            world.node_url + EXECUTE,
            body=body(small.name),
            headers=headers,
            connections=16,
            seconds=5,
        )
        done += int(run.requests_per_second * 5)
    return done


async def cold(image: Sold, picture: bytes, others: list[Sold], *, rounds: int) -> list[float]:
    """Milliseconds of a request for a model that three others have pushed out of the slots."""
    times = []
    for _ in range(rounds):
        for other in others:
            await other.client.infer(other.name, tensor=[0.0] * INPUTS)
        started = time.perf_counter()
        await image.client.infer(image.name, image=picture)
        times.append((time.perf_counter() - started) * 1000)
    return times


async def cold_from_gateway(world: World, image: Sold, picture: bytes, *, rounds: int) -> list[float]:
    """Milliseconds of the first request to a node that has nothing and fetches from the first one."""
    times = []
    for _ in range(rounds):
        with tempfile.TemporaryDirectory() as data:
            async with (
                _second_node(world, Path(data)) as url,
                AsyncClient(
                    url, key_file=world.key_files["licensee"], rpc=world.rpc_url, contract=world.contract
                ) as client,
            ):
                await client.sign_in()
                started = time.perf_counter()
                await client.infer(image.name, image=picture)
                times.append((time.perf_counter() - started) * 1000)
    return times


@asynccontextmanager
async def _second_node(world: World, folder: Path) -> AsyncIterator[str]:
    from lonja.devnet.processes import Child

    node = Child("a second node", [sys.executable, "-m", "lonja", "serve"], log=folder / "node.log")
    env = _plain_environment() | {
        "PORT": "0", "DATA_DIR": str(folder / "data"), "MODEL_DIR": str(folder / "models"),
        "AVALANCHE_RPC_URL": world.rpc_url, "CONTRACT_ADDRESS": world.contract, "SERVE_MODELS": "all",
        "LICENSE_CONFIRMATIONS": "0", "IPFS_GATEWAYS": world.node_url,
        "NODE_KEY_FILE": str(world.key_files["operator"]),
    }  # fmt: skip
    line = await node.start(env=env, cwd=folder, until="ready ", timeout=60)
    try:
        yield next(word for word in line.split() if word.startswith("http"))
    finally:
        await node.stop()


def _plain_environment() -> dict[str, str]:
    from node.settings import FIELDS

    return {name: value for name, value in os.environ.items() if name not in FIELDS}


def starts(world: World, *, rounds: int) -> tuple[list[float], list[float]]:
    """Milliseconds from the start of the process to the first /health and /health/ready."""
    live, ready = [], []
    with tempfile.TemporaryDirectory() as folder:
        wheel = _unpacked_wheel(Path(folder))
        for number in range(rounds + 1):
            first, all_parts = _one_start(world, wheel, Path(folder) / str(number))
            if number:  # the first one compiles the byte code
                live.append(first)
                ready.append(all_parts)
    return live, ready


def _unpacked_wheel(folder: Path) -> Path:
    subprocess.run(
        [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--no-build-isolation",
         "--disable-pip-version-check", "--wheel-dir", str(folder), str(ROOT)],
        check=True,
        # meson and ninja stand beside the interpreter, which need not be on PATH
        env={**os.environ, "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"},
    )  # fmt: skip
    with zipfile.ZipFile(next(folder.glob("*.whl"))) as wheel:
        wheel.extractall(folder / "wheel")
    return folder / "wheel"


def _one_start(world: World, wheel: Path, folder: Path) -> tuple[float, float]:
    import socket

    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    paths = [str(wheel), sysconfig.get_path("purelib"), *(p for p in sys.path if p.endswith("site-packages"))]
    code = (
        f"import sys; sys.path[1:1] = {paths!r}; sys.argv[:] = ['lonja', 'serve']; "
        "from lonja.cli.main import main; main()"
    )
    folder.mkdir()
    env = _plain_environment() | {
        "PORT": str(port), "DATA_DIR": str(folder / "data"), "MODEL_DIR": str(folder / "models"),
        "AVALANCHE_RPC_URL": world.rpc_url, "CONTRACT_ADDRESS": world.contract, "SERVE_MODELS": "all",
        "LOG_LEVEL": "error", "PYTHONPATH": os.pathsep.join(paths),
    }  # fmt: skip
    started = time.perf_counter()
    process = subprocess.Popen(
        [sys.executable, "-S", "-c", code], env=env, cwd=folder, stdout=subprocess.DEVNULL
    )
    try:
        _until_answers(f"http://127.0.0.1:{port}/health/live")
        live = (time.perf_counter() - started) * 1000
        _until_answers(f"http://127.0.0.1:{port}/health/ready")
        return live, (time.perf_counter() - started) * 1000
    finally:
        process.terminate()
        process.wait(timeout=30)


def _until_answers(url: str) -> None:
    """Ask until there is an answer that is not a 5xx. Polls every 2 ms, at most 30 s."""
    ends = time.perf_counter() + 30
    while time.perf_counter() < ends:
        try:
            urllib.request.urlopen(url, timeout=5).close()
            return
        except urllib.error.HTTPError as error:
            if error.code < 500:
                return
        except OSError:
            pass
        time.sleep(0.002)
    raise TimeoutError(url)


async def measure(*, quick: bool) -> None:
    with tempfile.TemporaryDirectory(prefix="lonja-bench-") as folder:
        here = Path(folder)
        small_path, small_manifest = small_model(here, "small")
        image_path, image_manifest, picture_path = image_model(here)
        picture = picture_path.read_bytes()
        settings = {"RPC_POLL_INTERVAL": "1000", "LOG_LEVEL": "warning", "IPFS_PEERS": ""}
        async with running_world(here / "world", settings=settings) as world:
            async with (
                sold(world, small_path, small_manifest) as small,
                sold(world, image_path, image_manifest) as image,
            ):
                await small.client.infer(small.name, tensor=[0.0] * INPUTS)
                await image.client.infer(image.name, image=picture)
                live, ready = await asyncio.to_thread(starts, world, rounds=3 if quick else 7)
                own, whole = await own_cost(image, picture, count=50 if quick else 400)
                print(
                    await asyncio.to_thread(
                        throughput,
                        world,
                        small,
                        small_path,
                        seconds=2 if quick else 5,
                        rounds=2 if quick else 5,
                    )
                )
                weight = await memory(world, small, requests=20_000 if quick else 200_000)
                others = []
                async with AsyncExitStack() as stack:
                    for number in range(3):
                        path, manifest = small_model(here, f"other-{number}")
                        others.append(await stack.enter_async_context(sold(world, path, manifest)))
                    evicted = await cold(image, picture, others, rounds=3 if quick else 9)
                fetched = await cold_from_gateway(world, image, picture, rounds=2 if quick else 5)
                rows = [
                    ["node's own time a request beyond pre + run + post, ms", spread(own, digits=2), "1"],
                    [
                        f"warm request ({image.name}), seen by the client, ms",
                        spread(whole),
                        str(MISSION_WARM_MS),
                    ],
                    [
                        "cold request, model evicted, weights in the store, ms",
                        spread(evicted),
                        str(MISSION_COLD_MS),
                    ],
                    ["cold request, everything from another node, ms", spread(fetched), str(MISSION_COLD_MS)],
                    ["start to first /health answer, ms", spread(live, digits=0), "400"],
                    ["start to /health/ready, ms", spread(ready, digits=0), "1500"],
                    *weight,
                ]
                print("\n" + table(["what", "median (range)", "target, or the mission's figure"], rows))
    print(f"\nLoad generator: {load.generator()}.")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="fewer and shorter rounds")
    asyncio.run(measure(quick=parser.parse_args().quick))


if __name__ == "__main__":
    main()
