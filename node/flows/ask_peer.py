"""Weights from another node: this node signs its request when the other asks who it is.

Enters: the gateway that answered 401. Leaves: the header that proves this node's address, which the
other operator lists in `IPFS_PEERS`.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final

import aiohttp
import msgspec
from yarl import URL

from node.chain.typed_data import SignedRequest, authorization_header, body_hash, request_digest
from node.identity.node_key import NodeKey
from node.outbound import open_session
from node.types import Address, ContractRef

PATIENCE: Final = 5.0
"""Seconds for the other node to hand out a nonce."""

ANSWER_LIMIT: Final = 16_384
VALID_FOR: Final = 60


class Challenge(msgspec.Struct, frozen=True):
    """What is needed of the answer to `POST /api/auth/nonce`."""

    nonce: str
    node: Address
    chain_id: int


@dataclass(frozen=True, slots=True, kw_only=True)
class AskPeer:
    """Calling it makes the headers for one request, or None where the peer is not a node of this chain."""

    key: NodeKey
    contract: ContractRef
    wall: Callable[[], float] = time.time

    async def __call__(self, gateway: URL, method: str, url: URL) -> Mapping[str, str] | None:
        challenge = await self._challenge(gateway)
        if challenge is None or challenge.chain_id != self.contract.chain_id:
            return None
        request = SignedRequest(
            method=method,
            path=url.raw_path_qs,
            body_hash=body_hash(b""),
            node=challenge.node,
            nonce=challenge.nonce,
            deadline=int(self.wall()) + VALID_FOR,
        )
        signature = self.key.sign(request_digest(self.contract, request))
        header = authorization_header(
            address=self.key.address, nonce=request.nonce, deadline=request.deadline, signature=signature
        )
        return {"Authorization": header}

    async def _challenge(self, gateway: URL) -> Challenge | None:
        try:
            async with (
                asyncio.timeout(PATIENCE),
                open_session() as session,
                session.post(gateway / "api/auth/nonce", allow_redirects=False) as answer,
            ):
                body = await answer.content.read(ANSWER_LIMIT)
                return msgspec.json.decode(body, type=Challenge) if answer.status == 200 else None
        except (aiohttp.ClientError, TimeoutError, msgspec.MsgspecError):
            return None
