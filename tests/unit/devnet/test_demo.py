from __future__ import annotations

import asyncio
import gc
import os
import signal
from pathlib import Path
from typing import Any

import pytest

from lonja.cli.demo import _model_in_the_making
from tests.processes import descendants


async def test_a_demo_that_is_stopped_while_its_model_is_made_leaves_no_error_behind(tmp_path: Path) -> None:
    reported: list[dict[str, Any]] = []
    loop = asyncio.get_running_loop()
    loop.set_exception_handler(lambda _, context: reported.append(context))
    with pytest.raises(asyncio.CancelledError):
        async with _model_in_the_making(tmp_path / "model") as making:
            raise asyncio.CancelledError
    assert making.cancelled()
    del making
    for _ in range(3):
        await asyncio.sleep(0)
    gc.collect()
    assert reported == []


async def test_ctrl_c_never_reaches_the_process_that_makes_the_model(tmp_path: Path) -> None:
    before = set(descendants(os.getpid()))
    async with _model_in_the_making(tmp_path / "model"):
        made = [
            pid
            for pid in set(descendants(os.getpid())) - before
            if "spawn_main" in Path(f"/proc/{pid}/cmdline").read_text()
        ]
        status = Path(f"/proc/{made[0]}/status").read_text()
    (blocked,) = (int(line.split()[1], 16) for line in status.splitlines() if line.startswith("SigBlk:"))
    assert blocked & 1 << signal.SIGINT - 1
    assert signal.SIGINT not in signal.pthread_sigmask(signal.SIG_BLOCK, ())
