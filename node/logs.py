"""Log lines: JSON, one a line, in production; coloured and readable in development.

Enters: standard `logging` records; those of ours may carry a dict in `extra={"fields": {...}}`. Leaves: text
on a stream in which tokens, signatures, keys and the secret parts of URLs are blotted out. No effect at
import: `configure` is called by the composition root.
"""

from __future__ import annotations

import json
import logging
import re
import sys
import time
from functools import lru_cache
from typing import Final, TextIO

import msgspec

_SECRETS: Final = tuple(
    (re.compile(pattern, re.IGNORECASE), replacement)
    for pattern, replacement in (
        (r"\b(Bearer)\s+[^\s\"',;]+", r"\1 [hidden]"),
        (r"\b(Lonja-EIP712)\s+[^\r\n\"]+", r"\1 [hidden]"),
        (r"\b((?:https?|wss?)://)[^\s/@\"']*@", r"\1"),
        (r"\b((?:https?|wss?)://[^\s/?#\"',;>)]+)[/?#][^\s\"'>)]*", r"\1/…"),
        (r"\b(?:0x)?[0-9a-f]{128,}\b", "[signature hidden]"),
        (
            r"\b(authorization|token|password|secret|signature|private[_ -]?key|api[_-]?key)"
            r"([\"']?\s*[=:]\s*[\"']?)[^\s\"',;&]+",
            r"\1\2[hidden]",
        ),
    )
)
CHATTY: Final = ("web3", "urllib3", "aiohttp.access", "asyncio")
"""Libraries whose lines below WARNING nobody asked for."""

_CONTROL: Final = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u2028\u2029]")
_COLOURS: Final = {"DEBUG": "\x1b[2m", "INFO": "\x1b[32m", "WARNING": "\x1b[33m", "ERROR": "\x1b[31m"}


def redact(text: str) -> str:
    """`text` without what looks like a credential; of URLs only scheme and host stay."""
    for pattern, replacement in _SECRETS:
        text = pattern.sub(replacement, text)
    return text


class JsonLines(logging.Formatter):
    """`{"time", "level", "logger", "message", ...fields, "exception"}`, one object a line."""

    def format(self, record: logging.LogRecord) -> str:
        line: dict[str, object] = {
            "time": _utc(record.created),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": redact(record.getMessage()) if _is_free_text(record) else record.msg,
        }
        line.update(_fields(record))
        if record.exc_info:
            line["exception"] = redact(self.formatException(record.exc_info))
        try:
            return msgspec.json.encode(line, enc_hook=str).decode()
        except UnicodeEncodeError:  # a text quotes bytes that are no UTF-8
            return json.dumps(line, default=str)


class ReadableLines(logging.Formatter):
    """`12:00:00.123 INFO  node.web  message  name=value ...` and the stack below where there is one."""

    def __init__(self, *, colour: bool) -> None:
        super().__init__()
        self._colour = colour

    def format(self, record: logging.LogRecord) -> str:
        clock = time.strftime("%H:%M:%S", time.localtime(record.created))
        level = f"{record.levelname:<7}"
        if self._colour:
            level = f"{_COLOURS.get(record.levelname, '')}{level}\x1b[0m"
        message = redact(record.getMessage()) if _is_free_text(record) else str(record.msg)
        fields = " ".join(f"{name}={value}" for name, value in _fields(record).items() if value is not None)
        line = f"{clock}.{int(record.msecs):03d} {level} {record.name}  {message}"
        line = _CONTROL.sub("·", line).replace("\n", "\n    ")
        if fields:
            line += "  " + _CONTROL.sub("·", fields).replace("\n", "·")
        if record.exc_info:
            line += "\n" + _CONTROL.sub("·", redact(self.formatException(record.exc_info)))
        return line.encode("utf-8", "backslashreplace").decode()


def configure(*, level: str, production: bool, stream: TextIO | None = None) -> None:
    """Send all logging of the process to `stream` (default: standard error), from `level` up."""
    out = sys.stderr if stream is None else stream
    handler = logging.StreamHandler(out)
    colour = not production and out.isatty()
    handler.setFormatter(JsonLines() if production else ReadableLines(colour=colour))
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level.upper())
    # What nobody prints need not be looked up for every line.
    logging.logThreads = logging.logMultiprocessing = logging.logProcesses = False
    for name in CHATTY:
        logging.getLogger(name).setLevel(max(logging.WARNING, root.level))


def event(logger: logging.Logger, level: int, message: str, fields: dict[str, object]) -> None:
    """Log a fixed `message` with `fields`, without the search for the caller's line that `Logger.log` makes.

    Neither is redacted: callers pass only what may be shown.
    """
    if logger.isEnabledFor(level):
        now = time.time()
        record = logging.LogRecord.__new__(logging.LogRecord)  # whose __init__ would ask what nobody prints
        record.__dict__ = {
            **_BLANK,
            "name": logger.name,
            "levelno": level,
            "levelname": logging.getLevelName(level),
            "msg": message,
            "message": message,
            "created": now,
            "msecs": now % 1 * 1000,
            "fields": fields,
            "plain": True,
        }
        logger.handle(record)


_BLANK: Final = vars(logging.LogRecord("", 0, "", 0, "", None, None))


def _is_free_text(record: logging.LogRecord) -> bool:
    return not getattr(record, "plain", False)


def _fields(record: logging.LogRecord) -> dict[str, object]:
    fields: dict[str, object] = getattr(record, "fields", {})
    if not _is_free_text(record):
        return fields
    return {name: redact(value) if isinstance(value, str) else value for name, value in fields.items()}


def _utc(seconds: float) -> str:
    whole = int(seconds)
    return f"{_to_the_second(whole)}.{int((seconds - whole) * 1000):03d}Z"


@lru_cache(maxsize=2)
def _to_the_second(whole: int) -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(whole))
