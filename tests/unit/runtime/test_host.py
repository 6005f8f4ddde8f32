"""The host itself: what the main process imports, what it logs, what happens when nothing starts."""

from __future__ import annotations

import logging
import subprocess
import sys

import pytest

from node.errors import Fault
from node.runtime import launcher
from node.runtime.host import WorkerHost
from node.settings import Settings
from tests.conftest import ROOT
from tests.fakes import onnx_models
from tests.unit.runtime.conftest import Planner

HEAVY = ("numpy", "PIL", "onnxruntime", "preprocessors.image", "cython_ops")


def test_the_nodes_side_imports_nothing_heavy() -> None:
    code = (
        f"import sys, node.runtime.host, node.models.slots; print([n for n in {HEAVY} if n in sys.modules])"
    )
    ran = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert ran.stdout.strip() == "[]"


async def test_load_is_logged_with_time_memory_and_threads(
    host: WorkerHost, plan: Planner, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, logger="node.runtime.host")
    worker = await host.spawn(plan(onnx_models.doubling()))
    [line] = [record.getMessage() for record in caplog.records if "loaded" in record.getMessage()]
    assert line.startswith(f"worker {worker.pid}: loaded in ")
    assert "MB, 1 threads" in line


async def test_threads_are_those_of_the_settings_unless_the_plan_says_otherwise(plan: Planner) -> None:
    from msgspec.structs import replace

    host = await WorkerHost.start(Settings(worker_threads=2))
    try:
        made = plan(onnx_models.doubling())
        assert (await host.spawn(replace(made, threads=0))).report.threads == 2
        assert (await host.spawn(made)).report.threads == 1
    finally:
        await host.close()


async def test_forkserver_that_cannot_start_is_a_fault_and_is_tried_again(
    monkeypatch: pytest.MonkeyPatch, plan: Planner
) -> None:
    monkeypatch.setattr(launcher.sys, "executable", "/bin/false")
    host = await WorkerHost.start(Settings())
    try:
        with pytest.raises(Fault, match="could not be started"):
            await host.ready()
        monkeypatch.undo()
        assert (await host.spawn(plan(onnx_models.doubling()))).alive
    finally:
        await host.close()


async def test_what_a_worker_prints_is_logged_but_cannot_flood_the_log(
    host: WorkerHost, caplog: pytest.LogCaptureFixture
) -> None:
    await host.ready()
    caplog.clear()
    launched = host._forkserver
    lines = [b"x" * 10_000] + [b"line %d" % number for number in range(5_000)]
    launched._take_lines(b"\n".join(lines) + b"\n")
    texts = [record.getMessage() for record in caplog.records]
    assert 0 < len(texts) <= 2 * launcher.LINES_A_SECOND
    assert len(texts[0]) == launcher.MAX_LINE


async def test_close_ends_the_forkserver_and_its_workers(plan: Planner) -> None:
    host = await WorkerHost.start(Settings())
    worker = await host.spawn(plan(onnx_models.doubling()))
    process = host._forkserver.process
    await host.close()
    assert not worker.alive
    assert process.returncode == 0


async def test_close_before_it_is_ready_is_clean() -> None:
    host = await WorkerHost.start(Settings())
    await host.close()
    assert host._forkserver.process.returncode is not None
