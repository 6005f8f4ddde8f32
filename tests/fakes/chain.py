"""A chain in memory: satisfies `Chain`, and can be written to, mined, turned back and taken away.

What it answers is held against a real chain by `tests/integration/anvil/test_chain_contract.py`, which
runs the same tests on both.
"""

from __future__ import annotations

import asyncio
import copy
import hashlib
from collections import Counter
from dataclasses import dataclass, field

from node.chain.chain import (
    ChainEvent,
    LicenseChanged,
    LicenseReading,
    ModelRegistered,
    ModelTransferred,
    ModelUpdated,
    OffersChanged,
    RangeRefused,
    SalesSwitched,
)
from node.chain.transactions import OfferTerms, TransactionFailed
from node.errors import ChainUnavailable, ModelNotFound
from node.types import PERPETUAL, Address, ContractRef, Offer, TokenId, TokenModel

CONTRACT = ContractRef(31337, Address("0x5FbDB2315678afecb367f032d93F642f64180aa3"))
PUBLISHER = Address("0x70997970C51812dc3A010C7d01b50e0d17dc79C8")
LICENSEE = Address("0x3C44CdDdB6a900fa2b585dd299e03d12FA4293BC")
STRANGER = Address("0x90F79bf6EB2c4f870365E785982E1f101E93b906")


@dataclass
class _Model:
    owner: Address
    revision: int
    metadata_cid: str
    sales_paused: bool = False
    offers: list[Offer] = field(default_factory=list)


@dataclass
class _State:
    models: dict[int, _Model] = field(default_factory=dict)
    licenses: dict[tuple[int, Address], int] = field(default_factory=dict)
    next_offer: int = 1


@dataclass
class _Block:
    number: int
    time: int
    hash: str
    state: _State
    events: list[ChainEvent]


