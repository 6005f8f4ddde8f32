"""Every way in which a gateway or a publisher is known to attack: refused, said why, and nothing left."""

from __future__ import annotations

import asyncio
import errno
import gzip
import hashlib
import os
from collections.abc import Callable
from pathlib import Path

import pytest
from aiohttp import web

from node.cid import DAG_PB, IDENTITY, RAW, SHA2_256, Cid, write_varint
from node.errors import (
    ContentMismatch,
    ContentNotFound,
    GatewayUnavailable,
    InputTooLarge,
    NodeError,
    StoreFull,
)
from node.ipfs import item
from node.ipfs.car import write_header
from node.ipfs.importer import import_bytes
from node.ipfs.store import BlockStore
from node.ipfs.unixfs import encode_leaf
from tests.fakes.dags import Block, car, file_node, folder, leaf, node, raw_folder, section, unixfs
from tests.fakes.gateway import CAR_TYPE, Answer, car_answer

from .conftest import LIMIT, OpenGateway, OpenRetriever, traces

A, B, C = leaf(b"a" * 1000), leaf(b"b" * 1000), leaf(b"c" * 1000)
FILE = file_node(A, B, C)
INNER = file_node(A)
HONEST = car(FILE, A, B, C)


@pytest.fixture
def attempt(
    store: BlockStore, tmp_path: Path, open_gateway: OpenGateway, open_retriever: OpenRetriever
) -> Callable[..., object]:
    """Fetch `root` from one gateway that answers so; the error must come and nothing may stay."""

    async def run(
        root: Cid, answer: Answer | bytes, error: type[NodeError], match: str, *, dropped: bool, **how: float
    ) -> None:
        gateway = await open_gateway(answer=car_answer(answer) if isinstance(answer, bytes) else answer)
        limit = int(how.pop("limit", LIMIT))
        retriever = open_retriever(gateway, **how)
        with pytest.raises(error, match=match):
            await retriever.read(root, limit=limit)
        assert bool(retriever.gateways.all[0].refused) == dropped
        assert traces(tmp_path / "store") == []
        assert not store.has(root)

    return run


# a gateway that lies


async def test_the_honest_answer_is_taken(open_gateway: OpenGateway, open_retriever: OpenRetriever) -> None:
    gateway = await open_gateway(answer=car_answer(HONEST))
    content = await open_retriever(gateway).read(FILE[0], limit=LIMIT)
    assert content == b"a" * 1000 + b"b" * 1000 + b"c" * 1000


@pytest.mark.parametrize("at", [0, 500, 999])
async def test_a_corrupt_leaf(attempt, at: int) -> None:
    bad = bytearray(B[1])
    bad[at] ^= 1
    await attempt(
        FILE[0], car(FILE, A, (B[0], bytes(bad)), C), ContentMismatch, "bytes that its CID", dropped=True
    )


async def test_a_corrupt_node(attempt) -> None:
    bad = FILE[1][:-1] + b"\x08"
    await attempt(FILE[0], car((FILE[0], bad), A, B, C), ContentMismatch, "bytes that its CID", dropped=True)


async def test_a_corrupt_root_leaf(attempt) -> None:
    await attempt(A[0], car((A[0], b"x" * 1000)), ContentMismatch, "bytes that its CID", dropped=True)


