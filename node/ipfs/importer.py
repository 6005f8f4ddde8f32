"""Files, bytes and folders into UnixFS DAGs, with the same CIDs as Kubo. Needs no store and no daemon.

Enters: a path or bytes and a profile. Leaves: an `Imported`, whose root CID is known before anything is
sent anywhere, and from which a CAR can be written (`car_chunks`, `write_car`).

Trees are balanced: leaves in groups of `width`, groups in groups, until one node is left. Only interior
nodes are kept in memory (about 50 KB a GiB); leaves are read from their source again when a CAR is written.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from enum import Enum
from pathlib import Path
from typing import BinaryIO, Final

from node.cid import DAG_PB, RAW, Cid
from node.errors import InvalidInput
from node.ipfs.car import MAX_BLOCK, write_header, write_prefix
from node.ipfs.unixfs import (
    FolderNode,
    Link,
    NodeInvalid,
    check_name,
    decode,
    encode_file,
    encode_folder,
    encode_leaf,
)

MAX_FOLDER_DEPTH: Final = 24
"""Folders deeper than this would pass the depth at which a verifier gives up (32, files included)."""


class Profile(Enum):
    """How a file becomes a DAG; the same bytes have another CID under another profile.

    Values are (CID version, chunk bytes, links a node, raw leaves).
    """

    UNIXFS_V1_2025 = (1, 2**20, 1024, True)
    """Ours: https://specs.ipfs.tech/ipips/ipip-0499/ ."""
    UNIXFS_V0_2015 = (0, 2**18, 174, False)
    """`ipfs add` without options."""
    KUBO_CID_V1 = (1, 2**18, 174, True)
    """`ipfs add --cid-version=1`."""

    @property
    def version(self) -> int:
        return self.value[0]

    @property
    def chunk(self) -> int:
        return self.value[1]

    @property
    def width(self) -> int:
        return self.value[2]

    @property
    def raw_leaves(self) -> bool:
        return self.value[3]


@dataclass(frozen=True, slots=True)
class Imported:
    """A DAG that was computed.

    Attributes
    ----------
    root : the CID under which the content can be found.
    size : bytes of all files in it.
    blocks : how many blocks a depth-first walk of it passes.
    """

    root: Cid
    size: int
    blocks: int
    nodes: dict[bytes, bytes] = field(repr=False)
    files: tuple[tuple[Cid, Path | bytes], ...] = field(repr=False)
    profile: Profile = field(repr=False)


@dataclass(frozen=True, slots=True)
class _Part:
    cid: Cid
    size: int
    tsize: int
    blocks: int


LeafSeen = Callable[[bytes], None]


def import_bytes(content: bytes, *, profile: Profile = Profile.UNIXFS_V1_2025) -> Imported:
    """The DAG of one file that is in memory."""
    nodes: dict[bytes, bytes] = {}
    step = profile.chunk
    chunks = (content[at : at + step] for at in range(0, len(content), step))
    part = _file(chunks, profile=profile, nodes=nodes)
    return Imported(part.cid, part.size, part.blocks, nodes, ((part.cid, content),), profile)


def import_file(
    path: Path, *, profile: Profile = Profile.UNIXFS_V1_2025, copy_to: LeafSeen | None = None
) -> Imported:
    """The DAG of one file; `copy_to` is given each chunk as it is read.

    Raises
    ------
    InvalidInput
        There is no such regular file.
    """
    nodes: dict[bytes, bytes] = {}
    part = _file(_read(path, profile.chunk, copy_to), profile=profile, nodes=nodes)
    return Imported(part.cid, part.size, part.blocks, nodes, ((part.cid, path),), profile)


def import_folder(path: Path, *, profile: Profile = Profile.UNIXFS_V1_2025) -> Imported:
    """The DAG of a folder with all that is in it. Symbolic links and special files are refused.

    Raises
    ------
    InvalidInput
        Not a folder, or something in it is neither a file nor a folder, or has a name that is not accepted.
    """
    if not path.is_dir():
        raise InvalidInput(f"{path.name!r} is not a folder")
    nodes: dict[bytes, bytes] = {}
    files: list[tuple[Cid, Path | bytes]] = []
    part = _folder(path, profile=profile, nodes=nodes, files=files, depth=0)
    return Imported(part.cid, part.size, part.blocks, nodes, tuple(files), profile)


def import_any(path: Path, *, profile: Profile = Profile.UNIXFS_V1_2025) -> Imported:
    """`import_folder` or `import_file`, by what `path` is."""
    return import_folder(path, profile=profile) if path.is_dir() else import_file(path, profile=profile)


def car_chunks(imported: Iterable[Imported]) -> Iterator[bytes]:
    """One CAR with the DAGs' roots in its header and their blocks depth first, root after root.

    Raises
    ------
    InvalidInput
        A file is not what it was when its CID was computed.
    """
    dags = list(imported)
    yield write_header([dag.root for dag in dags])
    for dag in dags:
        yield from _sections(dag)


def write_car(target: Path, *imported: Imported) -> None:
    """Write `car_chunks` to a file."""
    with target.open("wb") as out:
        for chunk in car_chunks(imported):
            out.write(chunk)


