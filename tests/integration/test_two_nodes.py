"""Two nodes of two operators: what one gives the other, and what it keeps to itself."""

from __future__ import annotations

from pathlib import Path

import pytest

from lonja import answers
from lonja.errors import ApiError, ContentNotFound
from node.identity.node_key import load_or_create
from tests.eventually import eventually
from tests.integration.small_models import times
from tests.integration.stage import Node, Stage, numbers_of

pytestmark = pytest.mark.timeout(120)


async def knows(node: Node, name: str) -> bool:
    async with node.client("stranger") as anybody:
        return (await anybody.model(name)).model_id == name


async def infers(node: Node) -> list[float]:
    async with node.client("licensee") as licensee:
        return numbers_of((await licensee.infer("shared", tensor=[[1, 2, 3]])).predictions)


async def test_metadata_are_open_and_weights_need_a_license_or_a_listed_peer(
    stage: Stage, tmp_path: Path
) -> None:
    (stage.folder / "listed").mkdir()
    listed = load_or_create(stage.folder / "listed" / "node.key").address
    async with stage.node("seller", IPFS_PEERS=listed, LICENSE_NEGATIVE_TTL="0.5") as seller:
        token = await seller.sell(times(tmp_path / "models", "shared", 2))
        made = await described(seller)

        # Anybody, without an account, may read the manifest; nobody may read the weights.
        assert (await seller.get(f"/ipfs/{made.manifest_cid}?format=raw"))[0] == 200
        assert made.weights is not None
        assert (await seller.get(f"/ipfs/{made.weights.cid}?format=raw"))[0] == 401

        async with stage.node("unlisted", IPFS_GATEWAYS=seller.url) as unlisted:
            await eventually(lambda: knows(unlisted, "shared"), within=20, ignoring=ApiError)
            with pytest.raises(ContentNotFound, match="does not give the content to this node"):
                await infers(unlisted)  # its caller has a license, but it has none itself
            assert (await unlisted.get(f"/ipfs/{made.weights.cid}?format=raw"))[0] == 404

            async with seller.client("publisher") as publisher:
                await publisher.grant(token, await unlisted.address())
            found = await eventually(lambda: infers(unlisted), within=30, ignoring=ContentNotFound)
            assert found == [2, 4, 6]

        async with stage.node("listed", IPFS_GATEWAYS=seller.url) as peer:
            assert await peer.address() == listed
            await eventually(lambda: knows(peer, "shared"), within=20, ignoring=ApiError)
            assert await infers(peer) == [2, 4, 6]
            await seller.kill()
            assert await infers(peer) == [2, 4, 6]


async def test_two_nodes_fetch_from_each_other(stage: Stage, tmp_path: Path) -> None:
    addresses = []
    for name in ("one", "other"):
        (stage.folder / name).mkdir()
        addresses.append(load_or_create(stage.folder / name / "node.key").address)
    peers = ",".join(addresses)
    async with (
        stage.node("one", IPFS_PEERS=peers) as one,
        stage.node("other", IPFS_PEERS=peers, IPFS_GATEWAYS=one.url) as other,
    ):
        await one.sell(times(tmp_path / "models", "shared", 2))
        await other.sell(times(tmp_path / "models", "back", 5))
        one.settings["IPFS_GATEWAYS"] = other.url
        await one.process.stop()
        await one.start()
        await eventually(lambda: knows(other, "shared"), within=20, ignoring=ApiError)
        await eventually(lambda: knows(one, "back"), within=20, ignoring=ApiError)
        assert await infers(other) == [2, 4, 6]
        async with one.client("licensee") as licensee:
            answer = await licensee.infer("back", tensor=[[1, 2, 3]])
        assert numbers_of(answer.predictions) == [5, 10, 15]


async def described(node: Node) -> answers.Model:
    async with node.client("stranger") as anybody:
        return await anybody.model("shared")
