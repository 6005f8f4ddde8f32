"""A contract on a chain with three funded people: the same face over the fake and over real chains."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, Protocol

from node.chain.chain import Chain
from node.chain.client import ChainClient
from node.chain.transactions import OfferTerms, Transactions, deploy
from node.settings import Settings
from node.types import Address, Offer, TokenId
from tests.fakes.chain import FakeChain

# Keys that every anvil and Hardhat funds; everybody knows them. Numbers 1 to 3 of the mnemonic.
PUBLISHER_KEY = bytes.fromhex("59c6995e998f97a5a0044966f0945389dc9e86dae88c7a8412f4603b6b78690d")
LICENSEE_KEY = bytes.fromhex("5de4111afa1a4b94908f83103eb1f1706367c2e68ca870fc3fb9a804cdab365a")
STRANGER_KEY = bytes.fromhex("7c852118294e51e653712a81e05800f419141751be58f605c371e15141b007a6")


class World(Protocol):
    """Writing side, for tests. The publisher owns what is registered; the licensee pays."""

    @property
    def chain(self) -> Chain: ...
    async def register_model(self, metadata_cid: str, offers: list[OfferTerms]) -> TokenId: ...
    async def update_model(self, token_id: TokenId, metadata_cid: str) -> Any: ...
    async def set_offers(self, token_id: TokenId, offers: list[OfferTerms]) -> Any: ...
    async def purchase(self, token_id: TokenId, offer: Offer, *, licensee: Address) -> Any: ...
    async def grant(self, token_id: TokenId, licensee: Address, *, duration: int) -> Any: ...
    async def revoke(self, token_id: TokenId, licensee: Address) -> Any: ...
    async def transfer(self, token_id: TokenId, to: Address) -> Any: ...
    async def pause_sales(self, token_id: TokenId) -> Any: ...
    async def mine(self, blocks: int = 1) -> None: ...
    async def advance(self, seconds: int) -> None: ...
    async def snapshot(self) -> Any: ...
    async def turn_back(self, snapshot: Any) -> None: ...
    async def time(self) -> int: ...


class FakeWorld(FakeChain):
    @property
    def chain(self) -> Chain:
        return self


class RealWorld:
    """A deployed contract behind an RPC that knows anvil's methods."""

    def __init__(self, client: ChainClient, url: str) -> None:
        self.client = client
        self.url = url
        self.publisher = Transactions(client, PUBLISHER_KEY)
        self.licensee = Transactions(client, LICENSEE_KEY)
        self.update_model = self.publisher.update_model
        self.set_offers = self.publisher.set_offers
        self.grant = self.publisher.grant
        self.revoke = self.publisher.revoke
        self.transfer = self.publisher.transfer
        self.pause_sales = self.publisher.pause_sales
        self.purchase = self.licensee.purchase

    @property
    def chain(self) -> Chain:
        return self.client

    async def register_model(self, metadata_cid: str, offers: list[OfferTerms]) -> TokenId:
        return (await self.publisher.register_model(metadata_cid, offers))[0]

    async def mine(self, blocks: int = 1) -> None:
        await self.client.rpc.call("anvil_mine", [hex(blocks)])

    async def advance(self, seconds: int) -> None:
        await self.client.rpc.call("evm_setNextBlockTimestamp", [await self.time() + seconds])
        await self.client.rpc.call("evm_mine", [])

    async def snapshot(self) -> Any:
        return await self.client.rpc.call("evm_snapshot", [])

    async def turn_back(self, snapshot: Any) -> None:
        assert await self.client.rpc.call("evm_revert", [snapshot])
        # another first block than before, so that the same heights have other hashes
        await self.client.rpc.call("evm_increaseTime", [17])

    async def time(self) -> int:
        block = await self.client.rpc.call("eth_getBlockByNumber", ["latest", False])
        return int(block["timestamp"], 16)


@asynccontextmanager
async def real_world(url: str, **settings: Any) -> AsyncIterator[RealWorld]:
    """Deploy a new contract on the chain behind `url` and connect to it."""
    receipt = await deploy(url, PUBLISHER_KEY)
    client = await ChainClient.connect(
        Settings(avalanche_rpc_url=(url,), contract_address=receipt.contract, **settings)
    )
    try:
        yield RealWorld(client, url)
    finally:
        await client.close()
