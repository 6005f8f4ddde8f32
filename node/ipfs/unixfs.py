"""dag-pb nodes and the UnixFS records inside them: decode strictly, encode as Kubo does.

Enters: one block whose hash is already known to be right. Leaves: a `FileNode` or a `FolderNode`, or
`NodeInvalid`, which is the publisher's fault and never a gateway's.

Formats: https://ipld.io/specs/codecs/dag-pb/spec/ (PBNode: Data = 1, Links = 2; PBLink: Hash = 1,
Name = 2, Tsize = 3) and https://specs.ipfs.tech/unixfs/ (Type = 1, Data = 2, filesize = 3,
blocksizes = 4, hashType = 5, fanout = 6, mode = 7, mtime = 8).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from node.cid import Cid, CidInvalid, read_varint, write_varint

MAX_LINKS: Final = 8192
MAX_NAME_BYTES: Final = 255

RAW_TYPE: Final = 0
FOLDER_TYPE: Final = 1
FILE_TYPE: Final = 2
_REFUSED_TYPES: Final = {
    3: "a metadata record",
    4: "a symbolic link",
    5: "a sharded (HAMT) folder; publish a folder of fewer entries",
}


class NodeInvalid(ValueError):
    """A block of the right hash that is not a UnixFS file or folder which this node accepts."""


@dataclass(frozen=True, slots=True)
class Link:
    """A child: its name (folders only) and `tsize`, the publisher's word for the size of its DAG."""

    cid: Cid
    name: str
    tsize: int


@dataclass(frozen=True, slots=True)
class FileNode:
    """A leaf (`data`, no children) or an interior node (`children` with the bytes that each covers)."""

    type: int
    data: memoryview
    size: int
    children: tuple[tuple[Cid, int], ...]


@dataclass(frozen=True, slots=True)
class FolderNode:
    entries: tuple[Link, ...]


def decode(block: bytes) -> FileNode | FolderNode:
    """Read one dag-pb block.

    Raises
    ------
    NodeInvalid
        Not dag-pb, not UnixFS, a kind that is not accepted, or sizes that contradict each other.
    """
    try:
        links, data = _split(memoryview(block))
        kind, content, size, parts = _record(data)
    except CidInvalid as error:
        raise NodeInvalid(f"a node cannot be read: {error}") from None
    if kind in _REFUSED_TYPES:
        raise NodeInvalid(f"a node is {_REFUSED_TYPES[kind]}")
    if kind == FOLDER_TYPE:
        _check_names(links)
        return FolderNode(tuple(links))
    if kind not in {FILE_TYPE, RAW_TYPE}:
        raise NodeInvalid(f"a node has the unknown UnixFS type {kind}")
    return _file(kind, links, content=content, size=size, parts=parts)


def encode_leaf(data: bytes | memoryview, *, kind: int = FILE_TYPE) -> bytes:
    """A dag-pb leaf around file bytes, byte for byte as Kubo writes it."""
    framed = b"\x12" + write_varint(len(data)) + bytes(data) if len(data) else b""
    record = b"\x08" + write_varint(kind) + framed + b"\x18" + write_varint(len(data))
    return b"\x0a" + write_varint(len(record)) + record


def encode_file(links: list[Link], sizes: list[int]) -> bytes:
    """An interior node of a file; `sizes` are the file bytes below each link."""
    record = b"\x08\x02\x18" + write_varint(sum(sizes)) + b"".join(b"\x20" + write_varint(n) for n in sizes)
    return _encode_node(links, record)


def encode_folder(links: list[Link]) -> bytes:
    """A folder; links are sorted by the bytes of their names, as dag-pb demands."""
    return _encode_node(sorted(links, key=lambda link: link.name.encode()), b"\x08\x01")


def check_name(name: str) -> None:
    """Refuse an entry name that could leave its folder or that no file system takes. Raises `NodeInvalid`."""
    if name in {"", ".", ".."} or "/" in name or "\0" in name or len(name.encode()) > MAX_NAME_BYTES:
        raise NodeInvalid(f"a folder has an entry with the name {name[:40]!r}, which is not accepted")


def _encode_node(links: list[Link], record: bytes) -> bytes:
    out = bytearray()
    for link in links:
        cid, name = link.cid.binary, link.name.encode()
        body = b"\x0a" + write_varint(len(cid)) + cid + b"\x12" + write_varint(len(name)) + name
        body += b"\x18" + write_varint(link.tsize)
        out += b"\x12" + write_varint(len(body)) + body
    return bytes(out + b"\x0a" + write_varint(len(record)) + record)


