"""Connecting: what stops the start, what the message names, and what it never shows."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from node.chain.client import ChainClient
from node.errors import ChainUnavailable, StartupError
from node.settings import Settings
from tests.fakes.rpc import RpcPeer

CONTRACT = "0x5FbDB2315678afecb367f032d93F642f64180aa3"
TABLE: dict[str, Any] = {
    "eth_chainId": "0xa869",
    "eth_blockNumber": "0x10",
    "eth_getCode": "0x6001",
    "eth_call": "0x" + "0" * 63 + "3",
}


def peer(**changes: Any) -> RpcPeer:
    return RpcPeer(table=TABLE | changes)


def settings(*urls: str, **more: Any) -> Settings:
    return Settings(**{"avalanche_rpc_url": urls, "contract_address": CONTRACT, "rpc_timeout": 1000, **more})


async def refusal(*urls: str, **more: Any) -> str:
    with pytest.raises(StartupError) as stopped:
        await ChainClient.connect(settings(*urls, **more))
    return stopped.value.message


async def test_a_good_url_gives_a_client_of_its_chain() -> None:
    async with peer() as good:
        client = await ChainClient.connect(settings(good.url))
        assert client.contract.chain_id == 43113
        assert client.contract.address == CONTRACT
        assert await client.total_models() == 3
        await client.ready()
        await client.close()


async def test_a_contract_address_in_small_letters_becomes_the_checksummed_one() -> None:
    async with peer() as good:
        client = await ChainClient.connect(settings(good.url, contract_address=CONTRACT.lower()))
        assert client.contract.address == CONTRACT
        await client.close()


async def test_missing_settings_are_named() -> None:
    assert "AVALANCHE_RPC_URL is not set" in await refusal()
    assert "CONTRACT_ADDRESS is not set" in await refusal("http://127.0.0.1:1", contract_address=None)


async def test_another_chain_than_the_wanted_one_stops_the_start() -> None:
    async with peer() as wrong:
        message = await refusal(wrong.url, chain_id=43114)
    assert wrong.url in message
    assert "43113" in message
    assert "43114" in message


async def test_urls_that_serve_different_chains_stop_the_start() -> None:
    async with peer() as one, peer(eth_chainId="0x1") as other:
        message = await refusal(one.url, other.url)
    assert other.url in message
    assert one.url not in message


async def test_an_address_without_code_stops_the_start() -> None:
    async with peer(eth_getCode="0x") as empty:
        message = await refusal(empty.url)
    assert empty.url in message
    assert "no contract" in message
    assert CONTRACT in message


async def test_another_contract_stops_the_start() -> None:
    error = {"error": {"code": 3, "message": "execution reverted"}}
    for answer in ("0x", error):
        async with peer(eth_call=answer) as other:
            message = await refusal(other.url)
        assert other.url in message
        assert "not a Lonja contract" in message


@pytest.mark.parametrize("mode", ["garbage", "html", "huge"])
async def test_an_rpc_that_answers_garbage_stops_the_start(
    mode: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("node.chain.endpoint.MAX_ANSWER_BYTES", 50_000)
    async with peer() as odd, peer() as good:
        odd.mode = mode
        message = await refusal(good.url, odd.url)
    assert odd.url in message


@pytest.mark.parametrize("chain_id", ["", None, 43113, "0x", "abc", [], {"a": 1}])
async def test_a_chain_id_that_is_none_stops_the_start(chain_id: object) -> None:
    async with peer(eth_chainId=chain_id) as odd:
        assert odd.url in await refusal(odd.url)


async def test_an_rpc_that_refuses_plain_calls_stops_the_start() -> None:
    async with peer() as odd:
        odd.mode = "error"
        message = await refusal(odd.url)
    assert odd.url in message
    assert "-32000" in message


@pytest.mark.parametrize("mode", ["hang", "broken", "status-500", "status-429"])
async def test_only_silent_urls_stop_the_start_naming_each(mode: str) -> None:
    async with peer() as one, peer() as other:
        one.mode = other.mode = mode
        message = await refusal(one.url, other.url)
    assert one.url in message
    assert other.url in message


async def test_the_secret_part_of_a_url_is_not_shown(unused_tcp_port: int) -> None:
    message = await refusal(f"http://user:hunter2@127.0.0.1:{unused_tcp_port}/hunter2?key=hunter2")
    assert f"http://127.0.0.1:{unused_tcp_port}/..." in message
    assert "hunter2" not in message
    async with peer(eth_chainId="0x1") as wrong:
        message = await refusal(wrong.url + "/hunter2?k=hunter2", chain_id=5)
    assert wrong.url in message
    assert "hunter2" not in message


async def test_one_silent_url_is_passed_over_and_proved_before_its_first_use() -> None:
    async with peer() as late, peer() as good:
        late.mode = "broken"
        client = await ChainClient.connect(settings(late.url, good.url))
        late.mode = "ok"
        while client.rpc.endpoints[0].breaker.open:  # its wait is real time
            await client.block_number()
            await asyncio.sleep(0.05)
        assert client.rpc.endpoints[0].proved
        assert late.methods["eth_chainId"] >= 1
        assert late.methods["eth_getCode"] == 1
        await client.close()


async def test_a_silent_url_that_turns_out_to_be_another_chain_is_never_used() -> None:
    async with peer() as late, peer() as good:
        late.mode = "broken"
        client = await ChainClient.connect(settings(late.url, good.url))
        late.mode = "ok"
        late.override["eth_chainId"] = lambda _: "0x1"
        late.override["eth_blockNumber"] = lambda _: "0x99"
        while client.rpc.endpoints[0].refused is None:
            assert await client.block_number() == 0x10
            await asyncio.sleep(0.05)
        good.mode = "broken"
        with pytest.raises(ChainUnavailable):
            await client.block_number()
        assert "chain 1" in client.rpc.endpoints[0].refused
        await client.close()


async def test_web3_never_follows_an_answer_to_another_server() -> None:
    from web3.exceptions import OffchainLookup

    async with peer() as good, peer() as elsewhere:
        client = await ChainClient.connect(settings(good.url))
        arguments = client.web3.codec.encode(
            ["address", "string[]", "bytes", "bytes4", "bytes"],
            [CONTRACT, [elsewhere.url + "/{sender}/{data}"], b"", b"1234", b""],
        )
        error = {"code": 3, "message": "execution reverted", "data": "0x556f1830" + arguments.hex()}
        good.override["eth_call"] = lambda _: {"error": error}

        with pytest.raises(ChainUnavailable):
            await client.total_models()
        with pytest.raises(OffchainLookup):
            await client.web3.eth.call({"to": CONTRACT, "data": "0x00"})
        assert elsewhere.posts == 0
        await client.close()
