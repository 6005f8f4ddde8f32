from __future__ import annotations

import asyncio
import gc
from pathlib import Path
from typing import Any

import pytest

from lonja.cli.demo import _model_in_the_making


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
