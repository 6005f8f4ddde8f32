"""The HTTP application, made of settings, the node's state and a registry of metrics."""

from __future__ import annotations

import time
from collections.abc import Callable

from aiohttp import web
from prometheus_client import CollectorRegistry

from node.settings import Settings
from node.web import formats
from node.web.body import Budget
from node.web.cors import CorsPolicy
from node.web.handlers.health import Readiness
from node.web.keys import EDGE, Edge, Limits, NodeState
from node.web.metrics import Metrics
from node.web.middlewares import edge
from node.web.peer import TrustedProxies
from node.web.routes import add_routes


def make_application(
    *,
    settings: Settings,
    state: NodeState,
    registry: CollectorRegistry,
    clock: Callable[[], float] = time.perf_counter,
    limits: Limits | None = None,
) -> web.Application:
    """The application; `runner.make_runner` runs it.

    Parameters
    ----------
    settings
        `max_body_bytes`, `publish_max_bytes`, `max_connections`, `cors_origins`, `trusted_proxies` and
        `public_url` are read.
    state
        Receives the flows once they exist, and is told when the node drains.
    registry
        For this node's metrics alone.
    clock
        Monotonic seconds.
    limits
        Other time-outs than the usual ones.
    """
    bounds = limits or Limits(
        body_bytes=settings.max_body_bytes,
        publish_bytes=settings.publish_max_bytes,
        connections=settings.max_connections,
    )
    metrics = Metrics(registry)
    metrics.watch(running=lambda: state.running)
    app = web.Application(middlewares=[edge], client_max_size=bounds.body_bytes)
    app[EDGE] = Edge(
        state=state,
        limits=bounds,
        cors=CorsPolicy(settings.cors_origins),
        proxies=TrustedProxies(settings.trusted_proxies),
        metrics=metrics,
        https=settings.public_url.startswith("https://"),
        clock=clock,
        started=clock(),
        readiness=Readiness(state, clock),
        formats=formats.described(settings),
        unproven=Budget(max(bounds.unproven_bytes, bounds.body_bytes)),
    )
    add_routes(app)
    return app
