"""The contract's artifact, and values to and from the bytes that it speaks.

Enters: `contracts/artifacts/Lonja.json`, arguments, answers. Leaves: call data, decoded outputs, typed
events and readable reverts. web3's codec does the work and is handed in, so that importing this module
costs nothing.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from functools import cache
from importlib.resources import files
from typing import Any, Final, Protocol

from node.addresses import ZERO_ADDRESS, keccak256, parse_address
from node.chain.chain import (
    ChainEvent,
    LicenseChanged,
    ModelRegistered,
    ModelTransferred,
    ModelUpdated,
    OffersChanged,
    SalesSwitched,
)
from node.chain.rpc import EndpointFailed, data_bytes, quantity
from node.errors import InvalidInput
from node.types import Offer, TokenId


class Codec(Protocol):
    """What `web3.Web3().codec` offers of it."""

    def encode(self, types: Any, args: Any) -> bytes: ...
    def decode(self, types: Any, data: Any) -> tuple[Any, ...]: ...


@cache
def artifact() -> dict[str, Any]:
    """The compiled contract: `abi`, `bytecode`, `deployedBytecode`, `compiler`."""
    text = files("contracts").joinpath("artifacts/Lonja.json").read_text(encoding="utf-8")
    found: dict[str, Any] = json.loads(text)
    return found


class LonjaAbi:
    """Encodes calls and decodes what comes back, by the names in the artifact."""

    def __init__(self, codec: Codec, abi: list[dict[str, Any]] | None = None) -> None:
        self._codec = codec
        entries = artifact()["abi"] if abi is None else abi
        self._functions = {e["name"]: e for e in entries if e["type"] == "function"}
        self._events = {_selector(e, 32): e for e in entries if e["type"] == "event"}
        self._errors = {_selector(e, 4): e for e in entries if e["type"] == "error"}

    def call(self, name: str, *args: object) -> bytes:
        """Call data of a function. Raises `InvalidInput` for a number that its type cannot hold."""
        inputs = self._functions[name]["inputs"]
        types = [_type(i) for i in inputs]
        try:
            return _selector(self._functions[name], 4) + self._codec.encode(types, args)
        except Exception as error:
            taken = ", ".join(f"{i['name']} {kind}" for i, kind in zip(inputs, types, strict=True))
            raise InvalidInput(f"an argument does not fit {name}({taken})") from error

    def result(self, name: str, data: bytes) -> tuple[Any, ...]:
        """Outputs of a function. Raises `EndpointFailed` when the bytes are not such outputs."""
        types = [_type(output) for output in self._functions[name]["outputs"]]
        try:
            return self._codec.decode(types, data)
        except Exception as error:
            raise EndpointFailed(f"the answer is not that of {name}", garbage=True) from error

    def fields(self, name: str, data: bytes) -> dict[str, Any]:
        """The one struct that a function returns, by its members' names."""
        values = self.result(name, data)[0]
        members = self._functions[name]["outputs"][0]["components"]
        return {member["name"]: value for member, value in zip(members, values, strict=True)}

    def error(self, data: bytes) -> tuple[str, dict[str, Any]] | None:
        """Name and arguments of the custom error in revert data; None where it is not one of ours."""
        entry = self._errors.get(data[:4])
        if entry is None:
            return None
        try:
            values = self._codec.decode([_type(i) for i in entry["inputs"]], data[4:])
        except Exception:
            return entry["name"], {}
        return entry["name"], {i["name"]: v for i, v in zip(entry["inputs"], values, strict=True)}

    def events(self, logs: object) -> list[ChainEvent]:
        """The typed events in the answer of `eth_getLogs`. Raises `EndpointFailed`."""
        if not isinstance(logs, list) or not all(isinstance(log, dict) for log in logs):
            raise EndpointFailed("the answer is not a list of logs", garbage=True)
        found = [self.event(log) for log in logs if not log.get("removed")]
        return [event for event in found if event is not None]

    def event(self, log: dict[str, Any]) -> ChainEvent | None:
        """The typed event of a log as `eth_getLogs` writes it; None for one that nobody here follows.

        Raises `EndpointFailed` when the log is malformed.
        """
        try:
            topics = [data_bytes(topic) for topic in log["topics"]]
            entry = self._events.get(topics[0]) if topics else None
            builder = _BUILDERS.get(entry["name"]) if entry else None
            if entry is None or builder is None:
                return None
            values = self._event_values(entry, topics[1:], data_bytes(log["data"]))
            where = {
                "block_number": quantity(log["blockNumber"]),
                "block_hash": str(log["blockHash"]),
                "log_index": quantity(log["logIndex"]),
            }
            return builder(values, where)
        except (KeyError, TypeError, ValueError) as error:
            raise EndpointFailed("a log in the answer is malformed", garbage=True) from error

    def _event_values(self, entry: dict[str, Any], topics: list[bytes], data: bytes) -> dict[str, Any]:
        indexed = [i for i in entry["inputs"] if i["indexed"]]
        plain = [i for i in entry["inputs"] if not i["indexed"]]
        try:
            values = {
                i["name"]: self._codec.decode([_type(i)], topic)[0]
                for i, topic in zip(indexed, topics, strict=True)
            }
            decoded = self._codec.decode([_type(i) for i in plain], data)
        except Exception as error:
            raise EndpointFailed("a log in the answer is malformed", garbage=True) from error
        return values | {i["name"]: v for i, v in zip(plain, decoded, strict=True)}


