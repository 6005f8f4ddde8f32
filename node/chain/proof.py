"""Proof that an RPC URL serves the right chain with the contract on it, before it is believed.

Enters: the URLs of `AVALANCHE_RPC_URL`, unproved. Leaves: the chain's id, and URLs each of which is
proved, or will be before its first use; or `StartupError` naming the one that is wrong.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Sequence
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
    """Prove every URL; returns the chain's id.

    With `chain_id` None the first URL that answers says which chain it is, and the others must agree.
    The chain is asked before the contract: on a wrong chain a missing contract is no wonder.
    """
    silent: list[str] = []
    chains = await _of_all(rpc.endpoints, lambda endpoint: _chain(rpc, endpoint), silent)
    for endpoint, found in chains.items():
        chain_id = found if chain_id is None else chain_id
        if found != chain_id:
            raise StartupError(f"AVALANCHE_RPC_URL {endpoint.name}: {_other_chain(found, chain_id)}")
    heads = await _of_all(
        list(chains), lambda endpoint: _contract(rpc, endpoint, address=address, abi=abi), silent
    )
    if chain_id is None or not heads:
        raise StartupError(f"AVALANCHE_RPC_URL: no RPC answers ({'; '.join(silent)})")
    for endpoint in rpc.endpoints:
        if endpoint in heads:
            endpoint.proved = True
            endpoint.head, endpoint.head_at = heads[endpoint], rpc.now()
        else:
            endpoint.breaker.failed(at_once=True)
    for text in silent:
        log.warning("RPC %s; starting without it", text)
    expected = chain_id

    async def later(endpoint: Endpoint) -> None:
        try:
            found = await _chain(rpc, endpoint)
            if found != expected:
                raise _Wrong(_other_chain(found, expected))
            head = await _contract(rpc, endpoint, address=address, abi=abi)
        except _Wrong as error:
            endpoint.refused = str(error)
            log.error("RPC %s is not used: %s", endpoint.name, error)
            raise EndpointFailed(str(error)) from None
        rpc.note_head(endpoint, head)

    rpc.proof = later
    return expected


async def _of_all(
    endpoints: Sequence[Endpoint], prove: Callable[[Endpoint], Awaitable[int]], silent: list[str]
) -> dict[Endpoint, int]:
    """What those that answer say, at once; the others go into `silent`. Raises `StartupError`."""
    outcomes = await asyncio.gather(*map(prove, endpoints), return_exceptions=True)
    found: dict[Endpoint, int] = {}
    for endpoint, outcome in zip(endpoints, outcomes, strict=True):
        if isinstance(outcome, EndpointFailed) and not outcome.garbage:
            silent.append(f"{endpoint.name}: {outcome}")
        elif isinstance(outcome, EndpointFailed | _Wrong):
            raise StartupError(f"AVALANCHE_RPC_URL {endpoint.name}: {outcome}")
        elif isinstance(outcome, BaseException):
            raise outcome
        else:
            found[endpoint] = outcome
    return found


def _other_chain(found: int, expected: int) -> str:
    return f"serves chain {found}, but {expected} is wanted (CHAIN_ID, or the chain of the first URL)"


async def _chain(rpc: Rpc, endpoint: Endpoint) -> int:
    """The chain's id. Raises `_Wrong`, `EndpointFailed`."""
    try:
        return int(await _one(rpc, endpoint, Call("eth_chainId", [], quantity)))
    except RpcRefusal as refusal:
        raise _Wrong(f"refuses eth_chainId (JSON-RPC error {refusal.error.code})") from None


async def _contract(rpc: Rpc, endpoint: Endpoint, *, address: Address, abi: LonjaAbi) -> int:
    """The chain's height, once the contract is found on it. Raises `_Wrong`, `EndpointFailed`."""
    try:
        head = int(await _one(rpc, endpoint, HEIGHT))
        if not await _one(rpc, endpoint, Call("eth_getCode", [address, "latest"], data_bytes)):
            raise _Wrong(f"there is no contract at {address} (CONTRACT_ADDRESS)")
        call = {"to": address, "data": "0x" + abi.call("totalModels").hex()}
        total = await _one(rpc, endpoint, Call("eth_call", [call, "latest"], data_bytes))
    except RpcRefusal as refusal:
        raise _Wrong(f"refuses a plain call (JSON-RPC error {refusal.error.code})") from None
    _read_total(abi, total, address=address)
    return head


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
