"""The Python SDK: `AsyncClient`, and `Client`, its face for code that is not asynchronous.

>>> async with AsyncClient.from_devnet("devnet.json", role="licensee") as lonja:  # doctest: +SKIP
...     await lonja.buy(1)
...     answer = await lonja.infer("digits", image="seven.png")
...     print(answer.top.label)
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Self, TypeVar
from urllib.parse import quote, urlencode, urlsplit

import msgspec

from lonja import answers, keys
from lonja.config import Devnet
from lonja.errors import SignerRequired, UsageInvalid
from lonja.inputs import Image, input_data
from lonja.market import Market
from lonja.sign_in import Identity, decoded
from lonja.transport import Authorize, RetryPolicy, Transport

if TYPE_CHECKING:
    from eth_account.signers.local import LocalAccount

    from lonja.publishing import Progress, Target
    from lonja.terms import OfferTerms

T = TypeVar("T")
DEFAULT_NODE = "http://127.0.0.1:3000"


class AsyncClient:
    """One node, and optionally one key and one chain.

    Parameters
    ----------
    node : the node's URL; unless given, `DEFAULT_NODE`.
    key : a private key as 0x-hex, or an `eth_account` account. Needed for all that a caller must prove.
    key_file, password : instead of `key`: a keystore with its password (else `LONJA_KEY_PASSWORD`), or a
        file with a bare 0x-key.
    rpc, contract : the chain's JSON-RPC URL and the contract's address, for buying, publishing and granting.
    proof : "session" signs in once (Sign-In with Ethereum) and sends a token; "signature" signs each request.
    timeout : seconds for a call, retries included.
    retry : how often and how patiently calls are repeated that failed for a passing reason.
    """

    def __init__(
        self,
        node: str | None = None,
        *,
        key: str | LocalAccount | None = None,
        key_file: str | Path | None = None,
        password: str | None = None,
        rpc: str | None = None,
        contract: str | None = None,
        proof: Literal["session", "signature"] = "session",
        timeout: float = 60.0,
        retry: RetryPolicy | None = None,
    ) -> None:
        if key is not None and key_file is not None:
            raise UsageInvalid("give key or key_file, not both")
        self._node_named = node is not None
        node = DEFAULT_NODE if node is None else node
        if urlsplit(node).scheme not in ("http", "https") or not urlsplit(node).netloc:
            raise UsageInvalid(f"{node!r} is not the URL of a node: http(s)://host[:port]")
        account = keys.load(key_file, password=password) if key_file is not None else _account(key)
        self.transport = Transport(node, timeout=timeout, policy=retry)
        self.identity = None if account is None else Identity(account, self.transport, contract=contract)
        self.market = Market(rpc=rpc, contract=contract, account=account)
        self._proof = proof

    @classmethod
    def from_devnet(cls, path: str | Path, *, role: str | None = "licensee", **options: Any) -> Self:
        """A client of the world that a `devnet.json` describes, as one of its accounts (None: as nobody)."""
        world = Devnet.read(Path(path))
        key_file = None if role is None else world.account(role).key_file
        return cls(world.node_url, key_file=key_file, rpc=world.rpc_url, contract=world.contract, **options)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_exc: object) -> None:
        await self.close()

    async def close(self) -> None:
        """Free the connections. The session is left to run out; `sign_out` ends it at once."""
        await self.market.close()
        await self.transport.close()

    @property
    def address(self) -> str:
        """The caller's address. Raises `SignerRequired`."""
        return self.signer().address

    # -- the node -----------------------------------------------------------------------------------

    async def sign_in(self) -> str:
        """Open a session now rather than with the first call that needs it; returns the address."""
        return (await self.signer().session()).address

    async def sign_out(self) -> None:
        """End the session at the node."""
        if self.identity is not None:
            await self.identity.close()

    async def health(self) -> dict[str, Any]:
        """`GET /health`: status, version and checks."""
        return decoded(await self.transport.call("GET", "/health"), dict[str, Any])

    async def formats(self) -> dict[str, Any]:
        """`GET /api/inference/formats`: what inputs the node takes."""
        return decoded(await self.transport.call("GET", "/api/inference/formats"), dict[str, Any])

    async def models(
        self, *, search: str | None = None, owner: str | None = None, offset: int = 0, limit: int = 50
    ) -> answers.ModelPage:
        """A page of the models that the node serves."""
        asked = {"search": search, "owner": owner, "offset": offset, "limit": limit}
        query = urlencode({name: value for name, value in asked.items() if value is not None})
        return decoded(await self.transport.call("GET", f"/api/models?{query}"), answers.ModelPage)

    async def model(self, name: str) -> answers.Model:
        """One model with its offers and inputs; `name` is a `model_id` or the canonical name."""
        return decoded(await self.transport.call("GET", f"/api/models/{_segment(name)}"), answers.Model)

    async def infer(
        self,
        model: str,
        *,
        image: Image | None = None,
        tensor: Any = None,
        url: str | None = None,
        json: Any = None,
        top_k: int | None = None,
        threshold: float | None = None,
        timeout_ms: int | None = None,
    ) -> answers.Inference:
        """Run a model on one input: a picture, a tensor, a URL that the node fetches, or ready JSON.

        Raises
        ------
        LicenseMissing, LicenseExpired, ModelNotFound, InvalidInput, DeadlineExceeded, ...
            See `lonja.errors`; each has the node's own words.
        """
        wished = {"top_k": top_k, "threshold": threshold, "timeout": timeout_ms}
        body = msgspec.json.encode(
            {
                "model_id": model,
                "execution_mode": "sync",
                "input_data": msgspec.Raw(input_data(image=image, tensor=tensor, url=url, json=json)),
                "options": {name: value for name, value in wished.items() if value is not None},
            }
        )
        return decoded(await self._proven("POST", "/api/inference/execute", body), answers.Inference)

    async def load(
        self, token_id: int | str, *, metadata_cid: str | None = None, warmup: bool = False
    ) -> answers.LoadedModel:
        """Bring a model into memory before it is asked."""
        wish: dict[str, Any] = {"tokenId": str(token_id), "warmup": warmup}
        if metadata_cid is not None:
            wish["metadataCid"] = metadata_cid
        answer = await self._proven("POST", "/api/models/load", msgspec.json.encode(wish))
        return decoded(answer, answers.LoadedModel)

    async def my_license(self, model: str) -> answers.LicenseStatus:
        """The caller's license as the node sees it; without one `LicenseMissing` or `LicenseExpired`."""
        answer = await self._proven("GET", f"/api/licenses/{_segment(model)}", b"")
        return decoded(answer, answers.LicenseStatus)

    # -- the chain ----------------------------------------------------------------------------------

    async def offers(self, token_id: int) -> list[answers.Offer]:
        """What licenses cost, from the contract."""
        return await self.market.offers(token_id)

    async def buy(
        self, token_id: int, *, offer: int | None = None, licensee: str | None = None
    ) -> answers.Purchase:
        """Buy a license, for oneself or for `licensee`; the first offer unless one is named by its id.

        Where a node was named and the license is one's own, waits up to 10 s until the node honours it;
        `node_agrees` of the answer tells whether it does.

        Raises
        ------
        ChainFailed
            No such offer, sales paused, not enough funds; the contract's reason is in `reason`.
        """
        from lonja.admission import admitted

        bought = await self.market.buy(token_id, offer=offer, licensee=licensee)
        if not self._node_named or bought.licensee != self.address:
            return bought
        seen = await admitted(self, await self.market.canonical_name(token_id))
        return msgspec.structs.replace(bought, node_agrees=seen.agrees, node_says=seen.says)

    async def grant(self, token_id: int, licensee: str, *, seconds: int = 0) -> str:
        """Give a license of one's own model (0 seconds: perpetual); returns the transaction's hash."""
        return await self.market.grant(token_id, licensee, seconds=seconds)

    async def revoke(self, token_id: int, licensee: str) -> str:
        """Take a license back, with the refund that the contract asks for; returns the transaction's hash."""
        return await self.market.revoke(token_id, licensee)

    async def license(self, token_id: int, licensee: str | None = None) -> answers.LicenseStatus:
        """Anybody's license, from the contract."""
        return await self.market.license(token_id, licensee or self.address)

    async def publish(
        self,
        model: str | Path,
        manifest: str | Path,
        *,
        offers: list[OfferTerms],
        to: Target | None = None,
        update: int | None = None,
        profile: str = "unixfs-v1-2025",
        progress: Progress | None = None,
    ) -> answers.Published:
        """Publish an ONNX file (or a folder with external data) under a manifest, and register it on chain.

        Parameters
        ----------
        offers : terms of the licenses; none leaves them as they are with `update`.
        to : where the content goes; this node unless named.
        update : a token of the caller's that gets a new revision, instead of a new token.
        """
        from lonja.publishing import publish

        return await publish(
            self, Path(model), Path(manifest), offers=offers, to=to, update=update, profile=profile,
            progress=progress,
        )  # fmt: skip

    # -- proof --------------------------------------------------------------------------------------

    def signer(self) -> Identity:
        """Who signs for this client. Raises `SignerRequired`."""
        if self.identity is None:
            raise SignerRequired("this call needs a key: give key or key_file (--key-file or --devnet)")
        return self.identity

    async def _proven(self, method: str, path: str, body: bytes) -> bytes:
        signer = self.signer()
        proof: Authorize = signer.by_session if self._proof == "session" else signer.by_signature

        async def attempt() -> bytes:
            return await self.transport.call(method, path, body=body, authorize=proof)

        return await signer.renewing(attempt)


