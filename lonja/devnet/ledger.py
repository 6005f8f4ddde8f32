"""An EVM chain in memory, on py-evm: one block a transaction, mined at once.

Enters: signed transactions, calls, and anvil's wishes (time, snapshots, balances). Leaves: blocks,
receipts and logs as py-evm's own values; `rpc.py` words them as JSON. Not thread-safe: `chain.py` gives it
one thread.

py-evm is used directly and not through eth-tester's facade: the facade keeps its own clock, loses the data
of a revert (custom errors could not be decoded) and finds a receipt by reading every block. What it would
add, key mapping for web3, `rpc.py` does in fewer lines.
"""

from __future__ import annotations

import os
import time
from bisect import bisect_left, bisect_right
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Final

from lonja.devnet.evm import (
    CHAIN_ID,
    GAS_LIMIT,
    ZERO,
    Call,
    LogPlace,
    Mined,
    Reverted,
    TransactionRejected,
    genesis,
    run,
    size_of,
    worded,
)

_QUEUE_LIMIT: Final = 1_024


@dataclass(slots=True)
class _Queue:
    """Transactions whose nonce is ahead of its turn, by (sender, nonce)."""

    waiting: dict[tuple[bytes, int], Any] = field(default_factory=dict)


class Ledger:
    """The chain: blocks by number and hash, transactions by hash, the state behind them."""

    def __init__(self, *, accounts: list[bytes], clock: Callable[[], float] = time.time) -> None:
        self._clock = clock
        self._offset = 0
        self._next_timestamp: int | None = None
        self._chain: Any = genesis(accounts, timestamp=int(clock()))
        first = self._chain.get_canonical_block_by_number(0)
        self.blocks: list[Mined] = [Mined(first.header, (), (), size_of(first))]
        self._numbers: dict[bytes, int] = {first.hash: 0}
        self._places: dict[bytes, tuple[int, int]] = {}
        self._logs: list[LogPlace] = []
        self._queue = _Queue()
        self._snapshots: dict[int, tuple[int, int, Any]] = {}

    # -- reading ------------------------------------------------------------------------------------

    @property
    def latest(self) -> Mined:
        return self.blocks[-1]

    def block_by_hash(self, block_hash: bytes) -> Mined | None:
        number = self._numbers.get(block_hash)
        return None if number is None else self.blocks[number]

    def place(self, transaction_hash: bytes) -> tuple[Mined, int] | None:
        """Block and index of a mined transaction."""
        found = self._places.get(transaction_hash)
        return None if found is None else (self.blocks[found[0]], found[1])

    def waiting(self, transaction_hash: bytes) -> Any | None:
        """A transaction that waits for those with lower nonces."""
        return next((each for each in self._queue.waiting.values() if each.hash == transaction_hash), None)

    def logs(self, first: int, last: int) -> list[LogPlace]:
        """Every log of the blocks `first` to `last`, both included."""
        low = bisect_left(self._logs, first, key=_number_of)
        return self._logs[low : bisect_right(self._logs, last, key=_number_of)]

    def state(self, block: Mined | None) -> Any:
        """py-evm's state after `block`; None means the pending block (the state now, the clock's time)."""
        header = self._pending_header() if block is None else block.header
        return self._chain.get_vm(header).state

    def next_nonce(self, address: bytes) -> int:
        """The nonce that the next transaction of `address` needs, waiting ones counted."""
        nonce = int(self.state(self.latest).get_nonce(address))
        while (address, nonce) in self._queue.waiting:
            nonce += 1
        return nonce

    @property
    def next_base_fee(self) -> int:
        return int(self._pending_header().base_fee_per_gas)

    # -- calls --------------------------------------------------------------------------------------

    def call(self, call: Call, *, block: Mined | None) -> bytes:
        """Run a call and forget what it changed. Raises `Reverted` or `TransactionRejected`."""
        return bytes(self._run(call, gas=call.gas or GAS_LIMIT, block=block).output)

    def estimate_gas(self, call: Call, *, block: Mined | None) -> int:
        """The least gas (to 1,000) with which the call succeeds. Raises like `call`."""
        cap = min(call.gas or GAS_LIMIT, GAS_LIMIT)
        used = cap - self._run(call, gas=cap, block=block).get_gas_remaining()
        low, high = used - 1, cap
        for guess in (used, used * 64 // 63 + 2_300):
            if low < guess < high and self._succeeds(call, gas=guess, block=block):
                high = guess
                break
            low = max(low, guess)
        while high - low > 1_000:
            middle = (low + high) // 2
            if self._succeeds(call, gas=middle, block=block):
                high = middle
            else:
                low = middle
        return high

    def _succeeds(self, call: Call, *, gas: int, block: Mined | None) -> bool:
        try:
            self._run(call, gas=gas, block=block)
        except (Reverted, TransactionRejected):
            return False
        return True

    def _run(self, call: Call, *, gas: int, block: Mined | None) -> Any:
        # Without a base fee a call costs nothing, so that an empty account may ask as well.
        header = (self._pending_header() if block is None else block.header).copy(base_fee_per_gas=0)
        return run(self._chain.get_vm(header), call, gas=gas)

    # -- transactions -------------------------------------------------------------------------------

    def send(self, raw: bytes) -> bytes:
        """Take a signed transaction, mine it (and those that waited for it), return its hash."""
        from eth_utils.exceptions import ValidationError
        from rlp.exceptions import RLPException  # type: ignore[import-untyped]

        builder = self._chain.get_vm(self._pending_header()).get_transaction_builder()
        try:
            transaction = builder.decode(raw)
            sender = transaction.sender
        except (RLPException, ValidationError, ValueError, TypeError, IndexError, KeyError) as error:
            raise TransactionRejected("not a transaction that this chain can decode") from error
        self._check(transaction, sender)
        transaction_hash = bytes(transaction.hash)
        if transaction.nonce > self.state(self.latest).get_nonce(sender):
            if len(self._queue.waiting) >= _QUEUE_LIMIT:
                raise TransactionRejected("txpool is full")
            self._queue.waiting[(sender, transaction.nonce)] = transaction
            return transaction_hash
        self._mine_one(transaction)
        nonce = transaction.nonce + 1
        while (successor := self._queue.waiting.pop((sender, nonce), None)) is not None:
            self._mine_one(successor)
            nonce += 1
        return transaction_hash

    def _check(self, transaction: Any, sender: bytes) -> None:
        if transaction.chain_id != CHAIN_ID:
            raise TransactionRejected(
                f"invalid chain id for signer: have {transaction.chain_id} want {CHAIN_ID}"
            )
        state, fee = self.state(self.latest), self.next_base_fee
        nonce = state.get_nonce(sender)
        if transaction.nonce < nonce:
            raise TransactionRejected(f"nonce too low: next nonce {nonce}, tx nonce {transaction.nonce}")
        if transaction.gas > GAS_LIMIT:
            raise TransactionRejected("exceeds block gas limit")
        if transaction.max_fee_per_gas < fee:
            raise TransactionRejected(
                f"max fee per gas less than block base fee: maxFeePerGas: {transaction.max_fee_per_gas}, "
                f"baseFee: {fee}"
            )
        cost = transaction.gas * transaction.max_fee_per_gas + transaction.value
        if (balance := state.get_balance(sender)) < cost:
            raise TransactionRejected(
                f"insufficient funds for gas * price + value: have {balance} want {cost}"
            )
        if transaction.gas < transaction.intrinsic_gas:
            raise TransactionRejected(
                f"intrinsic gas too low: have {transaction.gas}, want {transaction.intrinsic_gas}"
            )

    def _mine_one(self, transaction: Any) -> None:
        from eth_utils.exceptions import ValidationError

        try:
            self._mine((transaction,))
        except ValidationError as error:
            raise TransactionRejected(worded(error)) from error

    # -- mining and time ----------------------------------------------------------------------------

    @property
    def now(self) -> int:
        """The time that the next block gets. Never before that of the latest one; equal is allowed, as on
        Avalanche, so that a burst of transactions does not run ahead of the clock."""
        wished = self._next_timestamp
        time_now = int(self._clock()) + self._offset if wished is None else wished
        return max(time_now, int(self.latest.header.timestamp))

    def mine(self) -> Mined:
        """An empty block."""
        return self._mine(())

    def increase_time(self, seconds: int) -> int:
        """Move the clock of all coming blocks; returns the whole offset."""
        self._offset += seconds
        return self._offset

    def set_next_timestamp(self, timestamp: int) -> None:
        """The next block's time; the clock goes on from there. Raises `TransactionRejected` for the past."""
        if timestamp < int(self.latest.header.timestamp):
            raise TransactionRejected("timestamp is before that of the latest block")
        self._next_timestamp = timestamp

    def set_balance(self, address: bytes, wei: int) -> None:
        """Give `address` a balance out of nothing, in a block of its own."""
        self._mine((), change=lambda state: state.set_balance(address, wei))

    def _pending_header(self) -> Any:
        return self._chain.create_header_from_parent(
            self.latest.header, gas_limit=GAS_LIMIT, timestamp=self.now, coinbase=ZERO
        )

    def _mine(self, transactions: tuple[Any, ...], *, change: Callable[[Any], None] | None = None) -> Mined:
        header = self._pending_header().copy(mix_hash=os.urandom(32))
        virtual_machine = self._chain.get_vm(header)
        filled, receipts, _ = virtual_machine.apply_all_transactions(transactions, header)
        if change is not None:
            change(virtual_machine.state)
        block = virtual_machine.set_block_transactions_and_withdrawals(
            virtual_machine.get_block(), filled, transactions, receipts
        )
        block = virtual_machine.finalize_block(block).block  # computes the state root
        self._chain.chaindb.persist_block(block)
        mined = Mined(block.header, tuple(transactions), tuple(receipts), size_of(block))
        if self._next_timestamp is not None:
            self._offset = self._next_timestamp - int(self._clock())
            self._next_timestamp = None
        self._append(mined)
        return mined

    def _append(self, mined: Mined) -> None:
        self.blocks.append(mined)
        self._numbers[bytes(mined.header.hash)] = mined.number
        log_index = 0
        for index, (transaction, receipt) in enumerate(zip(mined.transactions, mined.receipts, strict=True)):
            self._places[bytes(transaction.hash)] = (mined.number, index)
            for log in receipt.logs:
                self._logs.append(LogPlace(mined, index, log_index, log))
                log_index += 1

    # -- snapshots ----------------------------------------------------------------------------------

    def snapshot(self) -> int:
        """Remember this moment; returns its number, from 1."""
        number = max(self._snapshots, default=0) + 1
        self._snapshots[number] = (len(self.blocks), self._offset, dict(self._queue.waiting))
        return number

    def revert(self, number: int) -> bool:
        """Go back to a snapshot, which is used up with all later ones; False if there is none such."""
        if number not in self._snapshots:
            return False
        count, self._offset, waiting = self._snapshots[number]
        self._snapshots = {each: kept for each, kept in self._snapshots.items() if each < number}
        for dropped in self.blocks[count:]:
            del self._numbers[bytes(dropped.header.hash)]
            for transaction in dropped.transactions:
                del self._places[bytes(transaction.hash)]
        del self.blocks[count:]
        del self._logs[bisect_left(self._logs, count, key=_number_of) :]
        self._queue.waiting = waiting
        self._next_timestamp = None
        head = self.latest.header
        self._chain.chaindb._set_as_canonical_chain_head(self._chain.chaindb.db, head, b"\x00" * 32)
        return True


def _number_of(place: LogPlace) -> int:
    return place.block.number
