"""The node's figures for Prometheus, in a registry of their own.

Every label has a closed set of values: routes as they are written in `routes.py`, known methods, statuses,
error codes. Nothing that a client can invent becomes a label.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Final, NamedTuple

from prometheus_client import CollectorRegistry, Gauge, Metric, generate_latest
from prometheus_client.core import CounterMetricFamily
from prometheus_client.registry import Collector

from node.types import RunTimings
from node.web.tally import Counts, Histogram

CONTENT_TYPE: Final = "text/plain; version=1.0.0; charset=utf-8"
UNMATCHED: Final = "unmatched"
_METHODS: Final = {name: name for name in ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS")}
_STATUSES: Final = {status: str(status) for status in range(100, 600)}
_SECONDS: Final = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)
_BATCHES: Final = (1, 2, 4, 8, 16, 32, 64)

PROBES: Final = frozenset({"/health", "/health/live", "/health/ready", "/metrics"})
"""Routes that machines ask all day: their log lines are for debugging only."""
BUSY: Final = frozenset({"/api/inference/execute"})
"""Routes whose quick successes are counted, but logged for debugging only."""


class SlotCounts(NamedTuple):
    """What the slots have counted since the start."""

    loads: int
    load_failures: int
    evictions: int


class _Slots(Collector):
    """The slots' own counts in Prometheus' form."""

    def __init__(self, ask: Callable[[], SlotCounts]) -> None:
        self._ask = ask

    def collect(self) -> Iterator[Metric]:
        counts = self._ask()
        loads = CounterMetricFamily("model_loads", "Models loaded by outcome", labels=["outcome"])
        loads.add_metric(["ok"], counts.loads)
        loads.add_metric(["failed"], counts.load_failures)
        yield loads
        yield CounterMetricFamily("model_evictions", "Models that made room", value=counts.evictions)


class Metrics:
    """Counters of the HTTP layer, and those that the composition root feeds from the layers below.

    Parameters
    ----------
    registry
        Where they are registered; one registry a node, so that two nodes in one process do not mix.
    """

    def __init__(self, registry: CollectorRegistry) -> None:
        self.registry = registry
        self._requests = Counts("http_requests", "Answers", ("route", "method", "status"))
        self._seconds = Histogram("http_request_seconds", "Time to answer", bounds=_SECONDS, label="route")
        self._inferences = Counts("inference_requests", "Inferences by outcome", ("outcome",))
        self._queue = Histogram("inference_queue_seconds", "Waiting for the worker", bounds=_SECONDS)
        self._execute = Histogram("inference_execute_seconds", "Running the model", bounds=_SECONDS)
        self._batch = Histogram(
            "inference_batch_size", "Requests that shared the run of each answer", bounds=_BATCHES
        )
        for tally in (
            *(self._requests, self._seconds),
            *(self._inferences, self._queue, self._execute, self._batch),
        ):
            registry.register(tally)
        self._running = Gauge("http_requests_running", "Requests being answered", registry=registry)
        self._queue_depth = Gauge("inference_queue_depth", "Inferences waiting", registry=registry)
        self._resident = Gauge("model_resident_bytes", "Memory of resident models", registry=registry)

    def watch(
        self,
        *,
        running: Callable[[], float] | None = None,
        queue_depth: Callable[[], float] | None = None,
        resident_bytes: Callable[[], float] | None = None,
        slots: Callable[[], SlotCounts] | None = None,
    ) -> None:
        """What is asked at each scrape."""
        if slots is not None:
            self.registry.register(_Slots(slots))
        for gauge, ask in (
            (self._running, running),
            (self._queue_depth, queue_depth),
            (self._resident, resident_bytes),
        ):
            if ask is not None:
                gauge.set_function(ask)

    def answered(self, *, route: str, method: str, status: int, seconds: float) -> None:
        """One request was answered."""
        self._requests.add(route, _METHODS.get(method, "other"), _STATUSES[status])
        self._seconds.observe(seconds, route)

    def inferred(self, outcome: str, timings: RunTimings | None = None) -> None:
        """One inference ended: `ok`, or the code of its error."""
        self._inferences.add(outcome)
        if timings is not None:
            self._queue.observe(timings.queue / 1000)
            self._execute.observe(timings.inference / 1000)
            self._batch.observe(timings.batch)

    def exposition(self) -> bytes:
        """The text that Prometheus scrapes."""
        return generate_latest(self.registry)
