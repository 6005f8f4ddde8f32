"""The client against a node that answers as told: proof, retries, errors, answers."""

from __future__ import annotations

import asyncio
import json
from datetime import datetime
from time import time

import pytest
from aiohttp import web

from lonja import AsyncClient, Client
from lonja.admission import Admission, admitted
from lonja.answers import Purchase
from lonja.errors import (
    InvalidInput,
    LicenseMissing,
    NodeUnreachable,
    Overloaded,
    ResponseInvalid,
    SignerRequired,
    SignInRefused,
    UsageInvalid,
)
from lonja.sign_in import Challenge, choose_domain
from lonja.transport import RetryBudget, RetryPolicy, Transport
from tests.fakes.http_node import CONTRACT, NODE, HttpNode, problem

from .conftest import KEY, QUICK

PICTURE = b"\x89PNG\r\n\x1a\n rest"


def refusing(status: int, code: str, **headers: str) -> object:
    return lambda: problem(status, code, **headers)


async def test_an_inference_signs_in_once_and_gives_typed_predictions(client, fake: HttpNode):
    for _ in range(2):
        answer = await client.infer("digits", image=PICTURE, top_k=1)
    assert (answer.top.label, answer.top.confidence, answer.metadata.entropy) == ("seven", 0.75, 0.5)
    assert fake.asked == ["nonce", "session", "execute", "execute"]
    assert fake.bodies[0]["model_id"] == "digits"
    assert fake.bodies[0]["input_data"]["format"] == "base64_png"
    assert fake.bodies[0]["options"] == {"top_k": 1}


async def test_many_first_calls_at_once_sign_in_once(client, fake: HttpNode):
    await asyncio.gather(*(client.infer("digits", tensor=[1]) for _ in range(20)))
    assert fake.asked.count("session") == 1


async def test_the_sign_in_message_is_what_the_node_itself_accepts(client, fake: HttpNode, url):
    from eth_account import Account
    from eth_account.messages import encode_defunct

    from node.chain.sign_in_message import check_sign_in, parse_sign_in

    await client.sign_in()
    message, signature = fake.messages[0]
    parsed = parse_sign_in(message)
    host = url.removeprefix("http://")
    check_sign_in(parsed, domains=[host], uri=url, chain_id=31337, max_age=300, now=time())
    assert parsed.address == client.address
    assert Account.recover_message(encode_defunct(text=message), signature=signature) == client.address


async def test_a_challenge_for_another_host_is_not_signed(client, fake: HttpNode):
    fake.domains = ["lonja.example"]
    with pytest.raises(SignInRefused, match=r"lonja\.example"):
        await client.infer("digits", tensor=[1])
    assert fake.asked == ["nonce"]


def challenge(*domains: str) -> Challenge:
    return Challenge("n" * 16, list(domains), "http://x", 1, NODE, 0.0)


@pytest.mark.parametrize(
    ("base", "domains", "chosen"),
    [
        ("https://lonja.example", ["lonja.example"], "lonja.example"),
        ("https://Lonja.Example", ["a.example", "lonja.example"], "lonja.example"),
        ("http://localhost:3000", ["127.0.0.1:3000"], "127.0.0.1:3000"),
        ("http://[::1]:3000", ["localhost:3000"], "localhost:3000"),
    ],
)
def test_the_domain_is_the_host_that_we_talk_to(base, domains, chosen):
    assert choose_domain(challenge(*domains), base=base) == chosen


@pytest.mark.parametrize(
    ("base", "domain"),
    [
        ("https://lonja.example", "lonja.example.evil"),
        ("https://lonja.example:8443", "lonja.example"),
        ("http://localhost:3000", "127.0.0.1:3001"),
        ("http://localhost", "lonja.example"),
        ("http://10.0.0.1:3000", "localhost:3000"),
    ],
)
def test_another_host_or_port_is_refused(base, domain):
    with pytest.raises(SignInRefused):
        choose_domain(challenge(domain), base=base)


