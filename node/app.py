"""A node's life: settings in, a running node out.

The port opens first, so that `/health/live` answers at once; only then is `node/parts.py`, the
composition root, imported and everything behind the routes started. It all unwinds in reverse.
"""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import logging
import os
import signal
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Final

import msgspec
from aiohttp import web
from prometheus_client import CollectorRegistry

from node import logs
from node.errors import StartupError
from node.runtime import linux
from node.settings import Settings
from node.web.crowd import LATE
from node.web.keys import EDGE, NodeState
from node.web.runner import make_runner
from node.web.server import make_application

if TYPE_CHECKING:
    from node.parts import Resources

log = logging.getLogger(__name__)

OTHER_FILES: Final = 256 + LATE
"""Open files beside the connections: databases, workers, gateways, what is being stored."""


async def serve(
    settings: Settings,
    *,
    opened: Callable[[], None] = lambda: None,
    ready: Callable[[str], None] = lambda _url: None,
    resources: Resources | None = None,
) -> int:
    """Run a node until SIGTERM or SIGINT; running requests are finished first.

    Parameters
    ----------
    opened : called in a thread once the port is open, before anything connects to elsewhere.
    ready : called with the node's URL once it can serve.

    Returns
    -------
    The exit code.

    Raises
    ------
    StartupError
        The node cannot start; the message says why.
    """
    logs.configure(level=settings.log_level, production=settings.production)
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    try:
        await run(settings, stop=stop, opened=opened, ready=ready, resources=resources)
    finally:
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.remove_signal_handler(number)
    return 0


async def run(
    settings: Settings,
    *,
    stop: asyncio.Event,
    opened: Callable[[], None] = lambda: None,
    ready: Callable[[str], None],
    resources: Resources | None = None,
) -> None:
    """Run a node until `stop` is set, also while it is still starting. Raises `StartupError`."""
    with only_node_of(settings.data_dir):
        settings = within_file_limit(settings)
        state = NodeState()
        life = asyncio.create_task(
            _live(settings, state, stop=stop, opened=opened, ready=ready, resources=resources)
        )
        stopped = asyncio.create_task(stop.wait())
        try:
            await asyncio.wait({life, stopped}, return_when=asyncio.FIRST_COMPLETED)
            if state.flows is None:
                life.cancel()  # stopped while starting, or failed to: nothing is running that could drain
            with contextlib.suppress(asyncio.CancelledError):
                await life
        finally:
            stopped.cancel()


async def _live(
    settings: Settings,
    state: NodeState,
    *,
    stop: asyncio.Event,
    opened: Callable[[], None],
    ready: Callable[[str], None],
    resources: Resources | None,
) -> None:
    application = make_application(settings=settings, state=state, registry=CollectorRegistry())
    async with _open_port(application, settings) as own_url:
        url = settings.public_url.rstrip("/") or own_url
        log.info("listening on %s, starting", own_url)
        linux.use_few_heaps()
        opening = asyncio.get_running_loop().run_in_executor(None, opened)
        from node.parts import Resources, parts  # 0.1 s, which need not stand before the open port

        await opening
        metrics = application[EDGE].metrics
        async with parts(settings, url=url, metrics=metrics, resources=resources or Resources()) as flows:
            state.flows = flows
            log.info("ready: serving %s", url)
            ready(own_url)
            await stop.wait()
            log.info("stopping: finishing %s request(s)", state.running)
            if not await state.drain(timeout=settings.inference_timeout / 1000 + 5):
                log.warning("some requests did not finish in time")
    log.info("stopped")


@asynccontextmanager
async def _open_port(application: web.Application, settings: Settings) -> AsyncIterator[str]:
    """The listening socket; its URL. Raises `StartupError` where the port is taken."""
    runner = make_runner(application)
    await runner.setup()
    try:
        site = web.TCPSite(runner, settings.host, settings.port, backlog=1024)
        try:
            await site.start()
        except OSError as error:
            raise StartupError(
                f"PORT={settings.port} on HOST={settings.host} cannot be opened: {error.strerror or error}"
            ) from None
        host, port = runner.addresses[0][:2]
        shown = "127.0.0.1" if host in ("0.0.0.0", "::") else f"[{host}]" if ":" in host else host
        yield f"http://{shown}:{port}"
    finally:
        await runner.cleanup()


def within_file_limit(settings: Settings) -> Settings:
    """`settings` with as many connections as this process may have. Raises `StartupError` if that is none."""
    files = linux.allow_open_files(settings.max_connections + OTHER_FILES)
    connections = files - OTHER_FILES
    if connections >= settings.max_connections:
        return settings
    if connections < 1:
        raise StartupError(f"the limit on open files is {files}; the node needs {OTHER_FILES + 1} or more")
    log.warning(
        "MAX_CONNECTIONS=%d is lowered to %d: the limit on open files is %d",
        settings.max_connections, connections, files,
    )  # fmt: skip
    return msgspec.structs.replace(settings, max_connections=connections)


@contextmanager
def only_node_of(data_dir: Path) -> Iterator[None]:
    """Hold `DATA_DIR` for this process. Raises `StartupError` while another node holds it."""
    try:
        data_dir.mkdir(parents=True, exist_ok=True, mode=0o700)
        lock = (data_dir / "node.lock").open("a+")
    except OSError as error:
        raise StartupError(f"DATA_DIR={data_dir} cannot be used: {error.strerror}") from None
    with lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            lock.seek(0)
            raise StartupError(
                f"DATA_DIR={data_dir} is in use by another node (process {lock.read().strip() or '?'}); "
                "stop it, or give this one a DATA_DIR of its own"
            ) from None
        lock.truncate(0)
        lock.write(str(os.getpid()))
        lock.flush()
        yield
