"""The whole path of a model, on what comes with the node and on what stands in production.

Embedded: the development chain, content published to the node. Real: anvil, content published to a Kubo
daemon and fetched by the node from Kubo's gateway; nobody may publish to that node itself.
"""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path

import aiohttp
import pytest

from lonja import AsyncClient
from lonja.answers import Prediction
from lonja.devnet.digits import DemoModel
from lonja.devnet.world import World, running_world
from lonja.errors import ApiError, Denied, LicenseExpired, LicenseMissing, NotPermitted
from lonja.publishing import Target, ToKubo, ToNode
from lonja.terms import parse_offer
from tests.eventually import eventually
from tests.fakes.kubo import kubo_daemon

pytestmark = [
    pytest.mark.timeout(180),
    # ipfshttpclient leaves its connections to the garbage collector
    pytest.mark.filterwarnings("ignore::ResourceWarning"),
]

REVOCATION_BOUND = 3.0
"""Seconds: one block and 2 s."""


@dataclass(frozen=True)
class Place:
    """A world, and where its publishers put content."""

    world: World
    target: Target
    real: bool
    """On anvil and Kubo."""

    def person(self, role: str) -> AsyncClient:
        return AsyncClient.from_devnet(self.world.devnet_json, role=role)

    async def publish(self, onnx: Path, manifest: Path, *, offer: str) -> int:
        """The token's id, once the node knows the model."""
        async with self.person("publisher") as publisher:
            made = await publisher.publish(onnx, manifest, offers=[parse_offer(offer)], to=self.target)
            model_id = json.loads(manifest.read_text())["model"]["model_id"]

            async def known() -> bool:
                return (await publisher.model(model_id)).manifest_cid == made.metadata_cid

            await eventually(known, within=30, ignoring=ApiError)
        assert made.token_id is not None
        return made.token_id


REAL = pytest.param("real", marks=[pytest.mark.service("anvil"), pytest.mark.service("kubo")])


@pytest.fixture(params=["embedded", REAL])
async def place(
    request: pytest.FixtureRequest, tmp_path: Path, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[Place]:
    async with AsyncExitStack() as stack:
        if request.param == "embedded":
            world = await stack.enter_async_context(running_world(tmp_path / "world"))
            yield Place(world, ToNode(), real=False)
            return
        services = request.getfixturevalue("services")
        kubo = stack.enter_context(kubo_daemon(services.path("ipfs"), tmp_path_factory.mktemp("kubo")))
        settings = {"IPFS_GATEWAYS": kubo.gateway, "PUBLISHERS": ""}
        world = await stack.enter_async_context(
            running_world(tmp_path / "world", anvil=services.path("anvil"), settings=settings)
        )
        yield Place(world, ToKubo(kubo.api), real=True)


@pytest.fixture
def eagle(shared_data: Path, tmp_path: Path) -> tuple[Path, Path, Path]:
    """EfficientNet-Lite0, a draft of its manifest with the labels in a file, and a photo."""
    imagenet = shared_data / "imagenet"
    (tmp_path / "labels.json").write_bytes((imagenet / "labels.json").read_bytes())
    draft = {
        "name": "EfficientNet-Lite0",
        "model": {
            "schema": 1,
            "model_id": "efficientnet-lite0",
            "model_type": "image_classification",
            "format": "onnx",
            "labels": {"file": "labels.json"},
            "input": {"kind": "image", "preset": "imagenet", "resize": "stretch", "interpolation": "bicubic"},
            "output": {"name": "logits", "task": "classification"},
        },
    }
    (tmp_path / "metadata.json").write_text(json.dumps(draft))
    return imagenet / "efficientnet-lite0.onnx", tmp_path / "metadata.json", imagenet / "bald_eagle.jpeg"


async def test_the_bald_eagle(place: Place, eagle: tuple[Path, Path, Path]) -> None:
    onnx, manifest, photo = eagle
    if place.real:  # so what it serves can only have come from Kubo
        async with place.person("publisher") as publisher:
            with pytest.raises(NotPermitted):
                await publisher.publish(onnx, manifest, offers=[parse_offer("price=0,perpetual")])
    token = await place.publish(onnx, manifest, offer="price=0.5,days=30")
    async with place.person("stranger") as stranger, place.person("licensee") as licensee:
        with pytest.raises(LicenseMissing):
            await stranger.infer("efficientnet-lite0", image=photo)
        assert (await licensee.buy(token)).price == 5 * 10**17
        answer = await licensee.infer("efficientnet-lite0", image=photo, top_k=3)
        assert [(each.class_id, each.label) for each in answer.classes] == [
            (22, "bald eagle"),
            (21, "kite"),
            (128, "black stork"),
        ]
        assert answer.top == Prediction("bald eagle", pytest.approx(0.644, abs=0.02), 22)
        assert answer.metadata.entropy == pytest.approx(1.481, abs=0.05)
        assert answer.metadata.token_id == str(token)
        with pytest.raises(LicenseMissing):
            await stranger.infer("efficientnet-lite0", image=photo)


async def test_a_license_bought_given_run_out_and_taken_back(place: Place, digits: DemoModel) -> None:
    token = await place.publish(digits.onnx, digits.metadata, offer="price=0.01,seconds=600")
    async with (
        place.person("licensee") as licensee,
        place.person("stranger") as friend,
        place.person("operator") as operator,
        place.person("publisher") as publisher,
    ):

        async def read(client: AsyncClient) -> str:
            return (await client.infer("digits", image=digits.picture)).top.label

        async def refusal(client: AsyncClient) -> Denied | None:
            try:
                await read(client)
            except Denied as error:
                return error
            return None

        async def admitted(client: AsyncClient) -> str:
            """What it reads, once the event of the purchase has ended the memory of the refusal."""
            return await eventually(lambda: read(client), within=2.5, ignoring=LicenseMissing)

        # bought
        assert isinstance(await refusal(licensee), LicenseMissing)
        await licensee.buy(token)
        assert await admitted(licensee) == digits.label == "seven"

        # a gift: the operator pays, the friend infers, the payer does not
        assert isinstance(await refusal(friend), LicenseMissing)
        await operator.buy(token, licensee=friend.address)
        assert await admitted(friend) == "seven"
        assert isinstance(await refusal(operator), LicenseMissing)

        # taken back, while events flow
        await publisher.revoke(token, friend.address)
        assert isinstance(await eventually(lambda: refusal(friend), within=REVOCATION_BOUND), LicenseExpired)
        assert await read(licensee) == "seven"

        # run out: the chain's time moves past its end
        await advance(place.world, seconds=601)
        expired = await eventually(lambda: refusal(licensee), within=35)
        assert isinstance(expired, LicenseExpired)
        assert (expired.status, expired.code) == (403, "license_expired")
        assert (await licensee.license(token)).valid is False


async def advance(world: World, *, seconds: int) -> None:
    """Move the chain's time and mine a block."""
    async with aiohttp.ClientSession() as session:
        for method, params in (("evm_increaseTime", [seconds]), ("evm_mine", [])):
            body = {"jsonrpc": "2.0", "id": 1, "method": method, "params": params}
            async with session.post(world.rpc_url, json=body) as answer:
                assert "error" not in await answer.json()
