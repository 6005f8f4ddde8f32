"""Values that travel between the layers. Plain data: frozen, without behaviour that needs a peer.

NumPy is never imported here: the main process holds these values, the worker holds the arrays.
"""

from __future__ import annotations

from enum import Enum
from typing import Literal, NewType

import msgspec

from node.cid import Cid

Address = NewType("Address", str)
"""An account or contract address with its EIP-55 checksum."""

TokenId = NewType("TokenId", int)
"""uint256 id of a model's token in the contract."""

Bytes32 = NewType("Bytes32", str)
"""A 32-byte value as 0x-prefixed lower-case hex."""

PERPETUAL = 2**64 - 1
"""`expires_at` of a license that never runs out, as the contract writes it."""


class ContractRef(msgspec.Struct, frozen=True):
    """Which contract on which chain."""

    chain_id: int
    address: Address


class ModelKey(msgspec.Struct, frozen=True):
    """The one name of a model that cannot be ambiguous: `{chainId}:{contract}:{tokenId}`."""

    chain_id: int
    contract: Address
    token_id: TokenId

    def __str__(self) -> str:
        return f"{self.chain_id}:{self.contract}:{self.token_id}"


class TokenModel(msgspec.Struct, frozen=True):
    """What the contract says of one model token at one block."""

    token_id: TokenId
    owner: Address
    revision: int
    manifest_cid: str
    sales_paused: bool
    block_number: int


class Offer(msgspec.Struct, frozen=True):
    """Terms on which a license is sold.

    `price` is in the currency's smallest unit; `currency` is the zero address for the native coin;
    `duration` is in seconds, 0 for a perpetual license. An offer's id always means the same terms.
    """

    offer_id: int
    price: int
    currency: Address
    duration: int


class License(msgspec.Struct, frozen=True):
    """A license that is valid now, as far as the chain has told. Times are Unix seconds of block time."""

    token_id: TokenId
    licensee: Address
    expires_at: int

    @property
    def perpetual(self) -> bool:
        return self.expires_at == PERPETUAL


class CallerScheme(Enum):
    SESSION = "session"
    SIGNATURE = "signature"


class Caller(msgspec.Struct, frozen=True):
    """Who calls, proven by a session token or by a signature over the request. Never read from a body."""

    address: Address
    scheme: CallerScheme


class CatalogueEntry(msgspec.Struct, frozen=True):
    """A model that this node knows: the token joined with what its manifest says."""

    key: ModelKey
    model_id: str
    revision: int
    manifest_cid: Cid
    owner: Address
    name: str
    description: str
    model_type: str
    weights_cid: Cid
    weights_bytes: int


class Payload(msgspec.Struct, frozen=True):
    """One input as it came, undecoded: untrusted bytes are opened in the worker only.

    Attributes
    ----------
    format : a name that `GET /api/inference/formats` lists, e.g. `base64_jpeg`, `image`, `tensor`.
    content : with `encoding` "json", the JSON text of the `content` member exactly as it stood in the
        body; with "binary", the raw bytes (an image file, or the bytes that a URL gave).
    """

    format: str
    content: bytes | memoryview
    encoding: Literal["json", "binary"]


class Options(msgspec.Struct, frozen=True):
    """What the caller asks of the answer; None means the manifest's or the node's own value."""

    top_k: int | None = None
    threshold: float | None = None
    timeout: int | None = None
    """Milliseconds for the whole request."""


class InferenceRequest(msgspec.Struct, frozen=True):
    """A call of `flows/infer`, whatever transport brought it."""

    model: str
    """A bare `model_id`, or the canonical `{chainId}:{contract}:{tokenId}`."""
    payload: Payload
    options: Options = Options()


class RunTimings(msgspec.Struct, frozen=True):
    """Milliseconds that a worker spent on one request, and how many requests shared its run."""

    preprocessing: float
    inference: float
    postprocessing: float
    queue: float = 0.0
    batch: int = 1


class RunResult(msgspec.Struct, frozen=True):
    """A worker's answer to one request.

    `predictions` is finished JSON: for one input row a list as the task defines it, for several
    rows a list of such lists. The main process splices it into its answer unread. `entropy` is in
    nats (one value a row where there are several), None where the task has none.
    """

    predictions: msgspec.Raw
    timings: RunTimings
    entropy: float | list[float] | None = None


class InferenceResult(msgspec.Struct, frozen=True):
    """What `flows/infer` returns."""

    entry: CatalogueEntry
    run: RunResult
    total_ms: float


class LoadReport(msgspec.Struct, frozen=True):
    """What a worker tells after it has loaded a model. Memory is proportional set size in bytes."""

    load_ms: float
    memory_bytes: int
    threads: int
    inputs: list[dict[str, object]]
    warmup_ms: float | None = None
