"""Writing to the contract with a local account: what publishers and licensees do.

Enters: an account's key and what to do. Leaves: a `Receipt`, once the transaction is in a block, or
`TransactionFailed` saying in words what the contract objected to. Used by SDK and command line; the
node itself never writes.
"""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from node.addresses import ZERO_ADDRESS
from node.chain.abi import LonjaAbi, artifact
from node.chain.account import Account, Receipt, TransactionFailed
from node.chain.client import ChainClient
from node.chain.rpc import HEIGHT, Rpc, data_bytes, quantity
from node.types import Address, Offer, TokenId

__all__ = ["Account", "OfferTerms", "Receipt", "TransactionFailed", "Transactions", "deploy"]


class OfferTerms(msgspec.Struct, frozen=True):
    """Terms to offer: price in the currency's smallest unit, duration in seconds (0 = perpetual)."""

    price: int
    duration: int
    currency: Address = ZERO_ADDRESS


class Transactions:
    """What one account does with the contract of a `ChainClient`.

    Every method waits until its transaction is in a block, and raises `TransactionFailed` or
    `ChainUnavailable`.
    """

    def __init__(self, client: ChainClient, key: bytes) -> None:
        self._client = client
        self._abi = client.abi
        self.account = Account(client.rpc, key, chain_id=client.contract.chain_id, abi=client.abi)

    @property
    def address(self) -> Address:
        return self.account.address

    async def register_model(
        self, metadata_cid: str, offers: Sequence[OfferTerms]
    ) -> tuple[TokenId, Receipt]:
        """Register a model; returns its new token id."""
        receipt = await self._do("registerModel", metadata_cid, [_terms(terms) for terms in offers])
        for log in receipt.logs:
            event = self._abi.event(log)
            if event is not None:
                return event.token_id, receipt
        raise TransactionFailed(f"transaction {receipt.tx} registered nothing", tx=receipt.tx)

    async def update_model(self, token_id: TokenId, metadata_cid: str) -> Receipt:
        return await self._do("updateModel", token_id, metadata_cid)

    async def set_offers(self, token_id: TokenId, offers: Sequence[OfferTerms]) -> Receipt:
        """Replace all offers; the new ones get new ids."""
        return await self._do("setOffers", token_id, [_terms(terms) for terms in offers])

    async def purchase(self, token_id: TokenId, offer: Offer, *, licensee: Address | None = None) -> Receipt:
        """Buy a license on the terms of `offer`, for oneself or as a gift.

        A price in an ERC-20 token is allowed to the contract first.
        """
        value = offer.price if offer.currency == ZERO_ADDRESS else 0
        if offer.currency != ZERO_ADDRESS:
            await self._allow(offer.currency, offer.price)
        return await self._do(
            "purchaseLicense", token_id, offer.offer_id, licensee or self.address, value=value
        )

    async def grant(self, token_id: TokenId, licensee: Address, *, duration: int) -> Receipt:
        """Give a license for `duration` seconds (0 = perpetual) of one's own model."""
        return await self._do("grantLicense", token_id, licensee, duration)

    async def revoke(self, token_id: TokenId, licensee: Address) -> Receipt:
        """End a license; a bought one is refunded for the time that is left."""
        return await self._do("revokeLicense", token_id, licensee)

    async def pause_sales(self, token_id: TokenId) -> Receipt:
        return await self._do("pauseSales", token_id)

    async def resume_sales(self, token_id: TokenId) -> Receipt:
        return await self._do("resumeSales", token_id)

    async def transfer(self, token_id: TokenId, to: Address) -> Receipt:
        """Hand the model to another account."""
        return await self._do("transferFrom", self.address, to, token_id)

    async def withdraw(self, currency: Address = ZERO_ADDRESS) -> Receipt:
        """Collect what the contract owes to this account."""
        return await self._do("withdraw", currency)

    async def withdrawable(self, currency: Address = ZERO_ADDRESS) -> int:
        """What `withdraw` would pay."""
        data = "0x" + self._abi.call("withdrawable", self.address, currency).hex()
        call = {"to": self._client.contract.address, "data": data}
        answer = await self._client.rpc.call("eth_call", [call, "latest"], data_bytes)
        return int(self._abi.result("withdrawable", answer)[0])

    async def _do(self, name: str, *args: object, value: int = 0) -> Receipt:
        data = self._abi.call(name, *args)
        return await self.account.send(to=self._client.contract.address, data=data, value=value)

    async def _allow(self, currency: Address, amount: int) -> None:
        codec = self._client.codec
        approve = bytes.fromhex("095ea7b3")  # approve(address,uint256), ERC-20
        arguments = codec.encode(["address", "uint256"], [self._client.contract.address, amount])
        await self.account.send(to=currency, data=approve + arguments)


async def deploy(rpc_url: str, key: bytes, *, timeout: float = 30.0) -> Receipt:
    """Put a new Lonja contract on the chain behind `rpc_url`; the receipt names its address."""
    from web3 import Web3  # 0.7 s

    rpc = Rpc([rpc_url], timeout=timeout)
    try:
        await rpc.call(*HEIGHT)
        chain_id = await rpc.call("eth_chainId", [], quantity)
        account = Account(rpc, key, chain_id=chain_id, abi=LonjaAbi(Web3().codec))
        receipt = await account.send(to=None, data=bytes.fromhex(artifact()["bytecode"].removeprefix("0x")))
    finally:
        await rpc.close()
    if receipt.contract is None:
        raise TransactionFailed(f"transaction {receipt.tx} made no contract", tx=receipt.tx)
    return receipt


def _terms(terms: OfferTerms) -> tuple[int, str, int]:
    return terms.price, terms.currency, terms.duration
