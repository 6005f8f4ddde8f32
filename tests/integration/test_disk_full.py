"""A full disk under a whole node, and kill -9 in mid-upload: clear errors, nothing half written."""

from __future__ import annotations

import asyncio
import io
import json
import os
import subprocess
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import aiohttp
import pytest

from lonja import AsyncClient
from lonja.errors import ApiError, StoreFull
from node.ipfs import importer
from node.ipfs.importer import car_chunks
from tests.eventually import eventually
from tests.integration.small_models import times
from tests.integration.stage import Node, Stage, gateway, lonja, numbers_of

pytestmark = pytest.mark.timeout(180)

MIB = 2**20
ROW = [[1, 2, 3]]


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    """A disk of 8 MiB."""
    place = tmp_path / "disk"
    place.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=8m", "tmpfs", place], capture_output=True, text=True, check=False
    )
    if mounted.returncode != 0:
        pytest.skip(f"a small disk cannot be mounted here: {mounted.stderr.strip()}")
    yield place
    subprocess.run(["umount", "--lazy", place], check=True)


def free(disk: Path) -> int:
    state = os.statvfs(disk)
    return state.f_bavail * state.f_bsize


def fill(filler: Path) -> None:
    """Write until there is no room. Raises `OSError`."""
    with filler.open("wb", buffering=0) as out:
        while True:
            out.write(bytes(4096))


async def assert_sound(stage: Stage, node: Node, *, models: Path) -> None:
    """The store holds nothing half written, now and as an operator sees it."""
    assert list((models / "incomplete").iterdir()) == []
    settings = stage.settings(node.data) | {"MODEL_DIR": str(models)}
    checked = await lonja("store", "verify", "--json", settings=settings, cwd=node.data)
    assert (checked.returncode, json.loads(checked.stdout)["corrupt"]) == (0, [])


async def infers(client: AsyncClient, model: str, *, factor: float) -> bool:
    answer = await client.infer(model, tensor=ROW)
    return numbers_of(answer.predictions) == [number * factor for number in ROW[0]]


async def test_a_download_that_fills_the_disk_leaves_room_and_the_node_goes_on(
    stage: Stage, tmp_path: Path, disk: Path
) -> None:
    big = times(tmp_path / "models", "big", 2, padding=16 * MIB)
    small = times(tmp_path / "models", "small", 3)
    async with (
        gateway(tmp_path / "gateway") as (source, to_gateway),
        stage.node(IPFS_GATEWAYS=source.url, MODEL_DIR=str(disk)) as node,
        node.client("licensee") as licensee,
    ):
        await node.sell(big, to=to_gateway)
        with pytest.raises(StoreFull) as full:
            await licensee.infer("big", tensor=ROW)
        assert (full.value.status, full.value.retriable) == (503, True)
        assert str(disk) not in str(full.value.problem)
        assert free(disk) > 6 * MIB
        await node.sell(small, to=to_gateway)
        assert await infers(licensee, "small", factor=3)
        assert (await node.get("/health/ready"))[0] == 200
        await assert_sound(stage, node, models=disk)


async def test_an_upload_that_fills_the_disk_leaves_room_and_the_node_goes_on(
    stage: Stage, tmp_path: Path, disk: Path
) -> None:
    async with stage.node(MODEL_DIR=str(disk)) as node, node.client("licensee") as licensee:
        with pytest.raises(StoreFull):
            await node.publish(times(tmp_path / "models", "big", 2, padding=16 * MIB))
        assert free(disk) > 6 * MIB
        await node.sell(times(tmp_path / "models", "small", 3))
        assert await infers(licensee, "small", factor=3)
        await assert_sound(stage, node, models=disk)


async def test_on_a_full_disk_what_is_resident_is_served_and_what_must_be_written_is_503(
    stage: Stage, tmp_path: Path, disk: Path
) -> None:
    """DATA_DIR is on the disk as well: sessions and the catalogue cannot be written either."""
    stage.folder = disk
    async with (
        stage.node() as node,
        node.client("licensee") as licensee,
        node.client("stranger") as stranger,
    ):
        token = await node.sell(times(tmp_path / "models", "small", 3))
        assert await infers(licensee, "small", factor=3)
        filler = disk / "filler"
        with pytest.raises(OSError, match="No space"):
            fill(filler)
        for _ in range(3):
            assert await infers(licensee, "small", factor=3)
        with pytest.raises(ApiError) as refused:
            await stranger.my_license("small")
        assert (refused.value.status, refused.value.code) == (503, "store_full")
        status, health = await node.get("/health/ready")
        assert (status, json.loads(health)["status"]) == (503, "degraded")
        async with node.client("publisher") as publisher:
            await publisher.revoke(token, stage.accounts["licensee"].address)

        filler.unlink()
        assert (await node.get("/health/live"))[0] == 200

        async def refused_again() -> bool:
            try:
                return not await infers(licensee, "small", factor=3)
            except ApiError as error:
                return error.status == 403

        await eventually(refused_again, within=10)
        await node.sell(times(tmp_path / "models", "other", 5))
        assert await infers(licensee, "other", factor=5)
        await assert_sound(stage, node, models=node.data / "models")


async def test_a_node_killed_in_mid_upload_keeps_nothing_of_it(stage: Stage, tmp_path: Path) -> None:
    content = tmp_path / "content"
    content.write_bytes(os.urandom(8 * MIB))
    imported = importer.import_any(content)
    car = b"".join(car_chunks([imported]))
    half, stop = len(car) // 2, asyncio.Event()

    async def slowly() -> AsyncIterator[bytes]:
        yield car[:half]
        await stop.wait()

    async with stage.node() as node, node.client("publisher") as publisher:
        models = node.data / "models"
        headers = await publisher.signer().by_session("", "", b"")
        headers["Content-Type"] = "application/vnd.ipld.car"
        async with aiohttp.ClientSession(node.url) as session:
            uploading = asyncio.create_task(session.post("/api/publish", data=slowly(), headers=headers))

            async def arrived() -> bool:
                files = [path for path in (models / "incomplete").rglob("*") if path.is_file()]
                return sum(path.stat().st_size for path in files) > half - 2 * MIB

            await eventually(arrived, within=20, ignoring=OSError)
            await node.kill()
            with pytest.raises(aiohttp.ClientError):
                await uploading
            await node.start()
            await assert_sound(stage, node, models=models)
            assert (await node.get(f"/ipfs/{imported.root}?format=raw"))[0] == 404
            async with session.post("/api/publish", data=io.BytesIO(car), headers=headers) as again:
                assert again.status == 201
        await assert_sound(stage, node, models=models)
