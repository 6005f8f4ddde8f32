"""The examples of docs/sdk.md, each run as its own program, in order, beside a devnet."""

from __future__ import annotations

import asyncio
import re
import shutil
import subprocess
import sys
from pathlib import Path

from lonja.devnet.digits import DemoModel
from lonja.devnet.world import running_world

PAGE = Path(__file__).resolve().parents[2] / "docs" / "sdk.md"


def examples() -> list[str]:
    return re.findall(r"```python\n(.*?)```", PAGE.read_text(), re.DOTALL)


async def test_every_example_runs(tmp_path: Path, digits: DemoModel):
    for path in (digits.onnx, digits.metadata, digits.picture):
        shutil.copy(path, tmp_path / path.name)
    async with running_world(tmp_path / "devnet"):
        printed = [await run(code, tmp_path) for code in examples()]
    said = "\n".join(printed)
    for word in (
        "finds 0 models",
        "seven",
        "{'seven'}",
        "403 the caller holds no license",
        "Lonja_OfferUnknown",
        "True\nFalse",
    ):
        assert word in said, f"{word!r} was not printed:\n{said}"


async def run(code: str, folder: Path) -> str:
    ran = await asyncio.to_thread(
        subprocess.run, [sys.executable, "-c", code], cwd=folder, capture_output=True, text=True, timeout=60
    )
    assert ran.returncode == 0, f"{code}\n{ran.stderr}"
    return ran.stdout
