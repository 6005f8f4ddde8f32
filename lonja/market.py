"""The contract as people use it: offers, buying, granting, revoking, registering.

Enters: what is wanted, in the contract's units. Leaves: what happened, or `ChainFailed` in words that say
what to do. Every transaction is simulated before it is sent: what the contract refuses costs nothing.

Goes through `node.chain.transactions` with eth-abi's own codec: importing web3 for it would take longer
(0.7 s) than a whole purchase.
"""

from __future__ import annotations

from collections.abc import Awaitable
from typing import TYPE_CHECKING, Any, TypeVar, cast
from urllib.parse import urlsplit

from lonja.answers import PERPETUAL, LicenseStatus, Offer, Purchase
from lonja.errors import ChainFailed, SignerRequired, UsageInvalid
from lonja.terms import OfferTerms

if TYPE_CHECKING:
    from eth_account.signers.local import LocalAccount

    from node.chain.abi import LonjaAbi
    from node.chain.client import ChainClient
    from node.chain.transactions import Transactions
    from node.types import Address, TokenId

T = TypeVar("T")
_RPC_SECONDS = 20.0


async def connect(url: str, contract: str) -> ChainClient:
    """Find out which chain answers at `url`. Raises `ChainFailed`, or `UsageInvalid` for a bad address."""
    from node.chain.client import ChainClient, abi_codec
    from node.chain.rpc import HEIGHT, Rpc, quantity
    from node.types import ContractRef

    address = checked(contract)
    if urlsplit(url).scheme not in ("http", "https") or not urlsplit(url).hostname:
        raise UsageInvalid("the chain's RPC is an http or https URL: http(s)://host[:port]")
    rpc = Rpc([url], timeout=_RPC_SECONDS)
    try:
        await failing_clearly(rpc.call(*HEIGHT))
        chain_id = await failing_clearly(rpc.call("eth_chainId", [], quantity))
    except BaseException:
        await rpc.close()
        raise
    return ChainClient(rpc=rpc, contract=ContractRef(chain_id, address), codec=abi_codec())


