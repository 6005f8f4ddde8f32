"""`/ipfs/{cid}` against https://specs.ipfs.tech/http-gateways/trustless-gateway/."""

from __future__ import annotations

import aiohttp
import pytest

from node.cid import RAW, Cid
from tests.fakes.flows import LABELS, LABELS_CID, STRANGERS_TOKEN, WEIGHTS, WEIGHTS_CID
from tests.unit.web.conftest import AUTH, Served

URL = f"/ipfs/{LABELS_CID}"
CAR = "application/vnd.ipld.car; version=1; order=dfs; dups=y"


async def test_serves_a_block(node: Served) -> None:
    async with node.client.get(f"{URL}?format=raw") as response:
        assert (response.status, await response.read()) == (200, LABELS)
        headers = response.headers
    assert headers["Content-Type"] == "application/vnd.ipld.raw"
    assert headers["ETag"] == f'"{LABELS_CID}.raw"'
    assert headers["Cache-Control"] == "public, max-age=31536000, immutable"
    assert headers["X-Content-Type-Options"] == "nosniff"
    assert headers["X-Ipfs-Path"] == URL
    assert headers["X-Ipfs-Roots"] == str(LABELS_CID)
    assert headers["Content-Disposition"] == f'attachment; filename="{LABELS_CID}.bin"'
    assert headers["Content-Length"] == str(len(LABELS))


@pytest.mark.parametrize("scope", ["block", "entity", "all"])
async def test_serves_a_car(node: Served, scope: str) -> None:
    async with node.client.get(f"{URL}?format=car&dag-scope={scope}") as response:
        assert (response.status, await response.read()) == (200, b"car:" + LABELS)
        headers = response.headers
    assert headers["Content-Type"] == CAR
    assert headers["ETag"] == f'"{LABELS_CID}.car.{scope}.dfs.y"'
    assert headers["X-Request-ID"]
    assert headers["Content-Disposition"].endswith('.car"')
    assert node.fakes.serve_content.scopes == [scope]
    assert node.fakes.serve_content.closed == 1


async def test_a_download_that_broke_off_goes_on_from_its_byte(node: Served) -> None:
    url = f"{URL}?format=car&dag-scope=entity&entity-bytes=1048576:*"
    async with node.client.get(url) as response:
        assert response.status == 200
        assert response.headers["ETag"] == f'"{LABELS_CID}.car.entity.dfs.y.1048576"'
    assert node.fakes.serve_content.starts == [1048576]


async def test_the_scope_is_all_unless_said(node: Served) -> None:
    await node.client.get(f"{URL}?format=car")
    assert node.fakes.serve_content.scopes == ["all"]


@pytest.mark.parametrize(
    ("accept", "query", "expected"),
    [
        ("application/vnd.ipld.raw", "", "application/vnd.ipld.raw"),
        ("application/vnd.ipld.car", "", CAR),
        ("application/vnd.ipld.car; version=1; order=dfs; dups=y", "?format=car", CAR),
        ("application/vnd.ipld.car;order=unk", "", CAR),
        ("text/html, application/vnd.ipld.car;q=0.5", "", CAR),
        ("*/*", "?format=raw", "application/vnd.ipld.raw"),
        ("application/vnd.ipld.car", "?format=raw", CAR),
        ("application/vnd.ipld.raw, application/vnd.ipld.car", "?format=car", CAR),
    ],
)
async def test_negotiates_the_form(node: Served, accept: str, query: str, expected: str) -> None:
    async with node.client.get(URL + query, headers={"Accept": accept}) as response:
        assert (response.status, response.headers["Content-Type"]) == (200, expected)


@pytest.mark.parametrize(
    ("accept", "query"),
    [
        ("text/html", ""),
        ("*/*", "?format=tar"),
        ("*/*", "?format=dag-json"),
        ("application/vnd.ipfs.ipns-record", ""),
        ("application/vnd.ipld.car; version=2", ""),
        ("application/vnd.ipld.car; dups=n", ""),
        ("*/*", "?format=car&car-version=2"),
        ("*/*", "?format=car&car-dups=n"),
    ],
)
async def test_refuses_other_forms_with_406(node: Served, accept: str, query: str) -> None:
    async with node.client.get(URL + query, headers={"Accept": accept}) as response:
        assert (response.status, (await response.json())["code"]) == (406, "not_acceptable")


async def test_wants_to_be_told_the_form(node: Served) -> None:
    async with node.client.get(URL, skip_auto_headers=["Accept"]) as response:
        assert (response.status, (await response.json())["code"]) == (400, "malformed")


