"""A whole small world: a chain, the contract, a node, and four people with money.

Enters: a folder. Leaves: a running `World`, described in `FOLDER/devnet.json`; leaving the context stops all
of it. `lonja demo`, `lonja devnet` and the end-to-end tests live in it.

The node is a process of its own (`lonja serve`), although it could share our loop: so it is the program that
runs in production, with its signals and its memory, and the embedded EVM's use of the interpreter lock does
not slow its answers. It costs 0.3 s of start.
"""

from __future__ import annotations

import fcntl
import os
import shutil
import sys
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from time import perf_counter
from typing import Any, Final

import msgspec

from lonja.devnet.accounts import MNEMONIC, ROLES, Account, funded_accounts, write_key_file
from lonja.devnet.processes import Child
from lonja.errors import DevnetFailed

CHAIN_ID: Final = 31337
MARKER: Final = ".lonja-devnet"
DAPP_ORIGINS: Final = tuple(
    f"http://{host}:{port}" for host in ("localhost", "127.0.0.1") for port in (3001, 4173, 5173, 8000, 8080)
)
"""Where the development servers of web pages usually are."""

Told = Callable[[str, float], None]
"""Called after each step with what happened and the seconds it took."""


@dataclass(frozen=True, slots=True)
class World:
    """Where everything is.

    Attributes
    ----------
    accounts : by role: operator, publisher, licensee, stranger.
    key_files : by role, for `--key-file`.
    node : the node's process.
    """

    folder: Path
    node_url: str
    rpc_url: str
    contract: str
    accounts: dict[str, Account]
    key_files: dict[str, Path]
    node: Child = field(repr=False)

    @property
    def devnet_json(self) -> Path:
        return self.folder / "devnet.json"

    def describe(self) -> dict[str, Any]:
        """The content of `devnet.json`."""
        return {
            "node_url": self.node_url,
            "rpc_url": self.rpc_url,
            "chain_id": CHAIN_ID,
            "contract": self.contract,
            "accounts": {
                role: {"address": account.address, "key_file": str(self.key_files[role])}
                for role, account in self.accounts.items()
            },
        }


@asynccontextmanager
async def running_world(
    folder: Path,
    *,
    port: int = 0,
    rpc_port: int = 0,
    anvil: Path | None = None,
    settings: Mapping[str, str] | None = None,
    told: Told = lambda _what, _seconds: None,
) -> AsyncIterator[World]:
    """Start a world in `folder`, which is created; data of an earlier one there is thrown away.

    Parameters
    ----------
    port, rpc_port : of the node and the chain; 0 takes a free one.
    anvil : a real anvil's program, instead of the embedded chain.
    settings : further settings of the node, by name.

    Raises
    ------
    DevnetFailed
    """
    folder = folder.resolve()  # noqa: ASYNC240 - once, at the start
    async with AsyncExitStack() as stack:
        _claim(folder, stack)
        people = funded_accounts()
        accounts = dict(zip(ROLES, people, strict=False))
        began = perf_counter()
        rpc_url = await _start_chain(stack, people, port=rpc_port, anvil=anvil, folder=folder)
        told(f"{'anvil' if anvil else 'an embedded chain'} answers at {rpc_url}", perf_counter() - began)
        began = perf_counter()
        contract = await deploy(rpc_url, accounts["operator"])
        told(f"the license contract is deployed at {contract}", perf_counter() - began)
        began = perf_counter()
        node = Child("the node", [sys.executable, "-m", "lonja", "serve"], log=folder / "node.log")
        stack.push_async_callback(node.stop)
        wished = _settings(folder, rpc_url, contract, accounts, port=port) | dict(settings or {})
        line = await node.start(env=_environment(wished), cwd=folder, until="ready ", timeout=60)
        node_url = next(word for word in line.split() if word.startswith("http"))
        told(f"a node is ready at {node_url}", perf_counter() - began)
        key_files = _write_keys(folder, accounts)
        world = World(folder, node_url, rpc_url, contract, accounts, key_files, node)
        _write_description(world)
        yield world


def _claim(folder: Path, stack: AsyncExitStack) -> None:
    """Take the folder for us alone, and clear what an earlier world left: its chain is gone."""
    folder.mkdir(parents=True, exist_ok=True)
    marker, data = folder / MARKER, folder / "data"
    if data.exists() and not marker.exists():
        raise DevnetFailed(f"{data} is there, but not from a devnet: give an empty --dir")
    lock = stack.enter_context(marker.open("w"))
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        raise DevnetFailed(f"another devnet runs in {folder}: stop it, or give another --dir") from None
    (folder / "devnet.json").unlink(missing_ok=True)
    shutil.rmtree(data, ignore_errors=True)


