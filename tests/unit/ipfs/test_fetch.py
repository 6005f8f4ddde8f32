from __future__ import annotations

import asyncio
import random
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from aiohttp import web

from node.cid import RAW, Cid
from node.errors import ContentMismatch, ContentNotFound, GatewayUnavailable, InputTooLarge
from node.ipfs.fetch import Retriever
from node.ipfs.gateways import Gateways
from node.ipfs.importer import Imported, Profile, import_bytes
from node.ipfs.store import BlockStore
from tests.fakes.gateway import CAR_TYPE, FakeGateway

from .conftest import LIMIT, OpenGateway, OpenRetriever, traces

MIB = 2**20


def noise(size: int) -> bytes:
    return random.Random(size).randbytes(size)


@pytest.mark.parametrize("profile", list(Profile))
@pytest.mark.parametrize("size", [0, 1, 2**18, MIB, MIB + 1, 3 * MIB + 17])
async def test_a_file_arrives_whole_in_one_request(
    source: BlockStore,
    store: BlockStore,
    open_gateway: OpenGateway,
    open_retriever: OpenRetriever,
    profile: Profile,
    size: int,
) -> None:
    content = noise(size)
    root = (await source.import_bytes(content, profile=profile)).root
    gateway = await open_gateway(source)
    retriever = open_retriever(gateway)
    async with retriever.hold(root, limit=LIMIT) as path:
        assert path.read_bytes() == content
    assert await retriever.read(root, limit=LIMIT) == content
    assert len(gateway.asked) == 1
    assert (await store.verify()).corrupt == []


async def test_the_request_says_twice_what_it_wants(
    source: BlockStore, open_gateway: OpenGateway, open_retriever: OpenRetriever
) -> None:
    root = (await source.import_bytes(b"x")).root
    gateway = await open_gateway(source)
    await open_retriever(gateway).read(root, limit=LIMIT)
    assert gateway.asked == [f"/ipfs/{root}?format=car&dag-scope=all"]
    assert gateway.headers[0]["Accept"] == "application/vnd.ipld.car; version=1; order=dfs; dups=y"
    assert gateway.headers[0]["Accept-Encoding"] == "identity"


async def test_a_folder_arrives_whole(
    tmp_path: Path,
    source: BlockStore,
    store: BlockStore,
    open_gateway: OpenGateway,
    open_retriever: OpenRetriever,
) -> None:
    folder = tmp_path / "model"
    (folder / "data" / "empty").mkdir(parents=True)
    (folder / "model.onnx").write_bytes(noise(1000))
    (folder / "data" / "weights").write_bytes(noise(2 * MIB))
    (folder / "data" / "same").write_bytes(noise(2 * MIB))
    root = (await source.import_path(folder)).root
    retriever = open_retriever(await open_gateway(source))
    async with retriever.hold(root, limit=LIMIT) as path:
        assert sorted(str(entry.relative_to(path)) for entry in path.rglob("*")) == [
            "data", "data/empty", "data/same", "data/weights", "model.onnx"
        ]  # fmt: skip
        assert (path / "data" / "weights").read_bytes() == noise(2 * MIB)
    assert (await store.verify()).corrupt == []


async def test_fifty_callers_share_one_download(
    source: BlockStore, open_gateway: OpenGateway, open_retriever: OpenRetriever
) -> None:
    root = (await source.import_bytes(noise(MIB))).root
    gateway = await open_gateway(source)
    retriever = open_retriever(gateway)
    answers = await asyncio.gather(*[retriever.read(root, limit=LIMIT) for _ in range(50)])
    assert all(answer == noise(MIB) for answer in answers)
    assert len(gateway.asked) == 1


