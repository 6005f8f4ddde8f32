"""What a picture file is and how large, read from its first bytes without decoding anything.

Enters: untrusted bytes. Leaves: kind, width, height and whether it is an animation, so that limits
are checked before any decoder allocates.

Formats: PNG specification (third edition) 5.2 and 11.2.1; RFC 9649 (WebP) 2.3 to 2.7; ITU-T T.81
annex B (JPEG markers).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Literal

from preprocessors.formats import InputInvalid

Kind = Literal["jpeg", "png", "webp"]

_OTHERS: Final = {
    b"GIF8": "GIF",
    b"BM": "BMP",
    b"II*\x00": "TIFF",
    b"MM\x00*": "TIFF",
    b"%PDF": "PDF",
    b"<svg": "SVG",
    b"<?xml": "XML",
    b"\x00\x00\x01\x00": "ICO",
    b"\xff\x0a": "JPEG XL",
    b"\x00\x00\x00\x0cJXL ": "JPEG XL",
}
_FRAME_HEADERS: Final = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}
_WITHOUT_LENGTH: Final = frozenset({0x01, *range(0xD0, 0xD8)})


@dataclass(frozen=True, slots=True)
class Header:
    """What the first bytes say. `width` and `height` are as stored, before any orientation."""

    kind: Kind
    width: int
    height: int
    animated: bool = False


def read_header(content: bytes) -> Header:
    """Read kind and size. Raises `InputInvalid` where it is none of JPEG, PNG and WebP."""
    if content[:3] == b"\xff\xd8\xff":
        width, height = _jpeg_size(content)
        header = Header("jpeg", width, height)
    elif content[:8] == b"\x89PNG\r\n\x1a\n":
        if content[12:16] != b"IHDR" or len(content) < 33:
            raise InputInvalid("the PNG is cut short or damaged: it has no header")
        header = Header("png", int.from_bytes(content[16:20], "big"), int.from_bytes(content[20:24], "big"))
    elif content[:4] == b"RIFF" and content[8:12] == b"WEBP":
        header = _webp(content)
    else:
        raise InputInvalid(f"{name_of(content)}: send a JPEG, PNG or WebP file")
    if header.width < 1 or header.height < 1:
        raise InputInvalid(f"the {header.kind.upper()} says that it has no pixels")
    return header


def name_of(content: bytes) -> str:
    """What an unreadable file seems to be, for the error's text."""
    if not content:
        return "the file is empty"
    if content[4:8] == b"ftyp":
        brand = content[8:12]
        return "the file is " + {b"avif": "AVIF", b"avis": "AVIF"}.get(brand, "HEIC or a video")
    for magic, name in _OTHERS.items():
        if content.startswith(magic):
            return f"the file is {name}"
    return "the file is not a picture that this node reads"


def _jpeg_size(content: bytes) -> tuple[int, int]:
    at = 2
    while at + 4 <= len(content):
        if content[at] != 0xFF:
            break
        marker = content[at + 1]
        if marker == 0xFF:
            at += 1
            continue
        if marker in _WITHOUT_LENGTH:
            at += 2
            continue
        if marker in {0xD9, 0xDA}:
            break
        if marker in _FRAME_HEADERS and at + 9 <= len(content):
            return int.from_bytes(content[at + 7 : at + 9], "big"), int.from_bytes(
                content[at + 5 : at + 7], "big"
            )
        at += 2 + int.from_bytes(content[at + 2 : at + 4], "big")
    raise InputInvalid("the JPEG is cut short or damaged: it has no frame header")


def _webp(content: bytes) -> Header:
    chunk, body = content[12:16], content[20:30]
    if len(body) == 10:
        if chunk == b"VP8X":
            width, height = (int.from_bytes(body[at : at + 3], "little") + 1 for at in (4, 7))
            return Header("webp", width, height, animated=bool(body[0] & 0x02))
        if chunk == b"VP8 " and body[3:6] == b"\x9d\x01\x2a":
            width, height = (int.from_bytes(body[at : at + 2], "little") & 0x3FFF for at in (6, 8))
            return Header("webp", width, height)
        if chunk == b"VP8L" and body[0] == 0x2F:
            bits = int.from_bytes(body[1:5], "little")
            return Header("webp", (bits & 0x3FFF) + 1, (bits >> 14 & 0x3FFF) + 1)
    raise InputInvalid("the WebP is cut short or damaged: it has no frame header")
