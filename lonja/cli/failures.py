"""Errors of every layer as the one line that a person reads."""

from __future__ import annotations

import click

from lonja.cli.plain import plain
from lonja.errors import ApiError, ChainFailed, LonjaError


def describe(error: Exception) -> dict[str, object]:
    """`code`, `message`, and `suggestion` where there is one. Never a traceback, never a secret."""
    if isinstance(error, ApiError):
        told: dict[str, object] = {"code": error.code, "message": _one_line(error.message)}
        if error.suggestion:
            told["suggestion"] = _one_line(error.suggestion)
        if error.request_id:
            told["request_id"] = error.request_id
        return told
    if isinstance(error, click.ClickException):
        return {"code": "usage_invalid", "message": _one_line(error.format_message())}
    if isinstance(error, ChainFailed):
        return {"code": error.reason or "chain_failed", "message": _one_line(str(error))}
    if isinstance(error, LonjaError):
        return {"code": _snake(type(error).__name__), "message": _one_line(str(error))}
    from node.errors import NodeError

    if isinstance(error, NodeError):
        told = {"code": error.code, "message": _one_line(error.message)}
        return told | ({"suggestion": _one_line(error.suggestion)} if error.suggestion else {})
    if isinstance(error, OSError):
        where = f"{error.filename}: " if error.filename else ""
        return {"code": "os_error", "message": where + (error.strerror or type(error).__name__)}
    name = type(error).__name__
    text = f"unexpected {name}: {_one_line(str(error))}; --debug shows where, please report it"
    return {"code": "unexpected", "message": text}


def _one_line(text: str) -> str:
    return plain(" ".join(text.split()))


def _snake(name: str) -> str:
    return "".join("_" + letter.lower() if letter.isupper() else letter for letter in name).lstrip("_")
