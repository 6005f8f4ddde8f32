"""Real workers: batches, sandbox, hangs, crashes, and processes that must not be left behind."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import msgspec
import pytest
import uvloop

from node.errors import DeadlineExceeded, Fault, InputTooLarge, InvalidInput, ModelInvalid, WorkerCrashed
from node.runtime import loading
from node.runtime.host import WorkerHost
from node.runtime.plan import LoadPlan
from node.settings import Settings
from node.types import Options, Payload
from tests.conftest import ROOT
from tests.fakes import onnx_models
from tests.unit.runtime.conftest import Planner, begun, numbers, soon

OPTIONS = Options()


def data_of(predictions: object) -> list[float]:
    [output] = json.loads(bytes(predictions))  # type: ignore[call-overload]
    return list(output["data"])


def read(pid: int, name: str) -> bytes:
    return Path(f"/proc/{pid}/{name}").read_bytes()


def open_files(pid: int) -> dict[str, str]:
    return {fd.name: os.readlink(fd) for fd in Path(f"/proc/{pid}/fd").iterdir()}


def status(pid: int) -> dict[str, str]:
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return {name: value.strip() for name, _, value in (line.partition(":") for line in lines)}


def limits(pid: int) -> dict[str, str]:
    lines = Path(f"/proc/{pid}/limits").read_text().splitlines()
    return {line[:26].strip(): line[26:47].strip() for line in lines}


async def until_gone(pid: int) -> None:
    """Wait for the end of a process that may not be our child."""
    fd = os.pidfd_open(pid)
    ended = asyncio.Event()
    asyncio.get_running_loop().add_reader(fd, ended.set)
    try:
        async with asyncio.timeout(10):
            await ended.wait()
    finally:
        asyncio.get_running_loop().remove_reader(fd)
        os.close(fd)


async def test_many_requests_get_their_own_answers(host: WorkerHost, plan: Planner) -> None:
    worker = await host.spawn(plan(onnx_models.doubling()))

    async def ask(number: int) -> list[float]:
        while True:
            with contextlib.suppress(Exception):
                result = await worker.run(numbers(number, 0, -number), OPTIONS, deadline=soon())
                return data_of(result.predictions)
            await asyncio.sleep(0)

    answers = await asyncio.gather(*(ask(number) for number in range(100)))
    assert answers == [[2 * number, 0, -2 * number] for number in range(100)]


@pytest.mark.parametrize("make", [onnx_models.mixing, onnx_models.one_row_at_heart])
async def test_rows_that_depend_on_each_other_are_kept_apart(
    host: WorkerHost, plan: Planner, make: type[object]
) -> None:
    worker = await host.spawn(plan(make()))
    for _ in range(3):
        rows = [(1, 2, 3), (4, 5, 7)]
        results = await asyncio.gather(*(worker.run(numbers(*row), OPTIONS, deadline=soon()) for row in rows))
        alone = [await worker.run(numbers(*row), OPTIONS, deadline=soon()) for row in rows]
        assert [data_of(r.predictions) for r in results] == [data_of(r.predictions) for r in alone]


async def test_report_tells_time_memory_threads_and_inputs(host: WorkerHost, plan: Planner) -> None:
    report = (await host.spawn(plan(onnx_models.doubling()))).report
    assert report.load_ms > 0
    assert report.memory_bytes > 2**20
    assert report.threads == 1
    assert report.inputs == [{"name": "x", "dtype": "float32", "shape": [None, 3]}]
    assert report.warmup_ms is not None
    cold = await host.spawn(plan(onnx_models.doubling(), warmup=False))
    assert cold.report.warmup_ms is None


async def test_folder_with_external_data_is_served(host: WorkerHost, plan: Planner, tmp_path: Path) -> None:
    folder = onnx_models.with_external_data(tmp_path / "folder").parent
    worker = await host.spawn(plan(folder, weights_file="model.onnx"))
    result = await worker.run(numbers(1, 1, 1), OPTIONS, deadline=soon())
    assert data_of(result.predictions) == [2, 3, 4]


async def test_manifest_that_does_not_fit_the_graph_is_explained(host: WorkerHost, plan: Planner) -> None:
    with pytest.raises(ModelInvalid, match=r"rows \[4\], the graph's input is 'x' float32 \[any, 3\]"):
        await host.spawn(plan(onnx_models.doubling(), shape=[4]))


async def test_broken_graph_is_explained_without_paths(
    host: WorkerHost, plan: Planner, tmp_path: Path
) -> None:
    made = onnx_models.doubling()
    made.graph.node[0].op_type = "NoSuchOperator"
    with pytest.raises(ModelInvalid, match="NoSuchOperator") as caught:
        await host.spawn(plan(made))
    assert str(tmp_path) not in caught.value.message
    assert "/onnxruntime" not in caught.value.message


async def test_input_limits_reach_the_preprocessor(host: WorkerHost, plan: Planner) -> None:
    worker = await host.spawn(plan(onnx_models.doubling(), max_bytes=10))
    with pytest.raises(InputTooLarge):
        await worker.run(numbers(1.25, 2.25, 3.25), OPTIONS, deadline=soon())


async def test_memory_limit_fails_the_request_and_not_the_worker(host: WorkerHost, plan: Planner) -> None:
    worker = await host.spawn(plan(onnx_models.hungry(), shape=[1], memory_bytes=300 * 2**20))
    with pytest.raises(Fault, match="more memory"):
        await worker.run(numbers(2e8), OPTIONS, deadline=soon())
    assert data_of((await worker.run(numbers(1000), OPTIONS, deadline=soon())).predictions) == [1000]


async def test_worker_that_hangs_is_killed_and_the_others_serve_on(host: WorkerHost, plan: Planner) -> None:
    hung, other = (
        await host.spawn(plan(onnx_models.doubling())),
        await host.spawn(plan(onnx_models.doubling())),
    )
    dead = asyncio.Event()
    hung.when_dead(lambda _: dead.set())
    os.kill(hung.pid, signal.SIGSTOP)
    began = time.monotonic()
    late = asyncio.create_task(hung.run(numbers(1, 2, 3), OPTIONS, deadline=soon(0.1)))
    behind = asyncio.create_task(hung.run(numbers(1, 2, 3), OPTIONS, deadline=soon(20)))
    with pytest.raises(DeadlineExceeded):
        await late
    assert data_of((await other.run(numbers(1, 2, 3), OPTIONS, deadline=soon())).predictions) == [2, 4, 6]
    with pytest.raises(WorkerCrashed, match="did not end at its deadline"):
        await behind
    await dead.wait()
    assert time.monotonic() - began >= 0.1 + 0.3, "the grace period was kept"


async def test_long_run_is_not_killed_for_one_that_waits_behind_it(host: WorkerHost, plan: Planner) -> None:
    worker = await host.spawn(plan(onnx_models.counting(), shape=[1]))
    running = asyncio.create_task(worker.run(numbers(1e15), OPTIONS, deadline=soon(1.2)))
    await begun(worker)
    with pytest.raises(DeadlineExceeded):
        await worker.run(numbers(1), OPTIONS, deadline=soon(0.05))
    with pytest.raises(DeadlineExceeded):
        await running
    assert data_of((await worker.run(numbers(2), OPTIONS, deadline=soon())).predictions) == [2]
    assert worker.alive


@pytest.mark.parametrize("number", [signal.SIGSEGV, signal.SIGKILL, signal.SIGABRT])
async def test_crash_names_the_signal(host: WorkerHost, plan: Planner, number: signal.Signals) -> None:
    worker = await host.spawn(plan(onnx_models.counting(), shape=[1]))
    running = asyncio.create_task(worker.run(numbers(1e15), OPTIONS, deadline=soon()))
    await begun(worker)
    os.kill(worker.pid, number)
    with pytest.raises(WorkerCrashed, match=number.name):
        await running
    fresh = await host.spawn(plan(onnx_models.counting(), shape=[1]))
    assert data_of((await fresh.run(numbers(2), OPTIONS, deadline=soon())).predictions) == [2]


async def test_group_signals_do_not_end_workers(host: WorkerHost, plan: Planner) -> None:
    worker = await host.spawn(plan(onnx_models.doubling()))
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        os.kill(worker.pid, number)
    assert data_of((await worker.run(numbers(1, 2, 3), OPTIONS, deadline=soon())).predictions) == [2, 4, 6]


async def test_worker_is_confined(host: WorkerHost, plan: Planner) -> None:
    worker = await host.spawn(plan(onnx_models.doubling()))
    found = status(worker.pid)
    assert found["NoNewPrivs"] == "1"
    assert found["Seccomp"] == "2"
    assert read(worker.pid, "oom_score_adj").strip() == b"500"
    rlimits = limits(worker.pid)
    assert rlimits["Max file size"] == "0"
    assert rlimits["Max core file size"] == "1"
    assert rlimits["Max open files"] == "64"
    assert rlimits["Max data size"].isdigit()
    assert rlimits["Max cpu time"].isdigit()


def picture(mode: str, kind: str) -> bytes:
    import io

    from PIL import Image

    file = io.BytesIO()
    red = Image.new("RGB", (16, 16), (255, 0, 0))
    (Image.new(mode, (16, 16), 40_000) if mode == "I;16" else red.convert(mode)).save(file, kind)
    return file.getvalue()


@pytest.mark.parametrize(
    ("mode", "kind"),
    [("RGB", "JPEG"), ("CMYK", "JPEG"), ("L", "JPEG"), ("RGBA", "PNG"), ("P", "PNG"), ("I;16", "PNG"),
     ("RGB", "WEBP"), ("RGBA", "WEBP")],
)  # fmt: skip
async def test_confined_worker_opens_every_kind_of_picture(
    host: WorkerHost, plan: Planner, mode: str, kind: str
) -> None:
    made = plan(onnx_models.mean_color(), warmup=False)
    spec = {"input": {"kind": "image", "size": [8, 8]}, "output": {"task": "raw"}}
    worker = await host.spawn(msgspec.structs.replace(made, model=json.dumps(spec).encode()))
    payload = Payload("image", picture(mode, kind), "binary")
    red, _, blue = data_of((await worker.run(payload, OPTIONS, deadline=soon())).predictions)
    assert red > 0.2
    assert red > blue or mode in {"L", "I;16"}


async def test_forkserver_runs_no_second_thread(host: WorkerHost) -> None:
    await host.ready()
    assert status(host.forkserver_pid)["Threads"] == "1", "forking with threads is not safe"


async def test_worker_inherits_no_secret_and_no_file(
    plan: Planner, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("NODE_KEY_PASSWORD", "hunter2")
    with (tmp_path / "open").open("w") as kept:
        os.set_inheritable(kept.fileno(), True)
        host = await WorkerHost.start(Settings())
        try:
            worker = await host.spawn(plan(onnx_models.doubling()))
            assert b"hunter2" not in read(worker.pid, "environ")
            targets = open_files(worker.pid)
        finally:
            await host.close()
    assert {targets.pop("0"), targets.pop("1")} == {"/dev/null"}
    assert targets.pop("2").startswith("pipe:")
    assert sorted(target.partition(":")[0] for target in targets.values()) == ["socket", "socket"]


async def test_memory_returns_when_a_worker_is_closed(host: WorkerHost, plan: Planner) -> None:
    worker = await host.spawn(plan(onnx_models.doubling()))
    assert loading.proportional_set_size(worker.pid) > 0
    await worker.close(drain=1.0)
    with pytest.raises(FileNotFoundError):
        read(worker.pid, "status")


async def test_loading_that_takes_too_long_is_ended(host: WorkerHost, plan: Planner) -> None:
    endless = onnx_models.counting()
    del endless.graph.input[:]
    endless.graph.input.append(onnx_models.value("unused", ["n", 1]))
    endless.graph.initializer.append(
        onnx_models.numpy_helper.from_array(onnx_models.np.full((1, 1), 1e15, "f4"), "x")
    )
    with pytest.raises(DeadlineExceeded, match="did not load"):
        await host.spawn(plan(onnx_models.endless_to_load(), shape=[1]), timeout=0.5)


async def test_spawn_that_is_cancelled_leaves_no_process(host: WorkerHost, plan: Planner) -> None:
    first = await host.spawn(plan(onnx_models.doubling()))
    task = asyncio.create_task(host.spawn(plan(onnx_models.doubling())))
    while len(host._workers) < 2:  # noqa: ASYNC110 - the moment between forked and loaded has no event
        await asyncio.sleep(0)
    [pid] = set(host._workers) - {first.pid}
    gone = asyncio.create_task(until_gone(pid))
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    await gone


async def test_forkserver_that_dies_is_replaced_and_takes_its_workers_along(
    host: WorkerHost, plan: Planner
) -> None:
    worker = await host.spawn(plan(onnx_models.doubling()))
    dead = asyncio.Event()
    worker.when_dead(lambda _: dead.set())
    host._forkserver.process.kill()
    await dead.wait()
    fresh = await host.spawn(plan(onnx_models.doubling()))
    assert data_of((await fresh.run(numbers(1, 2, 3), OPTIONS, deadline=soon())).predictions) == [2, 4, 6]


async def test_worker_that_breaks_the_protocol_is_killed(host: WorkerHost, plan: Planner) -> None:
    worker = await host.spawn(plan(onnx_models.doubling()))
    gone = asyncio.create_task(until_gone(worker.pid))
    await asyncio.sleep(0)
    noise = b"\xff" * 16
    worker.get_buffer(-1)[: len(noise)] = noise
    worker.buffer_updated(len(noise))
    assert not worker.alive
    await gone
    with pytest.raises(WorkerCrashed, match="broke the protocol"):
        await worker.run(numbers(1, 2, 3), OPTIONS, deadline=soon())


ORPHAN = """
import asyncio, json, os, sys
from node.runtime.host import WorkerHost
from node.runtime.plan import LoadPlan
from node.settings import Settings
from node.types import Options, Payload