def offer(values: Any) -> Offer:
    """An `Offer` struct of the contract."""
    offer_id, price, currency, duration = values
    return Offer(offer_id=offer_id, price=price, currency=parse_address(currency), duration=duration)


def _registered(v: dict[str, Any], where: Any) -> ChainEvent:
    return ModelRegistered(
        token_id=TokenId(v["tokenId"]),
        publisher=parse_address(v["publisher"]),
        manifest_cid=v["metadataCid"],
        **where,
    )


def _updated(v: dict[str, Any], where: Any) -> ChainEvent:
    return ModelUpdated(
        token_id=TokenId(v["tokenId"]), revision=v["revision"], manifest_cid=v["metadataCid"], **where
    )


def _offers(v: dict[str, Any], where: Any) -> ChainEvent:
    return OffersChanged(token_id=TokenId(v["tokenId"]), offers=tuple(map(offer, v["offers"])), **where)


def _license(v: dict[str, Any], where: Any) -> ChainEvent:
    return LicenseChanged(
        token_id=TokenId(v["tokenId"]),
        licensee=parse_address(v["licensee"]),
        expires_at=v.get("expiresAt"),
        **where,
    )


def _transfer(v: dict[str, Any], where: Any) -> ChainEvent | None:
    previous = parse_address(v["from"])
    if previous == ZERO_ADDRESS:
        return None  # the mint; ModelRegistered tells of it
    return ModelTransferred(
        token_id=TokenId(v["tokenId"]), previous_owner=previous, owner=parse_address(v["to"]), **where
    )


def _sales(paused: bool) -> Any:
    return lambda v, where: SalesSwitched(token_id=TokenId(v["tokenId"]), paused=paused, **where)


_BUILDERS: Final[dict[str, Callable[[dict[str, Any], Any], ChainEvent | None]]] = {
    "ModelRegistered": _registered,
    "ModelUpdated": _updated,
    "OffersChanged": _offers,
    "LicensePurchased": _license,
    "LicenseGranted": _license,
    "LicenseRevoked": _license,
    "Transfer": _transfer,
    "SalesPaused": _sales(True),
    "SalesResumed": _sales(False),
}


def _type(item: dict[str, Any]) -> str:
    """The canonical type: tuples written out (ABI specification, "Function Selector")."""
    kind: str = item["type"]
    if not kind.startswith("tuple"):
        return kind
    return "(" + ",".join(_type(member) for member in item["components"]) + ")" + kind.removeprefix("tuple")


def _selector(entry: dict[str, Any], size: int) -> bytes:
    signature = entry["name"] + "(" + ",".join(_type(item) for item in entry["inputs"]) + ")"
    return keccak256(signature.encode())[:size]
