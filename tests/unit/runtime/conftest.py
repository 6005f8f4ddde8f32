"""A real worker host, and load plans for small models."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import onnx
import pytest

from node.runtime.host import WorkerHost
from node.runtime.plan import LoadPlan
from node.settings import Settings
from node.types import Payload
from tests.fakes import onnx_models

Planner = Callable[..., LoadPlan]


@pytest.fixture
async def host() -> AsyncIterator[WorkerHost]:
    made = await WorkerHost.start(Settings(worker_grace=300, max_queue_depth=8))
    yield made
    await made.close()


@pytest.fixture
def plan(tmp_path: Path) -> Planner:
    """`plan(model, shape=[3])`: a plan that serves the model on tensors and returns its numbers."""

    def make(
        model: onnx.ModelProto | Path, *, shape: list[int | None] | None = None, **other: Any
    ) -> LoadPlan:
        path = model if isinstance(model, Path) else onnx_models.save(model, tmp_path / "model.onnx")
        manifest = {
            "format": "onnx",
            "input": {"kind": "tensor", "shape": [3] if shape is None else shape},
            "output": other.pop("output", {"task": "raw"}),
        }
        return LoadPlan(model=json.dumps(manifest).encode(), weights_path=str(path), threads=1, **other)

    return make


def numbers(*rows: Any) -> Payload:
    """A tensor payload."""
    return Payload("tensor", json.dumps(list(rows)).encode(), "json")


def soon(seconds: float = 20.0) -> float:
    """A deadline on the running loop's clock."""
    return asyncio.get_running_loop().time() + seconds


async def begun(worker: Any, requests: int = 1) -> None:
    """Let tasks that were just made come as far as having sent their requests."""
    await asyncio.sleep(0)
    assert worker.in_flight == requests
