"""Content identifiers (CIDv0 and CIDv1) limited to what this node accepts.

Enters: text or bytes from strangers. Leaves: a `Cid` whose parts are checked, so that everything
behind this module may use it in a path or a URL without thought.

Formats: https://github.com/multiformats/cid (v0, v1), multibase `b` (RFC 4648 base32, lower case,
no padding) and base58btc for v0, unsigned varints of at most nine bytes in their shortest form.
"""

from __future__ import annotations

import base64
import hashlib
from dataclasses import dataclass
from typing import Final

RAW: Final = 0x55
DAG_PB: Final = 0x70
IDENTITY: Final = 0x00
SHA2_256: Final = 0x12
MAX_IDENTITY_BYTES: Final = 128
MAX_TEXT: Final = 512

_BASE58: Final = "123456789ABCDEFGHJKLMNPQRSTUVWXYZabcdefghijkmnopqrstuvwxyz"
_BASE58_VALUE: Final = {letter: value for value, letter in enumerate(_BASE58)}
_CODEC_NAMES: Final = {RAW: "raw", DAG_PB: "dag-pb"}


class CidInvalid(ValueError):
    """Not a CID, or not one of a kind that this node accepts; the message says which part is wrong."""


@dataclass(frozen=True, slots=True)
class Cid:
    """A checked content identifier.

    Attributes
    ----------
    version : 0 or 1.
    codec : `RAW` or `DAG_PB`.
    hash_code : `SHA2_256`, or `IDENTITY` for up to 128 inline bytes.
    digest : the digest; the content itself for `IDENTITY`.
    """

    version: int
    codec: int
    hash_code: int
    digest: bytes

    @classmethod
    def parse(cls, text: str) -> Cid:
        """Read the text form. Raises `CidInvalid`."""
        if not text or len(text) > MAX_TEXT or not text.isascii():
            raise CidInvalid(f"a CID is 1 to {MAX_TEXT} ASCII characters")
        if text.startswith("Qm") and len(text) == 46:
            return cls.from_bytes(_base58_decode(text))
        if text[0] != "b":
            raise CidInvalid("a CID is base32 ('b...') or version 0 ('Qm...')")
        if text != text.lower():
            raise CidInvalid("a base32 CID is lower case")
        body = text[1:].upper()
        try:
            raw = base64.b32decode(body + "=" * (-len(body) % 8))
        except ValueError:
            raise CidInvalid("not base32") from None
        cid = cls.from_bytes(raw)
        if cid.version == 0 or str(cid) != text:
            raise CidInvalid("not the canonical form of a CID")
        return cid

    @classmethod
    def from_bytes(cls, raw: bytes) -> Cid:
        """Read the binary form, which must fill `raw` exactly. Raises `CidInvalid`."""
        cid, end = cls.read(raw, 0)
        if end != len(raw):
            raise CidInvalid("bytes after the CID")
        return cid

    @classmethod
    def read(cls, raw: bytes | memoryview, at: int) -> tuple[Cid, int]:
        """Read a binary CID that starts at `at`; returns it and the offset behind it."""
        if bytes(raw[at : at + 2]) == b"\x12\x20":
            digest = bytes(raw[at + 2 : at + 34])
            if len(digest) != 32:
                raise CidInvalid("digest is cut short")
            return cls(0, DAG_PB, SHA2_256, digest), at + 34
        version, at = read_varint(raw, at)
        if version != 1:
            raise CidInvalid(f"CID version {version} is unknown")
        codec, at = read_varint(raw, at)
        if codec not in _CODEC_NAMES:
            raise CidInvalid(f"codec 0x{codec:x} is not accepted; raw and dag-pb are")
        hash_code, at = read_varint(raw, at)
        size, at = read_varint(raw, at)
        if hash_code == SHA2_256:
            if size != 32:
                raise CidInvalid(f"a sha2-256 digest has 32 bytes, not {size}")
        elif hash_code == IDENTITY:
            if size > MAX_IDENTITY_BYTES:
                raise CidInvalid(f"an identity CID holds at most {MAX_IDENTITY_BYTES} bytes, not {size}")
        else:
            raise CidInvalid(f"hash 0x{hash_code:x} is not accepted; sha2-256 is")
        digest = bytes(raw[at : at + size])
        if len(digest) != size:
            raise CidInvalid("digest is cut short")
        return cls(1, codec, hash_code, digest), at + size

    @classmethod
    def of(cls, content: bytes | memoryview, *, codec: int, version: int = 1) -> Cid:
        """The sha2-256 CID of one block."""
        return cls(version, codec, SHA2_256, hashlib.sha256(content).digest())

    @property
    def binary(self) -> bytes:
        """The binary form, as links and CAR sections carry it."""
        if self.version == 0:
            return b"\x12\x20" + self.digest
        return (
            b"\x01"
            + write_varint(self.codec)
            + write_varint(self.hash_code)
            + write_varint(len(self.digest))
            + self.digest
        )

    @property
    def codec_name(self) -> str:
        return _CODEC_NAMES[self.codec]

    def matches(self, content: bytes | memoryview) -> bool:
        """Whether `content` is the block that this CID names."""
        if self.hash_code == IDENTITY:
            return bytes(content) == self.digest
        return hashlib.sha256(content).digest() == self.digest

    def __str__(self) -> str:
        if self.version == 0:
            return _base58_encode(self.binary)
        return "b" + base64.b32encode(self.binary).decode().rstrip("=").lower()


def read_varint(raw: bytes | memoryview, at: int) -> tuple[int, int]:
    """Read an unsigned varint (LEB128, shortest form, at most 63 bits); returns value and next offset."""
    value = 0
    for index in range(9):
        if at + index >= len(raw):
            raise CidInvalid("varint is cut short")
        byte = raw[at + index]
        value |= (byte & 0x7F) << (7 * index)
        if byte < 0x80:
            if byte == 0 and index > 0:
                raise CidInvalid("varint is not in its shortest form")
            return value, at + index + 1
    raise CidInvalid("varint is longer than nine bytes")


def write_varint(value: int) -> bytes:
    """The shortest unsigned varint of `value` (0 <= value < 2**63)."""
    out = bytearray()
    while value >= 0x80:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)


def _base58_decode(text: str) -> bytes:
    number = 0
    for letter in text:
        value = _BASE58_VALUE.get(letter)
        if value is None:
            raise CidInvalid("not base58")
        number = number * 58 + value
    try:
        return number.to_bytes(34, "big")
    except OverflowError:
        raise CidInvalid("not a version 0 CID") from None


def _base58_encode(raw: bytes) -> str:
    number, out = int.from_bytes(raw, "big"), ""
    while number:
        number, rest = divmod(number, 58)
        out = _BASE58[rest] + out
    return out
