"""Where values lie on a plot, and what is drawn around it."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Final

from training.report.canvas import HEIGHT, WIDTH, Canvas

LEFT: Final = 62
RIGHT: Final = 12
TOP: Final = 34
BOTTOM: Final = 36
TALL: Final = HEIGHT - TOP - BOTTOM
WIDE: Final = WIDTH - LEFT - RIGHT
_LEAST: Final = 1e-12


class Axis:
    """Values to heights."""

    def __init__(self, low: float, high: float, *, log: bool = False) -> None:
        self._log = log
        if log:
            low, high = math.log10(max(low, _LEAST)), math.log10(max(high, _LEAST))
        pad = 0.04 * (high - low) or 0.5
        self._low, self._high = low - pad * log, high + pad
        if not log and low < 0:
            self._low = low - pad

    def at(self, value: float) -> float:
        """Where a value lies, from the canvas's top."""
        place = math.log10(max(value, _LEAST)) if self._log else value
        share = (place - self._low) / (self._high - self._low)
        return TOP + TALL * (1 - min(max(share, 0.0), 1.0))

    def holds(self, value: float) -> bool:
        """Whether a value lies on the axis."""
        return self._low <= (math.log10(max(value, _LEAST)) if self._log else value) <= self._high

    def ticks(self) -> Iterable[float]:
        """Round values along it."""
        powers = range(math.ceil(self._low), math.floor(self._high) + 1)
        if self._log and len(powers) > 1:
            return [10.0**power for power in powers[:: math.ceil(len(powers) / 6)]]
        if self._log:
            span = range(powers.start - 1, powers.stop + 1)
            near = [factor * 10.0**power for power in span for factor in (1, 2, 5)]
            shown = [tick for tick in near if self.holds(tick)]
            return shown if len(shown) > 1 else [10.0**self._low, 10.0**self._high]
        step = _round_step((self._high - self._low) / 6)
        return [step * i for i in range(math.ceil(self._low / step), math.floor(self._high / step) + 1)]


def _round_step(least: float) -> float:
    """1, 2 or 5 times a power of ten, at least so much."""
    power = 10.0 ** math.floor(math.log10(least))
    return next(factor * power for factor in (1, 2, 5, 10) if factor * power >= least * (1 - 1e-9))


def draw_title(canvas: Canvas, title: str) -> None:
    """What a plot is of, at its upper left."""
    canvas.text((12, 14), title, size=13, color="#111")


def draw_axes(canvas: Canvas, axis: Axis, *, along: str) -> None:
    """Lines across at the ticks, their values at the left, and what runs along the bottom."""
    for tick in axis.ticks():
        y = axis.at(tick)
        canvas.line([(LEFT, y), (LEFT + WIDE, y)], "#eee", width=1)
        canvas.text((LEFT - 5, y), f"{tick:.3g}", anchor="end", size=10)
    canvas.text((LEFT + WIDE / 2, HEIGHT - 10), along, anchor="middle", size=10)
