"""The embedded chain as its clients see it: methods, errors, time, snapshots, HTTP."""

from __future__ import annotations

import asyncio

import aiohttp
import pytest
from eth_account import Account as EthAccount

from lonja.devnet.accounts import Account
from lonja.devnet.chain import EmbeddedChain
from lonja.devnet.rpc_error import RpcError

from .bytecode import EMITS_LOG, LOOPS, RETURNS_42, RETURNS_TIMESTAMP, REVERTS_CUSTOM
from .conftest import Clock

EMPTY = "0x" + "77" * 20


async def deploy(chain: EmbeddedChain, sender: Account, code: str) -> str:
    sent = await chain.request("eth_sendTransaction", {"from": sender.address, "data": code})
    receipt = await chain.request("eth_getTransactionReceipt", sent)
    assert receipt["status"] == "0x1"
    return str(receipt["contractAddress"])


def signed(account: Account, **wish: object) -> str:
    transaction = {"type": 2, "chainId": 31337, "to": EMPTY, "value": 1, "gas": 21_000,
                   "maxFeePerGas": 10**10, "maxPriorityFeePerGas": 1, "nonce": 0, **wish}  # fmt: skip
    raw = EthAccount.sign_transaction(transaction, account.private_key).raw_transaction
    return "0x" + bytes(raw).hex()


async def test_the_accounts_are_those_of_anvil_and_funded(chain, accounts):
    assert accounts[0].address == "0xf39Fd6e51aad88F6F4ce6aB8827279cffFb92266"
    assert await chain.request("eth_accounts") == [account.address for account in accounts]
    assert await chain.request("eth_getBalance", accounts[3].address, "latest") == hex(10_000 * 10**18)
    assert await chain.request("eth_getBalance", EMPTY) == "0x0"


async def test_a_transfer_moves_value_and_pays_gas(chain, accounts):
    sent = await chain.request("eth_sendRawTransaction", signed(accounts[1], value=5))
    receipt = await chain.request("eth_getTransactionReceipt", sent)
    assert (receipt["status"], receipt["gasUsed"], receipt["to"]) == ("0x1", "0x5208", EMPTY)
    assert await chain.request("eth_getBalance", EMPTY, "latest") == "0x5"
    assert await chain.request("eth_getBalance", EMPTY, "0x0") == "0x0"
    cost = 21_000 * int(receipt["effectiveGasPrice"], 16) + 5
    assert int(await chain.request("eth_getBalance", accounts[1].address), 16) == 10_000 * 10**18 - cost


async def test_a_legacy_transaction_is_taken(chain, accounts):
    wish = {"chainId": 31337, "to": EMPTY, "value": 1, "gas": 21_000, "gasPrice": 10**10, "nonce": 0}
    raw = EthAccount.sign_transaction(wish, accounts[1].private_key).raw_transaction
    sent = await chain.request("eth_sendRawTransaction", "0x" + bytes(raw).hex())
    assert (await chain.request("eth_getTransactionByHash", sent))["type"] == "0x0"


@pytest.mark.parametrize(
    ("wish", "message"),
    [
        ({"chainId": 1}, "invalid chain id"),
        ({"value": 10**24}, "insufficient funds"),
        ({"maxFeePerGas": 1}, "max fee per gas less than block base fee"),
        ({"gas": 20_999}, "intrinsic gas too low"),
        ({"gas": 30_000_001}, "exceeds block gas limit"),
    ],
)
async def test_a_transaction_that_cannot_be_mined_is_refused_and_changes_nothing(
    chain, accounts, wish, message
):
    with pytest.raises(RpcError, match=message):
        await chain.request("eth_sendRawTransaction", signed(accounts[1], **wish))
    assert await chain.request("eth_blockNumber") == "0x0"


async def test_a_nonce_is_used_once(chain, accounts):
    await chain.request("eth_sendRawTransaction", signed(accounts[1]))
    with pytest.raises(RpcError, match="nonce too low: next nonce 1, tx nonce 0"):
        await chain.request("eth_sendRawTransaction", signed(accounts[1], value=2))


async def test_transactions_sent_out_of_order_are_mined_in_order(chain, accounts):
    second = await chain.request("eth_sendRawTransaction", signed(accounts[1], nonce=1))
    assert await chain.request("eth_getTransactionReceipt", second) is None
    assert (await chain.request("eth_getTransactionByHash", second))["blockNumber"] is None
    await chain.request("eth_sendRawTransaction", signed(accounts[1], nonce=0))
    assert (await chain.request("eth_getTransactionReceipt", second))["blockNumber"] == "0x2"
    assert await chain.request("eth_getTransactionCount", accounts[1].address, "pending") == "0x2"


async def test_what_is_not_a_transaction_is_refused(chain):
    for raw in ("0x", "0x02", "0xc0", "0x02c0", "0x" + "ff" * 100):
        with pytest.raises(RpcError):
            await chain.request("eth_sendRawTransaction", raw)


