"""The chain, asked through JSON-RPC: `Chain` over the URLs in `AVALANCHE_RPC_URL`.

Enters: settings. Leaves: a client that has proved, before it is returned, that what answers is the
right chain with the contract on it; afterwards the node's own values, or `ChainUnavailable`.

web3 costs 0.5 s and tens of megabytes, so it is imported when it is asked for. CCIP read is
off: no answer of a contract makes the node fetch a URL (CVE-2026-40072).
"""

from __future__ import annotations

import asyncio
import logging
from functools import cached_property
from typing import TYPE_CHECKING, Any

from node.addresses import parse_address
from node.chain.abi import Codec, LonjaAbi, offer
from node.chain.chain import ChainEvent, LicenseReading, RangeRefused
from node.chain.contract_signatures import signature_call
from node.chain.proof import prove_all
from node.chain.recursion import kept_recursion_limit
from node.chain.rpc import HEIGHT, Call, CallReverted, Read, Rpc, RpcRefused, data_bytes
from node.errors import ChainUnavailable, ModelNotFound, StartupError
from node.settings import Settings
from node.types import Address, ContractRef, Offer, TokenId, TokenModel

if TYPE_CHECKING:
    from web3 import AsyncWeb3

log = logging.getLogger(__name__)

_WORDS_FOR_A_LARGE_RANGE = ("range", "limit", "too many", "too large", "more than", "exceed", "size")
_NO_SUCH_MODEL = ("Lonja_ModelUnknown", "ERC721NonexistentToken")