async def test_a_forgotten_session_is_opened_anew(client, fake: HttpNode):
    await client.infer("digits", tensor=[1])
    fake.tokens.clear()  # the node was restarted without its database
    await client.infer("digits", tensor=[1])
    assert fake.asked == ["nonce", "session", "execute", "execute", "nonce", "session", "execute"]


async def test_a_session_is_renewed_before_it_runs_out(client, fake: HttpNode):
    fake.session_seconds = 5
    await client.infer("digits", tensor=[1])
    await client.infer("digits", tensor=[1])
    assert fake.asked.count("session") == 2


async def test_a_session_outlasts_the_nonce_that_opened_it(client, fake: HttpNode):
    await client.sign_in()
    ((message, _),) = fake.messages
    begins, ends = (
        datetime.fromisoformat(message.partition(f"{name}: ")[2].partition("\n")[0])
        for name in ("Issued At", "Expiration Time")
    )
    assert (ends - begins).total_seconds() == 900


async def test_signing_out_ends_the_session_at_the_node(client, fake: HttpNode):
    await client.sign_in()
    await client.sign_out()
    assert (fake.asked[-1], fake.tokens) == ("forget", set())


async def test_a_lost_session_answer_is_asked_for_with_a_new_nonce(client, fake: HttpNode):
    fake.script = [refusing(503, "starting")]
    await client.infer("digits", tensor=[1])
    assert fake.asked == ["nonce", "session", "nonce", "session", "execute"]


async def test_each_request_can_be_signed_instead(url, fake: HttpNode):
    from eth_account import Account
    from eth_hash.auto import keccak

    from node.chain.typed_data import SignedRequest, parse_authorization, request_digest
    from node.types import ContractRef

    async with AsyncClient(url, key=KEY, contract=CONTRACT, proof="signature", retry=QUICK) as client:
        await client.infer("digits", tensor=[1])
        found = parse_authorization(fake.authorizations[0])
        body = json.dumps(fake.bodies[0], separators=(",", ":")).encode()
        request = SignedRequest(
            "POST", "/api/inference/execute", keccak(body), NODE, found.nonce, found.deadline
        )
        digest = request_digest(ContractRef(31337, CONTRACT), request)
        signer = Account._recover_hash(digest, signature=found.signature)
        assert signer == found.address == client.address
    assert fake.asked == ["nonce", "execute"]


async def test_signing_each_request_needs_the_contract(url):
    async with AsyncClient(url, key=KEY, proof="signature") as client:
        with pytest.raises(UsageInvalid, match="contract"):
            await client.infer("digits", tensor=[1])


async def test_a_refusal_is_raised_at_once_as_its_type(client, fake: HttpNode):
    fake.script = []
    await client.sign_in()
    fake.script = [refusing(403, "license_missing")]
    with pytest.raises(LicenseMissing, match="it is license_missing") as caught:
        await client.infer("digits", tensor=[1])
    assert (caught.value.status, caught.value.request_id) == (403, "r-1")
    assert fake.asked.count("execute") == 1


async def test_what_passes_is_retried_and_succeeds(client, fake: HttpNode):
    await client.sign_in()
    fake.script = [refusing(503, "chain_unavailable"), refusing(503, "overloaded")]
    assert (await client.infer("digits", tensor=[1])).success is True
    assert fake.asked.count("execute") == 3


async def test_retries_end_after_the_last_attempt(client, fake: HttpNode):
    await client.sign_in()
    fake.script = [refusing(503, "overloaded")] * 9
    with pytest.raises(Overloaded):
        await client.infer("digits", tensor=[1])
    assert fake.asked.count("execute") == QUICK.attempts


class Pauses:
    def __init__(self) -> None:
        self.taken: list[float] = []

    async def __call__(self, seconds: float) -> None:
        self.taken.append(seconds)


async def ask(url: str, pauses: Pauses, *, policy: RetryPolicy, timeout: float = 60, calls: int = 1) -> None:
    transport = Transport(url, timeout=timeout, policy=policy, pause=pauses, draw=lambda: 1.0)
    try:
        for _ in range(calls):
            try:
                await transport.call("GET", "/x")
            except Overloaded:
                continue
    finally:
        await transport.close()


