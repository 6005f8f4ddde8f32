"""Plots: lines over steps, spans by layer, a confusion matrix, answers against truth."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final

from training.ops import Array
from training.report.axes import BOTTOM, LEFT, RIGHT, TALL, TOP, WIDE, Axis, draw_axes, draw_title
from training.report.canvas import HEIGHT, WIDTH, Canvas, Point

COLORS: Final = ("#0b62a4", "#d1495b", "#2f8f5b", "#8a5fbf", "#c77d0a", "#3aa6b9", "#7a5c44", "#6b7280")
_MOST_POINTS: Final = 400
_MOST_CLASSES: Final = 20


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
        draw_title(canvas, self.title)
        kept = [series for series in self.series if len(series.x)]
        if not kept:
            canvas.text((WIDTH / 2, HEIGHT / 2), "nothing to show", anchor="middle")
            return
        high = max(max(series.y) for series in kept)
        low = min(min(series.y) for series in kept)
        low, high = self.span or ((low, high) if self.log else (min(low, 0.0), high))
        axis = Axis(low, high, log=self.log)
        first, last = min(series.x[0] for series in kept), max(series.x[-1] for series in kept)
        draw_axes(canvas, axis, along=f"{self.along} ({first:g} to {last:g})")
        if self.guide is not None and axis.holds(self.guide[0]):
            level = axis.at(self.guide[0])
            canvas.line([(LEFT, level), (LEFT + WIDE, level)], "#bbb", width=1)
            canvas.text((LEFT + WIDE, level - 7), self.guide[1], anchor="end", size=9, color="#888")
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
        draw_title(canvas, self.title)
        if not self.spans:
            canvas.text((WIDTH / 2, HEIGHT / 2), "nothing to show", anchor="middle")
            return
        axis = Axis(min(span[0] for _, span in self.spans), max(span[2] for _, span in self.spans))
        draw_axes(canvas, axis, along="")
        step = WIDE / len(self.spans)
        for number, (name, (low, middle, high)) in enumerate(self.spans):
            x = LEFT + step * (number + 0.5)
            top, bottom = axis.at(high), axis.at(low)
            canvas.box((x - 9, top), (18, max(bottom - top, 1)), "#9cc3e0")
            canvas.box((x - 9, axis.at(middle) - 1), (18, 2), COLORS[0])
            canvas.text((x, HEIGHT - BOTTOM + 12), name, anchor="middle", size=10)


@dataclass(frozen=True, slots=True)
class Confusion:
    """Rows by true class, columns by the answer; counts, shaded by their share of the row."""

    title: str
    classes: Sequence[str]
    counts: Array

    def draw(self, canvas: Canvas) -> None:
        """Draw it; more than 20 classes are counted, not shown."""
        draw_title(canvas, self.title)
        count = len(self.classes)
        if count > _MOST_CLASSES:
            canvas.text((WIDTH / 2, HEIGHT / 2), f"{count} classes: see report.json", anchor="middle")
            return
        side = min(TALL / count, WIDE / count)
        left = LEFT + (WIDE - side * count) / 2
        size = max(6, min(11, int(side / 2.4)))
        for row in range(count):
            whole = max(int(self.counts[row].sum()), 1)
            y = TOP + side * row
            canvas.text((left - 4, y + side / 2), self.classes[row][:12], anchor="end", size=size)
            canvas.text(
                (left + side * (row + 0.5), TOP + side * count + 9),
                self.classes[row][: max(1, int(side / (0.6 * size)))],
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
        canvas.text((WIDTH - RIGHT, HEIGHT - 8), "rows: true class; columns: answer", anchor="end", size=9)


@dataclass(frozen=True, slots=True)
class Residuals:
    """Answer less truth, over the truth."""

    title: str
    truth: Array
    answers: Array

    def draw(self, canvas: Canvas) -> None:
        """Draw at most 400 points, evenly taken."""
        draw_title(canvas, self.title)
        step = max(1, len(self.truth) // _MOST_POINTS)
        truth = self.truth[::step]
        off = self.answers[::step] - truth
        axis = Axis(float(min(off.min(), 0)), float(max(off.max(), 0)))
        low, high = float(truth.min()), float(truth.max())
        draw_axes(canvas, axis, along=f"truth ({low:.4g} to {high:.4g})")
        canvas.line([(LEFT, axis.at(0)), (LEFT + WIDE, axis.at(0))], "#bbb", width=1)
        for x, y in zip(truth.tolist(), off.tolist(), strict=True):
            canvas.dot((LEFT + WIDE * (x - low) / ((high - low) or 1), axis.at(y)), COLORS[0])


Plot = Lines | Spans | Confusion | Residuals


def _legend(canvas: Canvas, names: Sequence[str]) -> None:
    shown = names[: len(COLORS)]
    for number, name in enumerate(shown):
        x = (
            WIDTH - RIGHT - 96 * (len(shown) - number)
            if len(shown) <= 2
            else LEFT + WIDE * number / len(shown)
        )
        y = 14 if len(shown) <= 2 else 26
        canvas.box((x, y - 4), (8, 8), COLORS[number])
        canvas.text((x + 11, y), name[:16], size=9)


def _points(series: Series, axis: Axis, first: float, last: float) -> Iterable[Point]:
    """At most 400 points: of each stretch its mean, so that noise does not hide the course."""
    count = len(series.x)
    size = max(1, count // _MOST_POINTS)
    wide = (last - first) or 1
    for start in range(0, count, size):
        part = series.y[start : start + size]
        x = series.x[min(start + size // 2, count - 1)]
        yield (LEFT + WIDE * (x - first) / wide, axis.at(sum(part) / len(part)))


def _shade(share: float, *, right: bool) -> str:
    """White to blue for right answers, to red for wrong ones."""
    full = (11, 98, 164) if right else (209, 73, 91)
    red, green, blue = (round(255 + (part - 255) * share) for part in full)
    return f"#{red:02x}{green:02x}{blue:02x}"
