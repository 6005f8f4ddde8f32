"""What a worker gives up before it opens anything of a stranger's."""

from __future__ import annotations

from node.runtime import linux
from node.runtime.plan import LoadPlan


def enter(plan: LoadPlan) -> list[str]:
    """Limits and filters for loading; returns what this kernel refused."""
    linux.prctl(linux.PR_SET_NO_NEW_PRIVS, 1)
    return []


def tighten() -> list[str]:
    """What a loaded model no longer needs."""
    return []
