"""Blocks, transactions, receipts and logs of py-evm as the JSON of Ethereum's execution API.

Quantities are 0x-hex without leading zeros, data is 0x-hex of whole bytes, and names are camelCase.
"""

from __future__ import annotations

from typing import Any

from lonja.devnet.evm import LogPlace, Mined


def quantity(value: int) -> str:
    return hex(int(value))


def data(value: bytes) -> str:
    return "0x" + bytes(value).hex()


def keccak(value: bytes) -> bytes:
    from eth_hash.auto import keccak as hashed

    return bytes(hashed(value))


def address(value: bytes) -> str | None:
    """EIP-55 text; None for the empty address of a creation."""
    from eth_utils.address import to_checksum_address

    return to_checksum_address(value) if value else None


def block(mined: Mined, *, full: bool) -> dict[str, Any]:
    """`eth_getBlockBy...`; with `full` the transactions themselves instead of their hashes."""
    header = mined.header
    count = range(len(mined.transactions))
    return {
        "number": quantity(mined.number),
        "hash": data(header.hash),
        "parentHash": data(header.parent_hash),
        "nonce": data(header.nonce),
        "sha3Uncles": data(header.uncles_hash),
        "logsBloom": _bloom(header.bloom),
        "transactionsRoot": data(header.transaction_root),
        "stateRoot": data(header.state_root),
        "receiptsRoot": data(header.receipt_root),
        "miner": address(header.coinbase),
        "difficulty": quantity(header.difficulty),
        "totalDifficulty": "0x0",
        "extraData": data(header.extra_data),
        "mixHash": data(header.mix_hash),
        "size": quantity(mined.size),
        "gasLimit": quantity(header.gas_limit),
        "gasUsed": quantity(header.gas_used),
        "timestamp": quantity(header.timestamp),
        "baseFeePerGas": quantity(header.base_fee_per_gas),
        "withdrawalsRoot": data(header.withdrawals_root),
        "withdrawals": [],
        "blobGasUsed": quantity(header.blob_gas_used),
        "excessBlobGas": quantity(header.excess_blob_gas),
        "parentBeaconBlockRoot": data(header.parent_beacon_block_root),
        "requestsHash": data(header.requests_hash),
        "uncles": [],
        "transactions": [
            transaction(mined, index) if full else data(mined.transactions[index].hash) for index in count
        ],
    }


def pending_block(latest: Mined, *, now: int, base_fee: int) -> dict[str, Any]:
    """The block to come: nothing is in it, since every transaction is mined at once."""
    return {
        **block(latest, full=False),
        "number": quantity(latest.number + 1),
        "hash": None,
        "nonce": None,
        "miner": None,
        "logsBloom": None,
        "parentHash": data(latest.header.hash),
        "timestamp": quantity(now),
        "baseFeePerGas": quantity(base_fee),
        "gasUsed": "0x0",
        "transactions": [],
    }


def transaction(mined: Mined, index: int) -> dict[str, Any]:
    """`eth_getTransactionBy...` of a mined transaction."""
    sent = mined.transactions[index]
    return {
        **transaction_fields(sent),
        "blockHash": data(mined.header.hash),
        "blockNumber": quantity(mined.number),
        "transactionIndex": quantity(index),
        "gasPrice": quantity(_effective_price(mined, sent)),
    }


def transaction_fields(sent: Any) -> dict[str, Any]:
    """A transaction without a place: what waits for its turn."""
    kind = _kind(sent)
    fields: dict[str, Any] = {
        "type": quantity(kind),
        "hash": data(sent.hash),
        "nonce": quantity(sent.nonce),
        "blockHash": None,
        "blockNumber": None,
        "transactionIndex": None,
        "from": address(sent.sender),
        "to": address(sent.to),
        "value": quantity(sent.value),
        "gas": quantity(sent.gas),
        "gasPrice": quantity(sent.max_fee_per_gas),
        "input": data(sent.data),
        "r": quantity(sent.r),
        "s": quantity(sent.s),
        "v": quantity(sent.y_parity if kind else sent.v),
        "chainId": None if sent.chain_id is None else quantity(sent.chain_id),
    }
    if kind:
        fields["yParity"] = fields["v"]
        fields["accessList"] = [
            {"address": address(entry[0]), "storageKeys": [data(key.to_bytes(32, "big")) for key in entry[1]]}
            for entry in sent.access_list or ()
        ]
    if kind >= 2:
        fields["maxFeePerGas"] = quantity(sent.max_fee_per_gas)
        fields["maxPriorityFeePerGas"] = quantity(sent.max_priority_fee_per_gas)
    return fields


def receipt(mined: Mined, index: int) -> dict[str, Any]:
    """`eth_getTransactionReceipt`."""
    sent, written = mined.transactions[index], mined.receipts[index]
    before = mined.receipts[index - 1].gas_used if index else 0
    first_log = sum(len(each.logs) for each in mined.receipts[:index])
    return {
        "type": quantity(_kind(sent)),
        "status": quantity(int.from_bytes(written.state_root, "big")),
        "transactionHash": data(sent.hash),
        "transactionIndex": quantity(index),
        "blockHash": data(mined.header.hash),
        "blockNumber": quantity(mined.number),
        "from": address(sent.sender),
        "to": address(sent.to),
        "contractAddress": None if sent.to else address(_created(sent)),
        "cumulativeGasUsed": quantity(written.gas_used),
        "gasUsed": quantity(written.gas_used - before),
        "effectiveGasPrice": quantity(_effective_price(mined, sent)),
        "logsBloom": _bloom(written.bloom),
        "logs": [log(LogPlace(mined, index, first_log + at, each)) for at, each in enumerate(written.logs)],
    }


def log(place: LogPlace) -> dict[str, Any]:
    """One entry of `eth_getLogs`."""
    mined = place.block
    return {
        "address": address(place.log.address),
        "topics": [data(topic.to_bytes(32, "big")) for topic in place.log.topics],
        "data": data(place.log.data),
        "blockNumber": quantity(mined.number),
        "blockHash": data(mined.header.hash),
        "blockTimestamp": quantity(mined.header.timestamp),
        "transactionHash": data(mined.transactions[place.transaction_index].hash),
        "transactionIndex": quantity(place.transaction_index),
        "logIndex": quantity(place.log_index),
        "removed": False,
    }


def revert_reason(returned: bytes) -> str | None:
    """The text of `Error(string)` or `Panic(uint256)`; None for a custom error or nothing."""
    if returned[:4] == bytes.fromhex("08c379a0") and len(returned) >= 68:
        size = int.from_bytes(returned[36:68], "big")
        return returned[68 : 68 + size].decode(errors="replace")
    if returned[:4] == bytes.fromhex("4e487b71"):
        return f"panic 0x{int.from_bytes(returned[4:36], 'big'):02x}"
    return None


def _kind(sent: Any) -> int:
    return int(getattr(sent, "type_id", None) or 0)


def _effective_price(mined: Mined, sent: Any) -> int:
    base = mined.header.base_fee_per_gas
    return int(min(sent.max_fee_per_gas, sent.max_priority_fee_per_gas + base))


def _bloom(value: int) -> str:
    return data(int(value).to_bytes(256, "big"))


def _created(sent: Any) -> bytes:
    """Address of a contract that a transaction created: keccak(rlp([sender, nonce])), last 20 bytes."""
    import rlp  # type: ignore[import-untyped]

    return keccak(rlp.encode([sent.sender, sent.nonce]))[12:]
