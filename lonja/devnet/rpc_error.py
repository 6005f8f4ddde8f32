"""The errors of JSON-RPC 2.0 and of Ethereum nodes, by their codes."""

from __future__ import annotations

from typing import Final

PARSE_ERROR: Final = -32700
INVALID_REQUEST: Final = -32600
METHOD_UNKNOWN: Final = -32601
INVALID_PARAMS: Final = -32602
INTERNAL: Final = -32603
REJECTED: Final = -32000
REVERTED: Final = 3


class RpcError(Exception):
    """An answer with `error`; `data` carries a revert's bytes, from which clients decode custom errors."""

    def __init__(self, code: int, message: str, *, data: str | None = None) -> None:
        super().__init__(message)
        self.code, self.message, self.data = code, message, data