@pytest.mark.parametrize("cut", [1, 40, len(HONEST) // 2])
async def test_a_truncated_car_is_not_taken_for_the_whole(
    store: BlockStore, open_gateway: OpenGateway, open_retriever: OpenRetriever, cut: int
) -> None:
    gateway = await open_gateway(answer=car_answer(HONEST[:-cut]))
    with pytest.raises(GatewayUnavailable, match="before everything had come"):
        await open_retriever(gateway, patience=0).read(FILE[0], limit=LIMIT)
    assert not store.has(FILE[0])


@pytest.mark.parametrize("content", [b"", HONEST[:5], write_header([FILE[0]])])
async def test_an_answer_without_any_block(attempt, content: bytes) -> None:
    await attempt(FILE[0], content, ContentNotFound, "without any block", dropped=False)


async def test_another_root(attempt) -> None:
    await attempt(FILE[0], car(A), ContentMismatch, "came where", dropped=True)


async def test_another_root_under_the_right_header(attempt) -> None:
    await attempt(FILE[0], car(A, root=FILE[0]), ContentMismatch, "came where", dropped=True)


@pytest.mark.parametrize(
    "blocks",
    [
        pytest.param((FILE, B, A, C), id="reordered"),
        pytest.param((FILE, A, leaf(b"extra"), B, C), id="extra in the middle"),
        pytest.param((FILE, A, A, B, C), id="repeated"),
        pytest.param((FILE, FILE, A, B, C), id="node repeated"),
        pytest.param((FILE, A, C), id="left out"),
    ],
)
async def test_blocks_that_were_not_asked_for(attempt, blocks: tuple[Block, ...]) -> None:
    await attempt(FILE[0], car(*blocks), ContentMismatch, r"came (where|after)", dropped=True)


@pytest.mark.parametrize("extra", [leaf(b"extra"), C, FILE], ids=["new", "repeated", "root"])
async def test_blocks_behind_the_last_one_drop_the_gateway_and_are_not_kept(
    store: BlockStore, open_gateway: OpenGateway, open_retriever: OpenRetriever, extra: Block
) -> None:
    gateway = await open_gateway(answer=car_answer(car(FILE, A, B, C, extra)))
    retriever = open_retriever(gateway)
    assert await retriever.read(FILE[0], limit=LIMIT) == A[1] + B[1] + C[1]
    assert "came after the last" in retriever.gateways.all[0].refused
    assert [item.blocks for item in store.list()] == [4]


@pytest.mark.parametrize(
    ("asked", "sent"),
    [
        (Cid(1, RAW, SHA2_256, FILE[0].digest), FILE),
        (Cid(1, DAG_PB, SHA2_256, A[0].digest), A),
    ],
)
async def test_another_codec_over_the_same_hash(attempt, asked: Cid, sent: Block) -> None:
    await attempt(asked, car(sent), ContentMismatch, "came where", dropped=True)


def multihash(code: int, digest: bytes, *, codec: int = RAW) -> bytes:
    return b"\x01" + bytes([codec]) + write_varint(code) + write_varint(len(digest)) + digest


WEAK = {
    "sha1": multihash(0x11, hashlib.sha1(A[1]).digest()),
    "md5": multihash(0xD5, hashlib.md5(A[1]).digest()),
    "truncated sha2-256": multihash(SHA2_256, A[0].digest[:16]),
    "sha2-512": multihash(0x13, hashlib.sha512(A[1]).digest()),
    "identity past 128 bytes": multihash(IDENTITY, bytes(129)),
    "dag-cbor": multihash(SHA2_256, A[0].digest, codec=0x71),
}


@pytest.mark.parametrize("cid", WEAK.values(), ids=WEAK.keys())
async def test_a_block_under_a_weak_or_foreign_cid(attempt, cid: bytes) -> None:
    body = cid + A[1]
    content = write_header([A[0]]) + write_varint(len(body)) + body
    await attempt(A[0], content, ContentMismatch, "no block that is accepted", dropped=True)


@pytest.mark.parametrize("cid", WEAK.values(), ids=WEAK.keys())
async def test_a_link_with_a_weak_or_foreign_cid_is_the_publishers_fault(attempt, cid: bytes) -> None:
    link = b"\x0a" + write_varint(len(cid)) + cid
    root = unixfs(b"\x08\x02\x18\x05\x20\x05", links=b"\x12" + write_varint(len(link)) + link)
    await attempt(root[0], car(root), ContentMismatch, "a node cannot be read", dropped=False)


@pytest.mark.parametrize(
    ("tail", "says"),
    [
        pytest.param(b"\x80" * 9 + b"\x01", "longer than nine", id="ten bytes"),
        pytest.param(b"\xff" * 9 + b"\x7f", "longer than nine", id="ten bytes, all ones"),
        pytest.param(b"\x81\x00", "shortest", id="not the shortest form"),
    ],
)
async def test_a_length_that_is_no_proper_varint(attempt, tail: bytes, says: str) -> None:
    await attempt(FILE[0], car(FILE) + tail + bytes(50), ContentMismatch, says, dropped=True)


@pytest.mark.parametrize("size", [2**32, 2**62, 3 * 2**20])
async def test_a_length_past_the_largest_block_reserves_nothing(attempt, size: int) -> None:
    content = write_header([A[0]]) + write_varint(size) + A[0].binary + b"x" * 1000
    await attempt(A[0], content, ContentMismatch, "a block has at most", dropped=False, patience=0)


@pytest.mark.parametrize(
    "header",
    [
        pytest.param(b"\x00", id="empty"),
        pytest.param(write_varint(2**32) + b"x", id="4 GiB"),
        pytest.param(b"\x0a\xa1\x67version\x01", id="no roots"),
        pytest.param(write_header([]).replace(b"version\x01", b"version\x02"), id="version 2"),
        pytest.param(b"\x05" + b"\x9b" + b"\xff" * 4, id="endless array"),
        pytest.param(b"\x10" + b"\x81" * 16, id="nested"),
        pytest.param(b"<!doctype html><html>", id="html"),
    ],
)
async def test_a_header_that_is_no_car(attempt, header: bytes) -> None:
    await attempt(A[0], header + section(*A), ContentMismatch, "CAR", dropped=True)


# a publisher who lies: the hashes are right, the gateway is innocent


@pytest.mark.parametrize(
    ("blocks", "says"),
    [
        pytest.param(
            (file_node(A, B, sizes=[1000, 999]), A, B), "1000 bytes where its parent", id="leaf size"
        ),
        pytest.param((file_node(A, B, sizes=[1000, 2**40]), A, B), "has .* or more", id="terabyte"),
        pytest.param((file_node(A, sizes=[0]), A), "link to nothing", id="empty link"),
        pytest.param(
            (file_node(INNER, sizes=[5]), INNER, A), "1000 bytes where its parent said 5", id="inner size"
        ),
        pytest.param(
            (unixfs(b"\x08\x02\x12\x01x\x18\x05"),), "says 5 bytes and holds 1", id="leaf's own size"
        ),
        pytest.param(
            (unixfs(b"\x08\x02\x18\x05\x20\x05"),), "0 links but 1 block sizes", id="sizes, no links"
        ),
        pytest.param((unixfs(b"\x08\x09"),), "unknown UnixFS type 9", id="unknown type"),
        pytest.param((unixfs(b"\x08\x04\x12\x04/etc"),), "symbolic link", id="symlink as root"),
        pytest.param((unixfs(b"\x08\x05\x12\x01\x00\x28\x22\x30\x80\x02"),), "HAMT", id="sharded folder"),
        pytest.param((unixfs(b"\x08\x03"),), "metadata", id="metadata"),
        pytest.param((node(b"\x0a\x7fx"),), "longer than its node", id="field past the end"),
        pytest.param((node(b""),), "no UnixFS record", id="empty node"),
        pytest.param((node(b"\x0a\x02\x08\x01" * 2),), "two data fields", id="two data fields"),
        pytest.param((node(b"\x1a\x00"),), "unknown field 3", id="unknown field"),
        pytest.param((node(b"\x0d\x00\x00\x00\x00"),), "wire type", id="wire type"),
    ],
)
async def test_sizes_and_kinds_that_contradict(attempt, blocks: tuple[Block, ...], says: str) -> None:
    error = InputTooLarge if says.startswith("has") else ContentMismatch
    await attempt(blocks[0][0], car(*blocks), error, says, dropped=False)


async def test_bytes_and_links_in_one_node(attempt) -> None:
    raw = file_node(A)[1]
    record = b"\x08\x02\x12\x01x\x18\xe9\x07\x20\xe8\x07"
    root = unixfs(record, links=raw[:-10])
    await attempt(root[0], car(root, A), ContentMismatch, "both bytes and links", dropped=False)


async def test_nesting_past_the_depth_limit(attempt) -> None:
    chain = [A]
    for _ in range(34):
        chain.append(file_node(chain[-1], sizes=[1000]))
    chain.reverse()
    await attempt(chain[0][0], car(*chain), ContentMismatch, "deeper than 32", dropped=False)


async def test_folders_nested_past_the_depth_limit(attempt) -> None:
    chain = [A]
    for _ in range(34):
        chain.append(folder(("d", chain[-1])))
    chain.reverse()
    await attempt(chain[0][0], car(*chain), ContentMismatch, "deeper than 32", dropped=False)


def doubling(levels: int) -> list[Block]:
    """A DAG of `levels` + 1 blocks that says it unfolds to 1000 x 2**levels bytes, and does."""
    chain, size = [A], 1000
    for _ in range(levels):
        chain.append(file_node(chain[-1], chain[-1], sizes=[size, size]))
        size *= 2
    return chain[::-1]


async def test_a_shared_subtree_that_unfolds_past_the_limit(attempt) -> None:
    blocks = doubling(25)
    await attempt(blocks[0][0], car(*blocks), InputTooLarge, "the limit here is", dropped=False)


async def test_a_shared_subtree_that_unfolds_past_the_size_it_said(attempt) -> None:
    below = doubling(5)
    root = file_node(below[0], sizes=[1000])
    await attempt(root[0], car(root, *below), ContentMismatch, "where its parent said 1000", dropped=False)


async def test_more_blocks_than_the_size_can_need(attempt) -> None:
    tiny = leaf(b"x")
    level, size = file_node(*[tiny] * 1000), 1000
    root = file_node(*[level] * 10, sizes=[size] * 10)
    blocks = [root, *[level, *[tiny] * 1000] * 10]
    await attempt(root[0], car(*blocks), ContentMismatch, "too many blocks", dropped=False, limit=20_000)


@pytest.mark.parametrize(
    ("names", "says"),
    [
        ([b".."], "name '..'"),
        ([b"."], "name '.'"),
        ([b""], "name ''"),
        ([b"../../etc/cron.d/x"], "not accepted"),
        ([b"/etc/passwd"], "not accepted"),
        ([b"a\0b"], "not accepted"),
        ([b"\xff\xfe"], "not UTF-8"),
        ([b"x" * 256], "not accepted"),
        ([b"a", b"a"], "twice"),
        ([b"b", b"a"], "out of order"),
    ],
)
async def test_names_that_could_leave_their_folder(attempt, names: list[bytes], says: str) -> None:
    root = raw_folder(*[(name, A[0]) for name in names])
    await attempt(root[0], car(root, A, A), ContentMismatch, says, dropped=False)


async def test_a_symbolic_link_inside_a_folder(attempt) -> None:
    link = unixfs(b"\x08\x04\x12\x0b/etc/passwd")
    root = folder(("link", link), ("z", A))
    await attempt(root[0], car(root, link, A), ContentMismatch, "symbolic link", dropped=False)


async def test_a_folder_inside_a_file(attempt) -> None:
    inner = folder(("x", A))
    root = file_node(inner, sizes=[1000])
    await attempt(root[0], car(root, inner, A), ContentMismatch, "folder inside", dropped=False)


async def test_content_past_the_callers_limit(attempt) -> None:
    await attempt(FILE[0], HONEST, InputTooLarge, "limit here is 2999", dropped=False, limit=2999)


async def test_a_single_block_past_the_callers_limit(attempt) -> None:
    await attempt(A[0], car(A), InputTooLarge, "limit here is 999", dropped=False, limit=999)


async def test_folder_files_add_up_to_the_limit(attempt) -> None:
    root = folder(("a", A), ("b", B), ("c", C))
    await attempt(root[0], car(root, A, B, C), InputTooLarge, "limit", dropped=False, limit=2500)


# a gateway that is no trustless gateway


@pytest.mark.parametrize("encoding", ["gzip", "br", "deflate", "zstd"])
async def test_a_compressed_answer_is_not_unpacked(attempt, encoding: str) -> None:
    bomb = gzip.compress(bytes(10_000_000))
    answer = car_answer(bomb, **{"Content-Encoding": encoding})
    await attempt(FILE[0], answer, GatewayUnavailable, "Content-Encoding", dropped=False, patience=0)


async def test_a_web_page_with_status_200(attempt) -> None:
    answer = car_answer(b"<html>are you a human?</html>", content_type="text/html")
    await attempt(
        FILE[0], answer, GatewayUnavailable, "'text/html' instead of a CAR", dropped=False, patience=0
    )


async def test_the_file_itself_instead_of_a_car(attempt) -> None:
    answer = car_answer(A[1], content_type="application/octet-stream")
    await attempt(A[0], answer, GatewayUnavailable, "instead of a CAR", dropped=False, patience=0)


async def test_blocks_in_another_order_than_depth_first(attempt) -> None:
    answer = car_answer(HONEST, content_type="application/vnd.ipld.car; version=1; order=unk")
    await attempt(FILE[0], answer, GatewayUnavailable, "order 'unk'", dropped=False, patience=0)


async def stalling(request: web.Request) -> web.StreamResponse:
    """Sends the first blocks and then nothing."""
    answer = web.StreamResponse(headers={"Content-Type": CAR_TYPE})
    await answer.prepare(request)
    await answer.write(HONEST[:200])
    await asyncio.Event().wait()
    return answer


async def silent(request: web.Request) -> web.StreamResponse:
    await asyncio.Event().wait()
    raise web.HTTPOk


async def dripping(request: web.Request) -> web.StreamResponse:
    """Sends a byte again and again, for ever."""
    answer = web.StreamResponse(headers={"Content-Type": CAR_TYPE})
    await answer.prepare(request)
    for byte in HONEST:
        await answer.write(bytes([byte]))
        await asyncio.sleep(0.01)
    return answer


@pytest.mark.parametrize("answer", [stalling, silent, dripping])
async def test_a_gateway_that_stalls_is_left(attempt, answer: Answer) -> None:
    await attempt(
        FILE[0],
        answer,
        GatewayUnavailable,
        "stalled",
        dropped=False,
        patience=0,
        stall_timeout=0.3,
        first_pause=1,
    )


@pytest.mark.parametrize("status", [429, 500, 502, 503, 504])
async def test_an_error_status(attempt, status: int) -> None:
    async def answer(request: web.Request) -> web.StreamResponse:
        return web.Response(status=status)

    await attempt(
        FILE[0], answer, GatewayUnavailable, f"status {status}", dropped=False, patience=0, first_pause=1
    )


@pytest.mark.parametrize(
    "target",
    [
        "http://127.0.0.1:1/x",
        "http://localhost:1/x",
        "http://[::1]:1/",
        "http://169.254.169.254/latest/meta-data",
        "http://10.0.0.1/",
        "http://[::ffff:7f00:1]/",
    ],
)
async def test_a_redirect_to_a_private_address(attempt, target: str) -> None:
    async def answer(request: web.Request) -> web.StreamResponse:
        raise web.HTTPFound(target)

    await attempt(
        FILE[0], answer, GatewayUnavailable, "not (lead to )?a public address", dropped=False, patience=0
    )


@pytest.mark.parametrize("target", ["file:///etc/passwd", "ftp://example.org/x", "//"])
async def test_a_redirect_to_something_else_than_http(attempt, target: str) -> None:
    async def answer(request: web.Request) -> web.StreamResponse:
        return web.Response(status=302, headers={"Location": target})

    await attempt(FILE[0], answer, GatewayUnavailable, "redirects", dropped=False, patience=0)


async def test_a_redirect_without_end(attempt) -> None:
    async def answer(request: web.Request) -> web.StreamResponse:
        raise web.HTTPFound(request.path_qs)

    await attempt(FILE[0], answer, GatewayUnavailable, "more than 5 times", dropped=False, patience=0)


# our own disk


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EDQUOT])
async def test_a_full_disk(attempt, monkeypatch: pytest.MonkeyPatch, code: int) -> None:
    real = os.write

    def full(fd: int, data: bytes) -> int:
        if b"bbbb" in bytes(data):
            raise OSError(code, os.strerror(code))
        return real(fd, data)

    monkeypatch.setattr(item.os, "write", full)
    await attempt(FILE[0], HONEST, StoreFull, "disk", dropped=False)


