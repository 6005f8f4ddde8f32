"""Signing in and signing requests: what is accepted, what is refused, and who ends up being who."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from coincurve import PrivateKey

from node.chain.sign_in_message import write_sign_in
from node.chain.signatures import CURVE_ORDER, SignatureChecker, personal_message_digest
from node.chain.typed_data import SignedRequest, authorization_header, body_hash, request_digest
from node.errors import (
    AuthenticationRequired,
    ChainUnavailable,
    NodeError,
    NonceReused,
    Overloaded,
    SignatureInvalid,
)
from node.flows.sign_in import Authenticate, SignIn, sign_in_domains
from node.identity.database import Database
from node.identity.nonces import SCHEMA as NONCES
from node.identity.nonces import Nonces
from node.identity.sessions import SCHEMA as SESSIONS
from node.identity.sessions import Sessions
from node.settings import Settings
from node.types import Address, CallerScheme
from tests.fakes.chain import LICENSEE, PUBLISHER, STRANGER, FakeChain
from tests.fakes.chain_world import LICENSEE_KEY, STRANGER_KEY

URL = "https://node.example"
NOW = 1_800_000_000.0


def sign(digest: bytes, key: bytes = LICENSEE_KEY) -> bytes:
    raw = PrivateKey(key).sign_recoverable(digest, hasher=None)
    return raw[:64] + bytes([raw[64] + 27])


def sign_text(message: str, key: bytes = LICENSEE_KEY) -> str:
    return "0x" + sign(personal_message_digest(message), key).hex()


class Desk:
    """Both flows over one file, with a clock that tests move."""

    def __init__(self, path: Path) -> None:
        self.now = NOW
        self.chain = FakeChain()
        self.database = Database.open(path, schema=(*NONCES, *SESSIONS))
        wall = lambda: self.now  # noqa: E731 - one clock for all parts
        nonces = Nonces(self.database, ttl=300, wall=wall)
        sessions = Sessions(
            self.database, chain_id=self.chain.contract.chain_id, node=PUBLISHER, ttl=900, wall=wall
        )
        shared: dict[str, Any] = {
            "nonces": nonces,
            "sessions": sessions,
            "checker": SignatureChecker(self.chain),
            "contract": self.chain.contract,
            "node": PUBLISHER,
            "wall": wall,
        }
        domains = ("node.example", "dapp.example")
        self.sign_in = SignIn(**shared, public_url=URL, domains=domains, nonce_ttl=300)
        self.authenticate = Authenticate(**shared, max_ahead=300)

    async def message(self, **changes: Any) -> str:
        challenge = await self.sign_in.nonce()
        parts: dict[str, Any] = {
            "domain": "dapp.example",
            "address": LICENSEE,
            "uri": challenge.uri,
            "chain_id": challenge.chain_id,
            "nonce": challenge.nonce,
            "issued_at": datetime.fromtimestamp(self.now, UTC),
        }
        return write_sign_in(**parts | changes)

    async def header(self, *, key: bytes = LICENSEE_KEY, address: Address = LICENSEE, **changes: Any) -> str:
        challenge = await self.sign_in.nonce()
        parts: dict[str, Any] = {
            "method": "POST",
            "path": "/api/models/load",
            "body_hash": body_hash(b"{}"),
            "node": challenge.node,
            "nonce": challenge.nonce,
            "deadline": int(self.now) + 60,
        }
        request = SignedRequest(**parts | changes)
        return authorization_header(
            address=address,
            nonce=request.nonce,
            deadline=request.deadline,
            signature=sign(request_digest(self.chain.contract, request), key),
        )

    async def caller(self, header: str, **changes: Any) -> Any:
        parts: dict[str, Any] = {
            "method": "POST",
            "path": "/api/models/load",
            "body_hash": body_hash(b"{}"),
        }
        return await self.authenticate.signature(header, **parts | changes)


@pytest.fixture
async def desk(tmp_path: Path) -> AsyncIterator[Desk]:
    desk = Desk(tmp_path / "node.sqlite")
    yield desk
    await desk.database.close()


class TestSession:
    async def test_the_challenge_tells_all_that_a_message_needs(self, desk: Desk) -> None:
        challenge = await desk.sign_in.nonce()
        assert challenge.domains == ("node.example", "dapp.example")
        assert (challenge.uri, challenge.chain_id, challenge.node) == (URL, 31337, PUBLISHER)
        assert challenge.expires_at == NOW + 300

    async def test_a_signed_message_opens_a_session_of_its_signer(self, desk: Desk) -> None:
        message = await desk.message()
        session = await desk.sign_in.open_session(message=message, signature=sign_text(message))
        assert (session.address, session.expires_at) == (LICENSEE, NOW + 900)
        caller = desk.authenticate.session(session.token)
        assert (caller.address, caller.scheme) == (LICENSEE, CallerScheme.SESSION)

    async def test_messages_of_wallets_with_every_member_are_accepted(self, desk: Desk) -> None:
        nonce = (await desk.sign_in.nonce()).nonce
        message = (
            "https://dapp.example wants you to sign in with your Ethereum account:\n"
            f"{LICENSEE}\n\nSign in to Lonja.\n\nURI: {URL}/api/auth/session\nVersion: 1\nChain ID: 31337\n"
            f"Nonce: {nonce}\nIssued At: 2027-01-15T08:00:00.123Z\n"
            "Expiration Time: 2027-01-15T08:05:00.000+00:00\nNot Before: 2027-01-15T08:00:30Z\n"
            f"Request ID: 7\nResources:\n- {URL}/docs\n- ipfs://bafkqaaa"
        )
        session = await desk.sign_in.open_session(message=message, signature=sign_text(message))
        assert session.address == LICENSEE
        assert session.expires_at == NOW + 300 + 60

    async def test_a_closed_session_is_over(self, desk: Desk) -> None:
        message = await desk.message()
        session = await desk.sign_in.open_session(message=message, signature=sign_text(message))
        await desk.sign_in.close_session(session.token)
        with pytest.raises(AuthenticationRequired):
            desk.authenticate.session(session.token)

    @pytest.mark.parametrize(
        ("changes", "named"),
        [
            ({"domain": "evil.example"}, "domain"),
            ({"domain": "dapp.example.evil.example"}, "domain"),
            ({"uri": "https://other-node.example"}, "URI"),
            ({"uri": "http://node.example"}, "URI"),
            ({"uri": "https://node.example:8443"}, "URI"),
            ({"uri": "https://node.example@evil.example"}, "URI"),
            ({"chain_id": 1}, "Chain ID"),
            ({"issued_at": datetime.fromtimestamp(NOW + 61, UTC)}, "future"),
            ({"issued_at": datetime.fromtimestamp(NOW - 361, UTC)}, "too long ago"),
        ],
    )
    async def test_a_message_for_something_else_is_refused(
        self, desk: Desk, changes: dict[str, Any], named: str
    ) -> None:
        message = await desk.message(**changes)
        with pytest.raises(SignatureInvalid, match=named):
            await desk.sign_in.open_session(message=message, signature=sign_text(message))

    async def test_clocks_may_differ_by_a_minute(self, desk: Desk) -> None:
        for seconds in (-60, 60):
            message = await desk.message(issued_at=datetime.fromtimestamp(NOW + seconds, UTC))
            await desk.sign_in.open_session(message=message, signature=sign_text(message))

    @pytest.mark.parametrize(
        ("line", "accepted"),
        [
            ("Expiration Time: 2027-01-15T07:59:01Z", True),
            ("Expiration Time: 2027-01-15T07:59:00Z", False),
            ("Not Before: 2027-01-15T08:01:00Z", True),
            ("Not Before: 2027-01-15T08:01:01Z", False),
        ],
    )
    async def test_the_message_s_own_times_hold_within_a_minute(
        self, desk: Desk, line: str, accepted: bool
    ) -> None:
        message = await desk.message() + "\n" + line
        attempt = desk.sign_in.open_session(message=message, signature=sign_text(message))
        if accepted:
            await attempt
        else:
            with pytest.raises(SignatureInvalid):
                await attempt

    @pytest.mark.parametrize(
        "spoil",
        [
            lambda text: "",
            lambda text: "hello",
            lambda text: text + "\n",
            lambda text: text + "\nResources:\n- not a uri",
            lambda text: text.replace("Version: 1", "Version: 2"),
            lambda text: text.replace("Nonce: ", "Nonce: -"),
            lambda text: text.replace(LICENSEE, LICENSEE[:-1]),
            lambda text: text.replace(LICENSEE, LICENSEE.replace("a", "A", 1)),
            lambda text: text.replace("Chain ID: 31337", "Chain ID: x"),
            lambda text: text.replace("Chain ID: 31337", "Chain ID: " + "9" * 3000),
            lambda text: text.replace("2027-01-15", "2027-13-45"),
            lambda text: text + "x" * 5000,
            lambda text: text + "\nResources:" + "\n- https://a.example/12345" * 21,
            lambda text: text.replace("\n\n\n", f"\n\n{'a' * 257}\n\n"),
            lambda text: text.replace("\n\n\n", "\n\nñandú\n\n"),
            lambda text: text.replace("\n", "\r\n"),
            lambda text: "\n" + text,
            lambda text: text.replace("Issued At", "Extra: 1\nIssued At"),
        ],
    )
    async def test_what_is_no_sign_in_message_is_refused(self, desk: Desk, spoil: Any) -> None:
        message = spoil(await desk.message())
        with pytest.raises(SignatureInvalid):
            await desk.sign_in.open_session(message=message, signature=sign_text(message))

    async def test_another_s_signature_opens_nothing_and_leaves_the_nonce(self, desk: Desk) -> None:
        message = await desk.message()
        with pytest.raises(SignatureInvalid):
            await desk.sign_in.open_session(message=message, signature=sign_text(message, STRANGER_KEY))
        await desk.sign_in.open_session(message=message, signature=sign_text(message))

    async def test_a_signature_of_another_text_opens_nothing(self, desk: Desk) -> None:
        message = await desk.message()
        signature = sign_text(message)
        with pytest.raises(SignatureInvalid):
            await desk.sign_in.open_session(message=message.replace(LICENSEE, STRANGER), signature=signature)

    async def test_a_malleable_signature_opens_nothing(self, desk: Desk) -> None:
        message = await desk.message()
        good = sign(personal_message_digest(message))
        s = CURVE_ORDER - int.from_bytes(good[32:64], "big")
        flipped = good[:32] + s.to_bytes(32, "big") + bytes([55 - good[64]])
        with pytest.raises(SignatureInvalid):
            await desk.sign_in.open_session(message=message, signature="0x" + flipped.hex())

    async def test_a_message_is_good_once(self, desk: Desk) -> None:
        message = await desk.message()
        signature = sign_text(message)
        await desk.sign_in.open_session(message=message, signature=signature)
        with pytest.raises(NonceReused):
            await desk.sign_in.open_session(message=message, signature=signature)

    async def test_of_a_hundred_concurrent_tries_one_gets_a_session(self, desk: Desk) -> None:
        message = await desk.message()
        signature = sign_text(message)
        outcomes = await asyncio.gather(
            *(desk.sign_in.open_session(message=message, signature=signature) for _ in range(100)),
            return_exceptions=True,
        )
        assert sum(isinstance(outcome, NonceReused) for outcome in outcomes) == 99
        assert desk.database.one("SELECT count(*) FROM sessions") == (1,)

    async def test_a_nonce_of_one_s_own_making_is_refused(self, desk: Desk) -> None:
        message = await desk.message(nonce="mynonce1234")
        with pytest.raises(SignatureInvalid, match="nonce"):
            await desk.sign_in.open_session(message=message, signature=sign_text(message))

    async def test_an_old_nonce_is_refused(self, desk: Desk) -> None:
        nonce = (await desk.sign_in.nonce()).nonce
        desk.now += 300
        message = await desk.message(nonce=nonce)
        with pytest.raises(SignatureInvalid, match="nonce"):
            await desk.sign_in.open_session(message=message, signature=sign_text(message))

    async def test_a_contract_account_signs_in(self, desk: Desk) -> None:
        desk.chain.contract_accounts.add(STRANGER)
        message = await desk.message(address=STRANGER)
        digest = personal_message_digest(message)
        session = await desk.sign_in.open_session(message=message, signature="0x" + digest.hex())
        assert session.address == STRANGER

    async def test_an_outage_during_its_check_is_no_verdict_and_leaves_the_nonce(self, desk: Desk) -> None:
        desk.chain.contract_accounts.add(STRANGER)
        message = await desk.message(address=STRANGER)
        digest = personal_message_digest(message)
        desk.chain.down = True
        with pytest.raises(ChainUnavailable) as outage:
            await desk.sign_in.open_session(message=message, signature="0x" + digest.hex())
        assert outage.value.retry_after is not None
        desk.chain.down = False
        await desk.sign_in.open_session(message=message, signature="0x" + digest.hex())

    async def test_made_up_nonces_do_not_make_the_node_ask_the_chain(self, desk: Desk) -> None:
        message = await desk.message(address=STRANGER, nonce="madeup1234")
        with pytest.raises(SignatureInvalid):
            await desk.sign_in.open_session(message=message, signature="0x" + bytes(65).hex())
        assert not desk.chain.calls

    async def test_more_sign_ins_than_can_wait_are_turned_away(
        self, desk: Desk, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("node.flows.sign_in.MAX_READERS", 3)
        outcomes = await asyncio.gather(
            *(desk.sign_in.open_session(message="x y", signature="0x00") for _ in range(10)),
            return_exceptions=True,
        )
        assert sum(isinstance(outcome, Overloaded) for outcome in outcomes) == 7


class TestSignedRequest:
    async def test_a_signed_request_names_its_signer(self, desk: Desk) -> None:
        caller = await desk.caller(await desk.header())
        assert (caller.address, caller.scheme) == (LICENSEE, CallerScheme.SIGNATURE)

    @pytest.mark.parametrize(
        "change",
        [
            {"method": "GET"},
            {"path": "/api/models/load?force=1"},
            {"path": "/api/inference/execute"},
            {"body_hash": body_hash(b'{"tokenId":"2"}')},
        ],
    )
    async def test_a_signature_holds_for_its_request_only(self, desk: Desk, change: dict[str, Any]) -> None:
        header = await desk.header()
        with pytest.raises(SignatureInvalid):
            await desk.caller(header, **change)

    async def test_a_signature_for_another_node_is_refused(self, desk: Desk) -> None:
        with pytest.raises(SignatureInvalid):
            await desk.caller(await desk.header(node=STRANGER))

    async def test_an_address_that_did_not_sign_is_refused(self, desk: Desk) -> None:
        """A peer's token was not bound to the consumer's address: anybody's would do."""
        with pytest.raises(SignatureInvalid):
            await desk.caller(await desk.header(address=STRANGER))
        with pytest.raises(SignatureInvalid):
            await desk.caller(await desk.header(key=STRANGER_KEY))

    async def test_a_signature_is_good_once(self, desk: Desk) -> None:
        header = await desk.header()
        outcomes = await asyncio.gather(*(desk.caller(header) for _ in range(100)), return_exceptions=True)
        assert sum(isinstance(outcome, NonceReused) for outcome in outcomes) == 99
        with pytest.raises(NonceReused):
            await desk.caller(header)

    @pytest.mark.parametrize(("ahead", "accepted"), [(-59, True), (-60, False), (360, True), (361, False)])
    async def test_deadlines_are_near_and_not_over(self, desk: Desk, ahead: int, accepted: bool) -> None:
        header = await desk.header(deadline=int(NOW) + ahead)
        if accepted:
            await desk.caller(header)
        else:
            with pytest.raises(SignatureInvalid, match="deadline"):
                await desk.caller(header)

    async def test_a_nonce_serves_a_session_or_a_request_not_both(self, desk: Desk) -> None:
        nonce = (await desk.sign_in.nonce()).nonce
        await desk.caller(await desk.header(nonce=nonce))
        message = await desk.message(nonce=nonce)
        with pytest.raises(NonceReused):
            await desk.sign_in.open_session(message=message, signature=sign_text(message))

    async def test_an_outage_while_a_contract_account_is_asked_is_no_verdict(self, desk: Desk) -> None:
        desk.chain.down = True
        with pytest.raises(ChainUnavailable):
            await desk.caller(await desk.header(address=STRANGER))

    async def test_no_refusal_repeats_the_signature(self, desk: Desk) -> None:
        header = await desk.header(address=STRANGER)
        with pytest.raises(NodeError) as refused:
            await desk.caller(header)
        assert header.rpartition("=")[2] not in str(refused.value)


@pytest.mark.parametrize(
    ("settings", "url", "domains"),
    [
        ({}, "https://node.example", {"node.example"}),
        ({}, "https://Node.Example:8443/path", {"node.example:8443"}),
        ({}, "http://127.0.0.1:3000", {"127.0.0.1:3000", "localhost:3000", "[::1]:3000"}),
        (
            {"cors_origins": ("https://dapp.example", "http://localhost:5173")},
            "https://node.example",
            {"node.example", "dapp.example", "localhost:5173"},
        ),
        ({"sign_in_domains": ("Only.Example",)}, "https://node.example", {"only.example"}),
        ({"cors_origins": ("*",)}, "https://node.example", {"node.example"}),
    ],
)
def test_the_domains_that_may_sign_in(settings: dict[str, Any], url: str, domains: set[str]) -> None:
    assert set(sign_in_domains(Settings(**settings), public_url=url)) == domains