class FakeChain:
    """`Chain` without a chain. Every write is one block, as on a chain that mines at once.

    Attributes
    ----------
    calls : how often each method of `Chain` was called.
    down : while True every question fails as an RPC outage does.
    gate, waiting : while `gate` is an event, answers to `license_of` are computed and then wait for it;
        `waiting` is set when one does.
    largest_range : blocks that `events` takes at once.
    contract_accounts : addresses of contracts; one accepts a signature that equals the digest.
    """

    def __init__(self, *, time: int = 1_800_000_000, contract: ContractRef = CONTRACT) -> None:
        self.contract = contract
        self.calls: Counter[str] = Counter()
        self.down = False
        self.gate: asyncio.Event | None = None
        self.waiting = asyncio.Event()
        self.largest_range = 1_000_000
        self.contract_accounts: set[Address] = set()
        self._fork = 0
        self._blocks = [_Block(0, time, self._hash(0), _State(), [])]

    # ------------------------------------------------------------------------------ reading (Chain)

    async def close(self) -> None:
        self.calls["close"] += 1

    async def ready(self) -> None:
        self._count("ready")

    async def block_number(self) -> int:
        self._count("block_number")
        return self._latest.number

    async def license_of(self, licensee: Address, token_id: TokenId, *, confirmations: int) -> LicenseReading:
        self._count("license_of")
        newest = self._latest
        below = self._blocks[max(0, newest.number - confirmations)]
        reading = LicenseReading(
            expires_at=newest.state.licenses.get((token_id, licensee), 0),
            active=_active(newest, token_id, licensee),
            confirmed=_active(below, token_id, licensee),
        )
        await asyncio.sleep(0)
        if self.gate is not None:
            self.waiting.set()
            await self.gate.wait()
        return reading

    async def model_of(self, token_id: TokenId) -> TokenModel:
        self._count("model_of")
        model = self._model(token_id)
        return TokenModel(
            token_id=token_id,
            owner=model.owner,
            revision=model.revision,
            manifest_cid=model.metadata_cid,
            sales_paused=model.sales_paused,
            block_number=self._latest.number,
        )

    async def publisher_of(self, token_id: TokenId, *, block_number: int) -> Address:
        self._count("publisher_of")
        self._model(token_id)
        return PUBLISHER

    async def offers_of(self, token_id: TokenId) -> list[Offer]:
        self._count("offers_of")
        return list(self._model(token_id).offers)

    async def total_models(self) -> int:
        self._count("total_models")
        return len(self._latest.state.models)

    async def events(self, first_block: int, last_block: int) -> list[ChainEvent]:
        self._count("events")
        if last_block - first_block + 1 > self.largest_range:
            raise RangeRefused("block range too large")
        return [e for block in self._blocks[first_block : last_block + 1] for e in block.events]

    async def has_code(self, address: Address) -> bool:
        self._count("has_code")
        return address in self.contract_accounts

    async def accepts_signature(self, address: Address, *, digest: bytes, signature: bytes) -> bool:
        self._count("accepts_signature")
        return address in self.contract_accounts and signature == digest

    # ------------------------------------------------------------------------------ writing

    async def register_model(self, metadata_cid: str, offers: list[OfferTerms]) -> TokenId:
        block = self._mine()
        token_id = TokenId(len(block.state.models) + 1)
        block.state.models[token_id] = _Model(PUBLISHER, 1, metadata_cid)
        where = self._where(token_id)
        block.events.append(ModelRegistered(publisher=PUBLISHER, manifest_cid=metadata_cid, **where))
        self._offer(block, token_id, offers)
        return token_id

    async def update_model(self, token_id: TokenId, metadata_cid: str) -> None:
        block = self._mine()
        model = block.state.models[token_id]
        model.revision, model.metadata_cid = model.revision + 1, metadata_cid
        block.events.append(
            ModelUpdated(revision=model.revision, manifest_cid=metadata_cid, **self._where(token_id))
        )

    async def set_offers(self, token_id: TokenId, offers: list[OfferTerms]) -> None:
        self._offer(self._mine(), token_id, offers)

    async def purchase(self, token_id: TokenId, offer: Offer, *, licensee: Address) -> None:
        if self._latest.state.models[token_id].sales_paused:
            raise TransactionFailed("paused", reason="Lonja_SalesPaused")
        if offer not in self._latest.state.models[token_id].offers:
            raise TransactionFailed("no such offer", reason="Lonja_OfferUnknown")
        self._extend(token_id, licensee, offer.duration)

    async def grant(self, token_id: TokenId, licensee: Address, *, duration: int) -> None:
        self._extend(token_id, licensee, duration)

    async def revoke(self, token_id: TokenId, licensee: Address) -> None:
        if not _active(self._latest, token_id, licensee):
            raise TransactionFailed("not active", reason="Lonja_LicenseNotActive")
        block = self._mine()
        block.state.licenses[token_id, licensee] = block.time
        block.events.append(LicenseChanged(licensee=licensee, expires_at=None, **self._where(token_id)))

    async def transfer(self, token_id: TokenId, to: Address) -> None:
        block = self._mine()
        model = block.state.models[token_id]
        block.events.append(ModelTransferred(previous_owner=model.owner, owner=to, **self._where(token_id)))
        model.owner = to

    async def pause_sales(self, token_id: TokenId) -> None:
        block = self._mine()
        block.state.models[token_id].sales_paused = True
        block.events.append(SalesSwitched(paused=True, **self._where(token_id)))

    async def mine(self, blocks: int = 1) -> None:
        for _ in range(blocks):
            self._mine()

    async def advance(self, seconds: int) -> None:
        """A new block whose time is `seconds` after the newest one's."""
        self._mine(seconds=seconds)

    async def snapshot(self) -> int:
        return len(self._blocks)

    async def turn_back(self, snapshot: int) -> None:
        """Drop the blocks since the snapshot; those mined from here on have other hashes."""
        del self._blocks[snapshot:]
        self._fork += 1

    async def time(self) -> int:
        """The newest block's."""
        return self._latest.time

    # ------------------------------------------------------------------------------ inside

    @property
    def _latest(self) -> _Block:
        return self._blocks[-1]

    def _count(self, name: str) -> None:
        self.calls[name] += 1
        if self.down:
            raise ChainUnavailable("the chain cannot be asked now", retry_after=1.0)

    def _model(self, token_id: TokenId) -> _Model:
        try:
            return self._latest.state.models[token_id]
        except KeyError:
            raise ModelNotFound(f"there is no model with token id {token_id}") from None

    def _mine(self, *, seconds: int = 1) -> _Block:
        last, number = self._latest, self._latest.number + 1
        block = _Block(number, last.time + seconds, self._hash(number), copy.deepcopy(last.state), [])
        self._blocks.append(block)
        return block

    def _hash(self, number: int) -> str:
        return "0x" + hashlib.sha256(f"{self._fork}/{number}".encode()).hexdigest()

    def _where(self, token_id: TokenId) -> dict[str, object]:
        block = self._latest
        return {
            "token_id": token_id,
            "block_number": block.number,
            "block_hash": block.hash,
            "log_index": len(block.events),
        }

    def _offer(self, block: _Block, token_id: TokenId, terms: list[OfferTerms]) -> None:
        model, first = block.state.models[token_id], block.state.next_offer
        model.offers = [
            Offer(offer_id=first + index, price=one.price, currency=one.currency, duration=one.duration)
            for index, one in enumerate(terms)
        ]
        block.state.next_offer += len(terms)
        block.events.append(OffersChanged(offers=tuple(model.offers), **self._where(token_id)))

    def _extend(self, token_id: TokenId, licensee: Address, duration: int) -> None:
        block = self._mine()
        start = max(block.time, block.state.licenses.get((token_id, licensee), 0))
        expires_at = PERPETUAL if duration == 0 else start + duration
        block.state.licenses[token_id, licensee] = expires_at
        block.events.append(LicenseChanged(licensee=licensee, expires_at=expires_at, **self._where(token_id)))


def _active(block: _Block, token_id: TokenId, licensee: Address) -> bool:
    return block.time < block.state.licenses.get((token_id, licensee), 0)
