"""The node's key: made once, kept private, refused when it is not."""

from __future__ import annotations

import stat
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from node.addresses import keccak256
from node.chain.signatures import recover
from node.errors import StartupError
from node.identity.node_key import load_or_create


def test_a_new_key_is_kept_readable_by_its_owner_only(tmp_path: Path) -> None:
    path = tmp_path / "data" / "node.key"
    key = load_or_create(path)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert load_or_create(path).address == key.address
    assert [p.name for p in path.parent.iterdir()] == ["node.key"]


def test_its_signatures_are_its_own(tmp_path: Path) -> None:
    key = load_or_create(tmp_path / "node.key")
    digest = keccak256(b"x")
    assert recover(digest, key.sign(digest)) == key.address


def test_the_known_key_has_the_known_address(tmp_path: Path) -> None:
    path = tmp_path / "node.key"
    path.touch(0o600)
    path.write_text("ac0974bec39a17e36ba4a6b4d238ff944bacb478cbed5efcae784d7bf4f2ff80\n")
    assert load_or_create(path).address == "0xf39Fd6e51aad88F6F4ce6aB8827279cffFb92266"


def test_concurrent_starts_agree_on_one_key(tmp_path: Path) -> None:
    with ThreadPoolExecutor(8) as pool:
        keys = list(pool.map(lambda _: load_or_create(tmp_path / "node.key"), range(8)))
    assert len({key.address for key in keys}) == 1


def test_with_a_password_the_file_is_encrypted(tmp_path: Path) -> None:
    path = tmp_path / "node.key"
    key = load_or_create(path, password="correct horse")
    assert '"crypto"' in path.read_text()
    assert load_or_create(path, password="correct horse").address == key.address
    with pytest.raises(StartupError, match="NODE_KEY_PASSWORD"):
        load_or_create(path, password="wrong")
    with pytest.raises(StartupError, match="set NODE_KEY_PASSWORD"):
        load_or_create(path)


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o644, 0o660])
def test_a_file_that_others_can_read_stops_the_start(tmp_path: Path, mode: int) -> None:
    path = tmp_path / "node.key"
    load_or_create(path)
    path.chmod(mode)
    with pytest.raises(StartupError, match="chmod 600"):
        load_or_create(path)


@pytest.mark.parametrize(
    "text", ["", "hello", "0x1234", "0x" + "0" * 64, "0x" + "f" * 64, "{}", "[1]", "\xff"]
)
def test_a_file_without_a_key_stops_the_start_and_is_not_shown(tmp_path: Path, text: str) -> None:
    path = tmp_path / "node.key"
    path.touch(0o600)
    path.write_text(text)
    with pytest.raises(StartupError) as stopped:
        load_or_create(path, password="x")
    assert text == "" or text not in stopped.value.message
    assert path.read_text() == text


def test_the_key_is_not_shown(tmp_path: Path) -> None:
    path = tmp_path / "node.key"
    key = load_or_create(path)
    assert path.read_text().strip()[2:] not in repr(key)
    assert key.address in repr(key)
