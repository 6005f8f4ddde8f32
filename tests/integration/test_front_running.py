"""Somebody sees a registration wait to be mined, and has the same metadata CID registered first."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from lonja import AsyncClient
from lonja.errors import ApiError, ManifestInvalid, UsageInvalid
from lonja.publishing import ToNode, prepare
from tests.eventually import eventually
from tests.integration.small_models import times
from tests.integration.stage import Node, Stage, numbers_of

pytestmark = pytest.mark.timeout(120)


async def status(node: Node, cid: object, caller: AsyncClient) -> int:
    """Of the gateway's answer to a caller who has signed in."""
    token = await caller.signer().by_session("GET", "", b"")
    return (await node.get(f"/ipfs/{cid}?format=raw", headers=token))[0]


async def replaced(node: Node, name: str, owner: str) -> bool:
    async with node.client("licensee") as anybody:
        return (await anybody.model(name)).owner == owner


async def doubled(node: Node) -> list[float]:
    async with node.client("licensee") as licensee:
        return numbers_of((await licensee.infer("sold", tensor=[[1, 2, 3]])).predictions)


async def test_the_copy_of_a_waiting_registration_gets_nothing(stage: Stage, tmp_path: Path) -> None:
    model = times(tmp_path / "models", "sold", 2)
    async with (
        stage.node() as node,
        node.client("publisher") as publisher,
        node.client("stranger") as copier,
        node.client("licensee") as licensee,
    ):
        bundle = prepare(model.onnx, model.manifest, publisher=publisher.address)
        manifest, weights = bundle.manifest.root, bundle.weights.root
        await ToNode().put(publisher, bundle, progress=lambda *_: None)

        # Until a token refers to it, nobody learns from the manifest which weights to copy.
        assert [await status(node, cid, copier) for cid in (manifest, weights)] == [403, 403]
        assert (await node.get(f"/ipfs/{manifest}?format=raw"))[0] == 401

        # The copier is mined first. That token is not served, and makes nothing public.
        copy, _ = await copier.market.register(str(manifest), [])
        with pytest.raises(ManifestInvalid, match=f"names {publisher.address} as its publisher"):
            await copier.model(await copier.market.canonical_name(copy))
        assert [await status(node, cid, copier) for cid in (manifest, weights)] == [403, 403]
        await copier.grant(copy, copier.address)

        token, _ = await publisher.market.register(str(manifest), [])
        assert (copy, token) == (1, 2)
        await publisher.grant(token, licensee.address)
        assert await eventually(lambda: doubled(node), within=20, ignoring=ApiError) == [2, 4, 6]
        assert (await node.get(f"/ipfs/{manifest}?format=raw"))[0] == 200
        assert [await status(node, weights, who) for who in (copier, licensee)] == [403, 200]

        # Sold, and read anew by a node that has forgotten everything: still the publisher's model.
        await stage_transfer(stage, token, to=copier.address)
        await node.process.stop()
        for file in node.data.glob("catalogue.sqlite*"):
            file.unlink()
        await node.start()
        name = await publisher.market.canonical_name(token)
        await eventually(lambda: replaced(node, name, copier.address), within=20, ignoring=ApiError)
        assert await doubled(node) == [2, 4, 6]


async def test_who_updates_a_token_names_who_registered_it(stage: Stage, tmp_path: Path) -> None:
    first, second = times(tmp_path / "one", "sold", 2), times(tmp_path / "two", "sold", 3)
    async with stage.node() as node, node.client("stranger") as owner:
        token = await node.sell(first)
        await stage_transfer(stage, token, to=owner.address)
        await owner.publish(second.onnx, second.manifest, offers=[], update=token)

        async def tripled() -> bool:
            return await doubled(node) == [3, 6, 9]

        await eventually(tripled, within=20, ignoring=ApiError)


async def test_a_draft_that_names_somebody_else_is_not_registered(stage: Stage, tmp_path: Path) -> None:
    model = times(tmp_path / "models", "sold", 2)
    draft = model.manifest.read_text()
    other = stage.accounts["operator"].address
    model.manifest.write_text(draft.replace('"schema"', f'"publisher": "{other}", "schema"'))
    async with stage.node() as node, node.client("publisher") as publisher:
        with pytest.raises(UsageInvalid, match=f"model.publisher is {other}"):
            await publisher.publish(model.onnx, model.manifest, offers=[])
        assert await publisher.market.total_models() == 0


async def stage_transfer(stage: Stage, token: int, *, to: str) -> None:
    """The publisher hands its token to another account."""
    async with AsyncClient(
        key=stage.accounts["publisher"].private_key, rpc=stage.rpc_url, contract=stage.contract
    ) as publisher:
        writer: Any = await publisher.market._writer()
        await writer.transfer(token, to)
