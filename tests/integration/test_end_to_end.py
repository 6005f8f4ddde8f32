"""The whole story through every part: a real chain, a real node, the SDK and the command line.

The same tests run on the embedded default and, with the servers installed, on anvil and Kubo.
"""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import aiohttp
import pytest

from lonja import AsyncClient
from lonja.devnet.digits import DemoModel
from lonja.devnet.world import MARKER, World, running_world
from lonja.errors import (
    ApiError,
    ChainFailed,
    Denied,
    LicenseExpired,
    LicenseMissing,
    ModelNotFound,
    NodeUnreachable,
    NotPermitted,
)
from lonja.publishing import ToFile, ToKubo, prepare
from lonja.terms import parse_offer
from tests.eventually import eventually

pytestmark = pytest.mark.timeout(180)

LONJA = (sys.executable, "-m", "lonja")
REVOCATION_BOUND = 3.0
"""Seconds: a block and 2 s, while events flow."""


def person(world: World, role: str, **options: object) -> AsyncClient:
    return AsyncClient.from_devnet(world.devnet_json, role=role, **options)


async def rpc(world: World, method: str, *params: object) -> object:
    async with aiohttp.ClientSession() as session:
        body = {"jsonrpc": "2.0", "id": 1, "method": method, "params": params}
        async with session.post(world.rpc_url, json=body) as answer:
            return (await answer.json())["result"]


async def published(world: World, digits: DemoModel, offer: str = "price=0.01,days=30") -> int:
    async with person(world, "publisher") as publisher:
        made = await publisher.publish(digits.onnx, digits.metadata, offers=[parse_offer(offer)])
    assert made.token_id is not None
    return made.token_id


async def seconds_until_refused(client: AsyncClient, digits: DemoModel) -> float:
    loop = asyncio.get_running_loop()
    began = loop.time()
    async with asyncio.timeout(REVOCATION_BOUND + 5):
        while True:
            try:
                await client.infer("digits", image=digits.picture)
            except Denied:
                return loop.time() - began
            await asyncio.sleep(0.02)


async def test_publish_refuse_buy_infer_revoke(world: World, digits: DemoModel):
    token_id = await published(world, digits)
    async with person(world, "stranger") as stranger, person(world, "licensee") as licensee:
        with pytest.raises(LicenseMissing):
            await stranger.infer("digits", image=digits.picture)
        with pytest.raises(LicenseMissing):  # which the node remembers for a while
            await licensee.infer("digits", image=digits.picture)
        bought = await licensee.buy(token_id)
        assert (bought.node_agrees, bought.node_says) == (True, None)
        assert (bought.price, (await licensee.license(token_id)).valid) == (10**16, True)
        answer = await licensee.infer("digits", image=digits.picture)
        assert answer.top.label == digits.label == "seven"
        assert answer.top.confidence > 0.9
        assert answer.metadata.token_id == str(token_id)
        with pytest.raises(LicenseMissing):
            await stranger.infer("digits", image=digits.picture)
        async with person(world, "publisher") as publisher:
            await publisher.revoke(token_id, licensee.address)
        assert await seconds_until_refused(licensee, digits) < REVOCATION_BOUND
        assert (await licensee.license(token_id)).valid is False


async def test_a_gift_a_grant_and_a_signature_a_request(world: World, digits: DemoModel):
    token_id = await published(world, digits, "price=0,perpetual")
    async with (
        person(world, "licensee", proof="signature") as licensee,
        person(world, "stranger", proof="signature") as stranger,
        person(world, "publisher") as publisher,
        person(world, "operator") as operator,
    ):
        await operator.buy(token_id, licensee=stranger.address)
        assert (await stranger.infer("digits", image=digits.picture)).top.label == "seven"
        assert (await stranger.my_license("digits")).perpetual
        await publisher.grant(token_id, licensee.address, seconds=3_600)
        assert (await licensee.infer("digits", image=digits.picture)).top.label == "seven"
        with pytest.raises(ChainFailed, match="does not own") as caught:
            await stranger.grant(token_id, stranger.address)
        assert caught.value.reason == "Lonja_NotModelOwner"


async def test_a_license_runs_out_with_the_chain_s_clock(world: World, digits: DemoModel):
    token_id = await published(world, digits, "price=0,seconds=600")
    async with person(world, "licensee") as licensee:
        await licensee.buy(token_id)
        await licensee.infer("digits", image=digits.picture)
        await rpc(world, "evm_increaseTime", 601)
        await rpc(world, "evm_mine")
        assert (await licensee.license(token_id)).valid is False
    async with person(world, "licensee") as licensee:
        await seconds_until_refused(licensee, digits)
        with pytest.raises(LicenseExpired):
            await licensee.infer("digits", image=digits.picture)