async def main():
    host = await WorkerHost.start(Settings())
    worker = await host.spawn(LoadPlan(**json.loads(sys.argv[1]) | {"model": sys.argv[2].encode()}))
    loop = asyncio.get_running_loop()
    payload = Payload("tensor", b"[1e15]", "json")
    task = asyncio.create_task(worker.run(payload, Options(), deadline=loop.time() + 30))
    await asyncio.sleep(0)
    print(json.dumps([host._forkserver.process.pid, worker.pid]), flush=True)
    await task

asyncio.run(main())
"""


async def test_kill_9_of_the_node_leaves_no_process(plan: Planner) -> None:
    made: LoadPlan = plan(onnx_models.counting(), shape=[1])
    arguments = [json.dumps({"weights_path": made.weights_path, "threads": 1}), made.model.decode()]
    node = await asyncio.create_subprocess_exec(
        sys.executable, "-c", ORPHAN, *arguments, cwd=ROOT, stdout=subprocess.PIPE
    )
    assert node.stdout is not None
    pids = json.loads(await node.stdout.readline())
    waits = [asyncio.create_task(until_gone(pid)) for pid in pids]
    await asyncio.sleep(0)
    node.kill()
    await node.wait()
    await asyncio.gather(*waits)


async def test_wrong_kind_of_body_is_the_clients_mistake(host: WorkerHost, plan: Planner) -> None:
    worker = await host.spawn(plan(onnx_models.doubling()))
    with pytest.raises(InvalidInput):
        await worker.run(Payload("image", b"\xff\xd8\xff", "binary"), OPTIONS, deadline=soon())


def test_everything_works_on_the_loop_of_production(plan: Planner) -> None:
    async def scenario() -> None:
        host = await WorkerHost.start(Settings(worker_grace=200))
        try:
            made = plan(onnx_models.counting(), shape=[1])
            worker, other = await host.spawn(made), await host.spawn(made)
            with pytest.raises(DeadlineExceeded):
                await worker.run(numbers(1e15), OPTIONS, deadline=soon(0.1))
            asked = [worker.run(numbers(number), OPTIONS, deadline=soon()) for number in range(1, 6)]
            answers = await asyncio.gather(*asked)
            assert [data_of(answer.predictions) for answer in answers] == [[1], [2], [3], [4], [5]]
            dead = asyncio.Event()
            worker.when_dead(lambda _: dead.set())
            os.kill(worker.pid, signal.SIGSTOP)
            with pytest.raises(DeadlineExceeded):
                await worker.run(numbers(1), OPTIONS, deadline=soon(0.1))
            await dead.wait()
            running = asyncio.create_task(other.run(numbers(1e15), OPTIONS, deadline=soon()))
            await begun(other)
            os.kill(other.pid, signal.SIGSEGV)
            with pytest.raises(WorkerCrashed, match="SIGSEGV"):
                await running
        finally:
            await host.close()

    uvloop.run(scenario())
