"""A whole world for end-to-end tests: on the embedded chain always, on a real anvil where there is one."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from lonja.devnet.digits import DemoModel, build
from lonja.devnet.world import World, running_world


@pytest.fixture(scope="session")
def digits(tmp_path_factory: pytest.TempPathFactory) -> DemoModel:
    """The model that `lonja demo` publishes."""
    return build(tmp_path_factory.mktemp("digits"))


@pytest.fixture(params=["embedded", pytest.param("anvil", marks=pytest.mark.service("anvil"))])
async def world(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[World]:
    """A running world."""
    anvil = request.getfixturevalue("services").path("anvil") if request.param == "anvil" else None
    async with running_world(tmp_path / "world", anvil=anvil) as running:
        yield running
