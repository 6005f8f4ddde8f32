"""The node's figures for Prometheus, in a registry of their own.

Every label has a closed set of values: routes as they are written in `routes.py`, known methods, statuses,
error codes. Nothing that a client can invent becomes a label.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

from node.types import RunTimings

CONTENT_TYPE: Final = "text/plain; version=1.0.0; charset=utf-8"
UNMATCHED: Final = "unmatched"
_METHODS: Final = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})
_SECONDS: Final = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)


class Metrics:
    """Counters of the HTTP layer, and those that the composition root feeds from the layers below.

    Parameters
    ----------
    registry
        Where they are registered; one registry a node, so that two nodes in one process do not mix.
    """

    def __init__(self, registry: CollectorRegistry) -> None:
        self.registry = registry
        self._requests = Counter(
            "http_requests_total", "Answers", ["route", "method", "status"], registry=registry
        )
        self._seconds = Histogram(
            "http_request_seconds", "Time to answer", ["route"], registry=registry, buckets=_SECONDS
        )
        self._running = Gauge("http_requests_running", "Requests being answered", registry=registry)
        self._inferences = Counter(
            "inference_requests_total", "Inferences by outcome", ["outcome"], registry=registry
        )
        self._queue = Histogram(
            "inference_queue_seconds", "Waiting for the worker", registry=registry, buckets=_SECONDS
        )
        self._execute = Histogram(
            "inference_execute_seconds", "Running the model", registry=registry, buckets=_SECONDS
        )
        self.batch_size = Histogram(
            "inference_batch_size", "Rows in one run", registry=registry, buckets=(1, 2, 4, 8, 16, 32, 64)
        )
        self.loads = Counter("model_loads_total", "Models loaded by outcome", ["outcome"], registry=registry)
        self.evictions = Counter("model_evictions_total", "Models that made room", registry=registry)
        self._queue_depth = Gauge("inference_queue_depth", "Inferences waiting", registry=registry)
        self._resident = Gauge("model_resident_bytes", "Memory of resident models", registry=registry)
        self._children: dict[tuple[str, str, int], tuple[Counter, Histogram]] = {}
        self._outcomes: dict[str, Counter] = {}

    def watch(
        self,
        *,
        running: Callable[[], float] | None = None,
        queue_depth: Callable[[], float] | None = None,
        resident_bytes: Callable[[], float] | None = None,
    ) -> None:
        """Gauges that are asked at each scrape."""
        for gauge, ask in (
            (self._running, running),
            (self._queue_depth, queue_depth),
            (self._resident, resident_bytes),
        ):
            if ask is not None:
                gauge.set_function(ask)

    def answered(self, *, route: str, method: str, status: int, seconds: float) -> None:
        """One request was answered."""
        key = (route, method, status)
        children = self._children.get(key)
        if children is None:
            known = method if method in _METHODS else "other"
            counter = self._requests.labels(route, known, str(status))
            children = (counter, self._seconds.labels(route))
            if known == method:  # an invented method must not fill the dictionary either
                self._children[key] = children
        children[0].inc()
        children[1].observe(seconds)

    def inferred(self, outcome: str, timings: RunTimings | None = None) -> None:
        """One inference ended: `ok`, or the code of its error."""
        child = self._outcomes.get(outcome)
        if child is None:
            child = self._outcomes[outcome] = self._inferences.labels(outcome)
        child.inc()
        if timings is not None:
            self._queue.observe(timings.queue / 1000)
            self._execute.observe(timings.inference / 1000)

    def exposition(self) -> bytes:
        """The text that Prometheus scrapes."""
        return generate_latest(self.registry)


PROBES: Final = frozenset({"/health", "/health/live", "/health/ready", "/metrics"})
"""Routes that machines ask all day: their log lines are for debugging only."""