async def test_pauses_double_and_heed_retry_after(url, fake: HttpNode):
    fake.script = [refusing(503, "overloaded"), refusing(503, "overloaded"),
                   refusing(503, "overloaded", **{"Retry-After": "7"})]  # fmt: skip
    pauses = Pauses()
    await ask(url, pauses, policy=RetryPolicy(attempts=4, first_pause=0.2))
    assert pauses.taken == [0.2, 0.4, 7.0]


async def test_a_pause_that_would_pass_the_deadline_is_not_begun(url, fake: HttpNode):
    fake.script = [refusing(503, "overloaded", **{"Retry-After": "120"})] * 2
    pauses = Pauses()
    await ask(url, pauses, policy=RetryPolicy(), timeout=60)
    assert (pauses.taken, len(fake.asked)) == ([], 1)


async def test_the_budget_keeps_a_client_from_storming_a_node_in_trouble(url, fake: HttpNode):
    fake.script = [refusing(503, "overloaded")] * 100
    pauses = Pauses()
    await ask(url, pauses, policy=RetryPolicy(attempts=4, budget=5), calls=10)
    assert len(fake.asked) == 10 + 5


def test_the_budget_is_earned_back_by_successes():
    budget = RetryBudget(1)
    assert (budget.take(), budget.take()) == (True, False)
    for _ in range(11):
        budget.earn()
    assert (budget.take(), budget.take()) == (True, False)


async def test_retry_after_may_be_a_date(url, fake: HttpNode):
    from email.utils import formatdate

    fake.script = [refusing(503, "overloaded", **{"Retry-After": formatdate(time() + 30, usegmt=True)})]
    pauses = Pauses()
    await ask(url, pauses, policy=RetryPolicy(attempts=2))
    assert 25 < pauses.taken[0] <= 30


async def test_a_node_that_is_not_there_is_named(unused_tcp_port):
    async with AsyncClient(f"http://127.0.0.1:{unused_tcp_port}", retry=QUICK) as client:
        with pytest.raises(NodeUnreachable, match=str(unused_tcp_port)):
            await client.health()


async def test_a_node_that_does_not_answer_in_time_is_given_up(url, fake: HttpNode):
    never = asyncio.Event()

    async def hang(_request: web.Request) -> web.StreamResponse:
        await never.wait()
        return web.Response()

    fake.plain = hang  # type: ignore[method-assign]
    from aiohttp.test_utils import TestServer

    async with TestServer(fake.application()) as server, AsyncClient(
        str(server.make_url("")).rstrip("/"), timeout=0.05, retry=QUICK
    ) as client:  # fmt: skip
        with pytest.raises(NodeUnreachable):
            await client.health()
        never.set()


async def test_other_servers_are_recognised(client, fake: HttpNode):
    fake.script = [lambda: web.Response(status=500, text="<html>oops")]
    with pytest.raises(ResponseInvalid, match="is it a Lonja node"):
        await client.health()
    fake.script = [lambda: web.Response(text="[]")]
    with pytest.raises(ResponseInvalid):
        await client.models()
    fake.script = [lambda: web.Response(status=302, headers={"Location": "http://elsewhere.example"})]
    with pytest.raises(ResponseInvalid):
        await client.health()


async def test_reading_needs_no_key_and_using_does(url):
    async with AsyncClient(url) as client:
        assert await client.health() == {"status": "ok"}
        with pytest.raises(SignerRequired):
            await client.infer("digits", tensor=[1])
        with pytest.raises(SignerRequired):
            await client.buy(1)


async def test_names_are_quoted_into_the_path(client, fake: HttpNode):
    fake.script = [refusing(422, "invalid_input")] * 2
    for name in ("../../x y?", "31337:0xAb:1"):
        with pytest.raises(InvalidInput):
            await client.model(name)
    assert fake.asked == ["/api/models/..%2F..%2Fx%20y%3F", "/api/models/31337:0xAb:1"]


@pytest.mark.parametrize("node", ["", "localhost:3000", "ftp://x", "http://"])
def test_what_is_no_url_of_a_node_is_refused(node):
    with pytest.raises(UsageInvalid, match="URL"):
        AsyncClient(node)


