"""Proof that an RPC URL serves the right chain with the contract on it, before it is believed.

Enters: the URLs of `AVALANCHE_RPC_URL`, unproved. Leaves: the chain's id, and URLs each of which is
proved, or will be before its first use; or `StartupError` naming the one that is wrong.
"""

from __future__ import annotations

import asyncio
import logging
from typing import Any

from node.chain.abi import LonjaAbi
from node.chain.rpc import (
    HEIGHT,
    Call,
    CallReverted,
    Endpoint,
    EndpointFailed,
    Rpc,
    RpcRefusal,
    data_bytes,
    quantity,
)
from node.errors import StartupError
from node.types import Address

log = logging.getLogger(__name__)


class _Wrong(Exception):
    """The URL answers, and its answer shows that it must not be used."""


async def prove_all(rpc: Rpc, *, address: Address, chain_id: int | None, abi: LonjaAbi) -> int:
    """Prove every URL at once; returns the chain's id.

    With `chain_id` None the first URL that answers says which chain it is, and the others must agree.
    """
    outcomes = await asyncio.gather(
        *(_prove(rpc, endpoint, address=address, abi=abi) for endpoint in rpc.endpoints),
        return_exceptions=True,
    )
    silent: list[str] = []
    for endpoint, outcome in zip(rpc.endpoints, outcomes, strict=True):
        if isinstance(outcome, EndpointFailed) and not outcome.garbage:
            silent.append(f"{endpoint.name}: {outcome}")
            endpoint.breaker.failed(at_once=True)
        elif isinstance(outcome, EndpointFailed | _Wrong):
            raise StartupError(f"AVALANCHE_RPC_URL {endpoint.name}: {outcome}")
        elif isinstance(outcome, BaseException):
            raise outcome
        else:
            found, head = outcome
            chain_id = found if chain_id is None else chain_id
            _compare(endpoint, found=found, expected=chain_id)
            endpoint.proved = True
            endpoint.head, endpoint.head_at = head, rpc.now()
    if chain_id is None or len(silent) == len(rpc.endpoints):
        raise StartupError(f"AVALANCHE_RPC_URL: no RPC answers ({'; '.join(silent)})")
    for text in silent:
        log.warning("RPC %s; starting without it", text)
    expected = chain_id

    async def later(endpoint: Endpoint) -> None:
        try:
            found, head = await _prove(rpc, endpoint, address=address, abi=abi)
            _compare(endpoint, found=found, expected=expected)
        except (_Wrong, StartupError) as error:
            endpoint.refused = str(error)
            log.error("RPC %s is not used: %s", endpoint.name, error)
            raise EndpointFailed(str(error)) from None
        rpc.note_head(endpoint, head)

    rpc.proof = later
    return expected


def _compare(endpoint: Endpoint, *, found: int, expected: int) -> None:
    if found != expected:
        raise StartupError(
            f"AVALANCHE_RPC_URL {endpoint.name} serves chain {found}, but chain {expected} is wanted "
            "(CHAIN_ID, or the chain of the first URL)"
        )


async def _prove(rpc: Rpc, endpoint: Endpoint, *, address: Address, abi: LonjaAbi) -> tuple[int, int]:
    """Chain id and height. Raises `_Wrong`, `EndpointFailed`."""
    try:
        chain_id = await _one(rpc, endpoint, Call("eth_chainId", [], quantity))
        head = await _one(rpc, endpoint, HEIGHT)
        if not await _one(rpc, endpoint, Call("eth_getCode", [address, "latest"], data_bytes)):
            raise _Wrong(f"there is no contract at {address} (CONTRACT_ADDRESS) on chain {chain_id}")
        call = {"to": address, "data": "0x" + abi.call("totalModels").hex()}
        total = await _one(rpc, endpoint, Call("eth_call", [call, "latest"], data_bytes))
        _read_total(abi, total, address=address)
    except RpcRefusal as refusal:
        raise _Wrong(f"refuses a plain call (JSON-RPC error {refusal.error.code})") from None
    return chain_id, head


async def _one(rpc: Rpc, endpoint: Endpoint, call: Call) -> Any:
    return (await rpc.ask(endpoint, [call]))[0]


def _read_total(abi: LonjaAbi, answer: object, *, address: Address) -> None:
    try:
        if isinstance(answer, bytes):
            abi.result("totalModels", answer)
            return
    except EndpointFailed:
        pass
    if isinstance(answer, CallReverted | bytes):
        raise _Wrong(f"the contract at {address} (CONTRACT_ADDRESS) is not a Lonja contract")
