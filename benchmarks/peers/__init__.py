"""What a user would otherwise pick, in its plainest form."""

import sys
from pathlib import Path

ENVIRONMENT = Path(__file__).resolve().parents[2] / ".peers"
"""Made by `benchmarks/peers/install`."""


def borrow() -> None:
    """Let this process import the peers' libraries, behind its own.

    The order of the path is kept: NumPy and all that the project has itself stay its own.
    """
    sys.path.extend(str(packages) for packages in ENVIRONMENT.glob("lib/python*/site-packages"))