async def test_unknown_transactions_and_blocks_are_null(chain):
    name = "0x" + "11" * 32
    assert await chain.request("eth_getTransactionReceipt", name) is None
    assert await chain.request("eth_getTransactionByHash", name) is None
    assert await chain.request("eth_getBlockByHash", name, False) is None
    assert await chain.request("eth_getBlockByNumber", "0x9", False) is None
    with pytest.raises(RpcError, match="header not found"):
        await chain.request("eth_getBalance", EMPTY, "0x9")


async def test_a_contract_is_deployed_and_called(chain, accounts):
    contract = await deploy(chain, accounts[0], RETURNS_42)
    assert await chain.request("eth_getCode", contract) == "0x602a60005260206000f3"
    assert int(await chain.request("eth_call", {"to": contract}, "latest"), 16) == 42
    assert await chain.request("eth_call", {"to": contract}, "0x0") == "0x"


async def test_input_wins_over_data_and_unknown_members_are_dropped(chain, accounts):
    wish = {"from": accounts[0].address, "data": "0x", "input": RETURNS_42, "accessList": [], "foo": 1}
    assert int(await chain.request("eth_estimateGas", wish), 16) > 53_000
    sent = await chain.request("eth_sendTransaction", wish)
    receipt = await chain.request("eth_getTransactionReceipt", sent)
    assert await chain.request("eth_getCode", receipt["contractAddress"]) != "0x"


async def test_a_custom_error_reaches_the_caller_as_data(chain, accounts):
    contract = await deploy(chain, accounts[0], REVERTS_CUSTOM)
    for method in ("eth_call", "eth_estimateGas"):
        with pytest.raises(RpcError) as caught:
            await chain.request(method, {"to": contract})
        assert (caught.value.code, caught.value.message) == (3, "execution reverted")
        assert caught.value.data == "0xdeadbeef" + f"{42:064x}"


async def test_a_transaction_that_reverts_is_mined_with_status_0(chain, accounts):
    contract = await deploy(chain, accounts[0], REVERTS_CUSTOM)
    sent = await chain.request(
        "eth_sendRawTransaction", signed(accounts[1], to=contract, gas=100_000, value=0)
    )
    receipt = await chain.request("eth_getTransactionReceipt", sent)
    assert (receipt["status"], receipt["logs"]) == ("0x0", [])


async def test_a_call_that_never_ends_runs_out_of_gas(chain, accounts):
    contract = await deploy(chain, accounts[0], LOOPS)
    with pytest.raises(RpcError, match="out of gas"):
        await chain.request("eth_call", {"to": contract, "gas": hex(100_000)})


async def test_estimated_gas_suffices_and_is_not_wasteful(chain, accounts):
    for code in (RETURNS_42, EMITS_LOG):
        wish = {"from": accounts[0].address, "data": code}
        estimate = int(await chain.request("eth_estimateGas", wish), 16)
        sent = await chain.request("eth_sendTransaction", {**wish, "gas": hex(estimate)})
        receipt = await chain.request("eth_getTransactionReceipt", sent)
        assert receipt["status"] == "0x1"
        assert estimate <= int(receipt["gasUsed"], 16) * 1.1


async def test_logs_are_found_by_range_address_and_topic(chain, accounts):
    contract = await deploy(chain, accounts[0], EMITS_LOG)
    for _ in range(3):
        await chain.request("eth_sendTransaction", {"from": accounts[0].address, "to": contract})

    async def count(**wish: object) -> int:
        return len(await chain.request("eth_getLogs", {"fromBlock": "0x0", "toBlock": "latest", **wish}))

    assert await count() == 3
    assert await count(fromBlock="0x3") == 2
    assert await count(fromBlock="0x2", toBlock="0x2") == 1
    assert await count(address=contract) == 3
    assert await count(address=[EMPTY]) == 0
    assert await count(topics=[f"0x{2:064x}"]) == 3
    assert await count(topics=[None, [f"0x{1:064x}", f"0x{9:064x}"]]) == 3
    assert await count(topics=[f"0x{1:064x}"]) == 0
    assert await count(topics=[None, None, None]) == 0
    found = (await chain.request("eth_getLogs", {"fromBlock": "0x4"}))[0]
    assert (found["blockNumber"], found["logIndex"], found["address"]) == ("0x4", "0x0", contract)
    with pytest.raises(RpcError, match="invalid block range"):
        await count(fromBlock="0x3", toBlock="0x1")


async def test_filters_tell_what_is_new_since_the_last_look(chain, accounts):
    contract = await deploy(chain, accounts[0], EMITS_LOG)
    logs = await chain.request("eth_newFilter", {"address": contract})
    blocks = await chain.request("eth_newBlockFilter")
    await chain.request("eth_sendTransaction", {"from": accounts[0].address, "to": contract})
    assert len(await chain.request("eth_getFilterChanges", logs)) == 1
    assert await chain.request("eth_getFilterChanges", logs) == []
    latest = await chain.request("eth_getBlockByNumber", "latest", False)
    assert await chain.request("eth_getFilterChanges", blocks) == [latest["hash"]]
    assert await chain.request("eth_uninstallFilter", logs) is True
    with pytest.raises(RpcError, match="filter not found"):
        await chain.request("eth_getFilterChanges", logs)


