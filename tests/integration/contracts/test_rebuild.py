"""The committed artifacts are what the source gives, and the contract's own tests pass."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[3]
MODULES = ROOT / "contracts" / "node_modules"

pytestmark = [pytest.mark.service("forge"), pytest.mark.timeout(600)]


@pytest.fixture(scope="module")
def toolchain(services) -> None:
    """forge, the compiler and OpenZeppelin, or a skip (a failure with REQUIRE_SERVICES=1)."""
    if not (MODULES / ".bin" / "forge").exists():
        services.path("forge")
    if not (MODULES / "solc").is_dir() or not (MODULES / "@openzeppelin" / "contracts").is_dir():
        reason = "the contract's compiler is not installed: run `npm ci` in contracts/"
        if os.environ.get("REQUIRE_SERVICES") == "1":
            pytest.fail(reason)
        pytest.skip(reason)


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, ROOT / "scripts" / "contracts", *arguments],
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
    )


def test_the_artifacts_are_what_the_source_gives(toolchain) -> None:
    done = run("--check")
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.endswith("the artifacts are what the source gives\n")


def test_the_contracts_own_tests_reach_every_branch(toolchain) -> None:
    done = run("--coverage")
    assert done.returncode == 0, done.stdout[-4000:] + done.stderr
    assert "0 failed" in done.stdout


def test_the_contracts_own_tests_pass_as_it_is_deployed(toolchain) -> None:
    done = run("--test")
    assert done.returncode == 0, done.stdout[-4000:] + done.stderr
    assert "0 failed" in done.stdout