class ChainClient:
    """One contract on one chain. Made by `connect`."""

    def __init__(self, *, rpc: Rpc, contract: ContractRef, codec: Codec) -> None:
        self.rpc = rpc
        self.codec = codec
        self._contract = contract
        self.abi = LonjaAbi(codec)

    @classmethod
    async def connect(cls, settings: Settings) -> ChainClient:
        """Open the URLs and prove them.

        A URL that answers wrongly (another chain, no contract, no JSON-RPC) is a mistake in the
        settings and stops the start; one that does not answer is only passed over, unless none does.

        Raises
        ------
        StartupError
            Naming the setting or the URL, the latter without userinfo, path and query.
        """
        if not settings.avalanche_rpc_url:
            raise StartupError("AVALANCHE_RPC_URL is not set: the node needs the URL of an EVM chain's RPC")
        if settings.contract_address is None:
            raise StartupError("CONTRACT_ADDRESS is not set: the node needs the Lonja contract's address")
        rpc = Rpc(settings.avalanche_rpc_url, timeout=settings.rpc_timeout / 1000)
        try:
            codec = await asyncio.to_thread(abi_codec)
            address = parse_address(settings.contract_address)
            chain_id = await prove_all(rpc, address=address, chain_id=settings.chain_id, abi=LonjaAbi(codec))
        except BaseException:
            await rpc.close()
            raise
        log.info("chain %d, contract %s, %d RPC URL(s)", chain_id, address, len(rpc.endpoints))
        return cls(rpc=rpc, contract=ContractRef(chain_id, address), codec=codec)

    @cached_property
    def web3(self) -> AsyncWeb3[Any]:
        """web3 over the same URLs; imported with its first use."""
        with kept_recursion_limit():
            from web3 import AsyncWeb3  # 0.5 s

            from node.chain.web3_provider import RpcProvider

        return AsyncWeb3(RpcProvider(self.rpc))

    @property
    def contract(self) -> ContractRef:
        return self._contract

    async def close(self) -> None:
        await self.rpc.close()

    async def ready(self) -> None:
        """Return when the chain answers now. Raises `ChainUnavailable`."""
        await self.block_number()

    async def block_number(self) -> int:
        return int(await self.rpc.call(*HEIGHT))

    async def license_of(self, licensee: Address, token_id: TokenId, *, confirmations: int) -> LicenseReading:
        question = self.abi.call("hasValidLicense", licensee, token_id)
        of_when = self.abi.call("licenseOf", licensee, token_id)
        calls = [self._call(question, self._read_answer), self._call(of_when, self._read_terms)]
        if confirmations > 0:
            head = self.rpc.head
            if head is None:
                head = await self.block_number()
            below = hex(max(0, head - confirmations))
            calls.append(self._call(question, self._read_answer_below, block=below))
        valid, terms, *earlier = await self.rpc.batch(calls)
        if isinstance(valid, CallReverted) or isinstance(terms, CallReverted):
            raise ChainUnavailable("the contract refused hasValidLicense; nothing is decided", retry_after=5)
        return LicenseReading(
            expires_at=terms["expiresAt"],
            active=valid is True,
            confirmed=all(answer is True for answer in earlier),
        )

    async def model_of(self, token_id: TokenId) -> TokenModel:
        block = await self.block_number()
        model = await self._view("modelOf", token_id, read=self.abi.fields, block=hex(block))
        return TokenModel(
            token_id=token_id,
            owner=parse_address(model["owner"]),
            revision=model["revision"],
            manifest_cid=model["metadataCid"],
            sales_paused=model["salesPaused"],
            block_number=block,
        )

    async def publisher_of(self, token_id: TokenId, *, block_number: int) -> Address:
        read, block = self.abi.result, hex(block_number)
        (publisher,) = await self._view("publisherOf", token_id, read=read, block=block)
        return parse_address(publisher)

    async def offers_of(self, token_id: TokenId) -> list[Offer]:
        (offers,) = await self._view("offersOf", token_id, read=self.abi.result)
        return [offer(values) for values in offers]

    async def total_models(self) -> int:
        (total,) = await self._view("totalModels", read=self.abi.result)
        return int(total)

    async def events(self, first_block: int, last_block: int) -> list[ChainEvent]:
        asked = {
            "address": self._contract.address,
            "fromBlock": hex(first_block),
            "toBlock": hex(last_block),
        }
        try:
            found = await self.rpc.call("eth_getLogs", [asked], self.abi.events)
        except RpcRefused as error:
            if any(word in error.reason.lower() for word in _WORDS_FOR_A_LARGE_RANGE):
                raise RangeRefused(error.message, retry_after=error.retry_after) from None
            raise
        return list(found)

    async def has_code(self, address: Address) -> bool:
        return len(await self.rpc.call("eth_getCode", [address, "latest"], data_bytes)) > 0

    async def accepts_signature(self, address: Address, *, digest: bytes, signature: bytes) -> bool:
        request, accepted = signature_call(self.codec, address, digest=digest, signature=signature)
        try:
            answer = await self.rpc.call("eth_call", [request, "latest"], data_bytes)
        except CallReverted:
            return False
        return accepted(answer)

    def _call(self, data: bytes, read: Read, *, block: str = "latest") -> Call:
        return Call("eth_call", [{"to": self._contract.address, "data": "0x" + data.hex()}, block], read)

    async def _view(self, name: str, *args: object, read: Any, block: str = "latest") -> Any:
        call = self._call(
            self.abi.call(name, *args), lambda answer: read(name, data_bytes(answer)), block=block
        )
        try:
            return await self.rpc.call(*call)
        except CallReverted as revert:
            error = self.abi.error(revert.data)
            if (error is None and args) or (error and error[0] in _NO_SUCH_MODEL):
                raise ModelNotFound(
                    f"there is no model with token id {args[0]} in the contract {self._contract.address}"
                ) from None
        raise ChainUnavailable(f"the contract refused {name}; nothing is decided", retry_after=5)

    def _read_answer(self, answer: object) -> bool:
        (valid,) = self.abi.result("hasValidLicense", data_bytes(answer))
        return bool(valid)

    def _read_answer_below(self, answer: object) -> bool:
        # where the contract did not stand yet there is no answer, and there was no license
        return answer != "0x" and self._read_answer(answer)

    def _read_terms(self, answer: object) -> dict[str, Any]:
        return self.abi.fields("licenseOf", data_bytes(answer))


def abi_codec() -> Codec:
    """eth-abi's codec: all that the node itself needs of what web3 would bring, for a quarter of its time."""
    from eth_abi.abi import default_codec  # 0.13 s

    return default_codec
