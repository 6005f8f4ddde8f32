"""The one composition root: settings in, a running node out.

The port opens first (`/health/live` answers at once); then, beside each other, the forkserver starts
and the chain is connected (web3 alone takes 0.7 s to import). Only when every part is there do the
flows appear behind the routes. Everything unwinds in reverse.
"""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import gc
import logging
import os
import signal
import tempfile
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Final

from aiohttp import web
from prometheus_client import CollectorRegistry

from node import logs
from node.chain.chain import Chain, ChainEvent, LicenseChanged, OffersChanged
from node.chain.client import ChainClient
from node.chain.events import EventFollower
from node.chain.licenses import Licenses
from node.chain.registry import Registry
from node.chain.signatures import SignatureChecker
from node.errors import StartupError, StoreFull
from node.flows.ask_peer import AskPeer
from node.flows.browse import Browse
from node.flows.infer import Infer
from node.flows.load_model import Loader, LoadModel, Resident
from node.flows.publish import Publish
from node.flows.readiness import Readiness
from node.flows.serve_content import ServeContent
from node.flows.sign_in import Authenticate, SignIn, sign_in_domains
from node.flows.sync_catalogue import SyncCatalogue
from node.identity import nonces, sessions
from node.identity.database import Database
from node.identity.node_key import load_or_create
from node.ipfs.fetch import Retriever
from node.ipfs.gateways import Gateways
from node.ipfs.store import BlockStore
from node.models.catalogue import Catalogue
from node.models.policy import ServePolicy
from node.models.slots import Slots
from node.outbound import GuardedFetcher
from node.runtime.host import WorkerHost
from node.settings import Settings
from node.types import ModelKey
from node.web.keys import EDGE, Flows, NodeState
from node.web.server import make_application, make_runner

log = logging.getLogger(__name__)

FILL_PATIENCE: Final = 1.0
"""Seconds that readiness waits for the first reading of the catalogue; a longer one goes on beside."""

PRUNE_INTERVAL: Final = 600.0
SIGNATURE_AHEAD: Final = 300.0
"""Seconds that the deadline of a signed request may lie ahead."""


@dataclass(frozen=True, slots=True)
class Resources:
    """How parts outside this process are reached; tests put fakes here."""

    connect: Callable[[Settings], Awaitable[Chain]] = ChainClient.connect
    start_host: Callable[[Settings], Awaitable[WorkerHost]] = WorkerHost.start
    fetcher: Callable[[], GuardedFetcher] = GuardedFetcher


