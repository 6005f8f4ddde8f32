"""A bare model from a file to a sold prediction, in both containers."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from bare_models.writer import write_raw, write_safetensors
from lonja import AsyncClient
from lonja.devnet.world import World
from lonja.errors import LicenseMissing, UsageInvalid
from lonja.terms import parse_offer
from tests.fakes.bare_networks import MLP, answer, numbers

pytestmark = pytest.mark.timeout(180)

FEATURES = [{"name": name, "mean": 1, "std": 2} for name in "abcdef"]
TARGETS = [{"name": name, "unit": "m"} for name in ("north", "east", "south", "west")]
OFFER = parse_offer("price=0,perpetual")


def draft(folder: Path, **model: object) -> Path:
    members = {
        "schema": 1,
        "model_id": "winds",
        "model_type": "tabular_regression",
        "format": "bare",
        "input": {"kind": "tabular", "features": FEATURES},
        "output": {"task": "regression", "targets": TARGETS},
    }
    path = folder / "metadata.json"
    path.write_text(json.dumps({"name": "Winds", "model": members | model}))
    return path


async def test_it_is_published_bought_and_run(world: World, tmp_path: Path) -> None:
    write_safetensors(tmp_path / "winds.safetensors", MLP, numbers(MLP))
    row = dict.fromkeys("abcdef", 2.0) | {"c": -1.5}
    async with (
        AsyncClient.from_devnet(world.devnet_json, role="publisher") as publisher,
        AsyncClient.from_devnet(world.devnet_json) as licensee,
        AsyncClient.from_devnet(world.devnet_json, role="stranger") as stranger,
    ):
        published = await publisher.publish(tmp_path / "winds.safetensors", draft(tmp_path), offers=[OFFER])
        question = {"format": "tabular", "content": [row, row]}
        with pytest.raises(LicenseMissing):
            await stranger.infer("winds", json=question)
        await licensee.buy(published.token_id)
        given = await licensee.infer("winds", json=question)
        formats = (await licensee.model("winds")).inputs
        scaled = [(value - 1) / 2 for value in row.values()]
        [want] = answer(MLP, numbers(MLP), [scaled])
        for predictions in given.predictions:
            assert [(each["name"], each["unit"]) for each in predictions] == [
                (target["name"], "m") for target in TARGETS
            ]
            np.testing.assert_allclose([each["value"] for each in predictions], want, rtol=1e-5, atol=1e-5)
        assert formats is not None

        write_raw(tmp_path / "winds.bin", MLP, numbers(MLP, seed=8))
        layers = json.loads((tmp_path / "winds.safetensors").read_bytes()[8:4096])["__metadata__"][
            "lonja.layers"
        ]
        newer = draft(tmp_path, layers=json.loads(layers))
        await publisher.publish(tmp_path / "winds.bin", newer, offers=[], update=published.token_id)
        [want] = answer(MLP, numbers(MLP, seed=8), [scaled])
        for _ in range(3):  # by the worker, then without it
            again = await licensee.infer("winds", json={"format": "tensor", "content": scaled})
            np.testing.assert_allclose(
                [each["value"] for each in again.predictions], want, rtol=1e-5, atol=1e-5
            )


async def test_a_file_that_no_node_would_serve_is_not_published(world: World, tmp_path: Path) -> None:
    given = numbers(MLP)
    given["0.bias"][0] = np.nan
    write_safetensors(tmp_path / "winds.safetensors", MLP, given)
    async with AsyncClient.from_devnet(world.devnet_json, role="publisher") as publisher:
        with pytest.raises(UsageInvalid, match=r"winds.safetensors: the tensor '0.bias' holds nan"):
            await publisher.publish(tmp_path / "winds.safetensors", draft(tmp_path), offers=[OFFER])
