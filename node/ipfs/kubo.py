"""A Kubo daemon as the place where content is published: add, import a CAR, pin.

Enters: paths, and the CIDs that we computed for them. Leaves: nothing but the certainty that the daemon
came to the same CIDs. `ipfshttpclient` is blocking and unmaintained: it is imported on first use (90 ms),
runs in a thread, carries these few calls and never retrieves anything.

RPC: https://docs.ipfs.tech/reference/kubo/rpc/
"""

from __future__ import annotations

import asyncio
import ipaddress
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

from yarl import URL

from node.cid import Cid, CidInvalid
from node.errors import ContentMismatch, ContentNotFound, GatewayUnavailable, SettingsInvalid
from node.ipfs.importer import Profile, import_any
from node.ipfs.store import name_of

_CHUNK: Final = 2**20


class Kubo:
    """The daemon behind one RPC URL.

    Parameters
    ----------
    api_url
        e.g. `http://127.0.0.1:5001`; a user name and password in it are sent as basic authentication.
    timeout
        Seconds that one call may go without any progress.

    Raises
    ------
    SettingsInvalid
        Not an http or https URL.
    """

    def __init__(self, api_url: str, *, timeout: float = 60.0) -> None:
        try:
            url = URL(api_url)
        except ValueError:
            raise SettingsInvalid("KUBO_API_URL cannot be read as a URL") from None
        if url.scheme not in {"http", "https"} or not url.host or not url.port:
            raise SettingsInvalid("KUBO_API_URL must be an http or https URL")
        self._address = _multiaddr(url)
        self._base = f"{url.path.strip('/')}/api/v0".lstrip("/")
        self._login = (url.user, url.password)
        self._name = f"{url.host}:{url.port}"
        self._timeout = timeout

    async def version(self) -> str:
        """The daemon's version. Raises `GatewayUnavailable`."""
        return str((await self._call(lambda client: client.version()))["Version"])

    async def import_car(self, path: Path, *, root: Cid) -> None:
        """Upload a CAR and pin its root.

        Raises
        ------
        GatewayUnavailable
            The daemon cannot be reached or refuses.
        ContentMismatch
            The daemon found another root than `root`.
        """
        lines = await self._call(lambda client: _import(client, path))
        roots = [line["Root"] for line in lines if "Root" in line]
        found = [_cid(entry["Cid"]["/"]) for entry in roots]
        if [name_of(cid) for cid in found] != [name_of(root)]:
            told = ", ".join(str(cid) for cid in found) or "none"
            raise ContentMismatch(f"the CAR's root is {root}; the Kubo daemon at {self._name} found {told}")
        failed = next((entry["PinErrorMsg"] for entry in roots if entry.get("PinErrorMsg")), "")
        if failed:
            raise GatewayUnavailable(f"the Kubo daemon at {self._name} could not pin {root}: {failed[:200]}")

    async def add(self, path: Path, *, profile: Profile = Profile.UNIXFS_V1_2025) -> Cid:
        """Add and pin a file or folder; Kubo's root must be ours. Raises as `import_car`."""
        ours = (await asyncio.to_thread(import_any, path, profile=profile)).root
        answer = await self._call(lambda client: _add(client, path, profile))
        theirs = _cid((answer[-1] if isinstance(answer, list) else answer)["Hash"])
        if theirs != ours:
            raise ContentMismatch(
                f"{path.name!r} is {ours} here, but the Kubo daemon at {self._name} made it {theirs}"
            )
        return ours

    async def pin(self, cid: Cid) -> None:
        """Pin what the daemon has or can find. Raises `ContentNotFound`, `GatewayUnavailable`."""
        await self._call(lambda client: client.pin.add(str(cid)), missing=cid)

    async def pinned(self, cid: Cid) -> bool:
        """Whether `cid` is pinned recursively."""
        try:
            await self._call(lambda client: client.pin.ls(str(cid), type="recursive"), missing=cid)
        except ContentNotFound:
            return False
        return True

    async def _call(self, call: Callable[[Any], Any], *, missing: Cid | None = None) -> Any:
        return await asyncio.to_thread(self._blocking, call, missing)

    def _blocking(self, call: Callable[[Any], Any], missing: Cid | None) -> Any:
        from ipfshttpclient import Client, exceptions  # 90 ms, and only publishers need it

        # The library still gives urllib3 an argument of Python 2 times; nobody here can act on the warning.
        warnings.filterwarnings("ignore", message="The 'strict' parameter", category=FutureWarning)
        try:
            # Not `connect`: it asks for the version first, only to warn of every current daemon.
            with Client(
                self._address,
                base=self._base,
                timeout=self._timeout,
                chunk_size=_CHUNK,
                username=self._login[0],
                password=self._login[1],
            ) as client:
                return call(client)
        except exceptions.ErrorResponse as error:
            if missing is not None and ("not pinned" in str(error) or "not find" in str(error)):
                raise ContentNotFound(f"the Kubo daemon at {self._name} does not have {missing}") from error
            raise GatewayUnavailable(
                f"the Kubo daemon at {self._name} refused: {str(error)[:200]}"
            ) from error
        except exceptions.Error as error:
            raise GatewayUnavailable(
                f"the Kubo daemon at {self._name} cannot be used ({type(error).__name__}); "
                "is it running, and is KUBO_API_URL its RPC address?"
            ) from error


def _import(client: Any, path: Path) -> list[dict[str, Any]]:
    # stream=True gives a line for each root; without, the library accepts but one.
    options = {"stream": True, "opts": {"pin-roots": "true"}}
    with path.open("rb") as source, client.dag.imprt(source, **options) as lines:
        return list(lines)


def _add(client: Any, path: Path, profile: Profile) -> Any:
    return client.add(
        str(path),
        recursive=path.is_dir(),
        period_special=False,
        cid_version=profile.version,
        raw_leaves=profile.raw_leaves,
        chunker=f"size-{profile.chunk}",
        opts={"max-file-links": str(profile.width)},
    )


def _multiaddr(url: URL) -> str:
    host = url.host or ""
    try:
        kind = "ip4" if ipaddress.ip_address(host).version == 4 else "ip6"
    except ValueError:
        kind = "dns"
    return f"/{kind}/{host}/tcp/{url.port}/{url.scheme}"


def _cid(text: str) -> Cid:
    try:
        return Cid.parse(text)
    except CidInvalid as error:
        raise ContentMismatch(f"the Kubo daemon named a root that is no CID: {error}") from None