def test_a_key_is_given_once(tmp_path):
    with pytest.raises(UsageInvalid, match="not both"):
        AsyncClient(key=KEY, key_file=tmp_path / "x")


async def test_the_chain_is_needed_for_buying(url):
    async with AsyncClient(url, key=KEY) as client:
        with pytest.raises(UsageInvalid, match="rpc"):
            await client.buy(1)


async def test_the_synchronous_face_works_beneath_a_running_loop(url, fake: HttpNode):
    def use() -> str:
        with Client(url, key=KEY, retry=QUICK) as client:
            return client.infer("digits", image=PICTURE).top.label

    assert await asyncio.to_thread(use) == "seven"


def test_a_closed_client_says_so():
    client = Client("http://127.0.0.1:1")
    client.close()
    client.close()
    with pytest.raises(UsageInvalid, match="closed"):
        client.health()


def test_the_synchronous_face_has_every_method_of_the_asynchronous_one():
    import inspect

    def methods(kind: type) -> dict[str, list[str]]:
        public = {name for name in vars(kind) if not name.startswith("_")}
        return {
            name: list(inspect.signature(getattr(kind, name)).parameters)
            for name in public
            if callable(getattr(kind, name))
        }

    asynchronous = methods(AsyncClient)
    del asynchronous["signer"]
    assert methods(Client) == asynchronous


def test_a_session_does_not_show_its_token():
    from lonja.sign_in import Session

    assert "secret" not in repr(Session("secret", NODE, 1.0))


def honoured() -> web.StreamResponse:
    return web.json_response(
        {"model_id": "m", "token_id": "1", "licensee": NODE, "valid": True, "perpetual": True,
         "expires_at": None}
    )  # fmt: skip


async def test_a_purchase_is_over_when_the_node_honours_it(client, fake: HttpNode):
    await client.sign_in()
    fake.script = [refusing(403, "license_missing"), refusing(403, "license_expired"), honoured]
    assert await admitted(client, "31337:0xAb:1") == Admission(True)
    assert fake.asked[-3:] == ["/api/licenses/31337:0xAb:1"] * 3


@pytest.mark.parametrize(
    ("status", "code", "agrees"),
    [(403, "license_missing", False), (404, "model_not_served", None), (500, "fault", False)],
)
async def test_a_node_that_does_not_honour_a_purchase_is_heard_and_breaks_nothing(
    client, fake: HttpNode, status: int, code: str, agrees: bool | None
):
    await client.sign_in()
    fake.script = [refusing(status, code)] * 30
    assert await admitted(client, "m", patience=0.3) == Admission(agrees, f"it is {code}")


async def test_a_node_that_hangs_does_not_hold_up_a_purchase(client, fake: HttpNode, monkeypatch):
    async def hang(_name: str) -> None:
        await asyncio.Event().wait()

    monkeypatch.setattr(client, "my_license", hang)
    assert await admitted(client, "m", patience=0.01) == Admission(False, "it did not answer in time")


@pytest.mark.parametrize(
    ("named", "mine", "agrees"), [(True, True, True), (True, False, None), (False, True, None)]
)
async def test_buying_asks_the_node_only_where_one_is_named_and_of_ones_own_license(
    url, fake: HttpNode, monkeypatch, named: bool, mine: bool, agrees: bool | None
):
    monkeypatch.setattr("lonja.client.DEFAULT_NODE", url)
    async with AsyncClient(*[url] * named, key=KEY) as client:

        async def bought(token_id: int, **_options: object) -> Purchase:
            return Purchase(token_id, 1, client.address if mine else NODE, 5, None, "0x1")

        async def name(token_id: int) -> str:
            return f"31337:0xAb:{token_id}"

        monkeypatch.setattr(client.market, "buy", bought)
        monkeypatch.setattr(client.market, "canonical_name", name)
        await client.sign_in()
        fake.script = [honoured]
        assert (await client.buy(1)).node_agrees is agrees
        assert (fake.asked[-1] == "/api/licenses/31337:0xAb:1") is bool(agrees)
