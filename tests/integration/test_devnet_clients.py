"""The embedded chain with the clients that people have: web3.py, ethers and cast."""

from __future__ import annotations

import asyncio
import json
import subprocess
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from lonja.devnet.accounts import Account, funded_accounts
from lonja.devnet.chain import EmbeddedChain
from lonja.devnet.world import deploy
from node.chain.abi import artifact
from tests.conftest import Services

STORY = Path(__file__).with_name("ethers_story.js")


@pytest.fixture
def accounts() -> tuple[Account, ...]:
    return funded_accounts(3)


@pytest.fixture
async def chain(accounts: tuple[Account, ...]) -> AsyncIterator[EmbeddedChain]:
    async with EmbeddedChain(accounts=accounts) as running:
        yield running


async def output_of(*command: str | Path) -> str:
    ran = await asyncio.to_thread(subprocess.run, command, capture_output=True, text=True, timeout=60)
    assert ran.returncode == 0, ran.stderr
    return ran.stdout


@pytest.mark.service("node-ethers")
async def test_ethers_registers_buys_listens_and_decodes_errors(
    chain: EmbeddedChain, accounts: tuple[Account, ...], services: Services, tmp_path: Path
):
    contract = await deploy(chain.url, accounts[0])
    (tmp_path / "abi.json").write_text(json.dumps(artifact()["abi"]))
    told = json.loads(
        await output_of(
            services.path("node-ethers"), STORY, chain.url, accounts[1].private_key, contract,
            tmp_path / "abi.json",
        )
    )  # fmt: skip
    assert told == {
        "chain": 31337, "fees": True, "status": 1, "block": 1, "valid": True, "events": 1,
        "refused": "Lonja_ModelUnknown99", "mismatch": "Lonja_PaymentMismatch", "heard": "bafyethers",
    }  # fmt: skip


@pytest.mark.service("cast")
async def test_cast_sends_calls_and_reads_logs(
    chain: EmbeddedChain, accounts: tuple[Account, ...], services: Services
):
    contract = await deploy(chain.url, accounts[0])
    where = ("--rpc-url", chain.url)

    async def cast(*arguments: str) -> str:
        return (await output_of(services.path("cast"), *arguments, *where)).strip()

    signed = ("--private-key", accounts[1].private_key)
    sent = json.loads(
        await cast(
            "send",
            contract,
            "registerModel(string,(uint256,address,uint64)[])",
            "bafycast",
            "[]",
            "--json",
            *signed,
        )
    )
    assert sent["status"] == "0x1"
    assert await cast("call", contract, "totalModels()(uint256)") == "1"
    assert await cast("call", contract, "ownerOf(uint256)(address)", "1") == accounts[1].address
    logs = json.loads(await cast("logs", "--from-block", "0", "--address", contract, "--json"))
    assert len(logs) == 3
    legacy = json.loads(
        await cast("send", accounts[2].address, "--value", "7", "--legacy", "--json", *signed)
    )
    assert legacy["type"] == "0x0"
    assert await cast("nonce", accounts[1].address) == "2"
    assert await cast("block-number") == "3"


async def test_web3_does_what_it_does_with_any_node(chain: EmbeddedChain, accounts: tuple[Account, ...]):
    from web3 import AsyncHTTPProvider, AsyncWeb3
    from web3.exceptions import ContractCustomError, TransactionNotFound

    web3 = AsyncWeb3(AsyncHTTPProvider(chain.url))
    lonja = web3.eth.contract(abi=artifact()["abi"], bytecode=artifact()["bytecode"])
    sent = await lonja.constructor().transact({"from": accounts[0].address})
    receipt = await web3.eth.wait_for_transaction_receipt(sent)
    lonja = web3.eth.contract(address=receipt["contractAddress"], abi=artifact()["abi"])
    sent = await lonja.functions.registerModel("bafyweb3", []).transact({"from": accounts[1].address})
    receipt = await web3.eth.wait_for_transaction_receipt(sent)
    (registered,) = lonja.events.ModelRegistered().process_receipt(receipt, errors=_ignored())
    assert registered["args"]["metadataCid"] == "bafyweb3"
    assert len(await lonja.events.ModelRegistered().get_logs(from_block=0)) == 1
    assert (await lonja.functions.modelOf(1).call())[3] == "bafyweb3"
    with pytest.raises(ContractCustomError):
        await lonja.functions.modelOf(2).call()
    with pytest.raises(TransactionNotFound):
        await web3.eth.get_transaction_receipt("0x" + "11" * 32)
    assert (await web3.eth.fee_history(2, "latest", [50]))["oldestBlock"] == 1
    await web3.provider.disconnect()


def _ignored() -> object:
    from web3.logs import DISCARD

    return DISCARD
