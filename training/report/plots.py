"""Plots: lines over steps, spans by layer, a confusion matrix, answers against truth."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final

from training.ops import Array
from training.report.canvas import HEIGHT, WIDTH, Canvas, Point

COLORS: Final = ("#0b62a4", "#d1495b", "#2f8f5b", "#8a5fbf", "#c77d0a", "#3aa6b9", "#7a5c44", "#6b7280")
_LEFT, _RIGHT, _TOP, _BOTTOM = 62, 12, 34, 36
_TALL: Final = HEIGHT - _TOP - _BOTTOM
_WIDE: Final = WIDTH - _LEFT - _RIGHT
_MOST_POINTS: Final = 400
_MOST_CLASSES: Final = 20
_LEAST: Final = 1e-12


@dataclass(frozen=True, slots=True)
class Series:
    """One line: a name for the legend, and points."""

    name: str
    x: Sequence[float]
    y: Sequence[float]


@dataclass(frozen=True, slots=True)
class Lines:
    """Lines over one axis. `guide` is a level that is drawn across, with its name."""

    title: str
    along: str
    series: Sequence[Series]
    log: bool = False
    span: tuple[float, float] | None = None
    guide: tuple[float, str] | None = None

    def draw(self, canvas: Canvas) -> None:
        """Draw it; a plot without points says so."""
        _title(canvas, self.title)
        kept = [series for series in self.series if len(series.x)]
        if not kept:
            canvas.text((WIDTH / 2, HEIGHT / 2), "nothing to show", anchor="middle")
            return
        high = max(max(series.y) for series in kept)
        low = min(min(series.y) for series in kept)
        low, high = self.span or ((low, high) if self.log else (min(low, 0.0), high))
        axis = _Axis(low, high, log=self.log)
        first, last = min(series.x[0] for series in kept), max(series.x[-1] for series in kept)
        _axes(canvas, axis, along=f"{self.along} ({first:g} to {last:g})")
        if self.guide is not None and axis.holds(self.guide[0]):
            level = axis.at(self.guide[0])
            canvas.line([(_LEFT, level), (_LEFT + _WIDE, level)], "#bbb", width=1)
            canvas.text((_LEFT + _WIDE, level - 7), self.guide[1], anchor="end", size=9, color="#888")
        for number, series in enumerate(kept):
            color = COLORS[number % len(COLORS)]
            points = list(_points(series, axis, first, last))
            canvas.line(points, color)
            if len(points) == 1:
                canvas.dot(points[0], color)
        _legend(canvas, [series.name for series in kept])


@dataclass(frozen=True, slots=True)
class Spans:
    """From 5 to 95 %, with the median, one bar a layer."""

    title: str
    spans: Sequence[tuple[str, tuple[float, float, float]]]

    def draw(self, canvas: Canvas) -> None:
        """Draw it."""
        _title(canvas, self.title)
        if not self.spans:
            canvas.text((WIDTH / 2, HEIGHT / 2), "nothing to show", anchor="middle")
            return
        axis = _Axis(min(span[0] for _, span in self.spans), max(span[2] for _, span in self.spans))
        _axes(canvas, axis, along="")
        step = _WIDE / len(self.spans)
        for number, (name, (low, middle, high)) in enumerate(self.spans):
            x = _LEFT + step * (number + 0.5)
            top, bottom = axis.at(high), axis.at(low)
            canvas.box((x - 9, top), (18, max(bottom - top, 1)), "#9cc3e0")
            canvas.box((x - 9, axis.at(middle) - 1), (18, 2), COLORS[0])
            canvas.text((x, HEIGHT - _BOTTOM + 12), name, anchor="middle", size=10)


@dataclass(frozen=True, slots=True)
class Confusion:
    """Rows by true class, columns by the answer; counts, shaded by their share of the row."""

    title: str
    classes: Sequence[str]
    counts: Array

    def draw(self, canvas: Canvas) -> None:
        """Draw it; more than 20 classes are counted, not shown."""
        _title(canvas, self.title)
        count = len(self.classes)
        if count > _MOST_CLASSES:
            canvas.text((WIDTH / 2, HEIGHT / 2), f"{count} classes: see report.json", anchor="middle")
            return
        side = min(_TALL / count, _WIDE / count)
        left = _LEFT + (_WIDE - side * count) / 2
        size = max(6, min(11, int(side / 2.4)))
        for row in range(count):
            whole = max(int(self.counts[row].sum()), 1)
            y = _TOP + side * row
            canvas.text((left - 4, y + side / 2), self.classes[row][:12], anchor="end", size=size)
            canvas.text(
                (left + side * (row + 0.5), _TOP + side * count + 9),
                self.classes[row][:5],
                anchor="middle",
                size=size,
            )
            for column in range(count):
                share = self.counts[row, column] / whole
                x = left + side * column
                canvas.box((x, y), (side - 1, side - 1), _shade(share, right=row == column))
                if self.counts[row, column]:
                    canvas.text(
                        (x + side / 2, y + side / 2),
                        str(int(self.counts[row, column])),
                        anchor="middle",
                        size=size,
                        color="white" if share > 0.5 else "#333",
                    )
        canvas.text((WIDTH - _RIGHT, HEIGHT - 8), "rows: true class; columns: answer", anchor="end", size=9)


@dataclass(frozen=True, slots=True)
class Residuals:
    """Answer less truth, over the truth."""

    title: str
    truth: Array
    answers: Array

    def draw(self, canvas: Canvas) -> None:
        """Draw at most 400 points, evenly taken."""
        _title(canvas, self.title)
        step = max(1, len(self.truth) // _MOST_POINTS)
        truth = self.truth[::step]
        off = self.answers[::step] - truth
        axis = _Axis(float(min(off.min(), 0)), float(max(off.max(), 0)))
        low, high = float(truth.min()), float(truth.max())
        _axes(canvas, axis, along=f"truth ({low:.4g} to {high:.4g})")
        canvas.line([(_LEFT, axis.at(0)), (_LEFT + _WIDE, axis.at(0))], "#bbb", width=1)
        for x, y in zip(truth.tolist(), off.tolist(), strict=True):
            canvas.dot((_LEFT + _WIDE * (x - low) / ((high - low) or 1), axis.at(y)), COLORS[0])


Plot = Lines | Spans | Confusion | Residuals


class _Axis:
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
        place = math.log10(max(value, _LEAST)) if self._log else value
        share = (place - self._low) / (self._high - self._low)
        return _TOP + _TALL * (1 - min(max(share, 0.0), 1.0))

    def holds(self, value: float) -> bool:
        return self._low <= (math.log10(max(value, _LEAST)) if self._log else value) <= self._high

    def ticks(self) -> Iterable[float]:
        powers = range(math.ceil(self._low), math.floor(self._high) + 1)
        if self._log and len(powers) > 1:
            return [10.0**power for power in powers[:: math.ceil(len(powers) / 6)]]
        if self._log:
            return [10.0 ** (self._low + (self._high - self._low) * part / 3) for part in range(4)]
        step = _round_step((self._high - self._low) / 6)
        return [step * i for i in range(math.ceil(self._low / step), math.floor(self._high / step) + 1)]


def _round_step(least: float) -> float:
    """1, 2 or 5 times a power of ten, at least so much."""
    power = 10.0 ** math.floor(math.log10(least))
    return next(factor * power for factor in (1, 2, 5, 10) if factor * power >= least * (1 - 1e-9))


def _title(canvas: Canvas, title: str) -> None:
    canvas.text((12, 14), title, size=13, color="#111")


def _axes(canvas: Canvas, axis: _Axis, *, along: str) -> None:
    for tick in axis.ticks():
        y = axis.at(tick)
        canvas.line([(_LEFT, y), (_LEFT + _WIDE, y)], "#eee", width=1)
        canvas.text((_LEFT - 5, y), f"{tick:.3g}", anchor="end", size=10)
    canvas.text((_LEFT + _WIDE / 2, HEIGHT - 10), along, anchor="middle", size=10)


def _legend(canvas: Canvas, names: Sequence[str]) -> None:
    shown = names[: len(COLORS)]
    for number, name in enumerate(shown):
        x = (
            WIDTH - _RIGHT - 96 * (len(shown) - number)
            if len(shown) <= 2
            else _LEFT + _WIDE * number / len(shown)
        )
        y = 14 if len(shown) <= 2 else 26
        canvas.box((x, y - 4), (8, 8), COLORS[number])
        canvas.text((x + 11, y), name[:16], size=9)


def _points(series: Series, axis: _Axis, first: float, last: float) -> Iterable[Point]:
    """At most 400 points: of each stretch its mean, so that noise does not hide the course."""
    count = len(series.x)
    size = max(1, count // _MOST_POINTS)
    wide = (last - first) or 1
    for start in range(0, count, size):
        part = series.y[start : start + size]
        x = series.x[min(start + size // 2, count - 1)]
        yield (_LEFT + _WIDE * (x - first) / wide, axis.at(sum(part) / len(part)))


def _shade(share: float, *, right: bool) -> str:
    """White to blue for right answers, to red for wrong ones."""
    full = (11, 98, 164) if right else (209, 73, 91)
    red, green, blue = (round(255 + (part - 255) * share) for part in full)
    return f"#{red:02x}{green:02x}{blue:02x}"