async def serve(
    settings: Settings,
    *,
    ready: Callable[[str], None] = lambda _url: None,
    resources: Resources | None = None,
) -> int:
    """Run a node until SIGTERM or SIGINT; running requests are finished first.

    Parameters
    ----------
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
        await run(settings, stop=stop, ready=ready, resources=resources or Resources())
    finally:
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.remove_signal_handler(number)
    return 0


async def run(
    settings: Settings, *, stop: asyncio.Event, ready: Callable[[str], None], resources: Resources
) -> None:
    """Run a node until `stop` is set, also while it is still starting. Raises `StartupError`."""
    with only_node_of(settings.data_dir):
        life = asyncio.create_task(_live(settings, stop=stop, ready=ready, resources=resources))
        stopped = asyncio.create_task(stop.wait())
        try:
            await asyncio.wait({life, stopped}, return_when=asyncio.FIRST_COMPLETED)
            if not life.done() and not life.get_name().startswith("serving"):
                life.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await life
        finally:
            stopped.cancel()


async def _live(
    settings: Settings, *, stop: asyncio.Event, ready: Callable[[str], None], resources: Resources
) -> None:
    application = make_application(settings=settings, state=NodeState(), registry=CollectorRegistry())
    state = application[EDGE].state
    async with _open_port(application, settings) as own_url:
        url = settings.public_url.rstrip("/") or own_url
        log.info("listening on %s, starting", own_url)
        async with parts(settings, url=url, application=application, resources=resources) as flows:
            state.flows = flows
            gc.freeze()  # what start-up made stays; the collector need not walk it again
            if task := asyncio.current_task():
                task.set_name("serving")
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


@asynccontextmanager
async def parts(
    settings: Settings, *, url: str, application: web.Application, resources: Resources
) -> AsyncIterator[Flows]:
    """Everything behind the HTTP face, wired; started in order and unwound in reverse."""
    async with AsyncExitStack() as stack:
        host = await resources.start_host(settings)
        stack.push_async_callback(host.close)
        chain = await resources.connect(settings)
        stack.push_async_callback(chain.close)
        policy = ServePolicy.parse(settings.serve_models, production=settings.production)
        (log.warning if policy.nothing else log.info)("this node serves %s", policy)

        licenses, registry = Licenses(chain, settings), Registry(chain)
        catalogue = Catalogue(settings.data_dir / "catalogue.sqlite", contract=chain.contract, policy=policy)
        stack.callback(catalogue.close)
        key = load_or_create(
            settings.node_key_file or settings.data_dir / "node.key", password=settings.node_key_password
        )

        store = BlockStore(
            settings.model_dir,
            max_bytes=settings.store_max_bytes,
            is_referenced=catalogue.referenced,
            grace=settings.publish_grace,
        )
        stack.callback(store.close)
        retriever = Retriever(
            store,
            Gateways(settings.ipfs_gateways, allow_private=settings.ipfs_allow_private_gateways),
            stall_timeout=settings.ipfs_stall_timeout / 1000,
            max_object_bytes=settings.ipfs_max_object_bytes,
            authorize=AskPeer(key=key, contract=chain.contract),
        )
        stack.push_async_callback(retriever.close)

        def lost(resident: Resident) -> None:
            slots.lost(resident)

        loader = Loader(
            catalogue=catalogue,
            retriever=retriever,
            host=host,
            weights_limit=settings.ipfs_max_object_bytes,
            threads=settings.worker_threads,
            memory_bytes=settings.worker_memory_bytes,
            max_pixels=settings.max_image_pixels,
            max_bytes=settings.max_body_bytes,
            lost=lost,
        )
        slots = Slots(capacity=settings.max_models_in_memory, load=loader, close=Resident.close)
        stack.push_async_callback(slots.close)
        application[EDGE].metrics.watch(
            queue_depth=lambda: sum(slot.resident.worker.in_flight for slot in slots.resident()),
            resident_bytes=lambda: sum(slot.resident.worker.report.memory_bytes for slot in slots.resident()),
        )

        async def prepare(key: ModelKey, revision: int) -> None:
            if slots.holds(key):
                await slots.load(key, revision)

        models = SyncCatalogue(catalogue=catalogue, registry=registry, retriever=retriever, prepare=prepare)
        follower = EventFollower(
            chain,
            licenses,
            from_block=settings.contract_from_block,
            poll_interval=settings.rpc_poll_interval / 1000,
        )
        follower.subscribe(_told(models))
        await stack.enter_async_context(_background(follower.run(), _prune_now_and_then(store)))
        await stack.enter_async_context(_filling(models))

        fetcher = resources.fetcher() if settings.url_fetch == "on" else None
        if fetcher is not None:
            stack.push_async_callback(fetcher.close)
        database = Database.open(settings.data_dir / "node.sqlite", schema=(*nonces.SCHEMA, *sessions.SCHEMA))
        stack.push_async_callback(database.close)
        known_nonces = nonces.Nonces(database, ttl=settings.sign_in_nonce_ttl)
        open_sessions = sessions.Sessions(
            database, chain_id=chain.contract.chain_id, node=key.address, ttl=settings.session_ttl
        )
        checker = SignatureChecker(chain)
        operators = _lower(settings.operators)

        yield Flows(
            infer=Infer(
                models=models,
                licenses=licenses,
                slots=slots,
                fetcher=fetcher,
                url_limit=settings.url_fetch_max_bytes,
                url_timeout=settings.url_fetch_timeout / 1000,
                timeout_ms=settings.inference_timeout,
            ),
            load_model=LoadModel(
                models=models, licenses=licenses, slots=slots, loader=loader, operators=operators
            ),
            browse=Browse(
                catalogue=catalogue, models_known=models, registry=registry, licenses=licenses, slots=slots
            ),
            publish=Publish(
                store=store,
                publishers=_lower(settings.publishers) - {"any"},
                anyone="any" in settings.publishers,
                limit=settings.publish_max_bytes,
            ),
            serve_content=ServeContent(
                store=store,
                catalogue=catalogue,
                licenses=licenses,
                peers=_lower(settings.ipfs_peers),
                operators=operators,
            ),
            readiness=Readiness(
                checks={
                    "chain": chain.ready,
                    "store": partial(_writable, settings.model_dir),
                    "workers": host.ready,
                }
            ),
            sign_in=SignIn(
                nonces=known_nonces,
                sessions=open_sessions,
                checker=checker,
                contract=chain.contract,
                node=key.address,
                public_url=url,
                domains=sign_in_domains(settings, public_url=url),
                nonce_ttl=settings.sign_in_nonce_ttl,
            ),
            authenticate=Authenticate(
                nonces=known_nonces,
                sessions=open_sessions,
                checker=checker,
                contract=chain.contract,
                node=key.address,
                max_ahead=SIGNATURE_AHEAD,
            ),
        )


def _told(models: SyncCatalogue) -> Callable[[ChainEvent], Awaitable[None]]:
    """A subscriber that reads a token again when something about the model itself has changed."""

    async def heard(event: ChainEvent) -> None:
        if not isinstance(event, LicenseChanged | OffersChanged):
            await models.changed(event.token_id)

    return heard


@asynccontextmanager
async def _background(*work: Awaitable[None]) -> AsyncIterator[None]:
    """Run `work` beside the body; cancelled with it, and loud when it ends by itself."""
    tasks = [asyncio.ensure_future(each) for each in work]
    for task in tasks:
        task.add_done_callback(_loud)
    try:
        yield
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


@asynccontextmanager
async def _filling(models: SyncCatalogue) -> AsyncIterator[None]:
    """The catalogue's first reading: waited for a moment, then left to go on beside the body."""
    async with AsyncExitStack() as stack:
        done = asyncio.Event()

        async def fill() -> None:
            try:
                await models.fill()
            finally:
                done.set()

        await stack.enter_async_context(_background(fill()))
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(FILL_PATIENCE):
                await done.wait()
        yield


async def _writable(folder: Path) -> None:
    def write() -> None:
        with tempfile.TemporaryFile(dir=folder) as probe:
            probe.write(b"\0")

    try:
        await asyncio.to_thread(write)
    except OSError as error:
        raise StoreFull(f"MODEL_DIR cannot be written: {error.strerror}") from None


async def _prune_now_and_then(store: BlockStore) -> None:
    while True:
        await asyncio.sleep(PRUNE_INTERVAL)
        report = await store.prune()
        if report.removed:
            log.info("store: pruned %s item(s), %s bytes", len(report.removed), report.freed_bytes)


def _loud(task: asyncio.Future[None]) -> None:
    if not task.cancelled() and (error := task.exception()) is not None:
        log.error("a background task ended: %s", error, exc_info=error)


def _lower(addresses: tuple[str, ...]) -> frozenset[str]:
    return frozenset(address.lower() for address in addresses)
