"""Several RPC URLs: order, deadlines, fail-over, and what is never taken for an answer."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator

import pytest

from node.chain.rpc import (
    AT_ONCE,
    HEIGHT,
    Call,
    CallReverted,
    EndpointFailed,
    Rpc,
    RpcRefused,
    quantity,
    shown,
)
from node.errors import ChainUnavailable, StartupError
from tests.fakes.rpc import RpcPeer

TABLE = {"eth_blockNumber": "0x10", "eth_getBalance": "0x7"}
BAD_MODES = ["broken", "garbage", "html", "status-500", "status-429", "limited", "error"]


class Peers:
    def __init__(self, first: RpcPeer, second: RpcPeer) -> None:
        self.first, self.second = first, second
        self._now = 0.0
        self.rpc = Rpc([first.url, second.url], timeout=5, clock=lambda: self._now)

    def hang(self, *peers: RpcPeer) -> None:
        for peer in peers:
            peer.mode = "hang"
        for endpoint in self.rpc.endpoints:
            endpoint.timeout = 0.1

    def passes(self, seconds: float) -> None:
        self._now += seconds


@pytest.fixture
async def peers() -> AsyncIterator[Peers]:
    async with RpcPeer(table=dict(TABLE)) as first, RpcPeer(table=dict(TABLE)) as second:
        peers = Peers(first, second)
        yield peers
        await peers.rpc.close()


async def balance(peers: Peers) -> int:
    return int(await peers.rpc.call("eth_getBalance", ["0x0", "latest"], quantity))


async def test_the_first_url_answers_while_it_can(peers: Peers) -> None:
    assert [await balance(peers) for _ in range(3)] == [7, 7, 7]
    assert peers.second.posts == 0


@pytest.mark.parametrize("mode", BAD_MODES)
async def test_the_second_url_answers_when_the_first_does_not(peers: Peers, mode: str) -> None:
    peers.first.mode = mode
    assert await balance(peers) == 7


@pytest.mark.parametrize("mode", BAD_MODES)
async def test_no_url_answering_is_an_outage_with_a_time_to_come_back(peers: Peers, mode: str) -> None:
    peers.first.mode = peers.second.mode = mode
    with pytest.raises(ChainUnavailable) as outage:
        await balance(peers)
    assert outage.value.retry_after is not None
    assert outage.value.retry_after >= 1


async def test_a_hung_url_costs_one_timeout_and_is_then_left_alone(peers: Peers) -> None:
    peers.hang(peers.first)
    for _ in range(5):
        assert await balance(peers) == 7
    assert peers.first.posts == 1


async def test_a_failing_url_is_left_alone_after_three_failures_and_tried_again(peers: Peers) -> None:
    await balance(peers)
    peers.first.mode = "broken"
    for _ in range(5):
        await balance(peers)
    assert peers.first.methods["eth_getBalance"] == 1 + 3

    peers.first.mode = "ok"
    peers.passes(1.0)
    before = peers.second.posts
    assert [await balance(peers) for _ in range(3)] == [7, 7, 7]
    assert peers.second.posts == before


async def test_while_all_are_left_alone_nobody_is_asked_and_the_answer_comes_at_once(peers: Peers) -> None:
    peers.hang(peers.first, peers.second)
    for _ in range(3):
        with pytest.raises(ChainUnavailable):
            await balance(peers)
    assert (peers.first.posts, peers.second.posts) == (1, 1)


async def test_an_answer_that_cannot_be_read_is_asked_of_the_next_url(peers: Peers) -> None:
    peers.first.override["eth_getBalance"] = lambda _: "twelve"
    assert await balance(peers) == 7


async def test_an_answer_without_end_is_cut_off(peers: Peers, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("node.chain.endpoint.MAX_ANSWER_BYTES", 50_000)
    peers.first.mode = "huge"
    assert await balance(peers) == 7


async def test_a_revert_is_an_answer_and_asks_nobody_else(peers: Peers) -> None:
    error = {"code": 3, "message": "execution reverted", "data": "0x12345678"}
    peers.first.override["eth_getBalance"] = lambda _: {"error": error}
    with pytest.raises(CallReverted) as reverted:
        await balance(peers)
    assert reverted.value.data == bytes.fromhex("12345678")
    assert peers.second.posts == 0


async def test_a_refusal_of_all_urls_keeps_what_they_said(peers: Peers) -> None:
    peers.first.mode = peers.second.mode = "error"
    with pytest.raises(RpcRefused) as refused:
        await peers.rpc.call("eth_blockNumber", [], quantity)
    assert (refused.value.rpc_code, refused.value.reason) == (-32000, "header not found")


async def test_a_refusal_does_not_count_as_a_failure_of_the_url(peers: Peers) -> None:
    peers.first.override["eth_getLogs"] = peers.second.override["eth_getLogs"] = lambda _: {
        "error": {"code": -32602, "message": "range too large"}
    }
    for _ in range(5):
        with pytest.raises(RpcRefused):
            await peers.rpc.call("eth_getLogs", [{}])
    assert await balance(peers) == 7
    assert peers.second.methods["eth_getBalance"] == 0


async def test_a_batch_is_one_request_and_its_answers_keep_their_order(peers: Peers) -> None:
    calls = [Call("eth_getBalance", [], quantity), Call("eth_blockNumber", [], quantity)]
    assert await peers.rpc.batch(calls) == [7, 16]
    assert peers.first.methods["eth_getBalance"] == 1
    assert peers.first.posts == 2  # the first use of a URL beside others asks for its height as well


async def test_a_url_that_takes_no_batches_is_asked_one_by_one(peers: Peers) -> None:
    peers.first.mode = "no-batch"
    calls = [Call("eth_getBalance", [], quantity), Call("eth_blockNumber", [], quantity)]
    assert await peers.rpc.batch(calls) == [7, 16]
    assert peers.second.posts == 0


async def test_a_batch_whose_ids_are_no_numbers_is_garbage_and_the_next_url_is_asked(peers: Peers) -> None:
    peers.first.mode = "odd-ids"
    calls = [Call("eth_getBalance", [], quantity), Call("eth_blockNumber", [], quantity)]
    assert await peers.rpc.batch(calls) == [7, 16]
    assert peers.second.methods["eth_getBalance"] == 1


async def test_a_url_that_lags_behind_the_others_is_not_believed(peers: Peers) -> None:
    peers.first.override["eth_blockNumber"] = lambda _: hex(1000)
    await peers.rpc.call("eth_blockNumber", [], quantity)
    peers.second.override["eth_blockNumber"] = lambda _: hex(989)
    peers.second.override["eth_getBalance"] = lambda _: "0x63"
    peers.first.mode = "broken"

    with pytest.raises(ChainUnavailable):
        await balance(peers)

    peers.second.override["eth_blockNumber"] = lambda _: hex(990)
    assert await balance(peers) == 0x63


async def test_a_chain_that_starts_anew_is_believed_when_it_is_the_only_one() -> None:
    async with RpcPeer(table=dict(TABLE)) as peer:
        rpc = Rpc([peer.url], timeout=1)
        peer.override["eth_blockNumber"] = lambda _: hex(1000)
        await rpc.call("eth_blockNumber", [], quantity)
        peer.override["eth_blockNumber"] = lambda _: "0x1"
        assert await rpc.call("eth_blockNumber", [], quantity) == 1
        await rpc.close()


@pytest.mark.parametrize(
    ("url", "text"),
    [
        ("https://user:secret@rpc.example/v3/secret?key=secret", "https://rpc.example/..."),
        ("https://rpc.example:8443/", "https://rpc.example:8443"),
        ("http://[::1]:9650/ext/bc/C/rpc", "http://[::1]:9650/..."),
        ("http://127.0.0.1:8545", "http://127.0.0.1:8545"),
        ("http://host:notaport/secret", "(a malformed URL)"),
        ("secret", "(a URL without a host)"),
    ],
)
def test_a_url_is_shown_without_its_secret_part(url: str, text: str) -> None:
    assert shown(url) == text
    assert "secret" not in shown(url)


async def test_no_secret_of_a_url_is_logged_or_raised(
    unused_tcp_port: int, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    rpc = Rpc([f"http://user:hunter2@127.0.0.1:{unused_tcp_port}/v3/hunter2?key=hunter2"], timeout=1)
    for _ in range(4):
        with pytest.raises(ChainUnavailable) as outage:
            await rpc.call("eth_blockNumber", [], quantity)
        assert "hunter2" not in repr(outage.value)
        assert outage.value.__cause__ is None
    await rpc.close()
    assert "leaving it alone" in caplog.text
    assert "hunter2" not in caplog.text


@pytest.mark.parametrize("url", ["ws://rpc.example", "rpc.example", "file:///etc/passwd", ""])
def test_other_kinds_of_url_stop_the_start(url: str) -> None:
    with pytest.raises(StartupError, match="AVALANCHE_RPC_URL"):
        Rpc([url], timeout=1)


@pytest.mark.parametrize("value", [None, 7, "", "7", "0xzz", "0x" + "f" * 65, {}, [], True])
def test_what_is_no_quantity_is_garbage(value: object) -> None:
    with pytest.raises(EndpointFailed):
        quantity(value)


async def test_a_crowd_waits_here_and_does_not_look_like_a_slow_peer(peers: Peers) -> None:
    for endpoint in peers.rpc.endpoints:
        endpoint.timeout = 1.0

    async def slow(_: object) -> str:
        await asyncio.sleep(0.05)
        return "0x7"

    peers.first.override["eth_getBalance"] = slow
    answers = await asyncio.gather(*(balance(peers) for _ in range(32 * 30)))  # 1.5 s of the peer's time

    assert set(answers) == {7}
    assert peers.second.posts == 0


async def test_more_than_may_wait_are_turned_away_and_following_the_chain_is_not(
    peers: Peers, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("node.chain.rpc.MAX_WAITING", 10)
    release = asyncio.Event()

    async def held(_: object) -> str:
        await release.wait()
        return "0x7"

    peers.first.override["eth_getBalance"] = held
    crowd = [asyncio.create_task(balance(peers)) for _ in range(AT_ONCE + 10)]
    await asyncio.sleep(0)
    with pytest.raises(ChainUnavailable) as full:
        await balance(peers)
    assert full.value.retry_after == 1
    assert await peers.rpc.call(*HEIGHT) == 16
    release.set()
    assert set(await asyncio.gather(*crowd)) == {7}