async def test_a_store_without_room(
    tmp_path: Path, open_gateway: OpenGateway, open_retriever: OpenRetriever, store: BlockStore
) -> None:
    store.max_bytes = 2999
    gateway = await open_gateway(answer=car_answer(HONEST))
    with pytest.raises(StoreFull, match="no room"):
        await open_retriever(gateway).read(FILE[0], limit=LIMIT)
    assert traces(tmp_path / "store") == []


# what is unusual but allowed


async def test_identity_cids_need_no_gateway(
    open_gateway: OpenGateway, open_retriever: OpenRetriever
) -> None:
    small = Cid(1, RAW, IDENTITY, b"inline")
    retriever = open_retriever()
    assert await retriever.read(small, limit=LIMIT) == b"inline"
    assert await retriever.read(Cid.parse("bafkqaaa"), limit=LIMIT) == b""


@pytest.mark.parametrize("sent", [(), ("inline",)])
async def test_identity_leaves_may_be_left_out_of_a_car(
    open_gateway: OpenGateway, open_retriever: OpenRetriever, sent: tuple[str, ...]
) -> None:
    small = (Cid(1, RAW, IDENTITY, b"inline"), b"inline")
    root = file_node(A, small, B)
    blocks = (root, A, small, B) if sent else (root, A, B)
    gateway = await open_gateway(answer=car_answer(car(*blocks)))
    assert await open_retriever(gateway).read(root[0], limit=LIMIT) == A[1] + b"inline" + B[1]