async def test_an_update_replaces_the_model_without_a_failed_request(
    world: World, digits: DemoModel, tmp_path: Path
):
    token_id = await published(world, digits, "price=0,perpetual")
    draft = json.loads(digits.metadata.read_text())
    draft["model"]["labels"] = [label.upper() for label in draft["model"]["labels"]]
    changed = tmp_path / "metadata.json"
    changed.write_text(json.dumps(draft))
    async with person(world, "licensee") as licensee, person(world, "publisher") as publisher:
        await licensee.buy(token_id)
        seen: list[str] = []
        done = asyncio.Event()

        async def keep_asking() -> None:
            while not (done.is_set() and seen[-1] == "SEVEN"):
                seen.append((await licensee.infer("digits", image=digits.picture)).top.label)

        asking = asyncio.create_task(keep_asking())
        await publisher.publish(digits.onnx, changed, offers=[], update=token_id)
        done.set()
        async with asyncio.timeout(20):
            await asking
        assert set(seen) == {"seven", "SEVEN"}
        assert (await licensee.model("digits")).revision == 2


async def test_the_catalogue_tells_what_is_for_sale(world: World, digits: DemoModel):
    token_id = await published(world, digits)
    async with person(world, "stranger") as anybody:
        page = await anybody.models(search="digit")
        assert [model.token_id for model in page.models] == [str(token_id)]
        model = await anybody.model("digits")
        assert [(offer.price, offer.duration) for offer in model.offers or []] == [(10**16, 30 * 86_400)]
        with pytest.raises(ModelNotFound):
            await anybody.model("nothing-like-it")


async def test_content_comes_back_over_the_gateway_and_weights_do_not(world: World, digits: DemoModel):
    await published(world, digits)
    async with person(world, "publisher") as publisher:
        bundle = prepare(digits.onnx, digits.metadata, publisher=publisher.address)
    async with aiohttp.ClientSession() as session:
        url = f"{world.node_url}/ipfs/{bundle.manifest.root}?format=raw"
        async with session.get(url) as answer:
            assert (answer.status, bundle.manifest.root.matches(await answer.read())) == (200, True)
        async with session.get(f"{world.node_url}/ipfs/{bundle.weights.root}?format=raw") as answer:
            assert answer.status == 401


async def test_a_node_killed_in_the_middle_leaves_a_store_that_works(tmp_path: Path, digits: DemoModel):
    async with running_world(tmp_path / "world") as world:
        token_id = await published(world, digits, "price=0,perpetual")
        async with person(world, "licensee") as licensee:
            await licensee.buy(token_id)
            await licensee.infer("digits", image=digits.picture)
            os.kill(world.node.pid, signal.SIGKILL)
            assert await world.node.wait() == -signal.SIGKILL
            with pytest.raises(NodeUnreachable):
                await licensee.health()
    environment = {
        **os.environ,
        "MODEL_DIR": str(tmp_path / "world" / "data" / "models"),
        "DATA_DIR": str(tmp_path),
    }
    check = await lonja("store", "verify", "--json", env=environment)
    assert (check.returncode, json.loads(check.stdout)["corrupt"]) == (0, [])


async def test_only_allowed_publishers_may_store_content(tmp_path: Path, digits: DemoModel):
    nobody = {"PUBLISHERS": "0x" + "11" * 20}
    async with (
        running_world(tmp_path / "world", settings=nobody) as world,
        person(world, "publisher") as publisher,
    ):
        with pytest.raises(NotPermitted):
            await publisher.publish(digits.onnx, digits.metadata, offers=[parse_offer("price=0,perpetual")])
        assert await publisher.market.total_models() == 0


async def test_a_manifest_with_a_mistake_costs_no_gas(world: World, digits: DemoModel, tmp_path: Path):
    from node.errors import ManifestInvalid

    wrong = tmp_path / "metadata.json"
    wrong.write_text(digits.metadata.read_text().replace('"kind": "image"', '"kind": "imag"'))
    before = await rpc(world, "eth_blockNumber")
    async with person(world, "publisher") as publisher:
        with pytest.raises(ManifestInvalid, match="kind"):
            await publisher.publish(digits.onnx, wrong, offers=[parse_offer("price=0,perpetual")])
    assert await rpc(world, "eth_blockNumber") == before


