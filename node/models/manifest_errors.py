"""Decoding errors of a manifest in words that name the member by its path, e.g. `model.input.size`."""

from __future__ import annotations

import re
from typing import Any, Final

import msgspec

_PATH: Final = re.compile(r"^(?P<what>.*?)(?: - at `(?:key in )?\$(?P<path>.*)`)?$", re.DOTALL)
_MISSING: Final = re.compile(r"^Object missing required field `(.*)`$")
_UNKNOWN: Final = re.compile(r"^Object contains unknown field `(.*)`$")
_INVALID: Final = re.compile(r"^Invalid (?:enum )?value (.*)$")


def explain(error: Exception, *, at: str = "", kind: type[msgspec.Struct] | None = None) -> str:
    """One sentence: the member's path, what is wrong with it, and what may stand there.

    Parameters
    ----------
    at : path of the value that was decoded, "" for the whole manifest.
    kind : the type it was decoded as; its schema gives the values that may stand at the path.
    """
    if not isinstance(error, msgspec.ValidationError):
        return f"the manifest is not JSON: {error}"
    match = _PATH.match(str(error))
    what, path = (match["what"], match["path"] or "") if match else (str(error), "")
    path = (at + path).removeprefix(".")
    if missing := _MISSING.match(what):
        return f"{_join(path, missing[1])} is missing"
    if unknown := _UNKNOWN.match(what):
        return f"{_join(path, unknown[1])}: unknown member `{unknown[1]}`{_allowed_members(kind, at, path)}"
    if invalid := _INVALID.match(what):
        return f"{path}: {invalid[1]} is not possible here{_allowed_values(kind, at, path)}"
    return f"{path or 'the manifest'}: {what}"


def _join(path: str, name: str) -> str:
    return f"{path}.{name}" if path else name


def _allowed_members(kind: type[msgspec.Struct] | None, at: str, path: str) -> str:
    names = sorted({name for node in _nodes(kind, at, path) for name in node.get("properties", {})})
    return f"; known are {', '.join(names)}" if names else ""


def _allowed_values(kind: type[msgspec.Struct] | None, at: str, path: str) -> str:
    values: list[str] = []
    for node in _nodes(kind, at, path):
        values += [repr(value) for value in node.get("enum", []) if value is not None]
    names = sorted(set(values))
    return f"; possible: {', '.join(names)}" if names else ""


def _nodes(kind: type[msgspec.Struct] | None, at: str, path: str) -> list[dict[str, Any]]:
    """The schema nodes that describe `path`, every alternative of a union included."""
    if kind is None:
        return []
    (root,), components = msgspec.json.schema_components([kind], ref_template="{name}")
    nodes = _flatten([root], components)
    for part in re.findall(r"[^.\[\]]+", path.removeprefix(at)):
        found = [
            child
            for node in nodes
            for child in (node.get("properties", {}).get(part), node.get("items"))
            if isinstance(child, dict)
        ]
        nodes = _flatten(found, components)
    return nodes


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