async def test_a_caller_who_leaves_does_not_end_the_download_of_another(
    source: BlockStore, open_gateway: OpenGateway, open_retriever: OpenRetriever
) -> None:
    root = (await source.import_bytes(noise(MIB))).root
    asked, go = asyncio.Event(), asyncio.Event()
    gateway = await open_gateway(source)

    async def later(request: web.Request) -> web.StreamResponse:
        asked.set()
        await go.wait()
        return await gateway.send(request, source.car(root))

    gateway.answer = later
    retriever = open_retriever(gateway)
    first = asyncio.create_task(retriever.read(root, limit=LIMIT))
    second = asyncio.create_task(retriever.read(root, limit=LIMIT))
    await asked.wait()
    first.cancel()
    await asyncio.wait([first])
    go.set()
    assert await second == noise(MIB)
    assert len(gateway.asked) == 1


async def test_when_the_last_caller_leaves_the_download_ends(
    tmp_path: Path, source: BlockStore, open_gateway: OpenGateway, open_retriever: OpenRetriever
) -> None:
    root = (await source.import_bytes(noise(MIB))).root
    asked = asyncio.Event()

    async def never(request: web.Request) -> web.StreamResponse:
        asked.set()
        await asyncio.Event().wait()
        raise web.HTTPOk

    retriever = open_retriever(await open_gateway(answer=never))
    task = asyncio.create_task(retriever.read(root, limit=LIMIT))
    await asked.wait()
    task.cancel()
    await asyncio.wait([task])
    assert traces(tmp_path / "store") == []


async def test_a_callers_limit_binds_that_caller_only(
    source: BlockStore, open_gateway: OpenGateway, open_retriever: OpenRetriever
) -> None:
    root = (await source.import_bytes(noise(1000))).root
    retriever = open_retriever(await open_gateway(source))
    small, large = await asyncio.gather(
        retriever.read(root, limit=999), retriever.read(root, limit=1000), return_exceptions=True
    )
    assert isinstance(small, InputTooLarge)
    assert large == noise(1000)
    with pytest.raises(InputTooLarge):
        await retriever.read(root, limit=999)


# going on where a download broke off


def overhead(imported: Imported) -> int:
    """One leaf, and the nodes on the way to it, with what a CAR adds to each block."""
    return MIB + sum(len(node) + 64 for node in imported.nodes.values()) + 64 * imported.blocks


@pytest.mark.parametrize("ranges", [True, False], ids=["entity-bytes", "subtrees"])
async def test_a_break_costs_at_most_one_leaf_and_the_nodes_above_it(
    source: BlockStore,
    store: BlockStore,
    open_gateway: OpenGateway,
    open_retriever: OpenRetriever,
    ranges: bool,
) -> None:
    content = noise(12 * MIB + 5)
    imported = await source.import_bytes(content)
    gateway = await open_gateway(source, break_after=6 * MIB + 300_000, ranges=ranges)
    retriever = open_retriever(gateway)
    assert await retriever.read(imported.root, limit=LIMIT) == content
    # a gateway that does not know entity-bytes begins anew once, and is left at the first block that is known
    slack = 0 if ranges else 2 * MIB
    assert retriever.received_bytes <= len(content) + overhead(imported) + slack
    assert (await store.verify()).corrupt == []


async def test_a_break_in_a_deep_tree_is_resumed_through_its_nodes(
    source: BlockStore, store: BlockStore, open_gateway: OpenGateway, open_retriever: OpenRetriever
) -> None:
    content = noise(256 * 1024 * 174 + 10 * 262144 + 1)
    imported = await source.import_bytes(content, profile=Profile.KUBO_CID_V1)
    gateway = await open_gateway(source, break_after=len(content) - 3 * 262144)
    retriever = open_retriever(gateway)
    assert await retriever.read(imported.root, limit=LIMIT) == content
    assert gateway.asked[1].partition("entity-bytes=")[2].partition(":")[0].isdigit()
    assert retriever.received_bytes <= len(content) + overhead(imported)
    assert (await store.verify()).corrupt == []