def _sections(dag: Imported) -> Iterator[bytes]:
    sources = iter(dag.files)
    stack = [(dag.root, True)]
    leaves: Iterator[bytes] = iter(())
    while stack:
        cid, starts = stack.pop()
        node = dag.nodes.get(cid.digest) if cid.codec == DAG_PB else None
        folder = decode(node) if node is not None else None
        if starts and not isinstance(folder, FolderNode):
            leaves = _leaves(next(sources)[1], dag.profile)
        block = next(leaves, b"") if node is None else node
        if node is None and not cid.matches(block):
            raise InvalidInput("a file changed while it was being published; start again")
        yield write_prefix(cid, len(block)) + block
        if isinstance(folder, FolderNode):
            stack.extend((link.cid, True) for link in reversed(folder.entries))
        elif folder is not None:
            stack.extend((child, False) for child, _ in reversed(folder.children))


def _leaves(source: Path | bytes, profile: Profile) -> Iterator[bytes]:
    step = profile.chunk
    if isinstance(source, bytes):
        chunks: Iterator[bytes] = (source[at : at + step] for at in range(0, max(len(source), 1), step))
    else:
        chunks = _read(source, step, None)
    empty = True
    for chunk in chunks:
        empty = False
        yield chunk if profile.raw_leaves else encode_leaf(chunk)
    if empty:
        yield b"" if profile.raw_leaves else encode_leaf(b"")


def _read(path: Path, step: int, copy_to: LeafSeen | None) -> Iterator[bytes]:
    if not path.is_file():
        raise InvalidInput(f"{path.name!r} is not a file")
    with path.open("rb", buffering=0) as source:
        while chunk := _fill(source, step):
            if copy_to is not None:
                copy_to(chunk)
            yield chunk


def _fill(source: BinaryIO, step: int) -> bytes:
    chunk = source.read(step)
    while chunk and len(chunk) < step:
        more = source.read(step - len(chunk))
        if not more:
            break
        chunk += more
    return chunk


def _file(chunks: Iterable[bytes], *, profile: Profile, nodes: dict[bytes, bytes]) -> _Part:
    level = [_leaf(chunk, profile) for chunk in chunks] or [_leaf(b"", profile)]
    while len(level) > 1:
        groups = (level[at : at + profile.width] for at in range(0, len(level), profile.width))
        level = [_interior(group, profile, nodes) for group in groups]
    return level[0]


def _leaf(chunk: bytes, profile: Profile) -> _Part:
    block = chunk if profile.raw_leaves else encode_leaf(chunk)
    cid = Cid.of(block, codec=RAW if profile.raw_leaves else DAG_PB, version=profile.version)
    return _Part(cid, len(chunk), len(block), 1)


def _interior(group: list[_Part], profile: Profile, nodes: dict[bytes, bytes]) -> _Part:
    block = encode_file([Link(part.cid, "", part.tsize) for part in group], [part.size for part in group])
    return _keep(block, group, profile, nodes)


def _keep(block: bytes, below: list[_Part], profile: Profile, nodes: dict[bytes, bytes]) -> _Part:
    cid = Cid.of(block, codec=DAG_PB, version=profile.version)
    nodes[cid.digest] = block
    return _Part(
        cid,
        sum(part.size for part in below),
        len(block) + sum(part.tsize for part in below),
        1 + sum(part.blocks for part in below),
    )


def _folder(
    path: Path,
    *,
    profile: Profile,
    nodes: dict[bytes, bytes],
    files: list[tuple[Cid, Path | bytes]],
    depth: int,
) -> _Part:
    if depth > MAX_FOLDER_DEPTH:
        raise InvalidInput(f"folders are nested deeper than {MAX_FOLDER_DEPTH}")
    parts: list[_Part] = []
    links: list[Link] = []
    for entry in sorted(os.scandir(path), key=lambda entry: os.fsencode(entry.name)):
        part = _entry(entry, profile=profile, nodes=nodes, files=files, depth=depth)
        parts.append(part)
        links.append(Link(part.cid, entry.name, part.tsize))
    block = encode_folder(links)
    if len(block) > MAX_BLOCK // 8:
        raise InvalidInput(f"the folder {path.name!r} has too many entries: its node passes 256 KiB")
    return _keep(block, parts, profile, nodes)


def _entry(
    entry: os.DirEntry[str],
    *,
    profile: Profile,
    nodes: dict[bytes, bytes],
    files: list[tuple[Cid, Path | bytes]],
    depth: int,
) -> _Part:
    try:
        check_name(entry.name)
    except (NodeInvalid, UnicodeEncodeError):
        raise InvalidInput(f"{entry.name!r} is not a name that a folder may carry") from None
    where = Path(entry.path)
    if entry.is_dir(follow_symlinks=False):
        return _folder(where, profile=profile, nodes=nodes, files=files, depth=depth + 1)
    if not entry.is_file(follow_symlinks=False):
        raise InvalidInput(f"{entry.name!r} is neither a file nor a folder; links are not followed")
    part = _file(_read(where, profile.chunk, None), profile=profile, nodes=nodes)
    files.append((part.cid, where))
    return part