@pytest.mark.parametrize(
    "path", ["/ipfs/nope", "/ipfs/..%2f..%2fetc", "/ipfs/QmYwAPJzv5CZsnA625s3Xf2nemtYgPpHdWEz79ojWnP"]
)
async def test_refuses_what_is_no_cid(node: Served, path: str) -> None:
    async with node.client.get(f"{path}?format=raw") as response:
        assert response.status in (404, 422)
        assert response.content_type == "application/problem+json"


@pytest.mark.parametrize(
    "query",
    [
        "format=car&dag-scope=some",
        "format=raw&depth=1",
        "format=raw&format=car",
        "format=car&entity-bytes=0:*",
        "format=car&dag-scope=entity&entity-bytes=-5:*",
        "format=car&dag-scope=entity&entity-bytes=x",
    ],
)
async def test_refuses_parameters_that_it_does_not_serve(node: Served, query: str) -> None:
    async with node.client.get(f"{URL}?{query}") as response:
        assert response.status == 422


async def test_head_tells_the_same_without_a_body(node: Served) -> None:
    async with node.client.head(f"{URL}?format=raw") as response:
        assert (response.status, await response.read()) == (200, b"")
        assert response.headers["Content-Length"] == str(len(LABELS))
    async with node.client.head(f"{URL}?format=car") as response:
        assert (response.status, await response.read()) == (200, b"")
        assert response.headers["Content-Type"] == CAR
    assert node.fakes.serve_content.closed == 1


@pytest.mark.parametrize("form", ["raw", "car"])
@pytest.mark.parametrize("weak", ["", "W/"])
async def test_spares_what_the_client_has(node: Served, form: str, weak: str) -> None:
    async with node.client.get(f"{URL}?format={form}") as response:
        etag = response.headers["ETag"]
    headers = {"If-None-Match": f'"other", {weak}{etag}'}
    async with node.client.get(f"{URL}?format={form}", headers=headers) as response:
        assert (response.status, await response.read()) == (304, b"")
        assert response.headers["ETag"] == etag
        assert "immutable" in response.headers["Cache-Control"]


async def test_an_etag_of_another_form_does_not_match(node: Served) -> None:
    headers = {"If-None-Match": f'"{LABELS_CID}.raw"'}
    async with node.client.get(f"{URL}?format=car", headers=headers) as response:
        assert response.status == 200


async def test_ignores_ranges_and_says_so(node: Served) -> None:
    async with node.client.get(f"{URL}?format=raw", headers={"Range": "bytes=0-3"}) as response:
        assert (response.status, await response.read()) == (200, LABELS)
        assert response.headers["Accept-Ranges"] == "none"


async def test_weights_need_a_license(node: Served) -> None:
    url = f"/ipfs/{WEIGHTS_CID}?format=car"
    async with node.client.get(url) as response:
        assert response.status == 401
    stranger = {"Authorization": f"Bearer {STRANGERS_TOKEN}"}
    async with node.client.get(url, headers=stranger) as response:
        assert response.status == 403
    async with node.client.get(url, headers=AUTH) as response:
        assert (response.status, await response.read()) == (200, b"car:" + WEIGHTS)


async def test_licensed_content_stays_out_of_shared_caches(node: Served) -> None:
    async with node.client.get(f"/ipfs/{WEIGHTS_CID}?format=raw", headers=AUTH) as response:
        assert response.headers["Cache-Control"].startswith("private")
        assert "Authorization" in response.headers["Vary"]


async def test_a_matching_etag_does_not_go_round_the_license(node: Served) -> None:
    headers = {"If-None-Match": "*"}
    async with node.client.get(f"/ipfs/{WEIGHTS_CID}?format=raw", headers=headers) as response:
        assert response.status == 401


async def test_does_not_hold_it(node: Served) -> None:
    unknown = Cid.of(b"unknown", codec=RAW)
    for form in ("raw", "car"):
        async with node.client.get(f"/ipfs/{unknown}?format={form}") as response:
            assert (response.status, (await response.json())["code"]) == (404, "content_not_found")
            assert response.headers["Cache-Control"] == "no-store"
    headers = {"Cache-Control": "only-if-cached"}
    async with node.client.head(f"/ipfs/{unknown}?format=raw", headers=headers) as response:
        assert response.status == 412


async def test_a_car_that_breaks_off_cannot_be_taken_for_whole(
    node: Served, caplog: pytest.LogCaptureFixture
) -> None:
    node.fakes.serve_content.break_off = True
    with pytest.raises(aiohttp.ClientError):
        async with node.client.get(f"{URL}?format=car") as response:
            await response.read()
    assert "CAR broken off" in caplog.text
    assert node.fakes.serve_content.closed == 1
