"""Who is at the other end, when proxies that the operator trusts stand between.

`X-Forwarded-For` is read from the right, past the addresses that are trusted: the first that is not is the
client. What stands further left was written by the client itself and counts for nothing.
"""

from __future__ import annotations

from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network
from typing import Protocol

from aiohttp import hdrs
from multidict import CIMultiDictProxy

from node.errors import SettingsInvalid


class Asking(Protocol):
    """What is looked at of a request."""

    @property
    def remote(self) -> str | None: ...
    @property
    def headers(self) -> CIMultiDictProxy[str]: ...


class TrustedProxies:
    """The configured proxies.

    Parameters
    ----------
    entries
        Addresses or networks (`10.0.0.0/8`). Raises `SettingsInvalid` for anything else.
    """

    __slots__ = ("_networks",)

    def __init__(self, entries: tuple[str, ...]) -> None:
        networks: list[IPv4Network | IPv6Network] = []
        for entry in entries:
            try:
                networks.append(ip_network(entry, strict=False))
            except ValueError:
                raise SettingsInvalid(
                    f"TRUSTED_PROXIES={entry!r} is neither an address nor a network such as 10.0.0.0/8"
                ) from None
        self._networks = tuple(networks)

    def client(self, request: Asking) -> str:
        """The client's address, for logs and limits; `-` where there is none (a Unix socket)."""
        remote = request.remote or "-"
        if not self._networks or not self._trusts(remote):
            return remote
        client = remote
        hops = ",".join(request.headers.getall(hdrs.X_FORWARDED_FOR, ())).split(",")
        for hop in reversed(hops[-32:]):
            address = _parse(hop.strip())
            if address is None:
                break
            client = str(address)
            if not self._trusts(client):
                break
        return client

    def https(self, request: Asking) -> bool:
        """Whether a trusted proxy says that the client came over https."""
        if not self._networks or not self._trusts(request.remote or "-"):
            return False
        return request.headers.get(hdrs.X_FORWARDED_PROTO, "").rpartition(",")[2].strip().lower() == "https"

    def _trusts(self, text: str) -> bool:
        address = _parse(text)
        return address is not None and any(
            address.version == network.version and address in network for network in self._networks
        )


def _parse(text: str) -> IPv4Address | IPv6Address | None:
    try:
        address = ip_address(text)
    except ValueError:
        return None
    mapped = address.ipv4_mapped if isinstance(address, IPv6Address) else None
    return mapped or address
