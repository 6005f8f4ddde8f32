"""Learning-rate schedules: the share of the optimizer's rate at each step, from 0 to 1.

After an optional linear warm-up (Goyal et al. 2017) the rate stays, falls as half a cosine (Loshchilov and
Hutter 2017), falls in a line, falls by a factor at equal stages, or falls exponentially to `floor`.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Final, Literal, TypeAlias

from training.errors import PlanInvalid

Shape: TypeAlias = Literal["constant", "cosine", "linear", "step", "exponential"]
SHAPES: Final[tuple[Shape, ...]] = ("constant", "cosine", "linear", "step", "exponential")


@dataclass(frozen=True, slots=True)
class Schedule:
    """How the rate goes from the first step to the last.

    Parameters
    ----------
    floor : share that the fall ends at (`cosine`, `linear`, `exponential`).
    warmup : share of all steps in which the rate rises from 0.
    stages, factor : of `step`: so many equal stages, the rate multiplied by `factor` from each to the next.
    """

    shape: Shape = "constant"
    floor: float = 0.01
    warmup: float = 0.0
    stages: int = 3
    factor: float = 0.1

    def __post_init__(self) -> None:
        if self.shape not in SHAPES:
            raise PlanInvalid(f"schedule {self.shape!r} is none of {', '.join(SHAPES)}")
        if not 0 <= self.warmup < 1:
            raise PlanInvalid(f"schedule warmup {self.warmup} must be at least 0 and below 1")
        if not 0 < self.floor <= 1:
            raise PlanInvalid(f"schedule floor {self.floor} must be above 0 and at most 1")
        if self.stages < 1:
            raise PlanInvalid(f"schedule stages {self.stages} must be at least 1")

    def share(self, step: int, steps: int) -> float:
        """The share at `step` (from 0) of `steps`."""
        rising = math.ceil(self.warmup * steps)
        if step < rising:
            return (step + 1) / rising
        done = (step - rising) / max(steps - rising, 1)
        match self.shape:
            case "cosine":
                return self.floor + (1 - self.floor) * 0.5 * (1 + math.cos(math.pi * done))
            case "linear":
                return 1 - (1 - self.floor) * done
            case "exponential":
                return float(self.floor**done)
            case "step":
                return float(self.factor ** min(int(done * self.stages), self.stages - 1))
            case "constant":
                return 1.0
