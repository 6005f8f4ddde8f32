"""`POST /api/models/load`, `GET /api/models`, `GET /api/models/{id}`, `GET /api/licenses/{model}`."""

from __future__ import annotations

import re
from typing import Final

import msgspec
from aiohttp import web

from node.cid import Cid, CidInvalid
from node.errors import InvalidInput
from node.types import Address, TokenId
from node.web import answers, body, schemas
from node.web.caller import caller_and_body
from node.web.keys import EDGE
from node.web.query import parameters, whole_number

SMALL_BODY: Final = 131_072
"""Bytes; no body but an input or a model is ever larger."""

_MOST_LISTED: Final = 200
_LAST_OFFSET: Final = 10_000_000
_ADDRESS: Final = re.compile(r"0x[0-9a-fA-F]{40}", re.ASCII)
_load_body: Final = msgspec.json.Decoder(schemas.LoadBody)


async def load(request: web.Request) -> web.Response:
    """Bring a model into a slot."""
    flows = request.app[EDGE].state.ready_flows()
    body.require_media_type(request, "application/json")
    caller, content = await caller_and_body(request, flows, limit=SMALL_BODY)
    wanted = body.decode(_load_body, content)
    loaded = await flows.load_model(
        caller,
        token_id=_token_id(wanted.token_id),
        manifest_cid=_cid(wanted.metadata_cid),
        warmup=wanted.warmup,
    )
    slots = schemas.SlotsAnswer(
        loaded.slots.current_size, loaded.slots.max_size, list(loaded.slots.models_in_cache)
    )
    answer = schemas.LoadAnswer(True, loaded.model_id, loaded.message, round(loaded.load_time_ms, 3), slots)
    return answers.json(answer)


async def catalogue(request: web.Request) -> web.Response:
    """The models that this node serves, a page at a time."""
    flows = request.app[EDGE].state.ready_flows()
    asked = parameters(request, "search", "owner", "offset", "limit")
    offset = whole_number(asked.get("offset"), "offset", default=0, least=0, most=_LAST_OFFSET)
    limit = whole_number(asked.get("limit"), "limit", default=50, least=1, most=_MOST_LISTED)
    search = asked.get("search") or None
    if search is not None and len(search) > 200:
        raise InvalidInput("search is at most 200 characters.", parameter="search")
    page = await flows.browse.models(
        search=search, owner=_owner(asked.get("owner")), offset=offset, limit=limit
    )
    entries = [answers.listed(entry) for entry in page.items]
    return answers.json(schemas.ModelsAnswer(entries, page.total, offset, limit))


async def detail(request: web.Request) -> web.Response:
    """One model with its offers and what it takes."""
    flows = request.app[EDGE].state.ready_flows()
    parameters(request)
    found = await flows.browse.model(request.match_info["id"])
    return answers.json(answers.detailed(found))


async def license_of_caller(request: web.Request) -> web.Response:
    """The caller's own license for a model; 403 without one, as `execute` would answer."""
    flows = request.app[EDGE].state.ready_flows()
    parameters(request)
    caller, _ = await caller_and_body(request, flows, limit=0)
    name = request.match_info["model"]
    return answers.json(answers.licensed(name, await flows.browse.license(name, caller.address)))


def _token_id(given: str | int) -> TokenId:
    number = int(given)
    if number >= 2**256:
        raise InvalidInput("tokenId is a uint256.", member="$.tokenId")
    return TokenId(number)


def _cid(given: str | None) -> Cid | None:
    try:
        return None if given is None else Cid.parse(given.removeprefix("ipfs://"))
    except CidInvalid as error:
        raise InvalidInput(f"metadataCid is not a CID: {error}.", member="$.metadataCid") from None


def _owner(given: str | None) -> Address | None:
    if given is None:
        return None
    if not _ADDRESS.fullmatch(given):
        raise InvalidInput("owner is an address: 0x and 40 hex digits.", parameter="owner")
    return Address(given)  # compared without regard to case