def _file(
    kind: int, links: list[Link], *, content: memoryview, size: int | None, parts: list[int]
) -> FileNode:
    if len(parts) != len(links):
        raise NodeInvalid(f"a file node has {len(links)} links but {len(parts)} block sizes")
    if not links:
        if size is not None and size != len(content):
            raise NodeInvalid(f"a leaf says {size} bytes and holds {len(content)}")
        return FileNode(kind, content, len(content), ())
    if len(content):
        raise NodeInvalid("a file node holds both bytes and links")
    if 0 in parts:
        raise NodeInvalid("a file node has a link to nothing")
    if size != sum(parts):
        raise NodeInvalid(f"a file node says {size} bytes, its links {sum(parts)}")
    return FileNode(kind, content, size, tuple((link.cid, n) for link, n in zip(links, parts, strict=True)))


def _check_names(links: list[Link]) -> None:
    before = b""
    for link in links:
        check_name(link.name)
        raw = link.name.encode()
        if raw <= before:
            what = "twice" if raw == before else "out of order"
            raise NodeInvalid(f"a folder has the entry {link.name[:40]!r} {what}")
        before = raw


def _split(block: memoryview) -> tuple[list[Link], memoryview]:
    links: list[Link] = []
    data: memoryview | None = None
    for field, value in _fields(block):
        if isinstance(value, int) or field not in {1, 2}:
            raise NodeInvalid(f"a dag-pb node has the unknown field {field}")
        if field == 2:
            links.append(_link(value))
            if len(links) > MAX_LINKS:
                raise NodeInvalid(f"a node has more than {MAX_LINKS} links")
        elif data is not None:
            raise NodeInvalid("a dag-pb node has two data fields")
        else:
            data = value
    if data is None:
        raise NodeInvalid("a dag-pb node has no UnixFS record")
    return links, data


def _link(raw: memoryview) -> Link:
    cid: Cid | None = None
    name, tsize = "", 0
    for field, value in _fields(raw):
        if field == 1 and not isinstance(value, int):
            cid = Cid.from_bytes(bytes(value))
        elif field == 2 and not isinstance(value, int):
            try:
                name = bytes(value).decode()
            except UnicodeDecodeError:
                raise NodeInvalid("a link's name is not UTF-8") from None
        elif field == 3 and isinstance(value, int):
            tsize = value
        else:
            raise NodeInvalid(f"a link has the unknown field {field}")
    if cid is None:
        raise NodeInvalid("a link has no CID")
    return Link(cid, name, tsize)


def _record(raw: memoryview) -> tuple[int, memoryview, int | None, list[int]]:
    kind: int | None = None
    content = memoryview(b"")
    size: int | None = None
    parts: list[int] = []
    for field, value in _fields(raw):
        if field == 1 and isinstance(value, int):
            kind = value
        elif field == 2 and not isinstance(value, int):
            content = value
        elif field == 3 and isinstance(value, int):
            size = value
        elif field == 4:
            parts.extend(_packed(value))
        elif field not in {5, 6, 7, 8}:
            raise NodeInvalid(f"a UnixFS record has the unknown field {field}")
    if kind is None:
        raise NodeInvalid("a UnixFS record has no type")
    return kind, content, size, parts


def _packed(value: int | memoryview) -> list[int]:
    if isinstance(value, int):
        return [value]
    out, at = [], 0
    while at < len(value):
        one, at = read_varint(value, at)
        out.append(one)
    return out


def _fields(raw: memoryview) -> Iterator[tuple[int, int | memoryview]]:
    """Protobuf fields of wire types 0 (varint) and 2 (length-delimited); others are refused.

    A modification time (UnixFS 1.5) is a nested message: it is passed over whole.
    """
    at = 0
    while at < len(raw):
        key, at = read_varint(raw, at)
        value, at = read_varint(raw, at)
        if key & 7 == 0:
            yield key >> 3, value
        elif key & 7 == 2:
            if value > len(raw) - at:
                raise NodeInvalid("a field is longer than its node")
            yield key >> 3, raw[at : at + value]
            at += value
        else:
            raise NodeInvalid(f"a node has a field of wire type {key & 7}")
