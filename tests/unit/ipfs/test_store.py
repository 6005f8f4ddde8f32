from __future__ import annotations

import asyncio
import os
import random
import shutil
import signal
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from node.cid import DAG_PB, RAW, Cid
from node.errors import ContentNotFound, Fault, InputTooLarge, InvalidInput, StoreFull
from node.ipfs.car import write_header
from node.ipfs.importer import Profile, car_chunks, import_bytes
from node.ipfs.locks import Busy, Locks
from node.ipfs.store import PARTIAL_KEEP, BlockStore, name_of
from tests.fakes.dags import car, file_node, folder, leaf
from tests.fakes.gateway import in_pieces

from .conftest import LIMIT, traces

MIB = 2**20


def noise(size: int, seed: int = 0) -> bytes:
    return random.Random(f"{size} {seed}").randbytes(size)


async def gather(chunks: AsyncIterator[bytes]) -> bytes:
    return b"".join([chunk async for chunk in chunks])


# what goes in comes out


@pytest.mark.parametrize("profile", list(Profile))
async def test_a_file_can_be_held_and_read(store: BlockStore, profile: Profile) -> None:
    content = noise(2 * MIB + 3)
    root = (await store.import_bytes(content, profile=profile)).root
    assert store.has(root)
    with store.hold(root) as path:
        assert path.read_bytes() == content
    assert await store.read(root, limit=len(content)) == content


async def test_reading_is_bounded(store: BlockStore) -> None:
    root = (await store.import_bytes(b"12345")).root
    with pytest.raises(InputTooLarge, match="5 bytes; at most 4"):
        await store.read(root, limit=4)


async def test_a_folder_is_held_and_not_read(store: BlockStore, tmp_path: Path) -> None:
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "x").write_bytes(b"y")
    root = (await store.import_path(tmp_path / "model")).root
    with store.hold(root) as path:
        assert (path / "x").read_bytes() == b"y"
    with pytest.raises(InvalidInput, match="folder"):
        await store.read(root, limit=10)


async def test_what_is_not_there_is_not_found(store: BlockStore) -> None:
    nothing = import_bytes(b"nothing").root
    assert not store.has(nothing)
    with pytest.raises(ContentNotFound), store.hold(nothing):
        pass
    with pytest.raises(ContentNotFound):
        await store.block(nothing)
    with pytest.raises(ContentNotFound):
        await gather(store.car(nothing))


@pytest.mark.parametrize("profile", list(Profile))
async def test_every_block_is_given_with_its_own_bytes(store: BlockStore, profile: Profile) -> None:
    imported = await store.import_bytes(noise(3 * MIB), profile=profile)
    whole = b"".join(car_chunks([imported]))
    assert await gather(store.car(imported.root)) == whole
    root = await store.block(imported.root)
    assert imported.root.matches(root)


async def test_a_subtree_is_served_like_a_root(store: BlockStore) -> None:
    imported = await store.import_bytes(noise(262144 * 175), profile=Profile.KUBO_CID_V1)
    inner = next(raw for digest, raw in imported.nodes.items() if digest != imported.root.digest)
    cid = Cid.of(inner, codec=DAG_PB)
    part = await gather(store.car(cid))
    assert part.startswith(write_header([cid]))
    assert inner in part
    assert store.roots_of(cid) == [imported.root]


async def test_a_block_of_two_items_belongs_to_both(store: BlockStore) -> None:
    shared = noise(MIB)
    one = await store.import_bytes(shared + b"1")
    two = await store.import_bytes(shared + b"2")
    block = Cid.of(shared, codec=RAW)
    assert set(store.roots_of(block)) == {one.root, two.root}
    assert store.inside(one.root, [block, two.root]) == [block]
    assert store.roots_of(import_bytes(b"?").root) == []