async def test_repeated_blocks_may_be_left_out_of_a_car(
    open_gateway: OpenGateway, open_retriever: OpenRetriever, store: BlockStore
) -> None:
    inner = file_node(A, B)
    root = file_node(inner, inner, A, sizes=[2000, 2000, 1000])
    gateway = await open_gateway(answer=car_answer(car(root, inner, A, B)))
    content = (A[1] + B[1]) * 2 + A[1]
    assert await open_retriever(gateway).read(root[0], limit=LIMIT) == content
    assert (await store.verify()).corrupt == []


async def test_a_leaf_in_an_unusual_frame_is_kept_as_it_is(
    open_gateway: OpenGateway, open_retriever: OpenRetriever, store: BlockStore
) -> None:
    odd = unixfs(b"\x08\x02\x12\x03abc")
    old = node(encode_leaf(b"defg", kind=0))
    root = file_node(odd, old, sizes=[3, 4])
    gateway = await open_gateway(answer=car_answer(car(root, odd, old)))
    assert await open_retriever(gateway).read(root[0], limit=LIMIT) == b"abcdefg"
    assert await store.block(odd[0]) == odd[1]
    assert await store.block(old[0]) == old[1]
    assert (await store.verify()).corrupt == []


async def test_every_split_of_the_answer_is_read_alike(store: BlockStore) -> None:
    async def bytewise():  # type: ignore[no-untyped-def]
        for byte in HONEST:
            yield bytes([byte])

    assert await store.import_car(bytewise(), limit=LIMIT) == [FILE[0]]
    assert await store.read(FILE[0], limit=LIMIT) == A[1] + B[1] + C[1]


async def test_a_gateway_is_not_dropped_for_what_a_publisher_did(
    open_gateway: OpenGateway, open_retriever: OpenRetriever
) -> None:
    bad = unixfs(b"\x08\x04\x12\x04/etc")
    good = import_bytes(b"good")

    async def answer(request: web.Request) -> web.StreamResponse:
        body = car(bad) if str(bad[0]) in request.path else car((good.root, b"good"))
        return web.Response(body=body, headers={"Content-Type": CAR_TYPE})

    retriever = open_retriever(await open_gateway(answer=answer))
    with pytest.raises(ContentMismatch):
        await retriever.read(bad[0], limit=LIMIT)
    assert await retriever.read(good.root, limit=LIMIT) == b"good"
