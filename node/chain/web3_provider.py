"""web3 over our own `Rpc`, so that what web3 does (transactions, mostly) fails over as everything else.

Imported only after web3 was: it defines a subclass of one of web3's.
"""

from __future__ import annotations

from typing import Any, cast

from web3.providers.async_base import AsyncJSONBaseProvider
from web3.types import RPCEndpoint, RPCResponse

from node.chain.rpc import CallReverted, Rpc, RpcRefused


class RpcProvider(AsyncJSONBaseProvider):
    """An asynchronous web3 provider. Troubles stay `ChainUnavailable`; refusals become JSON-RPC errors."""

    global_ccip_read_enabled = False

    def __init__(self, rpc: Rpc) -> None:
        super().__init__()
        self._rpc = rpc

    async def make_request(self, method: RPCEndpoint, params: Any) -> RPCResponse:
        answer: dict[str, Any] = {"jsonrpc": "2.0", "id": 1}
        try:
            answer["result"] = await self._rpc.call(method, list(params))
        except CallReverted as revert:
            answer["error"] = {"code": 3, "message": revert.reason, "data": "0x" + revert.data.hex()}
        except RpcRefused as refused:
            answer["error"] = {"code": refused.rpc_code, "message": refused.reason}
        return cast("RPCResponse", answer)
