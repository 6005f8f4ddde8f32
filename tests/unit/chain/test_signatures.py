"""Signatures of keys and contract accounts, and the typed data that is signed."""

from __future__ import annotations

import hashlib
from typing import Any

import pytest
from coincurve import PrivateKey

from node.addresses import address_of_public_key, keccak256, parse_address
from node.chain.contract_signatures import ERC6492_SUFFIX
from node.chain.signatures import CURVE_ORDER, SignatureChecker, personal_message_digest, recover
from node.chain.typed_data import (
    Authorization,
    SignedRequest,
    authorization_header,
    body_hash,
    parse_authorization,
    request_digest,
    typed_data,
)
from node.errors import ChainUnavailable, InvalidInput, SignatureInvalid
from node.types import Address, ContractRef
from tests.fakes.chain import LICENSEE, STRANGER, FakeChain
from tests.fakes.chain_world import LICENSEE_KEY

CONTRACT = ContractRef(43113, Address("0x5FbDB2315678afecb367f032d93F642f64180aa3"))
DIGEST = keccak256(b"something")
KEY = PrivateKey(LICENSEE_KEY)
REQUEST = SignedRequest(
    method="POST",
    path="/api/inference/execute?x=1",
    body_hash=body_hash(b"{}"),
    node=STRANGER,
    nonce="0123456789abcdefghijkl",
    deadline=1_800_000_000,
)


def sign(digest: bytes) -> bytes:
    raw = KEY.sign_recoverable(digest, hasher=None)
    return raw[:64] + bytes([raw[64] + 27])


def test_a_key_s_signature_names_its_account() -> None:
    assert address_of_public_key(KEY.public_key.format(compressed=False)[1:]) == LICENSEE
    assert recover(DIGEST, sign(DIGEST)) == LICENSEE


def test_the_other_half_of_the_curve_is_refused() -> None:
    good = sign(DIGEST)
    s = CURVE_ORDER - int.from_bytes(good[32:64], "big")
    malleable = good[:32] + s.to_bytes(32, "big") + bytes([55 - good[64]])
    with pytest.raises(SignatureInvalid, match="lower"):
        recover(DIGEST, malleable)


@pytest.mark.parametrize("v", [0, 1, 26, 29, 35, 255])
def test_a_wrong_v_is_refused(v: int) -> None:
    with pytest.raises(SignatureInvalid, match="27 or 28"):
        recover(DIGEST, sign(DIGEST)[:64] + bytes([v]))