async def test_a_car_file_holds_what_a_token_would_name(digits: DemoModel, tmp_path: Path):
    async with AsyncClient() as nobody:
        made = await nobody.publish(
            digits.onnx, digits.metadata, offers=[], to=ToFile(tmp_path / "digits.car")
        )
    bundle = prepare(digits.onnx, digits.metadata)
    assert (made.token_id, made.tx) == (None, None)
    assert made.metadata_cid == str(bundle.manifest.root)
    assert (tmp_path / "digits.car").stat().st_size > bundle.size


@pytest.mark.service("kubo")
async def test_content_published_to_kubo_is_fetched_by_the_node(tmp_path: Path, digits: DemoModel, services):
    async with (
        running_kubo(services.path("ipfs"), tmp_path / "ipfs") as (api, gateway),
        running_world(tmp_path / "world", settings={"IPFS_GATEWAYS": gateway}) as world,
        person(world, "publisher") as publisher,
        person(world, "licensee") as licensee,
    ):
        made = await publisher.publish(
            digits.onnx, digits.metadata, offers=[parse_offer("price=0,perpetual")], to=ToKubo(api)
        )
        assert made.token_id is not None
        await licensee.buy(made.token_id)
        async with asyncio.timeout(30):
            while True:
                try:
                    answer = await licensee.infer("digits", image=digits.picture)
                    break
                except ApiError:
                    await asyncio.sleep(0.2)
        assert answer.top.label == "seven"


def running_in(folder: Path) -> list[str]:
    """Command lines of processes that work in `folder`."""
    found = []
    for process in Path("/proc").iterdir():
        try:
            if process.name.isdigit() and (process / "cwd").readlink().is_relative_to(folder):
                found.append((process / "cmdline").read_text())
        except OSError:
            continue  # it has just ended, or is not ours
    return found


async def lonja(*arguments: str, env: dict[str, str] | None = None) -> subprocess.CompletedProcess[str]:
    """The command line, as a person runs it."""
    return await asyncio.to_thread(
        subprocess.run, [*LONJA, *arguments], capture_output=True, text=True, timeout=90, env=env, check=False
    )  # fmt: skip


async def test_the_command_line_tells_the_same_story(world: World, digits: DemoModel):
    where = ("--devnet", str(world.devnet_json))

    async def json_of(*arguments: str) -> dict[str, object]:
        ran = await lonja(*arguments, *where, "--json")
        assert (ran.returncode, ran.stderr) == (0, ""), ran.stderr
        return json.loads(ran.stdout)

    made = await json_of(
        "publish", str(digits.onnx), "--manifest", str(digits.metadata), "--offer", "price=0.01,days=30"
    )
    assert set(made) == {"tokenId", "metadataCid", "weightsCid", "tx"}
    token = str(made["tokenId"])
    assert (await json_of("models"))["total"] == 1
    refused = await lonja("infer", "digits", "--image", str(digits.picture), *where, "--as", "stranger")
    assert (refused.returncode, refused.stdout, refused.stderr.count("\n")) == (1, "", 1)
    assert (await json_of("buy", token))["offerId"] == "1"
    answer = await json_of("infer", "digits", "--image", str(digits.picture), "--top-k", "1")
    assert [each["class"] for each in answer["predictions"]] == ["seven"]  # type: ignore[union-attr]
    stranger = world.accounts["stranger"].address
    await json_of("grant", token, stranger, "--days", "1")
    shown = await lonja("infer", "digits", "--image", str(digits.picture), *where, "--as", "stranger")
    assert (shown.returncode, shown.stdout.startswith("seven")) == (0, True)
    await json_of("revoke", token, stranger)
    for wrong, says in (
        (("buy", str(2**256)), "does not fit offersOf(tokenId uint256)"),
        (("grant", token, stranger, "--days", "1e300"), "duration uint64"),
        (("buy", token, "--key-file", poor(world.folder / "poor.key")), "not enough native coin"),
    ):
        failed = await lonja(*wrong, *where)
        assert (failed.returncode, failed.stdout, failed.stderr.count("\n")) == (1, "", 1)
        assert says in failed.stderr


def poor(file: Path) -> str:
    """A key without any coins."""
    file.write_text("0x" + "2a" * 32)
    return str(file)


