"""Writing to the contract with a local account: what publishers and licensees do.

Enters: an account's key and what to do. Leaves: a `Receipt`, once the transaction is in a block, or
`TransactionFailed` saying in words what the contract objected to. Used by SDK and command line; the
node itself never writes.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Final

import msgspec

from node.addresses import ZERO_ADDRESS, parse_address
from node.chain.abi import LonjaAbi, artifact
from node.chain.client import ChainClient
from node.chain.reverts import explain
from node.chain.rpc import HEIGHT, CallReverted, Rpc, RpcRefused, data_bytes, quantity
from node.errors import ChainUnavailable
from node.types import Address, Offer, TokenId

if TYPE_CHECKING:
    from eth_account.signers.local import LocalAccount

RECEIPT_SECONDS: Final = 120.0
GAS_MARGIN: Final = 1.25
_FEE_GROWTH: Final = 2
"""A block's base fee grows by an eighth at most: twice today's lasts for six full blocks."""


class TransactionFailed(Exception):
    """The chain or the contract would not do it.

    Attributes
    ----------
    reason : name of the contract's custom error, or "" where it gave none.
    tx : hash of the transaction, if it was sent.
    """

    def __init__(self, message: str, *, reason: str = "", tx: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.reason = reason
        self.tx = tx


class Receipt(msgspec.Struct, frozen=True):
    """A transaction that is in a block."""

    tx: str
    block_number: int
    gas_used: int
    contract: Address | None = None
    logs: tuple[dict[str, Any], ...] = ()


class OfferTerms(msgspec.Struct, frozen=True):
    """Terms to offer: price in the currency's smallest unit, duration in seconds (0 = perpetual)."""

    price: int
    duration: int
    currency: Address = ZERO_ADDRESS


class Account:
    """One key and the transactions it sends, one after the other.

    Parameters
    ----------
    key : the secret key, 32 bytes.
    """

    def __init__(self, rpc: Rpc, key: bytes, *, chain_id: int, abi: LonjaAbi) -> None:
        from eth_account import Account as Keys  # 0.3 s

        self._rpc = rpc
        self._signer: LocalAccount = Keys.from_key(key)
        self._chain_id = chain_id
        self._abi = abi
        self._turn = asyncio.Lock()
        self.address = parse_address(self._signer.address)

    async def balance(self) -> int:
        """The account's native coin, in its smallest unit."""
        return int(await self._rpc.call("eth_getBalance", [self.address, "latest"], quantity))

    async def send(self, *, to: Address | None, data: bytes, value: int = 0) -> Receipt:
        """Send a transaction and wait for its block.

        Raises
        ------
        TransactionFailed, ChainUnavailable
        """
        async with self._turn:
            tx = await self._submit(to=to, data=data, value=value)
        return await self._wait(tx)

    async def _submit(self, *, to: Address | None, data: bytes, value: int) -> str:
        call = {"from": self.address, "value": hex(value), "data": "0x" + data.hex()}
        if to is not None:
            call["to"] = to
        try:
            gas = int(await self._rpc.call("eth_estimateGas", [call], quantity))
            count = await self._rpc.call("eth_getTransactionCount", [self.address, "pending"], quantity)
            fees = await self._fees()
            signed = self._signer.sign_transaction(
                {"chainId": self._chain_id, "nonce": count, "gas": int(gas * GAS_MARGIN), "value": value}
                | {"data": "0x" + data.hex(), **({} if to is None else {"to": to}), **fees}
            )
            await self._publish("0x" + signed.raw_transaction.hex())
            return "0x" + signed.hash.hex()
        except CallReverted as revert:
            raise _failed(self._abi, revert) from None
        except RpcRefused as refused:
            raise TransactionFailed(_refusal(refused.reason)) from None

    async def _publish(self, raw: str) -> None:
        try:
            await self._rpc.call("eth_sendRawTransaction", [raw], data_bytes)
        except RpcRefused as refused:
            # a peer that did not answer in time may have taken it, and the next one knows it already
            if "already known" not in refused.reason and "already imported" not in refused.reason:
                raise

    async def _fees(self) -> dict[str, int]:
        """EIP-1559 fees where the chain has a base fee, else a gas price."""
        block = await self._rpc.call("eth_getBlockByNumber", ["latest", False])
        if not isinstance(block, dict) or block.get("baseFeePerGas") is None:
            return {"gasPrice": int(await self._rpc.call("eth_gasPrice", [], quantity))}
        base = quantity(block["baseFeePerGas"])
        try:
            tip = int(await self._rpc.call("eth_maxPriorityFeePerGas", [], quantity))
        except RpcRefused:
            tip = 10**9  # one gwei; the method is an extension that some peers lack
        return {"maxFeePerGas": base * _FEE_GROWTH + tip, "maxPriorityFeePerGas": tip}

    async def _wait(self, tx: str) -> Receipt:
        give_up, pause = time.monotonic() + RECEIPT_SECONDS, 0.02
        while time.monotonic() < give_up:
            try:
                found = await self._rpc.call("eth_getTransactionReceipt", [tx])
            except RpcRefused:
                found = None  # some peers answer with an error for one they do not know yet
            if isinstance(found, dict) and found.get("blockNumber") is not None:
                return await self._receipt(tx, found)
            await asyncio.sleep(pause)
            pause = min(pause * 1.5, 1.0)
        raise TransactionFailed(
            f"transaction {tx} is in no block after {RECEIPT_SECONDS:g} s; it may still get there", tx=tx
        )

    async def _receipt(self, tx: str, found: dict[str, Any]) -> Receipt:
        if quantity(found["status"]) != 1:
            raise TransactionFailed(f"transaction {tx} was reverted", tx=tx)
        made = found.get("contractAddress")
        return Receipt(
            tx=tx,
            block_number=quantity(found["blockNumber"]),
            gas_used=quantity(found["gasUsed"]),
            contract=parse_address(made) if made else None,
            logs=tuple(found["logs"]),
        )


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
        codec = self._client.web3.codec
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


def _failed(abi: LonjaAbi, revert: CallReverted) -> TransactionFailed:
    error = abi.error(revert.data)
    if error is not None:
        return TransactionFailed(explain(*error), reason=error[0])
    if "insufficient funds" in revert.reason.lower():
        return TransactionFailed(_refusal(revert.reason))
    return TransactionFailed(f"the contract refused: {revert.reason[:200]}")


def _refusal(reason: str) -> str:
    text = reason.lower()
    if "insufficient funds" in text or "insufficient balance" in text or "lack of funds" in text:
        return "the account has not enough native coin for the price and the gas"
    return f"the chain refused the transaction: {reason[:200]}"


__all__ = [
    "Account",
    "ChainUnavailable",
    "OfferTerms",
    "Receipt",
    "TransactionFailed",
    "Transactions",
    "deploy",
]
