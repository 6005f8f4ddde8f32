"""Blocks and CARs made by hand, honest or not."""

from __future__ import annotations

from node.cid import DAG_PB, RAW, Cid, write_varint
from node.ipfs.car import write_header, write_prefix
from node.ipfs.unixfs import Link, encode_file, encode_folder

Block = tuple[Cid, bytes]


def leaf(content: bytes) -> Block:
    """A raw leaf."""
    return Cid.of(content, codec=RAW), content


def node(raw: bytes) -> Block:
    """Any dag-pb block."""
    return Cid.of(raw, codec=DAG_PB), raw


def file_node(*children: Block, sizes: list[int] | None = None) -> Block:
    """An interior node of a file over raw leaves; `sizes` may lie."""
    links = [Link(cid, "", len(raw)) for cid, raw in children]
    return node(encode_file(links, [len(raw) for _, raw in children] if sizes is None else sizes))


def folder(*entries: tuple[str, Block]) -> Block:
    """A folder, sorted as it must be."""
    return node(encode_folder([Link(block[0], name, len(block[1])) for name, block in entries]))


def raw_folder(*entries: tuple[bytes, Cid]) -> Block:
    """A folder with entries just as given: unsorted, repeated, with any bytes as names."""
    links = b""
    for name, cid in entries:
        raw = cid.binary
        body = b"\x0a" + write_varint(len(raw)) + raw + b"\x12" + write_varint(len(name)) + name + b"\x18\x00"
        links += b"\x12" + write_varint(len(body)) + body
    return node(links + b"\x0a\x02\x08\x01")


def unixfs(record: bytes, *, links: bytes = b"") -> Block:
    """A dag-pb block around any UnixFS record."""
    return node(links + b"\x0a" + write_varint(len(record)) + record)


def section(cid: Cid, content: bytes) -> bytes:
    return write_prefix(cid, len(content)) + content


def car(*blocks: Block, root: Cid | None = None) -> bytes:
    """A CAR of these blocks in this order; its root is the first's unless another is said."""
    return write_header([root or blocks[0][0]]) + b"".join(section(cid, raw) for cid, raw in blocks)
