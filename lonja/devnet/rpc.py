"""JSON-RPC methods over a `Ledger`: what Ethereum's execution API and anvil name, worded as they word it.

Enters: a method's name and its parameters as decoded JSON. Leaves: a JSON value, or an `RpcError`. Unknown
members of a transaction object are dropped, as other nodes do, and `input` wins over `data`.

Source: https://ethereum.github.io/execution-apis/ and Foundry's anvil for the `evm_`/`anvil_` names.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Final

from lonja.devnet import wording
from lonja.devnet.evm import CHAIN_ID, Call, Mined, Reverted, TransactionRejected
from lonja.devnet.filters import Filters
from lonja.devnet.ledger import Ledger
from lonja.devnet.parameters import address, integer, octets
from lonja.devnet.rpc_error import INVALID_PARAMS, METHOD_UNKNOWN, REJECTED, REVERTED, RpcError
from lonja.devnet.wording import data, quantity

CLIENT_VERSION: Final = "lonja-devnet/1 (py-evm)"
PRIORITY_FEE: Final = 10**9
_MINE_LIMIT: Final = 10_000


class Rpc:
    """The method table. Not thread-safe, like the ledger behind it.

    Parameters
    ----------
    keys : private keys by checksummed address, for `eth_accounts` and `eth_sendTransaction`.
    """

    def __init__(self, ledger: Ledger, *, keys: dict[str, bytes]) -> None:
        self._ledger = ledger
        self._keys = keys
        self._filters = filters = Filters(ledger)
        self._methods: dict[str, Callable[..., Any]] = {
            "web3_clientVersion": lambda: CLIENT_VERSION,
            "web3_sha3": lambda text: data(wording.keccak(octets(text))),
            "net_version": lambda: str(CHAIN_ID),
            "net_listening": lambda: True,
            "net_peerCount": lambda: "0x0",
            "eth_chainId": lambda: quantity(CHAIN_ID),
            "eth_protocolVersion": lambda: "0x44",
            "eth_syncing": lambda: False,
            "eth_mining": lambda: False,
            "eth_hashrate": lambda: "0x0",
            "eth_coinbase": lambda: data(b"\x00" * 20),
            "eth_accounts": lambda: list(self._keys),
            "eth_blockNumber": lambda: quantity(ledger.latest.number),
            "eth_gasPrice": lambda: quantity(ledger.next_base_fee + PRIORITY_FEE),
            "eth_maxPriorityFeePerGas": lambda: quantity(PRIORITY_FEE),
            "eth_blobBaseFee": lambda: quantity(1),
            "eth_feeHistory": self._fee_history,
            "eth_getBalance": lambda who, at="latest": quantity(self._state(at).get_balance(address(who))),
            "eth_getCode": lambda who, at="latest": data(self._state(at).get_code(address(who))),
            "eth_getTransactionCount": self._transaction_count,
            "eth_getStorageAt": self._storage_at,
            "eth_call": self._call,
            "eth_estimateGas": self._estimate_gas,
            "eth_createAccessList": self._access_list,
            "eth_sendRawTransaction": lambda raw: data(ledger.send(octets(raw))),
            "eth_sendTransaction": self._send_transaction,
            "eth_getTransactionByHash": self._transaction,
            "eth_getTransactionReceipt": self._receipt,
            "eth_getBlockByNumber": lambda at, full=False: self._block_json(self._find(at), full, at),
            "eth_getBlockByHash": lambda name, full=False: self._block_json(
                ledger.block_by_hash(octets(name)), full
            ),
            "eth_getBlockReceipts": self._block_receipts,
            "eth_getBlockTransactionCountByNumber": lambda at: _count(self._find(at)),
            "eth_getBlockTransactionCountByHash": lambda name: _count(ledger.block_by_hash(octets(name))),
            "eth_getTransactionByBlockNumberAndIndex": lambda at, index: _nth(self._find(at), index),
            "eth_getTransactionByBlockHashAndIndex": lambda name, index: _nth(
                ledger.block_by_hash(octets(name)), index
            ),
            "eth_getUncleCountByBlockNumber": lambda at: "0x0" if self._find(at) else None,
            "eth_getUncleCountByBlockHash": lambda name: (
                "0x0" if ledger.block_by_hash(octets(name)) else None
            ),
            "eth_getLogs": lambda wish: [wording.log(place) for place in filters.find(wish)],
            "eth_newFilter": filters.new_filter,
            "eth_newBlockFilter": lambda: filters.new_filter(None),
            "eth_newPendingTransactionFilter": lambda: filters.new_filter({"topics": [["0x" + "00" * 32]]}),
            "eth_getFilterChanges": filters.changes,
            "eth_getFilterLogs": filters.all_of,
            "eth_uninstallFilter": filters.uninstall,
            "evm_snapshot": lambda: quantity(ledger.snapshot()),
            "evm_revert": lambda number: ledger.revert(integer(number)),
            "evm_increaseTime": lambda seconds: ledger.increase_time(integer(seconds)),
            "evm_setNextBlockTimestamp": lambda when: ledger.set_next_timestamp(integer(when)),
            "evm_mine": self._evm_mine,
            "anvil_mine": self._mine_many,
            "anvil_setBalance": lambda who, wei: ledger.set_balance(address(who), integer(wei)),
        }
        for name in ("mine", "setBalance"):
            self._methods[f"hardhat_{name}"] = self._methods[f"anvil_{name}"]
        for name in ("snapshot", "revert", "increaseTime", "setNextBlockTimestamp"):
            self._methods[f"anvil_{name}"] = self._methods[f"evm_{name}"]

    def __call__(self, method: str, params: Sequence[Any]) -> Any:
        """The `result` member of the answer. Raises `RpcError`."""
        handler = self._methods.get(method)
        if handler is None:
            raise RpcError(METHOD_UNKNOWN, f"the method {method} does not exist on this development chain")
        try:
            _check_arity(handler, params)
            return handler(*params)
        except Reverted as error:
            raise _revert_error(error) from error
        except TransactionRejected as error:
            raise RpcError(REJECTED, str(error)) from error
        except (ValueError, TypeError, AttributeError, KeyError, OverflowError) as error:
            raise RpcError(INVALID_PARAMS, f"invalid params for {method}: {error}") from error

    # -- blocks and state ---------------------------------------------------------------------------

    def _find(self, at: Any) -> Mined | None:
        """The block a parameter means: a tag, a number, or an EIP-1898 object; "pending" is None too, so ask
        `_state` for that one."""
        ledger = self._ledger
        if isinstance(at, dict):
            if "blockHash" in at:
                return ledger.block_by_hash(octets(at["blockHash"]))
            at = at["blockNumber"]
        if at in ("latest", "safe", "finalized", "pending"):
            return ledger.latest
        number = 0 if at == "earliest" else integer(at)
        return ledger.blocks[number] if number < len(ledger.blocks) else None

    def _existing(self, at: Any) -> Mined | None:
        """The block of a state query, None for the pending one."""
        if at in ("pending", None):
            return None
        found = self._find(at)
        if found is None:
            raise RpcError(REJECTED, "header not found")
        return found

    def _state(self, at: Any) -> Any:
        return self._ledger.state(self._existing(at))

    def _transaction_count(self, who: str, at: Any = "latest") -> str:
        sender = address(who)
        if at == "pending":
            return quantity(self._ledger.next_nonce(sender))
        return quantity(self._state(at).get_nonce(sender))

    def _storage_at(self, who: str, slot: Any, at: Any = "latest") -> str:
        return data(int(self._state(at).get_storage(address(who), integer(slot))).to_bytes(32, "big"))

    def _block_json(self, block: Mined | None, full: bool, at: Any = None) -> dict[str, Any] | None:
        if block is None:
            return None
        if at == "pending":
            return wording.pending_block(block, now=self._ledger.now, base_fee=self._ledger.next_base_fee)
        return wording.block(block, full=full)

    def _block_receipts(self, at: Any) -> list[dict[str, Any]] | None:
        by_hash = isinstance(at, str) and len(at) == 66
        block = self._ledger.block_by_hash(octets(at)) if by_hash else self._find(at)
        return None if block is None else [wording.receipt(block, i) for i in range(len(block.transactions))]

    def _fee_history(self, count: Any, newest: Any, percentiles: list[float] | None = None) -> dict[str, Any]:
        last = self._find(newest)
        if last is None:
            raise RpcError(REJECTED, "header not found")
        first = max(0, last.number - min(max(integer(count), 1), 1024) + 1)
        blocks = self._ledger.blocks[first : last.number + 1]
        fees = [quantity(block.header.base_fee_per_gas) for block in blocks]
        following = self._ledger.blocks[last.number + 1 : last.number + 2]
        next_fee = following[0].header.base_fee_per_gas if following else self._ledger.next_base_fee
        answer: dict[str, Any] = {
            "oldestBlock": quantity(first),
            "baseFeePerGas": [*fees, quantity(next_fee)],
            "gasUsedRatio": [block.header.gas_used / block.header.gas_limit for block in blocks],
        }
        if percentiles:
            answer["reward"] = [[quantity(PRIORITY_FEE)] * len(percentiles) for _ in blocks]
        return answer

    # -- calls and transactions ---------------------------------------------------------------------

    def _call(self, wish: dict[str, Any], at: Any = "latest", *_overrides: Any) -> str:
        return data(self._ledger.call(self._as_call(wish), block=self._existing(at)))

    def _estimate_gas(self, wish: dict[str, Any], at: Any = "pending", *_overrides: Any) -> str:
        # "latest" too runs at the clock's time: the transaction will be mined then, not in the past block.
        block = None if at == "latest" else self._existing(at)
        return quantity(self._ledger.estimate_gas(self._as_call(wish), block=block))

    def _access_list(self, wish: dict[str, Any], at: Any = "latest") -> dict[str, Any]:
        return {"accessList": [], "gasUsed": self._estimate_gas(wish, at)}

    def _as_call(self, wish: dict[str, Any]) -> Call:
        payload = wish.get("input") or wish.get("data") or "0x"
        sender = wish.get("from")
        gas = wish.get("gas")
        return Call(
            sender=address(sender) if sender else b"\x00" * 20,
            to=address(wish["to"]) if wish.get("to") else b"",
            data=octets(payload),
            value=integer(wish.get("value") or 0),
            gas=None if gas is None else integer(gas),
        )

    def _send_transaction(self, wish: dict[str, Any]) -> str:
        from eth_account import Account
        from eth_utils.address import to_checksum_address

        sender = to_checksum_address(wish.get("from") or next(iter(self._keys)))
        if sender not in self._keys:
            raise RpcError(REJECTED, f"unknown account {sender}: only this chain's own accounts are unlocked")
        call = self._as_call({**wish, "from": sender})
        nonce = wish.get("nonce")
        fee = wish.get("maxFeePerGas") or wish.get("gasPrice")
        tip = wish.get("maxPriorityFeePerGas")
        transaction = {
            "type": 2,
            "chainId": CHAIN_ID,
            "nonce": self._ledger.next_nonce(call.sender) if nonce is None else integer(nonce),
            "to": call.to,
            "value": call.value,
            "data": call.data,
            "gas": call.gas or self._ledger.estimate_gas(call, block=None),
            "maxFeePerGas": integer(fee) if fee else 2 * self._ledger.next_base_fee + PRIORITY_FEE,
            "maxPriorityFeePerGas": integer(tip) if tip else min(PRIORITY_FEE, integer(fee or PRIORITY_FEE)),
        }
        signed = Account.sign_transaction(transaction, self._keys[sender])
        return data(self._ledger.send(bytes(signed.raw_transaction)))

    def _transaction(self, name: str) -> dict[str, Any] | None:
        found = self._ledger.place(octets(name))
        if found is not None:
            return wording.transaction(found[0], found[1])
        waiting = self._ledger.waiting(octets(name))
        return None if waiting is None else wording.transaction_fields(waiting)

    def _receipt(self, name: str) -> dict[str, Any] | None:
        found = self._ledger.place(octets(name))
        return None if found is None else wording.receipt(*found)

    # -- anvil's wishes -----------------------------------------------------------------------------

    def _evm_mine(self, wish: Any = None) -> str:
        """anvil takes nothing, a timestamp, or an object with a timestamp and a number of blocks."""
        blocks = 1
        if isinstance(wish, dict):
            blocks = integer(wish.get("blocks") or 1)
            wish = wish.get("timestamp")
        if wish is not None:
            self._ledger.set_next_timestamp(integer(wish))
        self._mine_many(blocks)
        return "0x0"

    def _mine_many(self, blocks: Any = 1, interval: Any = 0) -> None:
        for index in range(min(integer(blocks), _MINE_LIMIT)):
            if index and (seconds := integer(interval)):
                self._ledger.increase_time(seconds)
            self._ledger.mine()


def _revert_error(error: Reverted) -> RpcError:
    if not error.revert:
        return RpcError(REJECTED, str(error))
    reason = wording.revert_reason(error.data)
    return RpcError(REVERTED, f"{error}: {reason}" if reason else str(error), data=data(error.data))


def _check_arity(handler: Callable[..., Any], params: Sequence[Any]) -> None:
    import inspect

    try:
        inspect.signature(handler).bind(*params)
    except TypeError as error:
        raise ValueError(str(error)) from None


def _count(block: Mined | None) -> str | None:
    return None if block is None else quantity(len(block.transactions))


def _nth(block: Mined | None, index: Any) -> dict[str, Any] | None:
    if block is None or integer(index) >= len(block.transactions):
        return None
    return wording.transaction(block, integer(index))
