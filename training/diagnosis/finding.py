"""What a diagnosis says."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, TypeAlias

import msgspec

Severity: TypeAlias = Literal["warning", "ill"]
Health: TypeAlias = Literal["healthy", "warning", "ill"]


class Finding(msgspec.Struct, frozen=True, kw_only=True):
    """One thing that is wrong.

    Attributes
    ----------
    rule : name of what it is, as in docs/training.md (`dying-relu`).
    where : the layer, column or class; `network` for all of it.
    evidence : what was measured.
    threshold : the limit that it broke.
    source : where that limit comes from.
    advice : what to try, the likeliest cure first.
    """

    rule: str
    severity: Severity
    where: str
    evidence: str
    threshold: str
    source: str
    advice: str


class Verdict(msgspec.Struct, frozen=True):
    """Health of a trained network, with the reasons."""

    health: Health
    findings: tuple[Finding, ...]

    @property
    def rules(self) -> frozenset[str]:
        """Names of the rules that found something."""
        return frozenset(finding.rule for finding in self.findings)

    def sentence(self) -> str:
        """One line: `ill: dying-relu in layer 0 (...); 2 findings`."""
        if not self.findings:
            return "healthy, nothing found"
        first = self.findings[0]
        count = len(self.findings)
        more = f", and {count - 1} more finding{'s' if count > 2 else ''}" if count > 1 else ""
        return f"{self.health}: {first.rule} in {first.where}{more}"


def worst(findings: Sequence[Finding]) -> Health:
    """The verdict that findings amount to."""
    if any(finding.severity == "ill" for finding in findings):
        return "ill"
    return "warning" if findings else "healthy"
