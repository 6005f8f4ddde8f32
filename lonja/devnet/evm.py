"""py-evm at arm's length: the values of a chain, its genesis, and one call of the EVM.

py-evm is untyped, so its objects are `Any` here and behind here; `ledger.py` makes a chain of them.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

CHAIN_ID: Final = 31337
"""That of anvil and Hardhat, which wallets know as a local chain."""

GAS_LIMIT: Final = 30_000_000
BALANCE: Final = 10_000 * 10**18
ZERO: Final = b"\x00" * 20


class TransactionRejected(Exception):
    """The chain does not take this transaction; the message is worded as other nodes word it."""


class Reverted(Exception):
    """A call ended in a revert or another failure of the EVM.

    Attributes
    ----------
    data : what the contract returned: an encoded custom error, `Error(string)`, `Panic(uint256)` or nothing.
    revert : False where the EVM itself stopped (out of gas, invalid opcode).
    """

    def __init__(self, message: str, *, data: bytes, revert: bool) -> None:
        super().__init__(message)
        self.data = data
        self.revert = revert


@dataclass(frozen=True, slots=True)
class Mined:
    """One block: py-evm's header, transactions and receipts (Any: py-evm is untyped)."""

    header: Any
    transactions: tuple[Any, ...]
    receipts: tuple[Any, ...]
    size: int

    @property
    def number(self) -> int:
        return int(self.header.block_number)


@dataclass(frozen=True, slots=True)
class Call:
    """An unsigned call: `to` empty creates a contract, `gas` None means all that a block holds."""

    sender: bytes
    to: bytes
    data: bytes
    value: int
    gas: int | None


@dataclass(frozen=True, slots=True)
class LogPlace:
    """A log and where it stands."""

    block: Mined
    transaction_index: int
    log_index: int
    log: Any


def genesis(accounts: list[bytes], *, timestamp: int) -> Any:
    from eth.chains.base import MiningChain
    from eth.consensus.applier import ConsensusApplier
    from eth.consensus.noproof import NoProofConsensus
    from eth.db.atomic import AtomicDB
    from eth.vm.forks.prague import PragueVM

    class DevnetChain(MiningChain):
        chain_id = CHAIN_ID
        vm_configuration = ConsensusApplier(NoProofConsensus).amend_vm_configuration(((0, PragueVM),))

    parameters: Any = {"difficulty": 0, "gas_limit": GAS_LIMIT, "timestamp": timestamp, "nonce": b"\x00" * 8}
    funded = {"balance": BALANCE, "nonce": 0, "code": b"", "storage": {}}
    state: Any = dict.fromkeys(accounts, funded)
    return DevnetChain.from_genesis(AtomicDB(), parameters, state)


def _reverted(computation: Any) -> Reverted:
    from eth.exceptions import Revert

    error = computation.error
    if isinstance(error, Revert):
        return Reverted("execution reverted", data=bytes(computation.output), revert=True)
    name = "".join(" " + letter.lower() if letter.isupper() else letter for letter in type(error).__name__)
    return Reverted(name.strip(), data=b"", revert=False)


def worded(error: Exception) -> str:
    text = str(error.args[0]) if error.args else str(error)
    return "insufficient funds for transfer" if "balance" in text.lower() else text


def size_of(block: Any) -> int:
    import rlp  # type: ignore[import-untyped]

    return len(rlp.encode(block))


def run(virtual_machine: Any, call: Call, *, gas: int) -> Any:
    """Run a call on a state that is forgotten. Raises `Reverted` or `TransactionRejected`."""
    from eth.vm.spoof import SpoofTransaction
    from eth_utils.exceptions import ValidationError

    state = virtual_machine.state
    unsigned = virtual_machine.get_transaction_builder().create_unsigned_transaction(
        nonce=state.get_nonce(call.sender), gas_price=0, gas=min(gas, GAS_LIMIT), to=call.to,
        value=call.value, data=call.data,
    )  # fmt: skip
    try:
        computation = state.apply_transaction(SpoofTransaction(unsigned, from_=call.sender))
    except ValidationError as error:
        raise TransactionRejected(worded(error)) from error
    if computation.is_error:
        raise _reverted(computation)
    return computation
