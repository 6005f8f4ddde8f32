from __future__ import annotations

import asyncio

import pytest

from node.errors import ManifestInvalid, ModelInvalid, ModelNotFound, ModelNotServed
from node.models.policy import ServePolicy
from node.types import ModelKey, TokenId
from tests.unit.flows.conftest import CONTRACT, OWNER, STRANGER, World


async def test_the_first_fill_reads_every_token_and_passes_over_a_broken_one(world: World) -> None:
    world.publish(1, "resnet18")
    world.registry.put(2, "../../etc/passwd")
    world.registry.put(3, world.content.add(b"not json"))
    world.publish(4, "vgg16")
    await world.models.fill()
    items, total = world.catalogue.page(search=None, owner=None, offset=0, limit=9)
    assert ([item.model_id for item in items], total) == (["resnet18", "vgg16"], 2)


async def test_a_fill_reads_nothing_again_that_has_not_changed(world: World) -> None:
    world.publish(1, "resnet18")
    await world.models.fill()
    reads = len(world.content.reads)
    await world.models.fill()
    assert len(world.content.reads) == reads


async def test_a_token_that_is_not_in_the_catalogue_is_looked_up_by_its_canonical_name(world: World) -> None:
    world.publish(7, "resnet18")
    entry = await world.models.find(f"{CONTRACT.chain_id}:{CONTRACT.address}:7")
    assert entry.model_id == "resnet18"
    assert await world.models.find("resnet18") == entry


async def test_a_model_is_found_by_its_name_before_its_event_has_come(world: World) -> None:
    world.publish(1, "resnet18")
    await world.models.fill()
    world.publish(2, "vgg16")
    assert (await world.models.find("vgg16")).key.token_id == 2


async def test_unknown_names_cost_the_chain_one_question(world: World) -> None:
    world.registry.put(1, world.content.add(b"not json"))
    for _ in range(20):
        with pytest.raises(ModelNotFound):
            await world.models.find("resnet18")
    assert (world.registry.totals, world.registry.calls) == (1, 1)


async def test_a_token_that_does_not_exist_hides_no_model_that_does(world: World) -> None:
    with pytest.raises(ModelNotFound):
        await world.models.find(f"{CONTRACT.chain_id}:{CONTRACT.address}:999999")
    world.publish(1, "resnet18")
    assert (await world.models.find("resnet18")).key.token_id == 1


async def test_readings_of_one_token_at_the_same_time_are_one(world: World) -> None:
    world.publish(7, "resnet18")
    await asyncio.gather(*(world.models.refresh(TokenId(7)) for _ in range(50)))
    assert world.registry.calls == 1


async def test_a_new_revision_is_prepared_before_it_becomes_current(world: World) -> None:
    world.publish(1, "resnet18")
    await world.models.fill()
    current: list[int] = []

    async def prepare(key: ModelKey, revision: int) -> None:
        current.append(world.catalogue.resolve("resnet18").revision)
        assert world.catalogue.revision(key, revision).revision == 2

    world.models = type(world.models)(
        catalogue=world.catalogue, registry=world.registry, retriever=world.content, prepare=prepare
    )  # type: ignore[arg-type]
    world.publish(1, "resnet18", revision=2, labels=["dog", "cat"])
    await world.models.changed(TokenId(1))
    assert current == [1]
    assert world.catalogue.resolve("resnet18").revision == 2


async def test_a_new_revision_that_cannot_be_loaded_changes_nothing(world: World) -> None:
    world.publish(1, "resnet18")
    await world.models.fill()

    async def prepare(key: ModelKey, revision: int) -> None:
        raise ModelInvalid("weights are broken")

    world.models = type(world.models)(
        catalogue=world.catalogue, registry=world.registry, retriever=world.content, prepare=prepare
    )  # type: ignore[arg-type]
    world.publish(1, "resnet18", revision=2, labels=["dog", "cat"])
    await world.models.changed(TokenId(1))
    assert world.catalogue.resolve("resnet18").revision == 1
    with pytest.raises(ModelNotFound):
        world.catalogue.revision(world.catalogue.key(TokenId(1)), 2)


async def test_a_manifest_that_is_wrong_says_so_to_whoever_asks(world: World) -> None:
    world.registry.put(3, world.content.add(b"not json"))
    with pytest.raises(ManifestInvalid):
        await world.models.find(f"{CONTRACT.chain_id}:{CONTRACT.address}:3")


async def test_a_token_outside_the_policy_is_not_served(world: World) -> None:
    world.publish(1, "resnet18")
    world.catalogue._policy = ServePolicy.parse(("2",), production=True)
    with pytest.raises(ModelNotServed, match="does not serve"):
        await world.models.find_token(TokenId(1))
    assert world.content.reads == []


async def test_a_copy_of_a_registration_is_refused_and_claims_no_weights(
    world: World, caplog: pytest.LogCaptureFixture
) -> None:
    """Somebody saw token 2 wait to be mined, and had its manifest registered before it."""
    manifest = world.publish(2, "resnet18", publisher=OWNER)
    world.registry.put(1, manifest, owner=STRANGER)
    world.registry.publishers[1] = STRANGER
    await world.models.changed(TokenId(1))
    assert f"names {OWNER} as its publisher, but {STRANGER} registered the token" in caplog.text
    assert not world.catalogue.is_public(manifest)
    await world.models.fill()
    entry = world.catalogue.resolve("resnet18")
    assert entry.key.token_id == 2
    assert world.catalogue.sellers_of(entry.weights_cid) == [entry]
    with pytest.raises(ManifestInvalid, match="not served"):
        await world.models.find_token(TokenId(1))


async def test_a_copy_as_a_new_revision_changes_nothing(world: World) -> None:
    world.publish(1, "mine", publisher=STRANGER)
    world.registry.publishers[1] = STRANGER
    await world.models.fill()
    world.publish(1, "resnet18", revision=2, publisher=OWNER)
    await world.models.changed(TokenId(1))
    assert world.catalogue.resolve("mine").revision == 1


async def test_a_token_that_was_sold_keeps_its_model_however_its_publisher_is_spelled(world: World) -> None:
    manifest = world.publish(1, "resnet18", publisher=OWNER.lower())
    world.registry.put(1, manifest, owner=STRANGER)
    await world.models.fill()
    assert world.catalogue.resolve("resnet18").owner == STRANGER


async def test_a_manifest_without_a_publisher_costs_the_chain_no_further_question(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(world.registry, "publisher", None)
    world.publish(1, "resnet18")
    await world.models.fill()
    assert world.catalogue.resolve("resnet18").key.token_id == 1
