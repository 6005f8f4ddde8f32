"""`POST /api/auth/nonce`, `POST /api/auth/session`, `DELETE /api/auth/session`: Sign-In with Ethereum."""

from __future__ import annotations

from typing import Final

import msgspec
from aiohttp import web

from node.errors import AuthenticationRequired
from node.web import answers, body, schemas
from node.web.caller import authorization, bearer_token
from node.web.handlers.models import SMALL_BODY
from node.web.keys import EDGE

_session_body: Final = msgspec.json.Decoder(schemas.SessionBody)


async def nonce(request: web.Request) -> web.Response:
    """A nonce to put into the message, with what else the message must say."""
    flows = request.app[EDGE].state.ready_flows()
    body.check_headers(request, limit=SMALL_BODY)
    given = await flows.sign_in.nonce()
    answer = schemas.NonceAnswer(
        given.nonce, list(given.domains), given.uri, given.chain_id, given.node, given.expires_at
    )
    return answers.json(answer)


async def open_session(request: web.Request) -> web.Response:
    """A session token for a signed message."""
    flows = request.app[EDGE].state.ready_flows()
    body.require_media_type(request, "application/json")
    body.check_headers(request, limit=SMALL_BODY)
    signed = body.decode(_session_body, await body.read(request, limit=SMALL_BODY))
    session = await flows.sign_in.open_session(message=signed.message, signature=signed.signature)
    return answers.json(schemas.SessionAnswer(session.token, session.address, session.expires_at))


async def close_session(request: web.Request) -> web.Response:
    """End the session whose token the request carries."""
    flows = request.app[EDGE].state.ready_flows()
    header = authorization(request)
    token = None if header is None else bearer_token(header)
    if not token:
        raise AuthenticationRequired("Send the token to end as `Authorization: Bearer <token>`.")
    await flows.sign_in.close_session(token)
    return web.Response(status=204)