class Client:
    """`AsyncClient` for code that is not asynchronous: the same methods, each waiting for its answer.

    A thread of its own runs the event loop, so it can be used from any thread, also beneath a running loop.
    Parameters are those of `AsyncClient`.
    """

    def __init__(self, *args: Any, **options: Any) -> None:
        self._start(lambda: AsyncClient(*args, **options))

    @classmethod
    def from_devnet(cls, path: str | Path, *, role: str | None = "licensee", **options: Any) -> Self:
        """See `AsyncClient.from_devnet`."""
        made = cls.__new__(cls)
        made._start(lambda: AsyncClient.from_devnet(path, role=role, **options))
        return made

    def _start(self, build: Callable[[], AsyncClient]) -> None:
        self._client = build()
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="lonja-client", daemon=True)
        self._thread.start()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_exc: object) -> None:
        self.close()

    def close(self) -> None:
        """Free the connections and end the thread. May be called twice."""
        if self._loop.is_closed():
            return
        self._wait(self._client.close())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    def _wait(self, work: Coroutine[Any, Any, T]) -> T:
        if self._loop.is_closed():
            work.close()
            raise UsageInvalid("this client is closed")
        future = asyncio.run_coroutine_threadsafe(work, self._loop)
        try:
            return future.result()
        except BaseException:
            future.cancel()  # Ctrl-C while waiting: end the work too
            raise

    @property
    def address(self) -> str:
        """The caller's address."""
        return self._client.address

    def sign_in(self) -> str:
        """See `AsyncClient.sign_in`."""
        return self._wait(self._client.sign_in())

    def sign_out(self) -> None:
        """See `AsyncClient.sign_out`."""
        self._wait(self._client.sign_out())

    def health(self) -> dict[str, Any]:
        """See `AsyncClient.health`."""
        return self._wait(self._client.health())

    def formats(self) -> dict[str, Any]:
        """See `AsyncClient.formats`."""
        return self._wait(self._client.formats())

    def models(
        self, *, search: str | None = None, owner: str | None = None, offset: int = 0, limit: int = 50
    ) -> answers.ModelPage:
        """See `AsyncClient.models`."""
        return self._wait(self._client.models(search=search, owner=owner, offset=offset, limit=limit))

    def model(self, name: str) -> answers.Model:
        """See `AsyncClient.model`."""
        return self._wait(self._client.model(name))

    def infer(
        self,
        model: str,
        *,
        image: Image | None = None,
        tensor: Any = None,
        url: str | None = None,
        json: Any = None,
        top_k: int | None = None,
        threshold: float | None = None,
        timeout_ms: int | None = None,
    ) -> answers.Inference:
        """See `AsyncClient.infer`."""
        return self._wait(
            self._client.infer(
                model, image=image, tensor=tensor, url=url, json=json, top_k=top_k, threshold=threshold,
                timeout_ms=timeout_ms,
            )
        )  # fmt: skip

    def load(
        self, token_id: int | str, *, metadata_cid: str | None = None, warmup: bool = False
    ) -> answers.LoadedModel:
        """See `AsyncClient.load`."""
        return self._wait(self._client.load(token_id, metadata_cid=metadata_cid, warmup=warmup))

    def my_license(self, model: str) -> answers.LicenseStatus:
        """See `AsyncClient.my_license`."""
        return self._wait(self._client.my_license(model))

    def offers(self, token_id: int) -> list[answers.Offer]:
        """See `AsyncClient.offers`."""
        return self._wait(self._client.offers(token_id))

    def buy(
        self, token_id: int, *, offer: int | None = None, licensee: str | None = None
    ) -> answers.Purchase:
        """See `AsyncClient.buy`."""
        return self._wait(self._client.buy(token_id, offer=offer, licensee=licensee))

    def grant(self, token_id: int, licensee: str, *, seconds: int = 0) -> str:
        """See `AsyncClient.grant`."""
        return self._wait(self._client.grant(token_id, licensee, seconds=seconds))

    def revoke(self, token_id: int, licensee: str) -> str:
        """See `AsyncClient.revoke`."""
        return self._wait(self._client.revoke(token_id, licensee))

    def license(self, token_id: int, licensee: str | None = None) -> answers.LicenseStatus:
        """See `AsyncClient.license`."""
        return self._wait(self._client.license(token_id, licensee))

    def publish(
        self,
        model: str | Path,
        manifest: str | Path,
        *,
        offers: list[OfferTerms],
        to: Target | None = None,
        update: int | None = None,
        profile: str = "unixfs-v1-2025",
        progress: Progress | None = None,
    ) -> answers.Published:
        """See `AsyncClient.publish`."""
        return self._wait(
            self._client.publish(
                model, manifest, offers=offers, to=to, update=update, profile=profile, progress=progress
            )
        )


def _account(key: str | LocalAccount | None) -> LocalAccount | None:
    return keys.from_hex(key, origin="key") if isinstance(key, str) else key


def _segment(name: str) -> str:
    """A model's name as one path segment; the colons of canonical names stay readable."""
    return quote(name, safe=":")


__all__ = ["AsyncClient", "Client"]