async def test_a_break_inside_a_folder_is_resumed_file_by_file(
    tmp_path: Path,
    source: BlockStore,
    store: BlockStore,
    open_gateway: OpenGateway,
    open_retriever: OpenRetriever,
) -> None:
    folder = tmp_path / "model"
    folder.mkdir()
    for name in "abc":
        (folder / name).write_bytes(noise(3 * MIB + ord(name)))
    imported = await source.import_path(folder)
    gateway = await open_gateway(source, break_after=4 * MIB + MIB // 2)
    retriever = open_retriever(gateway)
    async with retriever.hold(imported.root, limit=LIMIT) as path:
        for name in "abc":
            assert (path / name).read_bytes() == noise(3 * MIB + ord(name))
    assert retriever.received_bytes <= imported.size + overhead(imported)
    assert (await store.verify()).corrupt == []


async def test_another_gateway_goes_on_where_one_stalled(
    source: BlockStore, open_gateway: OpenGateway, open_retriever: OpenRetriever
) -> None:
    content = noise(6 * MIB)
    imported = await source.import_bytes(content)
    stalled = await open_gateway(source)

    async def stall(request: web.Request) -> web.StreamResponse:
        answer = web.StreamResponse(headers={"Content-Type": CAR_TYPE})
        await answer.prepare(request)
        sent = 0
        async for chunk in source.car(imported.root):
            await answer.write(chunk)
            sent += len(chunk)
            if sent > 3 * MIB:
                await asyncio.Event().wait()
        return answer

    stalled.answer = stall
    good = await open_gateway(source)
    retriever = open_retriever(stalled, good, stall_timeout=0.3)
    assert await retriever.read(imported.root, limit=LIMIT) == content
    assert good.sent <= 3 * MIB + overhead(imported)


async def test_another_gateway_goes_on_where_one_lied(
    source: BlockStore, open_gateway: OpenGateway, open_retriever: OpenRetriever
) -> None:
    content = noise(4 * MIB)
    imported = await source.import_bytes(content)

    def corrupt(whole: bytes) -> bytes:
        changed = bytearray(whole)
        changed[-MIB // 2] ^= 1
        return bytes(changed)

    liar, good = await open_gateway(source, change=corrupt), await open_gateway(source)
    retriever = open_retriever(liar, good)
    assert await retriever.read(imported.root, limit=LIMIT) == content
    assert good.sent <= overhead(imported)
    again = (await source.import_bytes(b"another")).root
    assert await retriever.read(again, limit=LIMIT) == b"another"
    assert len(liar.asked) == 1


async def test_what_a_failed_call_fetched_is_used_by_the_next_process(
    tmp_path: Path, source: BlockStore, open_gateway: OpenGateway
) -> None:
    content = noise(8 * MIB)
    imported = await source.import_bytes(content)
    gateway = await open_gateway(source, break_after=5 * MIB)
    store = BlockStore(tmp_path / "store", max_bytes=LIMIT)
    first = Retriever(store, Gateways([gateway.url]), stall_timeout=5, max_object_bytes=LIMIT, patience=0)
    with pytest.raises(GatewayUnavailable) as failure:
        await first.read(imported.root, limit=LIMIT)
    assert failure.value.retry_after is not None
    await first.close()
    store.close()
    store = BlockStore(tmp_path / "store", max_bytes=LIMIT)
    second = Retriever(store, Gateways([gateway.url]), stall_timeout=5, max_object_bytes=LIMIT)
    assert await second.read(imported.root, limit=LIMIT) == content
    assert first.received_bytes + second.received_bytes <= len(content) + overhead(imported)
    assert traces(tmp_path / "store") != []
    await second.close()
    store.close()


DOWNLOAD = """
import asyncio, pathlib, sys
from node.cid import Cid
from node.ipfs.fetch import Retriever
from node.ipfs.gateways import Gateways
from node.ipfs.store import BlockStore

store = BlockStore(pathlib.Path(sys.argv[1]), max_bytes=2**30)

async def main():
    retriever = Retriever(store, Gateways([sys.argv[2]]), stall_timeout=60, max_object_bytes=2**30)
    await retriever.read(Cid.parse(sys.argv[3]), limit=2**30)

asyncio.run(main())
"""


async def test_a_process_killed_in_mid_download_is_followed_by_one_that_goes_on(
    tmp_path: Path, source: BlockStore, open_gateway: OpenGateway
) -> None:
    content = noise(8 * MIB)
    imported = await source.import_bytes(content)
    gateway = await open_gateway(source)
    partial = tmp_path / "store" / "incomplete" / str(imported.root) / "content"

    async def half(request: web.Request) -> web.StreamResponse:
        answer = web.StreamResponse(headers={"Content-Type": CAR_TYPE})
        await answer.prepare(request)
        chunks = source.car(imported.root)
        for _ in range(6):
            await answer.write(await anext(chunks))
        await asyncio.Event().wait()
        return answer

    gateway.answer = half
    arguments = ["-c", DOWNLOAD, str(tmp_path / "store"), gateway.url, str(imported.root)]
    process = await asyncio.create_subprocess_exec(sys.executable, *arguments)
    while not (partial.exists() and partial.stat().st_size >= 3 * MIB):
        assert process.returncode is None
        await asyncio.sleep(0.01)
    process.kill()
    await process.wait()
    gateway.answer = None
    store = BlockStore(tmp_path / "store", max_bytes=LIMIT)
    assert not store.has(imported.root)
    retriever = Retriever(store, Gateways([gateway.url]), stall_timeout=5, max_object_bytes=LIMIT)
    assert await retriever.read(imported.root, limit=LIMIT) == content
    assert retriever.received_bytes <= 5 * MIB + overhead(imported)
    assert (await store.verify()).corrupt == []
    await retriever.close()
    store.close()


@pytest.mark.parametrize("damage", ["content", "nodes"])
async def test_a_partial_download_that_was_damaged_is_not_believed(
    tmp_path: Path,
    source: BlockStore,
    store: BlockStore,
    open_gateway: OpenGateway,
    open_retriever: OpenRetriever,
    damage: str,
) -> None:
    content = noise(5 * MIB)
    imported = await source.import_bytes(content)
    gateway = await open_gateway(source, break_after=3 * MIB)
    with pytest.raises(GatewayUnavailable):
        await open_retriever(gateway, patience=0).read(imported.root, limit=LIMIT)
    partial = tmp_path / "store" / "incomplete" / str(imported.root)
    path = partial / ("content" if damage == "content" else "nodes.car")
    raw = bytearray(path.read_bytes())
    raw[len(raw) // 2] ^= 1
    path.write_bytes(raw)
    assert await open_retriever(gateway).read(imported.root, limit=LIMIT) == content
    assert (await store.verify()).corrupt == []


# which gateway, and when


async def test_retry_after_is_honoured(
    source: BlockStore, store: BlockStore, open_gateway: OpenGateway
) -> None:
    imported = await source.import_bytes(b"x")
    gateway = await open_gateway(source)

    async def busy(request: web.Request) -> web.StreamResponse:
        return web.Response(status=429, headers={"Retry-After": "120"})

    gateway.answer = busy
    now = [1000.0]
    gateways = Gateways([gateway.url], clock=lambda: now[0])
    retriever = Retriever(store, gateways, stall_timeout=5, max_object_bytes=LIMIT)
    for _ in range(2):
        with pytest.raises(GatewayUnavailable) as failure:
            await retriever.read(imported.root, limit=LIMIT)
        assert failure.value.retry_after == 120
    assert len(gateway.asked) == 1
    gateway.answer = None
    now[0] += 121
    assert await retriever.read(imported.root, limit=LIMIT) == b"x"
    await retriever.close()


async def test_content_that_one_gateway_lacks_is_taken_from_the_next(
    source: BlockStore, open_gateway: OpenGateway, open_retriever: OpenRetriever
) -> None:
    root = (await source.import_bytes(b"x")).root
    empty, good = await open_gateway(), await open_gateway(source)
    retriever = open_retriever(empty, good)
    assert await retriever.read(root, limit=LIMIT) == b"x"
    assert retriever.gateways.all[0].ready_at == 0.0


@pytest.mark.parametrize("status", [403, 451])
async def test_a_gateway_that_withholds_content_is_no_outage_and_does_not_rest(
    source: BlockStore, open_gateway: OpenGateway, open_retriever: OpenRetriever, status: int
) -> None:
    root = (await source.import_bytes(b"sold")).root

    async def withheld(request: web.Request) -> web.StreamResponse:
        return web.Response(status=status)

    peer = await open_gateway(source, answer=withheld)
    retriever = open_retriever(peer, await open_gateway())
    with pytest.raises(ContentNotFound, match=f"does not give the content to this node .status {status}"):
        await retriever.read(root, limit=LIMIT)
    peer.answer = None
    assert await retriever.read(root, limit=LIMIT) == b"sold"


async def test_content_that_every_gateway_lacks_is_not_found(
    open_gateway: OpenGateway, open_retriever: OpenRetriever
) -> None:
    retriever = open_retriever(await open_gateway(), await open_gateway())
    with pytest.raises(ContentNotFound, match="no gateway has"):
        await retriever.read(import_bytes(b"x").root, limit=LIMIT)


async def test_without_gateways_the_error_says_what_to_set(open_retriever: OpenRetriever) -> None:
    with pytest.raises(ContentNotFound, match="IPFS_GATEWAYS"):
        await open_retriever().read(import_bytes(b"x").root, limit=LIMIT)


async def test_a_gateway_that_is_down_is_told_with_its_reason(store: BlockStore) -> None:
    gateways = Gateways(["http://secret:word@127.0.0.1:1"], first_pause=0.01)
    retriever = Retriever(store, gateways, stall_timeout=1, max_object_bytes=LIMIT)
    with pytest.raises(GatewayUnavailable, match="gateway 1: it cannot be reached") as failure:
        await retriever.read(import_bytes(b"x").root, limit=LIMIT)
    assert "127.0.0.1" not in failure.value.message
    await retriever.close()


async def test_private_gateways_can_be_forbidden(
    source: BlockStore, store: BlockStore, open_gateway: OpenGateway
) -> None:
    root = (await source.import_bytes(b"x")).root
    gateway = await open_gateway(source)
    gateways = Gateways([gateway.url], allow_private=False)
    retriever = Retriever(store, gateways, stall_timeout=5, max_object_bytes=LIMIT, patience=0)
    with pytest.raises(GatewayUnavailable, match="not a public address"):
        await retriever.read(root, limit=LIMIT)
    assert gateway.asked == []
    await retriever.close()


async def test_a_redirect_within_the_gateway_is_followed(
    source: BlockStore, open_gateway: OpenGateway, open_retriever: OpenRetriever
) -> None:
    root = (await source.import_bytes(b"x")).root
    gateway = await open_gateway(source)

    async def once(request: web.Request) -> web.StreamResponse:
        gateway.answer = None
        raise web.HTTPFound(f"/elsewhere/{root}?{request.query_string}")

    gateway.answer = once
    assert await open_retriever(gateway).read(root, limit=LIMIT) == b"x"


async def test_a_node_that_asks_who_we_are_is_answered_once(
    source: BlockStore, store: BlockStore, open_gateway: OpenGateway
) -> None:
    root = (await source.import_bytes(b"licensed")).root
    gateway = await open_gateway(source)

    async def locked(request: web.Request) -> web.StreamResponse:
        if request.headers.get("Authorization") == "proof":
            return await gateway.send(request, source.car(root))
        return web.Response(status=401)

    gateway.answer = locked
    asked: list[str] = []

    async def authorize(base: object, method: str, url: object) -> dict[str, str]:
        asked.append(f"{method} {url}")
        return {"Authorization": "proof"}

    make: Callable[..., Retriever] = Retriever
    retriever = make(
        store, Gateways([gateway.url]), stall_timeout=5, max_object_bytes=LIMIT, authorize=authorize
    )
    assert await retriever.read(root, limit=LIMIT) == b"licensed"
    assert len(asked) == 1
    await retriever.close()


async def test_a_gateway_that_does_not_know_us_is_not_the_contents_end(
    source: BlockStore, open_gateway: OpenGateway, open_retriever: OpenRetriever
) -> None:
    async def locked(request: web.Request) -> web.StreamResponse:
        return web.Response(status=401)

    root = (await source.import_bytes(b"licensed")).root
    with pytest.raises(GatewayUnavailable, match="status 401"):
        await open_retriever(await open_gateway(answer=locked), patience=0).read(root, limit=LIMIT)


async def test_two_stores_can_fetch_from_each_other(
    source: BlockStore, store: BlockStore, open_gateway: OpenGateway, open_retriever: OpenRetriever
) -> None:
    there = (await source.import_bytes(noise(2 * MIB))).root
    here = (await store.import_bytes(noise(3 * MIB))).root
    forth = open_retriever(await open_gateway(source))
    back = Retriever(
        source, Gateways([(await open_gateway(store)).url]), stall_timeout=5, max_object_bytes=LIMIT
    )
    assert await forth.read(there, limit=LIMIT) == noise(2 * MIB)
    assert await back.read(here, limit=LIMIT) == noise(3 * MIB)
    await back.close()


async def test_all_gateways_that_lied_stay_dropped(
    open_gateway: OpenGateway, open_retriever: OpenRetriever, source: BlockStore
) -> None:
    root = (await source.import_bytes(b"x")).root
    liars: list[FakeGateway] = [
        await open_gateway(source, change=lambda whole: whole[:-1] + b"y") for _ in range(2)
    ]
    retriever = open_retriever(*liars)
    for _ in range(2):
        with pytest.raises((ContentMismatch, GatewayUnavailable)):
            await retriever.read(root, limit=LIMIT)
    assert [len(liar.asked) for liar in liars] == [1, 1]


def test_cids_of_both_versions_are_one_item(store: BlockStore) -> None:
    old = Cid.parse("QmbFMke1KXqnYyBBWxB74N4c5SBnJMVAiMNRcGu6x1AwQH")
    new = Cid(1, old.codec, old.hash_code, old.digest)
    assert asyncio.run(store.import_bytes(b"", profile=Profile.UNIXFS_V0_2015)).root == old
    assert store.has(old)
    assert store.has(new)


async def test_content_that_nobody_has_does_not_keep_others_content_from_coming(
    source: BlockStore, store: BlockStore, open_gateway: OpenGateway
) -> None:
    """Public gateways look for a CID until they time out; anybody may register a token with such a CID."""
    root = (await source.import_bytes(b"there")).root
    gateway = await open_gateway(source)
    send = gateway.answer

    async def searching(request: web.Request) -> web.StreamResponse:
        if str(root) in request.path:
            return await send(request) if send else await gateway.send(request, source.car(root))
        return web.Response(status=504)

    gateway.answer = searching
    gateways = Gateways([gateway.url], first_pause=60)
    retriever = Retriever(store, gateways, stall_timeout=5, max_object_bytes=LIMIT, patience=0)
    for missing in (b"a", b"b", b"c"):
        with pytest.raises(GatewayUnavailable):
            await retriever.read(Cid.of(missing, codec=RAW), limit=LIMIT)
    assert await retriever.read(root, limit=LIMIT) == b"there"
    await retriever.close()
