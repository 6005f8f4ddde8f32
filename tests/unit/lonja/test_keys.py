from __future__ import annotations

import json
import stat
from pathlib import Path

import pytest

from lonja import keys
from lonja.errors import KeyFileInvalid, PasswordRequired

SECRET = "0x" + "1f" * 32


def keystore(path: Path, password: str = "right") -> Path:
    keys.write_private(path, keys.encrypt(SECRET, password, kdf="pbkdf2", iterations=2), replace=False)
    return path


def test_a_keystore_opens_with_its_password(tmp_path):
    path = keystore(tmp_path / "me.json")
    assert keys.is_encrypted(path)
    assert bytes(keys.load(path, password="right").key).hex() == SECRET[2:]


def test_the_password_may_stand_in_the_environment(tmp_path, monkeypatch):
    path = keystore(tmp_path / "me.json")
    monkeypatch.setenv("LONJA_KEY_PASSWORD", "right")
    assert keys.load(path).address == keys.from_hex(SECRET, origin="x").address


def test_without_a_password_the_error_says_how_to_give_it(tmp_path, monkeypatch):
    monkeypatch.delenv("LONJA_KEY_PASSWORD", raising=False)
    with pytest.raises(PasswordRequired, match="LONJA_KEY_PASSWORD"):
        keys.load(keystore(tmp_path / "me.json"))


def test_a_wrong_password_is_named_as_such(tmp_path):
    with pytest.raises(KeyFileInvalid, match="password is wrong"):
        keys.load(keystore(tmp_path / "me.json"), password="wrong")


@pytest.mark.parametrize("text", [SECRET, SECRET[2:], SECRET + "\n"])
def test_a_bare_key_needs_no_password(tmp_path, monkeypatch, text):
    monkeypatch.setenv("LONJA_KEY_PASSWORD", "of some other file")
    path = tmp_path / "plain.key"
    path.write_text(text)
    assert bytes(keys.load(path).key).hex() == SECRET[2:]


@pytest.mark.parametrize(
    "text", ["", "0x12", "{}", "[]", '{"version": 3}', "0x" + "zz" * 32, "0x" + "00" * 32]
)
def test_what_is_no_key_file_is_refused_without_showing_it(tmp_path, text):
    path = tmp_path / "bad.key"
    path.write_text(text)
    with pytest.raises(KeyFileInvalid) as caught:
        keys.load(path, password="x")
    assert caught.value.__cause__ is None
    assert len(text) < 10 or text not in str(caught.value)


def test_missing_files_and_folders_are_named(tmp_path):
    for path in (tmp_path / "nowhere", tmp_path):
        with pytest.raises(KeyFileInvalid, match=path.name):
            keys.load(path)


def test_key_files_are_for_their_owner_only_and_never_overwritten(tmp_path):
    path = keystore(tmp_path / "me.json")
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    with pytest.raises(FileExistsError):
        keys.write_private(path, "x", replace=False)
    assert json.loads(path.read_text())["version"] == 3


def test_a_new_key_is_another_each_time():
    assert keys.create().address != keys.create().address
