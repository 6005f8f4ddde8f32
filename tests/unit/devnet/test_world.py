"""Folders, key files and child processes of a world; the whole of it is tested in tests/integration."""

from __future__ import annotations

import asyncio
import stat
import sys
from pathlib import Path

import pytest

from lonja import keys
from lonja.config import Devnet
from lonja.devnet.accounts import Account, write_key_file
from lonja.devnet.processes import Child
from lonja.devnet.world import MARKER, running_world
from lonja.errors import DevnetFailed, UsageInvalid


def child(tmp_path: Path, code: str) -> Child:
    return Child("the child", [sys.executable, "-u", "-c", code], log=tmp_path / "child.log")


async def test_a_child_is_ready_when_it_says_so_and_is_stopped(tmp_path):
    made = child(tmp_path, "import time; print('warming up'); print('ready http://x'); time.sleep(60)")
    line = await made.start(env={}, cwd=tmp_path, until="ready ", timeout=20)
    assert line == "ready http://x"
    await made.stop()
    assert await made.wait() == -15


async def test_a_child_that_ends_is_explained_by_its_last_words(tmp_path):
    made = child(tmp_path, "import sys; print('port taken', file=sys.stderr); sys.exit(3)")
    with pytest.raises(DevnetFailed, match="the child ended with code 3: port taken"):
        await made.start(env={}, cwd=tmp_path, until="ready ", timeout=20)


async def test_a_child_that_says_nothing_is_given_up_and_stopped(tmp_path):
    made = child(tmp_path, "import time; time.sleep(60)")
    with pytest.raises(DevnetFailed, match=r"not ready within 0\.2 s"):
        await made.start(env={}, cwd=tmp_path, until="ready ", timeout=0.2)
    assert await made.wait() < 0


async def test_a_child_may_go_on_talking(tmp_path):
    talk = "print('ready ')\nfor _ in range(20000): print('x' * 50)\nimport sys; sys.exit(7)"
    made = child(tmp_path, talk)
    await made.start(env={}, cwd=tmp_path, until="ready ", timeout=20)
    async with asyncio.timeout(20):
        assert await made.wait() == 7
    await made.stop()


async def test_data_that_is_not_ours_is_left_alone(tmp_path):
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "precious").write_text("x")
    with pytest.raises(DevnetFailed, match="not from a devnet"):
        async with running_world(tmp_path):
            pytest.fail("it must not start")
    assert (tmp_path / "data" / "precious").exists()
    assert not (tmp_path / MARKER).exists()


async def test_a_port_that_is_taken_is_named(tmp_path):
    server = await asyncio.start_server(lambda _reader, _writer: None, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    with pytest.raises(DevnetFailed, match=f"port {port}"):
        async with running_world(tmp_path / "w", rpc_port=port):
            pytest.fail("it must not start")
    server.close()
    await server.wait_closed()


@pytest.mark.parametrize("password", [None, "words"])
def test_a_devnet_key_file_opens(tmp_path, accounts: tuple[Account, ...], password):
    path = tmp_path / "x.key"
    write_key_file(accounts[1], path, password=password)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert keys.is_encrypted(path) is (password is not None)
    assert keys.load(path, password=password).address == accounts[1].address


def test_devnet_json_is_read_with_members_that_are_new(tmp_path):
    path = tmp_path / "devnet.json"
    path.write_text(
        '{"node_url": "http://n", "rpc_url": "http://r", "chain_id": 1, "contract": "0x1", "later": 1,'
        ' "accounts": {"publisher": {"address": "0x2", "key_file": "keys/p", "later": 1}}}'
    )
    world = Devnet.read(path)
    assert (world.node_url, world.account("publisher").key_file) == ("http://n", str(tmp_path / "keys" / "p"))
    with pytest.raises(UsageInvalid, match="there are publisher"):
        world.account("king")


def test_a_missing_devnet_json_says_who_writes_it(tmp_path):
    with pytest.raises(UsageInvalid, match="lonja devnet"):
        Devnet.read(tmp_path / "devnet.json")
