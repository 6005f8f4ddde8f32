"""Counters and histograms for the hot path, exposed through prometheus-client's collector protocol.

The library's own take a lock for each of the four or five values that one observation touches. All of this
is written and read on the event loop only, so a list and a bisection do: about 0.4 us instead of 3.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterator, Sequence

from prometheus_client.core import CounterMetricFamily, HistogramMetricFamily, Metric


class Counts:
    """A counter with labels."""

    def __init__(self, name: str, documentation: str, labels: Sequence[str]) -> None:
        self._name, self._documentation, self._labels = name, documentation, labels
        self._values: dict[tuple[str, ...], int] = {}

    def add(self, *labels: str) -> None:
        """Count one."""
        self._values[labels] = self._values.get(labels, 0) + 1

    def collect(self) -> Iterator[Metric]:
        family = CounterMetricFamily(self._name, self._documentation, labels=self._labels)
        for labels, value in self._values.items():
            family.add_metric(labels, value)
        yield family


class Histogram:
    """A histogram with at most one label."""

    def __init__(
        self, name: str, documentation: str, *, bounds: Sequence[float], label: str | None = None
    ) -> None:
        self._name, self._documentation, self._label = name, documentation, label
        self._bounds = tuple(bounds)
        self._series: dict[str, list[float]] = {}
        if label is None:
            self._series[""] = self._empty()

    def observe(self, value: float, label: str = "") -> None:
        """Count `value` into its bucket, whose bound is inclusive."""
        series = self._series.get(label)
        if series is None:
            series = self._series[label] = self._empty()
        series[bisect_left(self._bounds, value)] += 1
        series[-1] += value

    def _empty(self) -> list[float]:
        return [0.0] * (len(self._bounds) + 2)  # a count for each bucket, one above all, and the sum

    def collect(self) -> Iterator[Metric]:
        family = HistogramMetricFamily(
            self._name, self._documentation, labels=() if self._label is None else (self._label,)
        )
        for label, series in self._series.items():
            seen, buckets = 0.0, []
            for bound, count in zip((*map(str, self._bounds), "+Inf"), series[:-1], strict=True):
                seen += count
                buckets.append((bound, seen))
            family.add_metric(() if self._label is None else (label,), buckets, series[-1])
        yield family
