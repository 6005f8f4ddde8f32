"""What every answer carries: CORS, security headers, problems without internals; and who the client is."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from typing import Any

import pytest
from aiohttp.test_utils import make_mocked_request

from node import errors
from node.errors import NodeError, Overloaded, SettingsInvalid
from node.web.cors import CorsPolicy
from node.web.peer import TrustedProxies
from node.web.problems import STATUS, problem, problem_response
from tests.unit.web.conftest import AUTH, Served

DAPP = "https://dapp.example"
BODY = {"model_id": "resnet18", "input_data": {"format": "tensor", "content": [1]}}
URL = "/api/inference/execute"


async def test_a_listed_origin_may_read_the_answer(serve: Callable[..., Any]) -> None:
    node: Served = await serve(cors_origins=(DAPP,))
    async with node.client.post(URL, json=BODY, headers=AUTH | {"Origin": DAPP}) as response:
        assert response.headers["Access-Control-Allow-Origin"] == DAPP
        assert response.headers["Access-Control-Allow-Credentials"] == "true"
        assert "X-Request-ID" in response.headers["Access-Control-Expose-Headers"]
        assert response.headers["Vary"] == "Origin"


async def test_a_listed_origin_may_read_problems_and_streams(serve: Callable[..., Any]) -> None:
    from tests.fakes.flows import LABELS_CID

    node: Served = await serve(cors_origins=(DAPP,))
    for url in ("/nowhere", "/api/models/nope", f"/ipfs/{LABELS_CID}?format=car"):
        async with node.client.get(url, headers={"Origin": DAPP}) as response:
            assert response.headers["Access-Control-Allow-Origin"] == DAPP
            assert "Origin" in response.headers["Vary"]


@pytest.mark.parametrize(
    "origin", ["https://evil.example", "https://dapp.example.evil", "null", "http://dapp.example"]
)
async def test_another_origin_may_not(serve: Callable[..., Any], origin: str) -> None:
    node: Served = await serve(cors_origins=(DAPP,))
    async with node.client.get("/api/models", headers={"Origin": origin}) as response:
        assert "Access-Control-Allow-Origin" not in response.headers
        assert response.headers["Vary"] == "Origin"


async def test_no_origin_may_by_default(node: Served) -> None:
    async with node.client.get("/api/models", headers={"Origin": DAPP}) as response:
        assert not [name for name in response.headers if name.startswith("Access-Control")]


async def test_any_origin_may_but_without_credentials(serve: Callable[..., Any]) -> None:
    node: Served = await serve(cors_origins=("*",))
    async with node.client.get("/api/models", headers={"Origin": DAPP}) as response:
        assert response.headers["Access-Control-Allow-Origin"] == "*"
        assert "Access-Control-Allow-Credentials" not in response.headers


async def test_answers_a_preflight(serve: Callable[..., Any]) -> None:
    node: Served = await serve(cors_origins=(DAPP,))
    headers = {
        "Origin": DAPP,
        "Access-Control-Request-Method": "POST",
        "Access-Control-Request-Headers": "authorization,content-type",
    }
    async with node.client.options(URL, headers=headers) as response:
        assert (response.status, await response.read()) == (204, b"")
        assert response.headers["Access-Control-Allow-Origin"] == DAPP
        assert response.headers["Access-Control-Allow-Methods"] == "OPTIONS, POST"
        assert "Authorization" in response.headers["Access-Control-Allow-Headers"]
        assert response.headers["Access-Control-Max-Age"] == "600"


async def test_a_preflight_of_another_origin_gets_no_permission(serve: Callable[..., Any]) -> None:
    node: Served = await serve(cors_origins=(DAPP,))
    headers = {"Origin": "https://evil.example", "Access-Control-Request-Method": "POST"}
    async with node.client.options(URL, headers=headers) as response:
        assert not [name for name in response.headers if name.startswith("Access-Control")]


async def test_options_tells_what_a_url_takes(node: Served) -> None:
    async with node.client.options("/api/models") as response:
        assert (response.status, response.headers["Allow"]) == (204, "GET, HEAD, OPTIONS")
    async with node.client.options("/nowhere") as response:
        assert response.status == 404


async def test_every_answer_carries_the_security_headers(node: Served) -> None:
    for url in ("/health/live", "/nowhere", "/metrics"):
        async with node.client.get(url) as response:
            headers = response.headers
        assert headers["X-Content-Type-Options"] == "nosniff"
        assert headers["Content-Security-Policy"] == "default-src 'none'; frame-ancestors 'none'"
        assert headers["Referrer-Policy"] == "no-referrer"
        assert headers["Cache-Control"] == "no-store"
        assert headers["Server"] == "lonja"
        assert "Strict-Transport-Security" not in headers


async def test_an_https_node_tells_browsers_to_stay(serve: Callable[..., Any]) -> None:
    node: Served = await serve(public_url="https://node.example")
    async with node.client.get("/health/live") as response:
        assert response.headers["Strict-Transport-Security"] == "max-age=31536000"


@pytest.mark.parametrize(("trusted", "told"), [(("127.0.0.1",), True), (("10.0.0.1",), False), ((), False)])
async def test_believes_a_trusted_proxy_that_says_https(
    serve: Callable[..., Any], trusted: tuple[str, ...], told: bool
) -> None:
    node: Served = await serve(trusted_proxies=trusted)
    async with node.client.get("/health/live", headers={"X-Forwarded-Proto": "https"}) as response:
        assert ("Strict-Transport-Security" in response.headers) is told


async def test_head_is_get_without_a_body(node: Served) -> None:
    async with node.client.head("/api/models") as response:
        assert (response.status, await response.read()) == (200, b"")
        assert int(response.headers["Content-Length"]) > 0


async def test_an_unexpected_error_tells_nothing_but_its_request_id(
    node: Served, caplog: pytest.LogCaptureFixture
) -> None:
    async def explode() -> None:
        raise ZeroDivisionError("secret of the machine at /var/lib/secret")

    node.fakes.infer.before = explode
    headers = AUTH | {"X-Request-ID": "find-me"}
    async with node.client.post(URL, json=BODY, headers=headers) as response:
        assert response.status == 500
        text = await response.text()
        problem_document = await response.json()
    assert (problem_document["code"], problem_document["request_id"]) == ("fault", "find-me")
    assert "secret" not in text
    assert "ZeroDivisionError" not in text
    record = next(record for record in caplog.records if record.message == "unexpected error")
    assert record.exc_info is not None
    assert getattr(record, "fields")["request_id"] == "find-me"  # noqa: B009 - set by `extra`


async def test_an_overload_says_when_to_come_back(node: Served) -> None:
    async def full() -> None:
        raise Overloaded("The queue of this model is full.", retry_after=2.5)

    node.fakes.infer.before = full
    async with node.client.post(URL, json=BODY, headers=AUTH) as response:
        assert (response.status, response.headers["Retry-After"]) == (503, "3")
        assert (await response.json())["retriable"] is True


def every_error() -> list[type[NodeError]]:
    found = [
        kind
        for kind in vars(errors).values()
        if isinstance(kind, type)
        and issubclass(kind, NodeError)
        and not issubclass(kind, errors.StartupError)
    ]
    assert len(found) > 30
    return found


@pytest.mark.parametrize("kind", every_error())
def test_every_error_is_a_problem_document(kind: type[NodeError]) -> None:
    document = problem(kind("What was wrong.", suggestion="Do this."), request_id="r")
    assert document["status"] == STATUS[kind.code]
    assert document["type"] == f"urn:lonja:error:{kind.code}"
    assert document["title"] == document["error"] == kind.title
    assert document["detail"] == document["message"] == "What was wrong."
    assert document["suggestion"] == "Do this."
    assert document["request_id"] == "r"
    assert document.get("retriable", False) is kind.retriable


def test_every_status_has_an_error() -> None:
    assert set(STATUS) == {kind.code for kind in every_error()}


def test_detail_cannot_replace_a_member_of_the_document() -> None:
    error = NodeError("x", status=200, request_id="forged", tokens=[1])
    document = problem(error, request_id="r")
    assert (document["status"], document["request_id"], document["tokens"]) == (500, "r", [1])


def test_a_startup_error_would_be_a_fault() -> None:
    assert problem_response(SettingsInvalid("x"), request_id="r").status == 500


@pytest.mark.parametrize(
    ("remote", "forwarded", "expected"),
    [
        ("203.0.113.9", "1.1.1.1", "203.0.113.9"),
        ("10.0.0.1", "198.51.100.7", "198.51.100.7"),
        ("10.0.0.1", "1.1.1.1, 198.51.100.7", "198.51.100.7"),
        ("10.0.0.1", "1.1.1.1, 198.51.100.7, 10.0.0.2", "198.51.100.7"),
        ("10.0.0.1", "", "10.0.0.1"),
        ("10.0.0.1", "<script>", "10.0.0.1"),
        ("10.0.0.1", "198.51.100.7, nonsense, 10.0.0.2", "10.0.0.2"),
        ("10.0.0.1", "10.0.0.3, 10.0.0.2", "10.0.0.3"),
        ("::ffff:10.0.0.1", "2001:db8::1", "2001:db8::1"),
    ],
)
def test_believes_forwarded_addresses_of_trusted_proxies_only(
    remote: str, forwarded: str, expected: str
) -> None:
    request = make_mocked_request("GET", "/", headers={"X-Forwarded-For": forwarded}).clone(remote=remote)
    assert TrustedProxies(("10.0.0.0/8",)).client(request) == expected


def test_believes_nobody_by_default() -> None:
    request = make_mocked_request("GET", "/", headers={"X-Forwarded-For": "1.1.1.1"}).clone(remote="10.0.0.1")
    assert TrustedProxies(()).client(request) == "10.0.0.1"


def test_names_a_proxy_that_is_none() -> None:
    with pytest.raises(SettingsInvalid, match="my-proxy"):
        TrustedProxies(("my-proxy",))


def test_importing_the_layer_loads_nothing_heavy() -> None:
    code = "import node.web.server, sys; print(*{name.split('.')[0] for name in sys.modules})"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert not set(run.stdout.split()) & {
        "numpy",
        "PIL",
        "onnxruntime",
        "web3",
        "eth_hash",
        "eth_utils",
        "pydantic",
    }


def test_a_problem_may_quote_bytes_that_are_no_text() -> None:
    response = problem_response(errors.ModelNotFound("no model \udcff", name="\udcff"), request_id="r")
    assert isinstance(response.body, bytes)
    assert response.body.count(b"\\udcff") == 3


@pytest.mark.parametrize(
    "origin",
    ["nonsense", "dapp.example:9000", "https://dapp.example/app", "https://me@dapp.example", "http://"],
)
def test_what_no_browser_sends_as_its_origin_stops_the_start(origin: str) -> None:
    with pytest.raises(SettingsInvalid, match="CORS_ORIGINS"):
        CorsPolicy((DAPP, origin))


def test_origins_of_pages_extensions_and_files_are_taken() -> None:
    CorsPolicy((DAPP, DAPP + "/", "*", "null", "chrome-extension://abcdef", "http://[::1]:9000"))
