"""What every request pays before it reaches a model: the license check and finding the caller.

Run as `python -m benchmarks.license_check`. The chain is the embedded one behind real HTTP, with a
counter in between. Times of one call are means over a round; the figures are the rounds' median and range.
"""

from __future__ import annotations

import asyncio
import tempfile
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import NamedTuple

from coincurve import PrivateKey

from benchmarks.report import spread, table
from lonja.devnet.accounts import funded_accounts
from lonja.devnet.chain import EmbeddedChain
from node.addresses import address_of_public_key
from node.chain.client import ChainClient
from node.chain.licenses import Licenses
from node.chain.signatures import recover
from node.chain.typed_data import SignedRequest, body_hash, request_digest
from node.identity.database import Database
from node.identity.nonces import SCHEMA as NONCES
from node.identity.nonces import Nonces
from node.identity.sessions import SCHEMA as SESSIONS
from node.identity.sessions import Sessions
from node.settings import Settings
from node.types import TokenId
from tests.fakes.chain import LICENSEE
from tests.fakes.chain_world import LICENSEE_KEY, RealWorld, real_world
from tests.fakes.rpc import RpcPeer

ROUNDS = 15
CALLS = 20_000
CROWD = 10_000


class Row(NamedTuple):
    what: str
    unit: str
    values: list[float]
    goal: str = ""


async def rows() -> AsyncIterator[Row]:
    """Measure everything; the chain runs in this process."""
    async with EmbeddedChain(accounts=funded_accounts(4)) as chain, real_world(chain.url) as world:
        token = await world.register_model("bafkqaaa", [])
        await world.grant(token, LICENSEE, duration=0)
        await world.mine(2)
        async for row in _license_rows(world, chain.url, token):
            yield row
        for row in _signature_rows(world):
            yield row
    async for row in _identity_rows():
        yield row


async def _license_rows(world: RealWorld, url: str, token: TokenId) -> AsyncIterator[Row]:
    async with RpcPeer(behind=url) as peer:
        for confirmations in (0, 1):
            settings = Settings(
                avalanche_rpc_url=(peer.url,),
                contract_address=world.client.contract.address,
                license_confirmations=confirmations,
            )
            client = await ChainClient.connect(settings)
            licenses = Licenses(client, settings)
            before, started = peer.posts, time.perf_counter()
            await asyncio.gather(*(licenses.require(LICENSEE, token) for _ in range(CROWD)))
            took = (time.perf_counter() - started) * 1e3
            named = f"{CROWD:,} concurrent first checks, LICENSE_CONFIRMATIONS={confirmations}"
            yield Row(f"{named}: HTTP requests to the RPC", "", [peer.posts - before], "1")
            yield Row(f"{named}: until all are answered", "ms", [took])
            if confirmations == 0:
                async for row in _cached_rows(licenses, token):
                    yield row
            await client.close()


async def _cached_rows(licenses: Licenses, token: TokenId) -> AsyncIterator[Row]:
    check = await _awaited(lambda: licenses.require(LICENSEE, token))
    yield Row("cached check, `await licenses.require(...)`", "µs", check, "<= 20")
    yield Row("cached check, `licenses.cached(...)`", "µs", _called(lambda: licenses.cached(LICENSEE, token)))


def _signature_rows(world: RealWorld) -> list[Row]:
    key = PrivateKey(LICENSEE_KEY)
    node = address_of_public_key(key.public_key.format(compressed=False)[1:])
    digest_of = SignedRequest("POST", "/api/inference/execute", body_hash(b"{}"), node, "a" * 22, 1)
    contract = world.client.contract
    digest = request_digest(contract, digest_of)
    raw = key.sign_recoverable(digest, hasher=None)
    signature = raw[:64] + bytes([raw[64] + 27])
    return [
        Row(
            "signed request, digest (EIP-712)",
            "µs",
            _called(lambda: request_digest(contract, digest_of), 500),
        ),
        Row("signed request, recovering the key", "µs", _called(lambda: recover(digest, signature), 500)),
    ]


async def _identity_rows() -> AsyncIterator[Row]:
    with tempfile.TemporaryDirectory() as folder:
        database = Database.open(Path(folder) / "node.sqlite", schema=(*NONCES, *SESSIONS))
        nonces = Nonces(database, ttl=300)
        sessions = Sessions(database, chain_id=1, node=LICENSEE, ttl=900)
        for _ in range(1000):
            await nonces.issue()
        session = await sessions.open(address=LICENSEE, domain="d")
        nonce = (await nonces.issue()).value
        yield Row("session token, from memory", "µs", _called(lambda: sessions.find(session.token)))

        def from_disk() -> object:
            sessions._known.clear()
            return sessions.find(session.token)

        yield Row("session token, from SQLite (on the event loop)", "µs", _called(from_disk, 2_000))
        yield Row("nonce, looked at (on the event loop)", "µs", _called(lambda: nonces.check(nonce), 2_000))
        yield Row("nonce, issued (on disk, off the event loop)", "µs", await _awaited(nonces.issue, 20))
        await database.close()


def _called(call: Callable[[], object], calls: int = CALLS) -> list[float]:
    """Microseconds of one call, a value for each round."""
    values = []
    for _ in range(ROUNDS):
        started = time.perf_counter()
        for _ in range(calls):
            call()
        values.append((time.perf_counter() - started) / calls * 1e6)
    return values


async def _awaited(call: Callable[[], Awaitable[object]], calls: int = CALLS) -> list[float]:
    values = []
    for _ in range(ROUNDS):
        started = time.perf_counter()
        for _ in range(calls):
            await call()
        values.append((time.perf_counter() - started) / calls * 1e6)
    return values


async def _print() -> None:
    lines = [
        [row.what, spread(row.values) if len(row.values) > 1 else f"{row.values[0]:.0f}", row.unit, row.goal]
        async for row in rows()
    ]
    print(table(["", "median (range)", "unit", "goal"], lines))


def main() -> None:
    """Print the Markdown table."""
    asyncio.run(_print())


if __name__ == "__main__":
    main()