class Market:
    """The contract at one address of one chain, for at most one key. Connects with the first call."""

    def __init__(self, *, rpc: str | None, contract: str | None, account: LocalAccount | None) -> None:
        self._url, self._address, self._account = rpc, contract, account
        self._connection: ChainClient | None = None
        self._transactions: Transactions | None = None

    async def close(self) -> None:
        """Free the connections."""
        if self._connection is not None:
            await self._connection.rpc.close()
            self._connection = None

    # -- reading ------------------------------------------------------------------------------------

    async def offers(self, token_id: int) -> list[Offer]:
        """The offers of a model, in the order of its owner. Raises `ChainFailed` for an unknown model."""
        (offers,) = await self._read("offersOf", token_id)
        return [Offer(offer_id, price, currency, duration) for offer_id, price, currency, duration in offers]

    async def license(self, token_id: int, licensee: str) -> LicenseStatus:
        """The license of `licensee` at the latest block."""
        (fields,) = await self._read("licenseOf", checked(licensee), token_id)
        expires_at, _granted_until, active, *_ = fields
        perpetual = expires_at == PERPETUAL
        known = None if perpetual or expires_at == 0 else expires_at
        return LicenseStatus(str(token_id), licensee, bool(active), perpetual, known)

    async def canonical_name(self, token_id: int) -> str:
        """The one name of a model that cannot be ambiguous: `chainId:contract:tokenId`."""
        contract = (await self._connected()).contract
        return f"{contract.chain_id}:{contract.address}:{token_id}"

    async def total_models(self) -> int:
        """How many models are registered; their ids run from 1 to this."""
        (total,) = await self._read("totalModels")
        return int(total)

    # -- licenses -----------------------------------------------------------------------------------

    async def buy(self, token_id: int, *, offer: int | None, licensee: str | None) -> Purchase:
        """See `AsyncClient.buy`."""
        from node.types import Address
        from node.types import Offer as Terms

        writer = await self._writer()
        who = checked(licensee) if licensee else writer.address
        offers = await self.offers(token_id)
        chosen = next((each for each in offers if offer is None or each.offer_id == offer), None)
        if chosen is None:
            there = ", ".join(str(each.offer_id) for each in offers) or "none"
            wanted = "is not for sale" if offer is None else f"has no offer {offer}; it has {there}"
            raise ChainFailed(f"model {token_id} {wanted}", reason="Lonja_OfferUnknown")
        terms = Terms(chosen.offer_id, chosen.price, Address(checked(chosen.currency)), chosen.duration)
        receipt = await failing_clearly(writer.purchase(cast("TokenId", token_id), terms, licensee=who))
        status = await self.license(token_id, who)
        return Purchase(token_id, chosen.offer_id, who, chosen.price, status.expires_at, receipt.tx)

    async def grant(self, token_id: int, licensee: str, *, seconds: int) -> str:
        """See `AsyncClient.grant`."""
        writer, who = await self._writer(), checked(licensee)
        return (await failing_clearly(writer.grant(cast("TokenId", token_id), who, duration=seconds))).tx

    async def revoke(self, token_id: int, licensee: str) -> str:
        """See `AsyncClient.revoke`."""
        writer, who = await self._writer(), checked(licensee)
        return (await failing_clearly(writer.revoke(cast("TokenId", token_id), who))).tx

    # -- models -------------------------------------------------------------------------------------

    async def require_can_publish(self, update: int | None) -> str | None:
        """Find out before anything is uploaded: there is a key, a chain, and the token is ours.

        Returns the CID that the token to `update` carries now.
        """
        writer = await self._writer()
        if update is None:
            await self.total_models()
            return None
        (model,) = await self._read("modelOf", update)
        if str(model[0]).lower() != writer.address.lower():
            raise ChainFailed(
                f"only the owner of model {update} may update it; that is {model[0]}",
                reason="Lonja_NotModelOwner",
            )
        return str(model[3])

    async def publisher(self, token_id: int) -> str:
        """Who registered the token, whoever owns it now. Raises `ChainFailed` for an unknown model."""
        (publisher,) = await self._read("publisherOf", token_id)
        return checked(publisher)

    async def register(self, metadata_cid: str, offers: list[OfferTerms]) -> tuple[int, str]:
        """A new token; returns its id and the transaction's hash."""
        writer = await self._writer()
        token_id, receipt = await failing_clearly(writer.register_model(metadata_cid, _terms(offers)))
        return int(token_id), receipt.tx

    async def update(self, token_id: int, metadata_cid: str, offers: list[OfferTerms]) -> str:
        """A new revision unless the CID is the old one, and new offers if any are given.

        Returns the hash of the last transaction.
        """
        writer, token, sent = await self._writer(), cast("TokenId", token_id), ""
        if await self.require_can_publish(token_id) != metadata_cid:
            sent = (await failing_clearly(writer.update_model(token, metadata_cid))).tx
        if offers:
            sent = (await failing_clearly(writer.set_offers(token, _terms(offers)))).tx
        return sent

    # -- the chain ----------------------------------------------------------------------------------

    async def _connected(self) -> ChainClient:
        if not self._url or not self._address:
            raise UsageInvalid(
                "this needs the chain: give its RPC URL and the contract's address, rpc and contract "
                "(--rpc and --contract, or --devnet)"
            )
        if self._connection is None:
            self._connection = await connect(self._url, self._address)
        return self._connection

    async def _writer(self) -> Transactions:
        if self._account is None:
            raise SignerRequired(
                "this needs a key to sign transactions: give key or key_file (--key-file or --devnet)"
            )
        if self._transactions is None:
            from node.chain.transactions import Transactions

            self._transactions = Transactions(await self._connected(), bytes(self._account.key))
        return self._transactions

    async def _read(self, name: str, *args: object) -> tuple[Any, ...]:
        from node.chain.rpc import CallReverted, EndpointFailed, data_bytes
        from node.errors import InvalidInput

        chain = await self._connected()
        try:
            wish = {"to": chain.contract.address, "data": "0x" + chain.abi.call(name, *args).hex()}
            answer = await failing_clearly(chain.rpc.call("eth_call", [wish, "latest"], data_bytes))
            if not answer:
                raise ChainFailed(f"there is no contract at {chain.contract.address} on this chain")
            return chain.abi.result(name, answer)
        except CallReverted as revert:
            raise _explained(chain.abi, revert) from None
        except InvalidInput as error:
            raise UsageInvalid(error.message) from error
        except EndpointFailed:
            raise ChainFailed(
                f"{chain.contract.address} does not answer as the Lonja contract does"
            ) from None


async def failing_clearly(work: Awaitable[T]) -> T:
    """Await a call of `node.chain`, with its errors as ours."""
    from node.chain.rpc import NobodyAnswered
    from node.chain.transactions import TransactionFailed
    from node.errors import InvalidInput, NodeError

    try:
        return await work
    except InvalidInput as error:
        raise UsageInvalid(error.message) from error
    except TransactionFailed as error:
        raise ChainFailed(error.message, reason=error.reason or None) from error
    except NobodyAnswered as error:
        raise ChainFailed(f"the chain cannot be asked at {error.tried}") from error
    except NodeError as error:
        raise ChainFailed(error.message) from error


def checked(address: str) -> Address:
    """An address with its checksum. Raises `UsageInvalid`, also for a checksum that does not fit."""
    from node.addresses import parse_address
    from node.errors import InvalidInput

    try:
        return parse_address(address)
    except InvalidInput as error:
        raise UsageInvalid(error.message) from None


def _explained(abi: LonjaAbi, revert: Any) -> ChainFailed:
    from node.chain.reverts import explain

    found = abi.error(revert.data)
    if found is None:
        return ChainFailed(f"the contract refused: {revert.reason[:200]}")
    return ChainFailed(explain(*found), reason=found[0])


def _terms(offers: list[OfferTerms]) -> list[Any]:
    from node.chain.transactions import OfferTerms as Terms

    return [Terms(offer.price, offer.duration, checked(offer.currency)) for offer in offers]
