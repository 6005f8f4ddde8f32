"""The model tokens of the contract, read when asked for. Nothing is kept here: the catalogue does that."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Final

from node.chain.chain import Chain
from node.types import Address, Offer, TokenId, TokenModel

AT_ONCE: Final = 8
"""Tokens read at the same time while listing all."""


class Registry:
    """What is registered. Every method raises `ChainUnavailable` on RPC trouble."""

    def __init__(self, chain: Chain) -> None:
        self._chain = chain

    async def model(self, token_id: TokenId) -> TokenModel:
        """Raises `ModelNotFound`."""
        return await self._chain.model_of(token_id)

    async def publisher(self, token: TokenModel) -> Address:
        """Who registered the token, whoever owns it now, as the block says in which it was read."""
        return await self._chain.publisher_of(token.token_id, block_number=token.block_number)

    async def offers(self, token_id: TokenId) -> list[Offer]:
        """Terms on sale now. Raises `ModelNotFound`."""
        return await self._chain.offers_of(token_id)

    async def total(self) -> int:
        """How many tokens there are; their ids are 1 to this."""
        return await self._chain.total_models()

    async def models(self) -> AsyncIterator[TokenModel]:
        """Every registered model, by rising token id."""
        total = await self.total()
        for first in range(1, total + 1, AT_ONCE):
            ids = range(first, min(first + AT_ONCE, total + 1))
            for model in await asyncio.gather(*(self._chain.model_of(TokenId(i)) for i in ids)):
                yield model