async def test_scopes_of_a_car(store: BlockStore, tmp_path: Path) -> None:
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "x").write_bytes(noise(2 * MIB))
    imported = await store.import_path(tmp_path / "model")
    node = imported.nodes[imported.root.digest]
    head = car((imported.root, node))
    assert await gather(store.car(imported.root, scope="block")) == head
    assert await gather(store.car(imported.root, scope="entity")) == head
    assert len(await gather(store.car(imported.root, scope="all"))) > 2 * MIB


async def test_a_car_can_begin_in_the_middle_of_a_file(store: BlockStore) -> None:
    content = noise(3 * MIB)
    imported = await store.import_bytes(content)
    part = await gather(store.car(imported.root, scope="entity", start=MIB))
    assert imported.nodes[imported.root.digest] in part
    assert content[:MIB] not in part
    assert content[MIB : 2 * MIB] in part
    assert content[2 * MIB :] in part


async def test_damage_on_disk_is_never_served(store: BlockStore, tmp_path: Path) -> None:
    imported = await store.import_bytes(noise(2 * MIB))
    damage(tmp_path / "store" / "items" / name_of(imported.root) / "content")
    with pytest.raises(Fault, match="lonja store verify"):
        await gather(store.car(imported.root))


def damage(path: Path) -> None:
    raw = bytearray(path.read_bytes())
    raw[len(raw) // 2] ^= 1
    path.unlink()
    path.write_bytes(raw)


# uploads


async def test_an_upload_may_carry_several_roots(store: BlockStore) -> None:
    weights, labels = import_bytes(noise(2 * MIB)), import_bytes(b'["a"]')
    chunks = in_pieces(b"".join(car_chunks([weights, labels])))
    assert await store.import_car(chunks, limit=LIMIT) == [weights.root, labels.root]
    assert await store.read(labels.root, limit=10) == b'["a"]'


@pytest.mark.parametrize(
    "change",
    [
        pytest.param(lambda raw: raw[:-1] + b"?", id="corrupt at the end"),
        pytest.param(lambda raw: raw[:-10], id="cut"),
        pytest.param(lambda raw: raw + b"\x00", id="bytes behind"),
        pytest.param(lambda raw: raw[:50], id="header cut"),
        pytest.param(lambda raw: b"", id="empty"),
        pytest.param(lambda raw: write_header([]), id="no roots"),
        pytest.param(lambda raw: b"PK\x03\x04" + raw, id="no CAR"),
    ],
)
async def test_a_bad_upload_leaves_nothing(store: BlockStore, tmp_path: Path, change) -> None:  # type: ignore[no-untyped-def]
    whole = b"".join(car_chunks([import_bytes(b"first"), import_bytes(noise(2 * MIB))]))
    with pytest.raises(InvalidInput, match="CAR"):
        await store.import_car(in_pieces(change(whole)), limit=LIMIT)
    assert traces(tmp_path / "store") == []
    assert store.list() == []


async def test_an_upload_past_the_limit_leaves_nothing(store: BlockStore, tmp_path: Path) -> None:
    whole = b"".join(car_chunks([import_bytes(b"first"), import_bytes(noise(2 * MIB))]))
    with pytest.raises(InputTooLarge):
        await store.import_car(in_pieces(whole), limit=2 * MIB)
    assert traces(tmp_path / "store") == []


async def test_an_upload_that_breaks_off_leaves_nothing(store: BlockStore, tmp_path: Path) -> None:
    async def broken() -> AsyncIterator[bytes]:
        yield b"".join(car_chunks([import_bytes(noise(3 * MIB))]))[: 2 * MIB]
        raise ConnectionResetError

    with pytest.raises(ConnectionResetError):
        await store.import_car(broken(), limit=LIMIT)
    assert traces(tmp_path / "store") == []


async def test_what_is_there_already_is_kept_and_accepted(store: BlockStore) -> None:
    content = noise(MIB + 1)
    root = (await store.import_bytes(content)).root
    with store.hold(root):
        assert await store.import_car(
            in_pieces(b"".join(car_chunks([import_bytes(content)]))), limit=LIMIT
        ) == [root]
    assert len(store.list()) == 1


async def test_ten_imports_of_the_same_content_at_once(store: BlockStore, tmp_path: Path) -> None:
    roots = await asyncio.gather(*[store.import_bytes(noise(2 * MIB)) for _ in range(10)])
    assert len({imported.root for imported in roots}) == 1
    assert os.listdir(tmp_path / "store" / "incomplete") == []
    assert (await store.verify()).corrupt == []


# bounds, pruning, holds


async def test_the_least_recently_used_goes_first(tmp_path: Path) -> None:
    store = BlockStore(tmp_path, max_bytes=3 * MIB + MIB // 2)
    first, second, third = [(await store.import_bytes(noise(MIB, n))).root for n in range(3)]
    age(tmp_path, first, 1), age(tmp_path, second, 2), age(tmp_path, third, 3)
    with store.hold(first):
        pass
    fourth = (await store.import_bytes(noise(MIB, 3))).root
    assert [store.has(cid) for cid in (first, second, third, fourth)] == [True, False, True, True]
    store.close()


def age(root: Path, cid: Cid, when: float) -> None:
    os.utime(root / "items" / name_of(cid), (when, when))


async def test_what_is_held_is_never_removed(tmp_path: Path) -> None:
    store = BlockStore(tmp_path, max_bytes=2 * MIB)
    held = (await store.import_bytes(noise(MIB, 1))).root
    with store.hold(held) as path:
        with pytest.raises(StoreFull, match="STORE_MAX_BYTES"):
            await store.import_bytes(noise(MIB + MIB // 2, 2))
        report = await store.prune(target_bytes=0)
        assert report.removed == []
        assert path.read_bytes() == noise(MIB, 1)
        assert [item.held for item in store.list()] == [True]
    report = await store.prune(target_bytes=0)
    assert report.removed == [held]
    assert report.total_bytes == 0
    assert traces(tmp_path) == []
    store.close()


async def test_another_process_cannot_remove_what_is_held(tmp_path: Path) -> None:
    store = BlockStore(tmp_path, max_bytes=LIMIT)
    held = (await store.import_bytes(noise(1000))).root
    loose = (await store.import_bytes(noise(1001))).root
    script = (
        "import asyncio, pathlib, sys\n"
        "from node.ipfs.store import BlockStore\n"
        "store = BlockStore(pathlib.Path(sys.argv[1]), max_bytes=2**30)\n"
        "print(*(asyncio.run(store.prune(target_bytes=0))).removed)\n"
    )
    with store.hold(held):
        done = await asyncio.to_thread(
            subprocess.run,
            [sys.executable, "-c", script, str(tmp_path)],
            capture_output=True,
            text=True,
            check=True,
        )
        assert done.stdout.split() == [str(loose)]
        assert store.has(held)
    store.close()


async def test_what_no_token_refers_to_is_pruned_after_its_grace(tmp_path: Path) -> None:
    now = [1000.0]
    referred: set[Cid] = set()
    store = BlockStore(
        tmp_path, max_bytes=LIMIT, is_referenced=lambda cid: cid in referred, grace=60, clock=lambda: now[0]
    )
    kept, left = [(await store.import_bytes(noise(100, n))).root for n in range(2)]
    referred.add(kept)
    assert (await store.prune()).removed == []
    now[0] += 61
    assert [item.referenced for item in store.list() if item.cid == left] == [False]
    assert (await store.prune()).removed == [left]
    assert store.has(kept)
    store.close()


async def test_room_is_made_of_what_nothing_refers_to_first(tmp_path: Path) -> None:
    referred: set[Cid] = set()
    store = BlockStore(tmp_path, max_bytes=2 * MIB + 9999, is_referenced=lambda cid: cid in referred)
    old, new = [(await store.import_bytes(noise(MIB, n))).root for n in range(2)]
    age(tmp_path, old, 1), age(tmp_path, new, 2)
    referred.add(old)
    await store.import_bytes(noise(MIB, 2))
    assert (store.has(old), store.has(new)) == (True, False)
    store.close()


async def test_two_downloads_share_the_room_that_is_left(tmp_path: Path) -> None:
    store = BlockStore(tmp_path, max_bytes=3 * MIB)
    store.claim("one", 2 * MIB)
    with pytest.raises(StoreFull):
        store.claim("two", 2 * MIB)
    store.release("one")
    store.claim("two", 2 * MIB)
    store.close()


# after an accident


async def test_damage_is_found_offline_and_removed(store: BlockStore, tmp_path: Path) -> None:
    good = (await store.import_bytes(noise(2 * MIB, 1))).root
    bad = (await store.import_bytes(noise(2 * MIB, 2))).root
    worse = (await store.import_bytes(noise(2 * MIB, 3))).root
    damage(tmp_path / "store" / "items" / name_of(bad) / "content")
    damage(tmp_path / "store" / "items" / name_of(worse) / "nodes.car")
    report = await store.verify()
    assert report.items == 3
    assert set(report.corrupt) == {bad, worse}
    assert [store.has(cid) for cid in (good, bad, worse)] == [True, False, False]
    with pytest.raises(ContentNotFound):
        await store.block(bad)


@pytest.mark.parametrize("profile", list(Profile))
async def test_a_lost_index_is_made_again(tmp_path: Path, profile: Profile) -> None:
    store = BlockStore(tmp_path, max_bytes=LIMIT)
    imported = await store.import_bytes(noise(3 * MIB), profile=profile)
    whole = await gather(store.car(imported.root))
    store.close()
    for name in ("index.sqlite", "index.sqlite-wal", "index.sqlite-shm"):
        (tmp_path / name).unlink(missing_ok=True)
    store = BlockStore(tmp_path, max_bytes=LIMIT)
    assert await gather(store.car(imported.root)) == whole
    assert [item.blocks for item in store.list()] == [imported.blocks]
    store.close()


async def test_an_item_that_was_removed_by_hand_is_forgotten(tmp_path: Path) -> None:
    store = BlockStore(tmp_path, max_bytes=LIMIT)
    root = (await store.import_bytes(b"x")).root
    store.close()
    shutil.rmtree(tmp_path / "items" / name_of(root))
    store = BlockStore(tmp_path, max_bytes=LIMIT)
    assert store.list() == []
    assert not store.has(root)
    store.close()


def test_leftovers_are_cleaned_at_the_start_and_fresh_downloads_kept(tmp_path: Path) -> None:
    now = [1e9]
    fresh, old = import_bytes(b"1").root, import_bytes(b"2").root
    for name, when in (
        (f"{fresh}", now[0] - 10),
        (f"{old}", now[0] - PARTIAL_KEEP - 10),
        (f"{fresh}.ab12", now[0]),
    ):
        (tmp_path / "incomplete" / name).mkdir(parents=True)
        os.utime(tmp_path / "incomplete" / name, (when, when))
    BlockStore(tmp_path, max_bytes=LIMIT, clock=lambda: now[0]).close()
    assert os.listdir(tmp_path / "incomplete") == [str(fresh)]


def test_what_another_process_is_writing_is_left_alone(tmp_path: Path) -> None:
    name = f"{import_bytes(b'1').root}.ab12"
    (tmp_path / "incomplete" / name).mkdir(parents=True)
    with Locks(tmp_path / "locks").exclusive(name):
        BlockStore(tmp_path, max_bytes=LIMIT).close()
        assert os.listdir(tmp_path / "incomplete") == [name]


KILLED = """
import asyncio, os, pathlib, random, signal, sys
from node.ipfs.importer import car_chunks, import_bytes
from node.ipfs.store import BlockStore

async def main():
    store = BlockStore(pathlib.Path(sys.argv[1]), max_bytes=2**30)
    await store.import_bytes(b"whole")
    whole = b"".join(car_chunks([import_bytes(random.Random(1).randbytes(8 * 2**20))]))

    async def chunks():
        yield whole[: 5 * 2**20]
        yield b""
        await asyncio.sleep(0.2)
        if sys.argv[2] == "commit":
            os.rename = lambda *_: os.kill(os.getpid(), signal.SIGKILL)
            yield whole[5 * 2**20 :]
        else:
            os.kill(os.getpid(), signal.SIGKILL)

    await store.import_car(chunks(), limit=2**30)

asyncio.run(main())
"""


@pytest.mark.parametrize("moment", ["write", "commit"])
async def test_a_process_killed_in_mid_write_leaves_nothing_half(tmp_path: Path, moment: str) -> None:
    done = await asyncio.to_thread(
        subprocess.run,
        [sys.executable, "-c", KILLED, str(tmp_path), moment],
        check=False,
        stderr=subprocess.PIPE,
    )
    assert done.returncode == -signal.SIGKILL, done.stderr
    assert len(os.listdir(tmp_path / "incomplete")) == 1
    store = BlockStore(tmp_path, max_bytes=LIMIT)
    assert os.listdir(tmp_path / "incomplete") == []
    assert [item.cid for item in store.list()] == [import_bytes(b"whole").root]
    assert (await store.verify()).corrupt == []
    content = random.Random(1).randbytes(8 * MIB)
    assert (await store.read((await store.import_bytes(content)).root, limit=LIMIT)) == content
    store.close()


# locks


def test_an_exclusive_lock_excludes_and_a_shared_one_does_not(tmp_path: Path) -> None:
    locks = Locks(tmp_path)
    with locks.shared("a"), locks.shared("a"):
        with pytest.raises(Busy), locks.exclusive("a"):
            pass
        with locks.exclusive("b"):
            pass
    with locks.exclusive("a"), pytest.raises(Busy), locks.shared("a"):
        pass


async def test_waiting_for_a_lock_ends_when_it_is_free(tmp_path: Path) -> None:
    locks = Locks(tmp_path)
    got = asyncio.Event()

    async def wait() -> None:
        async with locks.exclusive_wait("a"):
            got.set()

    with locks.shared("a"):
        waiter = asyncio.create_task(wait())
        await asyncio.sleep(0)
        assert not got.is_set()
    await waiter
    assert got.is_set()


def test_a_forgotten_lock_still_excludes_newcomers(tmp_path: Path) -> None:
    locks = Locks(tmp_path)
    with locks.exclusive("a"):
        locks.forget("a")
    with locks.exclusive("a"), pytest.raises(Busy), locks.exclusive("a"):
        pass


# odd content


async def test_a_file_whose_bytes_are_a_node_of_another_is_told_apart(store: BlockStore) -> None:
    inner = file_node(leaf(b"a" * 10), leaf(b"b" * 10))
    root = folder(("bytes", leaf(inner[1])), ("tree", inner))
    body = car(root, leaf(inner[1]), inner, leaf(b"a" * 10), leaf(b"b" * 10))
    assert await store.import_car(in_pieces(body), limit=LIMIT) == [root[0]]
    with store.hold(root[0]) as path:
        assert (path / "bytes").read_bytes() == inner[1]
        assert (path / "tree").read_bytes() == b"a" * 10 + b"b" * 10
    assert (await store.verify()).corrupt == []


async def test_a_damaged_index_is_made_again(tmp_path: Path) -> None:
    first = BlockStore(tmp_path, max_bytes=LIMIT)
    root = (await first.import_bytes(b"kept")).root
    first.close()
    (tmp_path / "index.sqlite").write_bytes(b"x" * 8192)
    for name in ("index.sqlite-wal", "index.sqlite-shm"):
        (tmp_path / name).unlink(missing_ok=True)
    second = BlockStore(tmp_path, max_bytes=LIMIT)
    assert await second.block(root) == b"kept"
    second.close()
