"""The one composition root: every part behind the HTTP face is made, wired and ended here.

Enters: settings. Leaves: the flows. Started in order, beside each other where that saves time (web3
alone takes 0.7 s to import), and unwound in reverse.
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import logging
import tempfile
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Final

from node.chain import sign_in_message
from node.chain.chain import Chain
from node.chain.client import ChainClient
from node.chain.events import EventFollower
from node.chain.licenses import Licenses
from node.chain.registry import Registry
from node.chain.signatures import SignatureChecker
from node.errors import NodeError, StoreFull
from node.flows.ask_peer import AskPeer
from node.flows.browse import Browse
from node.flows.hear_events import HearEvents
from node.flows.infer import Infer
from node.flows.load_model import Loader, LoadModel, Resident
from node.flows.publish import Publish
from node.flows.readiness import Readiness
from node.flows.serve_content import ServeContent
from node.flows.sign_in import Authenticate, SignIn, sign_in_domains
from node.flows.sync_catalogue import SyncCatalogue
from node.identity import nonces, sessions
from node.identity.database import Database
from node.identity.node_key import NodeKey, load_or_create
from node.ipfs.fetch import Retriever
from node.ipfs.gateways import Gateways
from node.ipfs.store import BlockStore
from node.models.catalogue import Catalogue
from node.models.policy import ServePolicy
from node.models.slots import Slots
from node.outbound import GuardedFetcher
from node.runtime import linux
from node.runtime.host import WorkerHost
from node.settings import Settings
from node.types import ModelKey
from node.web.keys import Flows
from node.web.metrics import Metrics, SlotCounts

log = logging.getLogger(__name__)

FILL_PATIENCE: Final = 1.0
"""Seconds that the start waits for the first reading of the catalogue; a longer one goes on beside."""

PRUNE_INTERVAL: Final = 600.0
SIGNATURE_AHEAD: Final = 300.0
"""Seconds that the deadline of a signed request may lie ahead."""


@dataclass(frozen=True, slots=True)
class Resources:
    """How parts outside this process are reached; tests put fakes here."""

    connect: Callable[[Settings], Awaitable[Chain]] = ChainClient.connect
    start_host: Callable[[Settings], Awaitable[WorkerHost]] = WorkerHost.start
    fetcher: Callable[[], GuardedFetcher] = GuardedFetcher


@asynccontextmanager
async def parts(
    settings: Settings, *, url: str, metrics: Metrics, resources: Resources
) -> AsyncIterator[Flows]:
    """The flows of a running node that is reached at `url`. Raises `StartupError`."""
    async with AsyncExitStack() as stack:
        host = await resources.start_host(settings)
        stack.push_async_callback(host.close)
        chain = await resources.connect(settings)
        stack.push_async_callback(chain.close)
        key = load_or_create(
            settings.node_key_file or settings.data_dir / "node.key", password=settings.node_key_password
        )
        licenses, registry = Licenses(chain, settings), Registry(chain)
        catalogue = _catalogue(settings, chain, stack)
        store, retriever = _content(settings, chain, key, catalogue, stack)
        loader, slots = _slots(settings, catalogue, retriever, host=host, metrics=metrics, stack=stack)
        models = SyncCatalogue(
            catalogue=catalogue, registry=registry, retriever=retriever, prepare=partial(_prepare, slots)
        )
        follower = EventFollower(
            chain,
            licenses,
            from_block=settings.contract_from_block,
            poll_interval=settings.rpc_poll_interval / 1000,
        )
        heard = HearEvents(models)
        stack.push_async_callback(heard.close)
        follower.subscribe(heard)
        await stack.enter_async_context(_background(follower.run(), _prune_now_and_then(store)))
        await stack.enter_async_context(_filling(models))
        sign_in, authenticate = _identity(settings, url, chain, key, stack)
        fetcher = _fetcher(settings, resources, stack)
        operators = _lower(settings.operators)
        await stack.enter_async_context(_background(_settle()))

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
            sign_in=sign_in,
            authenticate=authenticate,
        )


def _catalogue(settings: Settings, chain: Chain, stack: AsyncExitStack) -> Catalogue:
    policy = ServePolicy.parse(settings.serve_models, production=settings.production)
    (log.warning if policy.nothing else log.info)("this node serves %s", policy)
    path = settings.data_dir / "catalogue.sqlite"
    catalogue = Catalogue(path, contract=chain.contract, policy=policy)
    stack.callback(catalogue.close)
    return catalogue


def _content(
    settings: Settings, chain: Chain, key: NodeKey, catalogue: Catalogue, stack: AsyncExitStack
) -> tuple[BlockStore, Retriever]:
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
    return store, retriever


def _slots(
    settings: Settings,
    catalogue: Catalogue,
    retriever: Retriever,
    *,
    host: WorkerHost,
    metrics: Metrics,
    stack: AsyncExitStack,
) -> tuple[Loader, Slots[Resident]]:
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
    slots = Slots(
        capacity=settings.max_models_in_memory, load=loader, close=Resident.close, fetch=loader.fetch
    )
    stack.push_async_callback(slots.close)
    metrics.watch(
        queue_depth=lambda: sum(slot.resident.worker.in_flight for slot in slots.resident()),
        resident_bytes=lambda: sum(slot.resident.worker.report.memory_bytes for slot in slots.resident()),
        slots=lambda: SlotCounts(slots.loads, slots.load_failures, slots.evictions),
    )
    return loader, slots


def _identity(
    settings: Settings, url: str, chain: Chain, key: NodeKey, stack: AsyncExitStack
) -> tuple[SignIn, Authenticate]:
    database = Database.open(settings.data_dir / "node.sqlite", schema=(*nonces.SCHEMA, *sessions.SCHEMA))
    stack.push_async_callback(database.close)
    known_nonces = nonces.Nonces(database, ttl=settings.sign_in_nonce_ttl)
    open_sessions = sessions.Sessions(
        database, chain_id=chain.contract.chain_id, node=key.address, ttl=settings.session_ttl
    )
    checker = SignatureChecker(chain)
    sign_in = SignIn(
        nonces=known_nonces,
        sessions=open_sessions,
        checker=checker,
        contract=chain.contract,
        node=key.address,
        public_url=url,
        domains=sign_in_domains(settings, public_url=url),
        nonce_ttl=settings.sign_in_nonce_ttl,
    )
    authenticate = Authenticate(
        nonces=known_nonces,
        sessions=open_sessions,
        checker=checker,
        contract=chain.contract,
        node=key.address,
        max_ahead=SIGNATURE_AHEAD,
    )
    return sign_in, authenticate


def _fetcher(settings: Settings, resources: Resources, stack: AsyncExitStack) -> GuardedFetcher | None:
    if settings.url_fetch == "off":
        return None
    fetcher = resources.fetcher()
    stack.push_async_callback(fetcher.close)
    return fetcher


async def _prepare(slots: Slots[Resident], key: ModelKey, revision: int) -> None:
    """Make a new revision resident if the old one is; what nobody uses is loaded when somebody asks."""
    if slots.holds(key):
        await slots.load(key, revision)


@asynccontextmanager
async def _background(*work: Awaitable[None]) -> AsyncIterator[None]:
    """Run `work` beside the body; cancelled with it, and loud when it fails by itself."""
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
    done = asyncio.Event()

    async def fill() -> None:
        try:
            await models.fill()
        finally:
            done.set()

    async with _background(fill()):
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


async def _settle() -> None:
    """What start-up leaves for later, beside the first requests: the node is ready without it."""
    await asyncio.to_thread(sign_in_message.preload)
    gc.collect()  # `lonja serve` has kept the collector off until here
    gc.freeze()  # what start-up made stays; the collector need not walk it again
    gc.enable()
    linux.trim_heap()


async def _prune_now_and_then(store: BlockStore) -> None:
    while True:
        await asyncio.sleep(PRUNE_INTERVAL)
        try:
            report = await store.prune()
        except (NodeError, OSError) as error:
            log.warning("the store could not be pruned, next try in %g s: %s", PRUNE_INTERVAL, error)
            continue
        if report.removed:
            log.info("store: pruned %s item(s), %s bytes", len(report.removed), report.freed_bytes)


def _loud(task: asyncio.Future[None]) -> None:
    if not task.cancelled() and (error := task.exception()) is not None:
        log.error("a background task ended: %s", error, exc_info=error)


def _lower(addresses: tuple[str, ...]) -> frozenset[str]:
    return frozenset(address.lower() for address in addresses)