async def test_block_times_follow_the_clock_and_never_run_ahead(chain, accounts, clock: Clock):
    times = []
    for step in (0, 0, 7, 0):
        clock.now += step
        await chain.request("evm_mine")
        times.append(int((await chain.request("eth_getBlockByNumber", "latest", False))["timestamp"], 16))
    assert times == [1_800_000_000, 1_800_000_000, 1_800_000_007, 1_800_000_007]


async def test_an_idle_chain_stands_still_for_calls_at_the_latest_block(chain, accounts, clock: Clock):
    contract = await deploy(chain, accounts[0], RETURNS_TIMESTAMP)
    before = int(clock.now)
    clock.now += 100
    assert int(await chain.request("eth_call", {"to": contract}, "latest"), 16) == before
    assert int(await chain.request("eth_call", {"to": contract}, "pending"), 16) == before + 100


async def test_time_can_be_moved_forward(chain, clock: Clock):
    await chain.request("evm_increaseTime", 3_600)
    await chain.request("evm_mine")
    assert (
        int((await chain.request("eth_getBlockByNumber", "latest", False))["timestamp"], 16)
        == clock.now + 3_600
    )
    await chain.request("evm_setNextBlockTimestamp", int(clock.now) + 10_000)
    await chain.request("evm_mine")
    clock.now += 5
    await chain.request("evm_mine")
    latest = await chain.request("eth_getBlockByNumber", "latest", False)
    assert int(latest["timestamp"], 16) == clock.now + 10_000
    with pytest.raises(RpcError, match="before that of the latest block"):
        await chain.request("evm_setNextBlockTimestamp", 1)


async def test_a_snapshot_brings_back_state_blocks_and_logs(chain, accounts):
    contract = await deploy(chain, accounts[0], EMITS_LOG)
    moment = await chain.request("evm_snapshot")
    sent = await chain.request("eth_sendTransaction", {"from": accounts[0].address, "to": contract})
    await chain.request("anvil_setBalance", EMPTY, "0x64")
    assert await chain.request("eth_getBalance", EMPTY) == "0x64"
    assert await chain.request("evm_revert", moment) is True
    assert await chain.request("evm_revert", moment) is False
    assert await chain.request("eth_blockNumber") == "0x1"
    assert await chain.request("eth_getBalance", EMPTY) == "0x0"
    assert await chain.request("eth_getTransactionReceipt", sent) is None
    assert await chain.request("eth_getLogs", {"fromBlock": "0x0"}) == []
    again = await chain.request("eth_sendTransaction", {"from": accounts[0].address, "to": contract})
    assert (await chain.request("eth_getTransactionReceipt", again))["blockNumber"] == "0x2"
    assert len(await chain.request("eth_getLogs", {"fromBlock": "0x0"})) == 1


async def test_bad_calls_are_told_apart(chain):
    for method, params, code in (
        ("eth_nonsense", [], -32601),
        ("eth_getBalance", [], -32602),
        ("eth_getBalance", ["0x12"], -32602),
        ("eth_getBlockByNumber", ["soon", False], -32602),
        ("eth_call", ["not an object"], -32602),
    ):
        with pytest.raises(RpcError) as caught:
            await chain.request(method, *params)
        assert caught.value.code == code, method


async def test_over_http_single_batch_errors_and_cors(chain):
    async with aiohttp.ClientSession() as session:

        async def post(text: str) -> object:
            async with session.post(chain.url, data=text) as answer:
                assert answer.headers["Access-Control-Allow-Origin"] == "*"
                return await answer.json()

        assert await post('{"jsonrpc":"2.0","id":7,"method":"eth_chainId"}') == {
            "jsonrpc": "2.0", "id": 7, "result": "0x7a69"
        }  # fmt: skip
        batch = await post('[{"id":1,"method":"net_version","params":[]},{"id":2,"method":"nope"}]')
        assert [entry.get("result") for entry in batch] == ["31337", None]
        assert batch[1]["error"]["code"] == -32601
        for text, code in (("{", -32700), ("[]", -32600), ('"x"', -32600), ('{"id":1}', -32600)):
            assert (await post(text))["error"]["code"] == code
        async with session.options(chain.url) as preflight:
            assert preflight.status == 204
            assert preflight.headers["Access-Control-Allow-Headers"] == "*"


async def test_many_callers_at_once_get_their_own_answers(chain, accounts):
    async def transfer(index: int) -> str:
        sent = await chain.request("eth_sendRawTransaction", signed(accounts[1], nonce=index, value=index))
        return str((await chain.request("eth_getTransactionByHash", sent))["value"])

    assert await asyncio.gather(*(transfer(index) for index in range(20))) == [hex(i) for i in range(20)]
    assert await chain.request("eth_getBalance", EMPTY) == hex(sum(range(20)))
