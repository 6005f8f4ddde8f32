"""A gateway that lies, seen by a client of a node; each lie is in `tests/unit/ipfs/test_attacks.py`."""

from __future__ import annotations

from pathlib import Path

import pytest

from lonja.errors import ContentMismatch
from tests.integration.small_models import times
from tests.integration.stage import Stage, gateway, lonja, numbers_of

pytestmark = pytest.mark.timeout(120)

BIG = 3 * 2**20


def last_byte_changed(car: bytes) -> bytes:
    """Small answers (manifests) as they are; of large ones (weights) the last byte is another."""
    return car if len(car) < BIG else car[:-1] + bytes([car[-1] ^ 1])


async def test_a_lie_is_a_502_leaves_nothing_behind_and_is_made_good_by_an_honest_gateway(
    stage: Stage, tmp_path: Path
) -> None:
    model = times(tmp_path / "models", "double", 2, padding=BIG)
    async with (
        gateway(tmp_path / "liar") as (liar, to_liar),
        gateway(tmp_path / "honest") as (honest, to_honest),
        stage.node(IPFS_GATEWAYS=liar.url) as node,
        node.client("licensee") as licensee,
    ):
        liar.change = last_byte_changed
        made = await node.publish(model, to=to_liar)
        assert made.token_id is not None
        await licensee.buy(made.token_id)
        with pytest.raises(ContentMismatch) as lie:
            await licensee.infer("double", tensor=[[1, 2, 3]])
        assert (lie.value.status, lie.value.code) == (502, "content_mismatch")
        settings = stage.settings(node.data)
        listed = await lonja("store", "list", "--json", settings=settings, cwd=tmp_path)
        assert made.metadata_cid in listed.stdout
        assert made.weights_cid not in listed.stdout

        await to_honest.store.import_path(model.onnx)
        node.settings["IPFS_GATEWAYS"] = f"{liar.url},{honest.url}"
        await node.process.stop()
        await node.start()
        answer = await licensee.infer("double", tensor=[[1, 2, 3]])
        assert numbers_of(answer.predictions) == [2, 4, 6]
        assert any(made.weights_cid in path for path in honest.asked)