@pytest.mark.parametrize(
    ("r", "s"),
    [(0, 1), (1, 0), (CURVE_ORDER, 1), (2**256 - 1, 1), (5, 1), (1, CURVE_ORDER // 2 + 1)],
)
def test_numbers_that_are_no_signature_are_refused(r: int, s: int) -> None:
    with pytest.raises(SignatureInvalid):
        recover(DIGEST, r.to_bytes(32, "big") + s.to_bytes(32, "big") + b"\x1b")


@pytest.mark.parametrize("size", [0, 1, 64, 66, 130])
def test_another_length_is_refused(size: int) -> None:
    with pytest.raises(SignatureInvalid, match="65 bytes"):
        recover(DIGEST, bytes(size))


def test_recovery_agrees_with_eth_account() -> None:
    from eth_account import Account

    for number in range(50):
        digest = hashlib.sha256(bytes([number])).digest()
        signed = Account.unsafe_sign_hash(digest, LICENSEE_KEY)
        assert bytes(signed.signature) == sign(digest)
        assert recover(digest, bytes(signed.signature)) == LICENSEE


def test_the_digest_of_a_message_agrees_with_eth_account() -> None:
    from eth_account.messages import _hash_eip191_message, encode_defunct

    for text in ("", "hello", "ñandú 🦙", "x" * 1000):
        assert personal_message_digest(text) == _hash_eip191_message(encode_defunct(text=text))


def test_the_digest_of_a_request_agrees_with_eth_account() -> None:
    from eth_account.messages import _hash_eip191_message, encode_typed_data

    signable = encode_typed_data(full_message=typed_data(CONTRACT, REQUEST))
    assert request_digest(CONTRACT, REQUEST) == _hash_eip191_message(signable)


@pytest.mark.parametrize(
    "change",
    [
        {"method": "GET"},
        {"path": "/api/inference/execute"},
        {"body_hash": body_hash(b"{ }")},
        {"node": LICENSEE},
        {"nonce": "0123456789abcdefghijkm"},
        {"deadline": 1_800_000_001},
    ],
)
def test_every_member_of_a_request_is_signed(change: dict[str, Any]) -> None:
    import msgspec

    other = msgspec.structs.replace(REQUEST, **change)
    assert request_digest(CONTRACT, other) != request_digest(CONTRACT, REQUEST)


def test_chain_and_contract_are_signed() -> None:
    digests = {
        request_digest(contract, REQUEST)
        for contract in (CONTRACT, ContractRef(1, CONTRACT.address), ContractRef(43113, LICENSEE))
    }
    assert len(digests) == 3


def test_a_header_is_read_as_it_was_written() -> None:
    given = Authorization(LICENSEE, REQUEST.nonce, REQUEST.deadline, sign(DIGEST))
    header = authorization_header(
        address=given.address, nonce=given.nonce, deadline=given.deadline, signature=given.signature
    )
    assert parse_authorization(header) == given


HEADER = f"Lonja-EIP712 address={LICENSEE},nonce=abcdefgh,deadline=1,signature=0x00"


@pytest.mark.parametrize(
    "header",
    [
        "",
        "Lonja-EIP712",
        "Lonja-EIP712 ",
        "Bearer abc",
        HEADER + ",signature=0x01",
        HEADER + ",more=1",
        HEADER.replace("deadline=1,", ""),
        HEADER.replace(LICENSEE, "0x1234"),
        HEADER.replace(LICENSEE, LICENSEE.swapcase().replace("0X", "0x")),
        HEADER.replace("abcdefgh", "a b"),
        HEADER.replace("abcdefgh", "../../etc"),
        HEADER.replace("abcdefgh", "a" * 65),
        HEADER.replace("deadline=1", "deadline=-1"),
        HEADER.replace("deadline=1", "deadline=1e9"),
        HEADER.replace("deadline=1", "deadline=" + "9" * 100),
        HEADER.replace("deadline=1", "deadline=١"),
        HEADER.replace("0x00", "00"),
        HEADER.replace("0x00", "0x0"),
        HEADER.replace("0x00", "0xzz"),
        HEADER.replace("0x00", "0x" + "00" * 9000),
    ],
)
def test_a_malformed_header_is_refused(header: str) -> None:
    with pytest.raises(SignatureInvalid):
        parse_authorization(header)


def test_addresses_get_one_spelling_and_typing_mistakes_are_found() -> None:
    assert parse_address(LICENSEE.lower()) == LICENSEE
    assert parse_address("0x" + LICENSEE[2:].upper()) == LICENSEE
    for wrong in (LICENSEE.replace("a", "A", 1), LICENSEE + "0", LICENSEE[2:], "", LICENSEE + "\n"):
        with pytest.raises(InvalidInput):
            parse_address(wrong)


class TestChecker:
    async def test_a_key_s_signature_needs_no_chain(self) -> None:
        chain = FakeChain()
        chain.down = True
        await SignatureChecker(chain).check(LICENSEE, digest=DIGEST, signature=sign(DIGEST))
        assert not chain.calls

    async def test_another_s_signature_is_refused(self) -> None:
        with pytest.raises(SignatureInvalid, match="another account"):
            await SignatureChecker(FakeChain()).check(STRANGER, digest=DIGEST, signature=sign(DIGEST))

    async def test_a_contract_account_answers_for_itself(self) -> None:
        chain = FakeChain()
        chain.contract_accounts.add(STRANGER)
        checker = SignatureChecker(chain)
        await checker.check(STRANGER, digest=DIGEST, signature=DIGEST)
        with pytest.raises(SignatureInvalid, match="does not accept"):
            await checker.check(STRANGER, digest=DIGEST, signature=bytes(65))

    async def test_an_outage_while_a_contract_is_asked_is_not_an_invalid_signature(self) -> None:
        chain = FakeChain()
        chain.contract_accounts.add(STRANGER)
        chain.down = True
        with pytest.raises(ChainUnavailable):
            await SignatureChecker(chain).check(STRANGER, digest=DIGEST, signature=DIGEST)

    async def test_whether_an_account_is_a_contract_is_asked_once(self) -> None:
        chain = FakeChain()
        checker = SignatureChecker(chain)
        for _ in range(5):
            with pytest.raises(SignatureInvalid):
                await checker.check(STRANGER, digest=DIGEST, signature=sign(DIGEST))
        assert chain.calls["has_code"] == 1

    async def test_a_wrapped_signature_is_put_to_the_chain_although_nothing_stands_there(self) -> None:
        chain = FakeChain()
        with pytest.raises(SignatureInvalid):
            await SignatureChecker(chain).check(STRANGER, digest=DIGEST, signature=bytes(96) + ERC6492_SUFFIX)
        assert chain.calls["accepts_signature"] == 1
        assert chain.calls["has_code"] == 0