async def _start_chain(
    stack: AsyncExitStack, people: tuple[Account, ...], *, port: int, anvil: Path | None, folder: Path
) -> str:
    if anvil is not None:
        return await _start_anvil(stack, anvil, port=port, folder=folder)
    from lonja.devnet.chain import EmbeddedChain

    try:
        return (await stack.enter_async_context(EmbeddedChain(accounts=people, port=port))).url
    except ModuleNotFoundError as error:
        raise DevnetFailed(
            f"the embedded chain needs {error.name}: install lonja[devnet], or use --anvil"
        ) from None
    except OSError as error:
        raise DevnetFailed(
            f"port {port} of 127.0.0.1: {error.strerror}; --rpc-port 0 takes a free one"
        ) from None


async def _start_anvil(stack: AsyncExitStack, program: Path, *, port: int, folder: Path) -> str:
    child = Child(
        "anvil",
        [
            program,
            "--host",
            "127.0.0.1",
            "--port",
            str(port),
            "--chain-id",
            str(CHAIN_ID),
            "--mnemonic",
            MNEMONIC,
        ],
        log=folder / "anvil.log",
    )
    stack.push_async_callback(child.stop)
    line = await child.start(env=dict(os.environ), cwd=folder, until="Listening on", timeout=20)
    return f"http://{line.split()[-1]}"


async def deploy(rpc_url: str, operator: Account) -> str:
    """Put the contract on the chain; returns its address."""
    from eth_abi.abi import default_codec

    from lonja.market import failing_clearly
    from node.chain.abi import LonjaAbi, artifact
    from node.chain.rpc import HEIGHT, Rpc
    from node.chain.transactions import Account as Sender

    rpc = Rpc([rpc_url], timeout=20)
    try:
        await failing_clearly(rpc.call(*HEIGHT))
        sender = Sender(
            rpc, bytes.fromhex(operator.private_key[2:]), chain_id=CHAIN_ID, abi=LonjaAbi(default_codec)
        )
        bytecode = bytes.fromhex(artifact()["bytecode"].removeprefix("0x"))
        receipt = await failing_clearly(sender.send(to=None, data=bytecode))
    finally:
        await rpc.close()
    if receipt.contract is None:
        raise DevnetFailed("the contract could not be deployed")
    return receipt.contract


def _settings(
    folder: Path, rpc_url: str, contract: str, accounts: Mapping[str, Account], *, port: int
) -> dict[str, str]:
    return {
        "PORT": str(port),
        "HOST": "127.0.0.1",
        "NODE_ENV": "development",
        "DATA_DIR": str(folder / "data"),
        "MODEL_DIR": str(folder / "data" / "models"),
        "AVALANCHE_RPC_URL": rpc_url,
        "CONTRACT_ADDRESS": contract,
        "CHAIN_ID": str(CHAIN_ID),
        "RPC_POLL_INTERVAL": "200",
        "LICENSE_CONFIRMATIONS": "0",
        "SERVE_MODELS": "all",
        "PUBLISHERS": "any",
        "OPERATORS": accounts["operator"].address,
        "CORS_ORIGINS": ",".join(DAPP_ORIGINS),
    }


def _environment(settings: Mapping[str, str]) -> dict[str, str]:
    """Ours, without the settings of some other node that may stand in the environment."""
    from node.settings import FIELDS

    return {name: value for name, value in os.environ.items() if name not in FIELDS} | dict(settings)


def _write_keys(folder: Path, accounts: Mapping[str, Account]) -> dict[str, Path]:
    from lonja.keys import PASSWORD_VARIABLE

    keys = folder / "keys"
    keys.mkdir(mode=0o700, exist_ok=True)
    password = os.environ.get(PASSWORD_VARIABLE)
    for role, account in accounts.items():
        write_key_file(account, keys / f"{role}.key", password=password)
    return {role: keys / f"{role}.key" for role in accounts}


def _write_description(world: World) -> None:
    text = msgspec.json.format(msgspec.json.encode(world.describe()), indent=2)
    draft = world.folder / "devnet.json.new"
    draft.write_bytes(text + b"\n")
    draft.replace(world.devnet_json)
