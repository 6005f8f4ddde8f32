"""Against a real Kubo: the same CIDs, its gateway as a source, its RPC as a place to publish."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from node.cid import Cid
from node.errors import ContentMismatch, ContentNotFound, GatewayUnavailable
from node.ipfs.fetch import Retriever
from node.ipfs.gateways import Gateways
from node.ipfs.importer import Profile, import_any, import_bytes, import_file, import_folder, write_car
from node.ipfs.kubo import Kubo
from node.ipfs.store import BlockStore, name_of
from tests.fakes.gateway import in_pieces
from tests.fakes.kubo import KuboDaemon
from tests.fakes.relay import Relay

pytestmark = [
    pytest.mark.service("kubo"),
    # ipfshttpclient leaves its connections to the garbage collector
    pytest.mark.filterwarnings("ignore::ResourceWarning"),
]

MIB = 2**20
LIMIT = 2**31
FLAGS = {
    Profile.UNIXFS_V1_2025: [
        "--cid-version=1",
        "--raw-leaves",
        "--chunker=size-1048576",
        "--max-file-links=1024",
    ],
    Profile.UNIXFS_V0_2015: [],
    Profile.KUBO_CID_V1: ["--cid-version=1"],
}


def write(path: Path, size: int) -> Path:
    """Content that does not repeat and costs little to make."""
    block = random.Random(size).randbytes(MIB)
    with path.open("wb") as out:
        for number in range(size // MIB):
            out.write(number.to_bytes(8, "big") + block[8:])
        out.write(block[: size % MIB])
    return path


def boundary_sizes(profile: Profile) -> list[int]:
    """Around one leaf, one full node, and the first tree of three levels where that is not a gigabyte."""
    sizes = [0, 1, profile.chunk - 1, profile.chunk, profile.chunk + 1, 3 * profile.chunk]
    full = profile.chunk * profile.width
    return sizes if full > 200 * MIB else [*sizes, full, full + 1]


@pytest.mark.parametrize(
    ("profile", "size"), [(profile, size) for profile in Profile for size in boundary_sizes(profile)]
)
def test_cids_of_files_equal_those_of_kubo(
    kubo: KuboDaemon, tmp_path: Path, profile: Profile, size: int
) -> None:
    path = write(tmp_path / "content", size)
    theirs = kubo.ipfs("add", "-Q", "--only-hash", *FLAGS[profile], str(path))
    assert str(import_file(path, profile=profile).root) == theirs


@pytest.mark.timeout(300)
def test_the_cid_of_a_file_past_one_node_of_a_thousand_links_equals_that_of_kubo(
    kubo: KuboDaemon, tmp_path: Path
) -> None:
    profile = Profile.UNIXFS_V1_2025
    path = write(tmp_path / "content", profile.chunk * profile.width + 1)
    theirs = kubo.ipfs("add", "-Q", "--only-hash", *FLAGS[profile], str(path))
    assert str(import_file(path, profile=profile).root) == theirs


@pytest.mark.parametrize("profile", list(Profile))
def test_cids_of_folders_equal_those_of_kubo(kubo: KuboDaemon, tmp_path: Path, profile: Profile) -> None:
    folder = make_folder(tmp_path)
    theirs = kubo.ipfs("add", "-Q", "-r", "--hidden", "--only-hash", *FLAGS[profile], str(folder))
    assert str(import_folder(folder, profile=profile).root) == theirs


def make_folder(parent: Path) -> Path:
    folder = parent / "model"
    (folder / "sub" / "empty").mkdir(parents=True)
    write(folder / "weights.bin", 3 * MIB + 5)
    write(folder / "Ärger ß.txt", 10)
    write(folder / ".hidden", 0)
    write(folder / "sub" / "a", MIB)
    return folder


@pytest.fixture
async def retriever(kubo: KuboDaemon, tmp_path: Path) -> AsyncIterator[Retriever]:
    store = BlockStore(tmp_path / "store", max_bytes=LIMIT)
    one = Retriever(store, Gateways([kubo.gateway]), stall_timeout=5, max_object_bytes=LIMIT)
    yield one
    await one.close()
    store.close()


@pytest.mark.parametrize("profile", list(Profile))
async def test_a_file_comes_verified_from_kubos_gateway(
    kubo: KuboDaemon, retriever: Retriever, tmp_path: Path, profile: Profile
) -> None:
    path = write(tmp_path / "content", 50 * MIB + 7)
    root = Cid.parse(kubo.ipfs("add", "-Q", *FLAGS[profile], str(path)))
    async with retriever.hold(root, limit=LIMIT) as held:
        assert held.read_bytes() == path.read_bytes()
    assert (await retriever.store.verify()).corrupt == []


async def test_a_folder_comes_verified_from_kubos_gateway(
    kubo: KuboDaemon, retriever: Retriever, tmp_path: Path
) -> None:
    folder = make_folder(tmp_path)
    root = Cid.parse(kubo.ipfs("add", "-Q", "-r", "--hidden", "--cid-version=1", str(folder)))
    async with retriever.hold(root, limit=LIMIT) as held:
        names = sorted(str(path.relative_to(held)) for path in held.rglob("*"))
        assert names == sorted(str(path.relative_to(folder)) for path in folder.rglob("*"))
        assert (held / "weights.bin").read_bytes() == (folder / "weights.bin").read_bytes()
    assert (await retriever.store.verify()).corrupt == []


async def test_content_that_kubo_lacks_is_not_found(retriever: Retriever) -> None:
    with pytest.raises(ContentNotFound):
        await retriever.read(import_bytes(b"nobody has this").root, limit=LIMIT)


async def test_a_download_goes_on_after_the_gateway_was_killed(kubo: KuboDaemon, tmp_path: Path) -> None:
    path = write(tmp_path / "content", 150 * MIB)
    root = Cid.parse(kubo.ipfs("add", "-Q", *FLAGS[Profile.UNIXFS_V1_2025], str(path)))
    store = BlockStore(tmp_path / "store", max_bytes=LIMIT)
    async with Relay(kubo.gateway, after=60 * MIB) as relay:
        retriever = Retriever(store, Gateways([relay.url]), stall_timeout=5, max_object_bytes=LIMIT)
        download = asyncio.create_task(retriever.read(root, limit=LIMIT))
        await relay.reached.wait()
        kubo.kill()
        relay.open.set()
        with pytest.raises(GatewayUnavailable):
            await download
        kubo.start()
        got = relay.passed
        again = Retriever(store, Gateways([relay.url]), stall_timeout=5, max_object_bytes=LIMIT)
        assert await again.read(root, limit=LIMIT) == path.read_bytes()
        whole = import_file(path)
        overhead = 2 * MIB + 4 * sum(len(block) for block in whole.nodes.values())
        assert got > 60 * MIB
        assert relay.passed < 150 * MIB + overhead
        await retriever.close()
        await again.close()
    store.close()


@pytest.mark.parametrize("profile", list(Profile))
async def test_what_the_adapter_adds_has_our_cid_and_is_pinned(
    kubo: KuboDaemon, tmp_path: Path, profile: Profile
) -> None:
    path = write(tmp_path / "content", 2 * MIB + 1)
    daemon = Kubo(kubo.api)
    root = await daemon.add(path, profile=profile)
    assert root == import_file(path, profile=profile).root
    assert await daemon.pinned(root)


async def test_the_adapter_adds_folders(kubo: KuboDaemon, tmp_path: Path) -> None:
    folder = make_folder(tmp_path)
    assert await Kubo(kubo.api).add(folder) == import_folder(folder).root


async def test_a_car_is_imported_pinned_and_can_be_fetched_back(
    kubo: KuboDaemon, retriever: Retriever, tmp_path: Path
) -> None:
    imported = import_any(write(tmp_path / "content", 5 * MIB + 3))
    write_car(tmp_path / "content.car", imported)
    daemon = Kubo(kubo.api)
    await daemon.import_car(tmp_path / "content.car", root=imported.root)
    assert await daemon.pinned(imported.root)
    assert await retriever.read(imported.root, limit=LIMIT) == (tmp_path / "content").read_bytes()


async def test_another_root_than_ours_is_an_error(kubo: KuboDaemon, tmp_path: Path) -> None:
    write_car(tmp_path / "content.car", import_bytes(b"one"))
    with pytest.raises(ContentMismatch, match="found"):
        await Kubo(kubo.api).import_car(tmp_path / "content.car", root=import_bytes(b"other").root)


async def test_our_cars_are_valid_for_kubo_and_kubos_for_us(kubo: KuboDaemon, tmp_path: Path) -> None:
    store = BlockStore(tmp_path / "store", max_bytes=LIMIT)
    imported = await store.import_path(make_folder(tmp_path))
    (tmp_path / "ours.car").write_bytes(b"".join([chunk async for chunk in store.car(imported.root)]))
    await Kubo(kubo.api).import_car(tmp_path / "ours.car", root=imported.root)
    theirs = in_pieces(kubo.export(str(imported.root)))
    other = BlockStore(tmp_path / "other", max_bytes=LIMIT)
    assert [name_of(root) for root in await other.import_car(theirs, limit=LIMIT)] == [name_of(imported.root)]
    store.close()
    other.close()


async def test_a_daemon_that_is_not_there_is_named_in_the_error(tmp_path: Path) -> None:
    with pytest.raises(GatewayUnavailable, match=r"127\.0\.0\.1:1"):
        await Kubo("http://127.0.0.1:1").version()


async def test_the_version_is_told(kubo: KuboDaemon) -> None:
    assert (await Kubo(kubo.api).version()).startswith("0.")
