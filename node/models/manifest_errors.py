"""Decoding errors of a manifest in words that name the member by its path, e.g. `model.input.size`."""

from __future__ import annotations

import re
from typing import Any, Final

import msgspec

_PATH: Final = re.compile(r"^(?P<what>.*?)(?: - at `(?:key in )?\$(?P<path>.*)`)?$", re.DOTALL)
_MISSING: Final = re.compile(r"^Object missing required field `(.*)`$")
_UNKNOWN: Final = re.compile(r"^Object contains unknown field `(.*)`$")
_INVALID: Final = re.compile(r"^Invalid (?:enum )?value (.*)$")


def explain(
    error: Exception, *, at: str = "", kind: type[msgspec.Struct] | None = None, raw: bytes = b"null"
) -> str:
    """One sentence: the member's path, what is wrong with it, and what may stand there.

    Parameters
    ----------
    at : path of the value that was decoded, "" for the whole manifest.
    kind : the type it was decoded as; its schema gives the values that may stand at the path.
    raw : what was decoded; its `kind` and `task` say which alternative of a union is meant.
    """
    if not isinstance(error, msgspec.ValidationError):
        return f"the manifest is not JSON: {error}"
    match = _PATH.match(str(error))
    what, path = (match["what"], match["path"] or "") if match else (str(error), "")
    path = (at + path).removeprefix(".")
    inner = path.removeprefix(at)
    if missing := _MISSING.match(what):
        return f"{_join(path, missing[1])} is missing"
    if unknown := _UNKNOWN.match(what):
        return f"{_join(path, unknown[1])}: unknown member `{unknown[1]}`{_allowed_members(kind, inner, raw)}"
    if invalid := _INVALID.match(what):
        return f"{path}: {invalid[1]} is not possible here{_allowed_values(kind, inner, raw)}"
    return f"{path or 'the manifest'}: {what}"


def _join(path: str, name: str) -> str:
    return f"{path}.{name}" if path else name


def _allowed_members(kind: type[msgspec.Struct] | None, path: str, raw: bytes) -> str:
    names = sorted({name for node in _nodes(kind, path, raw) for name in node.get("properties", {})})
    return f"; known are {', '.join(names)}" if names else ""


def _allowed_values(kind: type[msgspec.Struct] | None, path: str, raw: bytes) -> str:
    values = [value for node in _nodes(kind, path, raw) for value in node.get("enum", [])]
    names = sorted({repr(value) for value in values if value is not None})
    return f"; possible: {', '.join(names)}" if names else ""


def _nodes(kind: type[msgspec.Struct] | None, path: str, raw: bytes) -> list[dict[str, Any]]:
    """The schema nodes that describe `path`: one, or every alternative that may be meant."""
    if kind is None:
        return []
    (root,), components = msgspec.json.schema_components([kind], ref_template="{name}")
    nodes, value = _flatten([root], components), _document(raw)
    for part in re.findall(r"[^.\[\]]+", path):
        found = [
            child
            for node in nodes
            for child in (node.get("properties", {}).get(part), node.get("items"))
            if isinstance(child, dict)
        ]
        value = value.get(part) if isinstance(value, dict) else None
        nodes = _flatten(found, components)
        nodes = [node for node in nodes if _is_meant(node, value)] or nodes
    return nodes


def _document(raw: bytes) -> object:
    try:
        return msgspec.json.decode(raw)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return None  # the error came before the place where the JSON itself is broken


def _is_meant(node: dict[str, Any], value: object) -> bool:
    """Whether an object's `kind` or `task` is that of the schema node."""
    tags = {name: node.get("properties", {}).get(name, {}).get("enum") for name in ("kind", "task")}
    return all(
        allowed is None or (isinstance(value, dict) and value.get(name) in allowed)
        for name, allowed in tags.items()
    )


def _flatten(nodes: list[dict[str, Any]], components: dict[str, Any]) -> list[dict[str, Any]]:
    flat: list[dict[str, Any]] = []
    for node in nodes:
        if "$ref" in node:
            flat += _flatten([components[node["$ref"]]], components)
        elif "anyOf" in node:
            flat += _flatten(node["anyOf"], components)
        else:
            flat.append(node)
    return flat
