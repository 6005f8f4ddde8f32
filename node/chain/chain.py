"""What the node asks of a chain: the one interface that `ChainClient` and the tests' fake both satisfy.

Everything behind it speaks in the node's own values. An implementation maps its transport's troubles
to `ChainUnavailable` once, so that nobody above can mistake an outage for an answer.
"""

from __future__ import annotations

from typing import Protocol

import msgspec

from node.errors import ChainUnavailable
from node.types import Address, ContractRef, Offer, TokenId, TokenModel


class LicenseReading(msgspec.Struct, frozen=True):
    """What the contract says of one licensee and one token.

    Attributes
    ----------
    expires_at : Unix seconds as the newest block has it; `PERPETUAL`, or 0 where there never was a license.
    active : whether the newest block, by its own time, calls it valid.
    confirmed : whether the block `confirmations` below called it valid too.
    """

    expires_at: int
    active: bool
    confirmed: bool


class ChainEvent(msgspec.Struct, frozen=True, kw_only=True):
    """Something the contract did. `removed` says that a reorganisation of the chain took it back."""

    token_id: TokenId
    block_number: int
    block_hash: str
    log_index: int
    removed: bool = False

    @property
    def place(self) -> tuple[int, str, int]:
        """Where in which version of history it happened; equal for the same event seen twice."""
        return self.block_number, self.block_hash, self.log_index


class ModelRegistered(ChainEvent, frozen=True, kw_only=True):
    publisher: Address
    manifest_cid: str


class ModelUpdated(ChainEvent, frozen=True, kw_only=True):
    revision: int
    manifest_cid: str


class OffersChanged(ChainEvent, frozen=True, kw_only=True):
    offers: tuple[Offer, ...]


class LicenseChanged(ChainEvent, frozen=True, kw_only=True):
    """Bought, granted (`expires_at` set) or revoked (`expires_at` is None)."""

    licensee: Address
    expires_at: int | None


class ModelTransferred(ChainEvent, frozen=True, kw_only=True):
    previous_owner: Address
    owner: Address


class SalesSwitched(ChainEvent, frozen=True, kw_only=True):
    paused: bool


class RangeRefused(ChainUnavailable):
    """The peers want fewer blocks in one question for events."""


class Chain(Protocol):
    """Reading side of one contract on one chain. Every method raises `ChainUnavailable` on RPC trouble."""

    @property
    def contract(self) -> ContractRef: ...

    async def close(self) -> None: ...

    async def ready(self) -> None:
        """Return when the chain answers now."""

    async def block_number(self) -> int:
        """Height of the newest block."""

    async def license_of(
        self, licensee: Address, token_id: TokenId, *, confirmations: int
    ) -> LicenseReading: ...

    async def model_of(self, token_id: TokenId) -> TokenModel:
        """Raises `ModelNotFound`."""

    async def publisher_of(self, token_id: TokenId, *, block_number: int) -> Address:
        """Who registered the token, whoever owns it now. Raises `ModelNotFound`."""

    async def offers_of(self, token_id: TokenId) -> list[Offer]:
        """Raises `ModelNotFound`."""

    async def total_models(self) -> int: ...

    async def events(self, first_block: int, last_block: int) -> list[ChainEvent]:
        """Events of these blocks (both included) in the order in which they happened.

        Raises `RangeRefused` where the peer wants a smaller range.
        """

    async def has_code(self, address: Address) -> bool:
        """Whether a contract stands at the address."""

    async def accepts_signature(self, address: Address, *, digest: bytes, signature: bytes) -> bool:
        """What the contract at the address (EIP-1271), or the one it would become (ERC-6492), says."""
