"""Nodes of production's own program on a shared chain, each stage with a contract of its own.

`running_world` is one node; here there are several, with settings of their own, that are killed and
started again on the same data.
"""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import aiohttp

from lonja import AsyncClient
from lonja.answers import Published
from lonja.devnet.accounts import ROLES, Account, funded_accounts
from lonja.devnet.processes import Child
from lonja.devnet.world import CHAIN_ID, deploy
from lonja.errors import ApiError
from lonja.publishing import Bundle, Progress, Target
from lonja.terms import parse_offer
from lonja.transport import RetryPolicy
from node.ipfs.importer import car_chunks
from node.ipfs.store import BlockStore
from node.settings import FIELDS
from tests.eventually import eventually
from tests.fakes.gateway import FakeGateway, in_pieces

ONCE = RetryPolicy(attempts=1)
"""Clients here never try again by themselves: a retry would hide a failed request."""

FREE = "price=0,perpetual"


@dataclass(frozen=True)
class Model:
    """What a publisher brings."""

    onnx: Path
    manifest: Path

    @property
    def name(self) -> str:
        return str(json.loads(self.manifest.read_text())["model"]["model_id"])


@dataclass
class ToGateway:
    """A place to publish to: the store behind a gateway that is no node."""

    store: BlockStore
    registers: bool = True

    async def put(self, _client: AsyncClient, /, bundle: Bundle, *, progress: Progress) -> None:
        car = b"".join(car_chunks(bundle.dags))
        await self.store.import_car(in_pieces(car), limit=2**31)


@asynccontextmanager
async def gateway(folder: Path) -> AsyncIterator[tuple[FakeGateway, ToGateway]]:
    """A gateway, and how to publish to it."""
    store = BlockStore(folder, max_bytes=2**31)
    running = await FakeGateway(store=store).start()
    try:
        yield running, ToGateway(store)
    finally:
        await running.close()
        store.close()


@dataclass
class Node:
    """One node; `start` after an end uses the same port and the same data."""

    stage: Stage
    data: Path
    settings: dict[str, str]
    url: str = ""
    process: Child = field(init=False)

    async def start(self) -> None:
        command = [sys.executable, "-m", "lonja", "serve"]
        self.process = Child("a node", command, log=self.data.with_suffix(".log"))
        environment = environment_of(self.stage.settings(self.data) | self.settings)
        line = await self.process.start(env=environment, cwd=self.data, until="ready ", timeout=60)
        self.url = next(word for word in line.split() if word.startswith("http"))
        self.settings["PORT"] = self.url.rpartition(":")[2]

    @property
    def pid(self) -> int:
        return self.process.pid

    async def kill(self) -> None:
        """kill -9."""
        os.kill(self.pid, signal.SIGKILL)
        assert await self.process.wait() == -signal.SIGKILL

    def client(self, role: str, **options: Any) -> AsyncClient:
        """One of the four people, at this node."""
        key = self.stage.accounts[role].private_key
        stage = self.stage
        options = {"retry": ONCE, **options}
        return AsyncClient(self.url, key=key, rpc=stage.rpc_url, contract=stage.contract, **options)

    async def publish(
        self, model: Model, *, offer: str | None = FREE, to: Target | None = None, update: int | None = None
    ) -> Published:
        """Publish as the publisher, and wait until this node knows the revision."""
        async with self.client("publisher") as publisher:
            offers = [] if offer is None else [parse_offer(offer)]
            made = await publisher.publish(model.onnx, model.manifest, offers=offers, to=to, update=update)

            async def known() -> bool:
                return (await publisher.model(model.name)).manifest_cid == made.metadata_cid

            await eventually(known, within=20, ignoring=ApiError)
        return made

    async def sell(self, model: Model, *, to: Target | None = None, licensee: str = "licensee") -> int:
        """Publish, and give the licensee a license; the token's id."""
        made = await self.publish(model, to=to)
        assert made.token_id is not None
        async with self.client(licensee) as buyer:
            await buyer.buy(made.token_id)
        return made.token_id

    async def get(self, path: str, **options: Any) -> tuple[int, bytes]:
        """Status and body of a plain request, by nobody unless headers say so."""
        async with aiohttp.ClientSession() as session, session.get(self.url + path, **options) as answer:
            return answer.status, await answer.read()

    async def address(self) -> str:
        """The node's own address, as other nodes see it."""
        async with (
            aiohttp.ClientSession() as session,
            session.post(f"{self.url}/api/auth/nonce") as answer,
        ):
            return str((await answer.json())["node"])

    async def running(self) -> int:
        """Inferences that are with the workers now."""
        return int(await self.figure("inference_queue_depth"))

    async def figure(self, name: str) -> float:
        """One sample of `/metrics` that has no labels."""
        _, text = await self.get("/metrics")
        [line] = [line for line in text.decode().splitlines() if line.startswith(f"{name} ")]
        return float(line.split()[1])


@dataclass
class Stage:
    """A contract on a chain, and a folder for the nodes."""

    rpc_url: str
    contract: str
    folder: Path
    accounts: dict[str, Account]

    @classmethod
    async def on(cls, rpc_url: str, folder: Path) -> Stage:
        """Deploy a contract."""
        accounts = dict(zip(ROLES, funded_accounts(), strict=False))
        return cls(rpc_url, await deploy(rpc_url, accounts["operator"]), folder, accounts)

    def settings(self, data: Path) -> dict[str, str]:
        """What a node on this stage needs."""
        return {
            "PORT": "0",
            "DATA_DIR": str(data),
            "MODEL_DIR": str(data / "models"),
            "AVALANCHE_RPC_URL": self.rpc_url,
            "CONTRACT_ADDRESS": self.contract,
            "CHAIN_ID": str(CHAIN_ID),
            "RPC_POLL_INTERVAL": "200",
            "LICENSE_CONFIRMATIONS": "0",
            "SERVE_MODELS": "all",
            "PUBLISHERS": "any",
            "OPERATORS": self.accounts["operator"].address,
        }

    @asynccontextmanager
    async def node(self, name: str = "node", **settings: str) -> AsyncIterator[Node]:
        """A running node."""
        data = self.folder / name
        data.mkdir(parents=True, exist_ok=True)
        node = Node(self, data, settings)
        await node.start()
        try:
            yield node
        finally:
            await node.process.stop()

    async def rpc(self, method: str, *params: object) -> Any:
        """Ask the chain itself."""
        body = {"jsonrpc": "2.0", "id": 1, "method": method, "params": params}
        async with aiohttp.ClientSession() as session, session.post(self.rpc_url, json=body) as answer:
            return (await answer.json())["result"]


def environment_of(settings: Mapping[str, str]) -> dict[str, str]:
    """Ours, without the settings of some other node that may stand in the environment."""
    return {name: value for name, value in os.environ.items() if name not in FIELDS} | dict(settings)


async def lonja(*arguments: str, settings: Mapping[str, str], cwd: Path) -> subprocess.CompletedProcess[str]:
    """The command line, as an operator runs it."""
    return await asyncio.to_thread(
        subprocess.run,
        [sys.executable, "-m", "lonja", *arguments],
        capture_output=True,
        text=True,
        timeout=60,
        env=environment_of(settings),
        cwd=cwd,
        check=False,
    )


def numbers_of(predictions: Any) -> list[float]:
    """The data of a model with one raw output."""
    [output] = predictions
    return list(output["data"])
