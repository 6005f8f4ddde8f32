"""One account's key and the transactions that it sends.

Enters: a key, call data. Leaves: a `Receipt` once the transaction is in a block, or `TransactionFailed`.
"""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING, Any, Final

import msgspec

from node.addresses import parse_address
from node.chain.abi import LonjaAbi
from node.chain.recursion import kept_recursion_limit
from node.chain.reverts import explain
from node.chain.rpc import CallReverted, Rpc, RpcRefused, data_bytes, quantity
from node.types import Address

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


class Account:
    """One key and the transactions it sends, one after the other.

    Parameters
    ----------
    key : the secret key, 32 bytes.
    """

    def __init__(self, rpc: Rpc, key: bytes, *, chain_id: int, abi: LonjaAbi) -> None:
        with kept_recursion_limit():
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
