"""What all tests share: where real servers are, and whether one that is missing is a failure."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest

os.environ["ORT_DISABLE_TELEMETRY"] = "1"  # tests that use ONNX Runtime directly send nothing either

ROOT = Path(__file__).resolve().parent.parent
SHARED_DATA = ROOT.parent / "shared" / "data"


class Services:
    """Finds the servers that `make services` installs."""

    def path(self, name: str) -> Path:
        """The program, or a skip (a failure with REQUIRE_SERVICES=1) that says how to get it."""
        local = ROOT / ".services" / "bin" / name
        found = local if local.exists() else shutil.which(name)
        if found:
            return Path(found)
        reason = f"{name} is not installed: run `make services`"
        if os.environ.get("REQUIRE_SERVICES") == "1":
            pytest.fail(reason)
        pytest.skip(reason)


@pytest.fixture(scope="session")
def services() -> Services:
    return Services()


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """Real models and photos with reference answers; tests that use them are skipped without."""
    if not SHARED_DATA.is_dir():
        pytest.skip("the sample models are not beside this checkout")
    return SHARED_DATA
