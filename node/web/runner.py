"""The runner of the application: aiohttp's, with our connections."""

from __future__ import annotations

from aiohttp import web
from aiohttp.web_protocol import RequestHandler

from node.web.connection import Connection
from node.web.crowd import Crowd
from node.web.express import Express
from node.web.keys import EDGE, Limits


class NodeServer(web.Server):
    """Makes a `Connection` for every client."""

    def __init__(self, plain: web.Server, *, express: Express, limits: Limits) -> None:
        super().__init__(
            plain.request_handler,
            request_factory=plain.request_factory,
            handler_cancellation=plain.handler_cancellation,
            loop=plain._loop,
            **plain._kwargs,
        )
        self._express, self._limits = express, limits
        self._crowd = Crowd(limits.connections)

    def __call__(self) -> RequestHandler:
        return Connection(
            self,
            loop=self._loop,
            express=self._express,
            crowd=self._crowd,
            limits=self._limits,
            **self._kwargs,
        )


class NodeRunner(web.AppRunner):
    """Runs the application with this module's connections."""

    async def _make_server(self) -> web.Server:
        ours = self.app[EDGE]
        return NodeServer(await super()._make_server(), express=Express(ours), limits=ours.limits)


def make_runner(app: web.Application, *, shutdown_timeout: float = 10.0) -> web.AppRunner:
    """The runner of an application that `make_application` made.

    A client that goes away cancels its request, so that what it no longer waits for is not computed.
    `NodeState.drain` comes first at the end; what still runs `shutdown_timeout` seconds after that is cut.
    """
    limits = app[EDGE].limits
    return NodeRunner(
        app,
        handle_signals=False,
        access_log=None,
        handler_cancellation=True,
        auto_decompress=False,
        keepalive_timeout=limits.keepalive_seconds,
        lingering_time=limits.linger_seconds,
        shutdown_timeout=shutdown_timeout,
        max_line_size=limits.line_bytes,
        max_field_size=limits.line_bytes,
        max_headers=limits.header_count,
    )
