"""CARv1: a header, then sections of (length, CID, block). Written here, and read from strangers in pieces.

Enters: bytes of any split. Leaves: calls on a `Sections` receiver, which sees a block's CID and length
before its bytes, so that a large block can be hashed and written while it arrives.

Format: https://ipld.io/specs/transport/car/carv1/ ; the header is DAG-CBOR {"roots": [CID], "version": 1}.
"""

from __future__ import annotations

from typing import Final, Protocol

from node.cid import Cid, CidInvalid, read_varint, write_varint

MAX_BLOCK: Final = 2 * 2**20
"""The largest block that IPFS peers exchange."""
MAX_HEADER: Final = 4096
MAX_CID_BYTES: Final = 4 + 9 + 128
_MAX_PREFIX: Final = 9 + MAX_CID_BYTES


class CarInvalid(ValueError):
    """Not a CARv1, or a section of a kind that is not accepted."""


class BlockTooBig(CarInvalid):
    """A section claims more bytes than a block may have."""


class Sections(Protocol):
    """Who receives what a `CarReader` finds, in order."""

    def header(self, roots: list[Cid]) -> None: ...
    def begin(self, cid: Cid, size: int) -> None: ...
    def data(self, piece: memoryview) -> None: ...
    def end(self) -> None: ...


class CarReader:
    """Cuts a stream of bytes into sections. Holds at most one header or section prefix."""

    def __init__(self, receiver: Sections) -> None:
        self._receiver = receiver
        self._held = b""
        self._left = 0
        self._headed = False
        self.sections = 0

    def feed(self, chunk: bytes) -> None:
        """Take the next bytes. Raises `CarInvalid`, and whatever the receiver raises."""
        if self._held:
            chunk, self._held = self._held + chunk, b""
        view, at = memoryview(chunk), 0
        while at < len(view):
            if self._left:
                piece = view[at : at + self._left]
                at += len(piece)
                self._left -= len(piece)
                self._receiver.data(piece)
                if not self._left:
                    self._receiver.end()
                continue
            start = self._section(view, at) if self._headed else self._header(view, at)
            if start < 0:
                self._held = bytes(view[at:])
                return
            at = start

    def close(self) -> bool:
        """Whether the stream ended between two sections, behind a header."""
        return self._headed and not self._left and not self._held

    def _header(self, view: memoryview, at: int) -> int:
        size, start = _length(view, at)
        if start < 0:
            return -1
        if not 0 < size <= MAX_HEADER:
            raise CarInvalid(f"the CAR header claims {size} bytes")
        if len(view) - start < size:
            return -1
        self._receiver.header(read_header(bytes(view[start : start + size])))
        self._headed = True
        return start + size

    def _section(self, view: memoryview, at: int) -> int:
        size, start = _length(view, at)
        if start < 0:
            return -1
        if size > MAX_BLOCK + MAX_CID_BYTES:
            raise BlockTooBig(f"a CAR section claims {size} bytes; a block has at most {MAX_BLOCK}")
        try:
            cid, body = Cid.read(view[start : start + min(size, MAX_CID_BYTES)], 0)
        except CidInvalid as error:
            if len(view) - at < min(size, _MAX_PREFIX):
                return -1
            raise CarInvalid(f"a CAR section names no block that is accepted: {error}") from None
        left = size - body
        if left > MAX_BLOCK:
            raise BlockTooBig(f"a block claims {left} bytes; it has at most {MAX_BLOCK}")
        self.sections += 1
        self._receiver.begin(cid, left)
        self._left = left
        if not left:
            self._receiver.end()
        return start + body


def _length(view: memoryview, at: int) -> tuple[int, int]:
    """The varint at `at` and the offset behind it; (0, -1) while it is incomplete."""
    try:
        return read_varint(view, at)
    except CidInvalid as error:
        if len(view) - at < 9 and all(byte & 0x80 for byte in view[at:]):
            return 0, -1
        raise CarInvalid(f"a CAR length cannot be read: {error}") from None


def write_header(roots: list[Cid]) -> bytes:
    """The header section for at most 23 roots."""
    if len(roots) > 23:
        raise ValueError("at most 23 roots fit the short form of the header")
    body = b"\xa2\x65roots" + bytes([0x80 | len(roots)])
    for cid in roots:
        raw = b"\0" + cid.binary
        head = bytes([0x40 | len(raw)]) if len(raw) < 24 else bytes([0x58, len(raw)])
        body += b"\xd8\x2a" + head + raw
    body += b"\x67version\x01"
    return write_varint(len(body)) + body


def write_prefix(cid: Cid, size: int) -> bytes:
    """What stands before the `size` bytes of a block."""
    raw = cid.binary
    return write_varint(len(raw) + size) + raw


def read_header(raw: bytes) -> list[Cid]:
    """The roots in a CARv1 header. Raises `CarInvalid`."""
    try:
        value, end = _cbor(raw, 0, depth=0)
    except (IndexError, UnicodeDecodeError, CidInvalid) as error:
        raise CarInvalid(f"the CAR header cannot be read: {error}") from None
    if end != len(raw) or not isinstance(value, dict) or set(value) != {"roots", "version"}:
        raise CarInvalid("the CAR header is not {roots, version}")
    roots = value["roots"]
    if value["version"] != 1 or not isinstance(roots, list):
        raise CarInvalid("only CAR version 1 is accepted")
    if not all(isinstance(root, Cid) for root in roots):
        raise CarInvalid("the CAR header's roots are not CIDs")
    return roots


def _cbor(raw: bytes, at: int, *, depth: int) -> tuple[object, int]:  # noqa: C901, PLR0912 - one branch a type
    """The little of CBOR (RFC 8949) that a CAR header needs: unsigned, bytes, text, array, map, tag 42."""
    major, info = raw[at] >> 5, raw[at] & 31
    at += 1
    if info >= 24:
        width = {24: 1, 25: 2, 26: 4, 27: 8}.get(info, 0)
        if not width or len(raw) - at < width:
            raise CarInvalid("the CAR header is not DAG-CBOR")
        info, at = int.from_bytes(raw[at : at + width], "big"), at + width
    if depth > 4 or (major > 1 and major != 6 and info > len(raw)):
        raise CarInvalid("the CAR header is nested too deep or cut short")
    if major == 0:
        return info, at
    if major in {2, 3}:
        piece = raw[at : at + info]
        if len(piece) != info:
            raise CarInvalid("the CAR header is cut short")
        return (piece if major == 2 else piece.decode()), at + info
    if major == 4:
        items = []
        for _ in range(info):
            item, at = _cbor(raw, at, depth=depth + 1)
            items.append(item)
        return items, at
    if major == 5:
        pairs: dict[object, object] = {}
        for _ in range(info):
            key, at = _cbor(raw, at, depth=depth + 1)
            if not isinstance(key, str) or key in pairs:
                raise CarInvalid("the CAR header has a strange key")
            pairs[key], at = _cbor(raw, at, depth=depth + 1)
        return pairs, at
    if major == 6 and info == 42:
        link, at = _cbor(raw, at, depth=depth + 1)
        if not isinstance(link, bytes) or not link.startswith(b"\0"):
            raise CarInvalid("the CAR header's roots are not CIDs")
        return Cid.from_bytes(link[1:]), at
    raise CarInvalid("the CAR header is not DAG-CBOR")