@pytest.mark.parametrize("chain", ["embedded", pytest.param("anvil", marks=pytest.mark.service("anvil"))])
async def test_the_demo_ends_well_and_leaves_nothing_behind(chain: str, tmp_path: Path, services):
    environment = {**os.environ, "TMPDIR": str(tmp_path)}
    options = []
    if chain == "anvil":
        environment["PATH"] = f"{services.path('anvil').parent}:{environment['PATH']}"
        options = ["--anvil"]
    ran = await lonja("demo", *options, env=environment)
    assert ran.returncode == 0, ran.stderr
    for word in ("refused: 403", "seven!", "revoked", "That was all of it"):
        assert word in ran.stdout
    assert list(tmp_path.iterdir()) == []
    assert running_in(tmp_path) == []


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
async def test_devnet_says_ready_and_ends_at_a_signal(number: signal.Signals, tmp_path: Path):
    process = await asyncio.create_subprocess_exec(
        *LONJA, "devnet", "--dir", str(tmp_path / "w"), "--port", "0", "--rpc-port", "0",
        stdout=asyncio.subprocess.PIPE,
    )  # fmt: skip
    assert process.stdout is not None
    line = (await process.stdout.readline()).decode()
    assert line.startswith("ready ")
    described = json.loads((tmp_path / "w" / "devnet.json").read_text())
    assert set(described) >= {"node_url", "rpc_url", "chain_id", "contract", "accounts"}
    assert set(described["accounts"]) >= {"publisher", "licensee", "stranger", "operator"}
    assert described["node_url"] in line
    assert described["rpc_url"] in line
    second = await lonja("devnet", "--dir", str(tmp_path / "w"), "--port", "0", "--rpc-port", "0")
    assert (second.returncode, "another devnet" in second.stderr) == (1, True)
    process.send_signal(number)
    assert await process.wait() == 0


async def test_a_devnet_that_is_killed_takes_its_node_along(tmp_path: Path):
    process = await asyncio.create_subprocess_exec(
        *LONJA, "devnet", "--dir", str(tmp_path / "w"), "--port", "0", "--rpc-port", "0",
        stdout=asyncio.subprocess.PIPE,
    )  # fmt: skip
    assert process.stdout is not None
    await process.stdout.readline()
    url = json.loads((tmp_path / "w" / "devnet.json").read_text())["node_url"]
    process.kill()
    await process.wait()
    async with AsyncClient(url) as client, asyncio.timeout(20):
        while True:
            try:
                await client.transport.call_once("GET", "/health/live")
            except (NodeUnreachable, ApiError):
                break
            await asyncio.sleep(0.05)


class running_kubo:
    """A Kubo daemon without peers: its RPC and gateway URLs."""

    def __init__(self, program: Path, folder: Path) -> None:
        self._program, self._environment = program, {**os.environ, "IPFS_PATH": str(folder)}

    async def _run(self, *arguments: str) -> None:
        await asyncio.to_thread(
            subprocess.run,
            [str(self._program), *arguments],
            env=self._environment,
            check=True,
            capture_output=True,
        )

    async def __aenter__(self) -> tuple[str, str]:
        await self._run("init", "--profile", "test")
        self._daemon = await asyncio.create_subprocess_exec(
            str(self._program), "daemon", "--offline", env=self._environment, stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.DEVNULL,
        )  # fmt: skip
        found = {}
        assert self._daemon.stdout is not None
        async with asyncio.timeout(60):
            while True:
                line = (await self._daemon.stdout.readline()).decode()
                for name in ("RPC API server listening on ", "Gateway server listening on "):
                    if name in line:
                        found[name] = line.rpartition("/tcp/")[2].strip()
                if "Daemon is ready" in line:
                    break
        api, gateway = found.values()
        return f"http://127.0.0.1:{api}", f"http://127.0.0.1:{gateway}"

    async def __aexit__(self, *_exc: object) -> None:
        self._daemon.terminate()
        await self._daemon.wait()


async def test_a_devnet_that_is_stopped_before_it_can_be_used_says_so_by_its_code(tmp_path: Path):
    process = await asyncio.create_subprocess_exec(
        *LONJA, "devnet", "--dir", str(tmp_path / "w"), "--port", "0", "--rpc-port", "0",
        stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
    )  # fmt: skip

    async def begun() -> bool:
        return (tmp_path / "w" / MARKER).exists()

    await eventually(begun, within=20)
    process.send_signal(signal.SIGINT)
    assert await process.communicate() == (b"", b"")
    assert process.returncode == 130
    assert running_in(tmp_path) == []
