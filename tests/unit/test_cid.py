from __future__ import annotations

import pytest

from node.cid import DAG_PB, RAW, Cid, CidInvalid, read_varint, write_varint


@pytest.mark.parametrize(
    "text",
    [
        "bafkqaaa",
        "bafkreibnoelefnzgwbcacyt4vh52ymxvzbjq7mmqhtcnwarfq4lzegsiqe",
        "QmRQ353oFNqt8zfZ9X1HgRUszwv9RkEEwmMZZkbkYEsybn",
    ],
)
def test_text_form_survives_a_round_trip(text: str) -> None:
    cid = Cid.parse(text)
    assert str(cid) == text
    assert Cid.from_bytes(cid.binary) == cid


def test_versions_zero_and_one_of_a_block_share_the_digest() -> None:
    assert Cid.of(b"x", codec=DAG_PB, version=0).digest == Cid.of(b"x", codec=RAW).digest


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "ASCII"),
        ("../../etc/passwd", "base32"),
        ("bafkqaa=", "base32"),
        ("BAFKQAAA", "base32"),
        ("bAFKQAAA", "lower case"),
        ("b" * 600, "ASCII"),
        ("QmRQ353oFNqt8zfZ9X1HgRUszwv9RkEEwmMZZkbkYEsyb0", "base58"),
        ("bafyreibnoelefnzgwbcacyt4vh52ymxvzbjq7mmqhtcnwarfq4lzegsiqe", "codec 0x71"),
    ],
)
def test_strange_text_is_refused_with_its_reason(text: str, says: str) -> None:
    with pytest.raises(CidInvalid, match=says):
        Cid.parse(text)


@pytest.mark.parametrize(
    ("raw", "says"),
    [
        (b"\x01\x55\x11\x14" + bytes(20), "hash 0x11"),
        (b"\x01\x55\xd5\x01\x10" + bytes(16), "hash 0xd5"),
        (b"\x01\x55\x12\x10" + bytes(16), "32 bytes, not 16"),
        (b"\x01\x55\x12\x20" + bytes(31), "cut short"),
        (b"\x01\x55\x12\x20" + bytes(33), "bytes after"),
        (b"\x01\x55\x00\x81\x01" + bytes(129), "at most 128"),
        (b"\x02\x55\x12\x20" + bytes(32), "version 2"),
        (b"\x81\x00\x55\x12\x20" + bytes(32), "shortest"),
    ],
)
def test_unsafe_multihashes_are_refused(raw: bytes, says: str) -> None:
    with pytest.raises(CidInvalid, match=says):
        Cid.from_bytes(raw)


@pytest.mark.parametrize("value", [0, 1, 127, 128, 300, 2**32, 2**63 - 1])
def test_varints_survive_a_round_trip(value: int) -> None:
    assert read_varint(write_varint(value), 0) == (value, len(write_varint(value)))


def test_a_ten_byte_varint_is_refused() -> None:
    with pytest.raises(CidInvalid, match="nine bytes"):
        read_varint(b"\xff" * 9 + b"\x01", 0)
