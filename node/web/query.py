"""Query parameters: known by name, used once, within bounds; anything else is an error that names it."""

from __future__ import annotations

from aiohttp import web

from node.errors import InvalidInput


def parameters(request: web.Request, *known: str) -> dict[str, str]:
    """The query as a dictionary. Raises `InvalidInput` for unknown or repeated names."""
    found: dict[str, str] = {}
    for name, value in request.query.items():
        if name not in known:
            raise InvalidInput(
                f"Unknown query parameter {name[:60]!r}; this URL takes {', '.join(known) or 'none'}.",
                parameter=name[:60],
            )
        if name in found:
            raise InvalidInput(f"The query parameter {name!r} is there twice.", parameter=name)
        found[name] = value
    return found


def whole_number(text: str | None, name: str, *, default: int, least: int, most: int) -> int:
    """`text` as an integer between `least` and `most`. Raises `InvalidInput`."""
    if text is None:
        return default
    if not (text.isascii() and text.isdecimal() and len(text) <= 18 and least <= int(text) <= most):
        raise InvalidInput(f"{name} is a whole number from {least} to {most}.", parameter=name)
    return int(text)
