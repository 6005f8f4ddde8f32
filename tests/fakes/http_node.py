"""A node's HTTP face that answers as it is told, for tests of the SDK: sessions are real, models are not."""

from __future__ import annotations

import secrets
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from aiohttp import web

CONTRACT = "0x5FbDB2315678afecb367f032d93F642f64180aa3"
NODE = "0x9965507D1a55bcC2695C58ba16FB37d819B0A4dc"
ANSWER = {
    "success": True,
    "model_id": "digits",
    "predictions": [{"class": "seven", "confidence": 0.75, "class_id": 7}],
    "metrics": {"inference_time_ms": 1.5, "preprocessing_time_ms": 1, "total_time_ms": 3},
    "metadata": {"token_id": "1", "revision": 1, "manifest_cid": "bafy", "entropy": 0.5},
    "a_later_member": True,
}  # fmt: skip


def problem(status: int, code: str, **headers: str) -> web.Response:
    body = {"status": status, "code": code, "detail": f"it is {code}", "request_id": "r-1"}
    return web.json_response(body, status=status, headers=headers, content_type="application/problem+json")


@dataclass
class HttpNode:
    """Counts what it is asked; `script` holds answers that come before the usual ones."""

    clock: Callable[[], float]
    domains: list[str] = field(default_factory=list)
    script: list[Callable[[], web.StreamResponse]] = field(default_factory=list)
    asked: list[str] = field(default_factory=list)
    bodies: list[Any] = field(default_factory=list)
    authorizations: list[str] = field(default_factory=list)
    messages: list[tuple[str, str]] = field(default_factory=list)
    nonces: set[str] = field(default_factory=set)
    tokens: set[str] = field(default_factory=set)
    session_seconds: float = 900

    def application(self) -> web.Application:
        app = web.Application()
        app.router.add_post("/api/auth/nonce", self.nonce)
        app.router.add_post("/api/auth/session", self.session)
        app.router.add_delete("/api/auth/session", self.forget)
        app.router.add_post("/api/inference/execute", self.execute)
        app.router.add_get("/{anything:.*}", self.plain)
        return app

    async def nonce(self, request: web.Request) -> web.StreamResponse:
        self.asked.append("nonce")
        nonce = secrets.token_hex(8)
        self.nonces.add(nonce)
        return web.json_response(
            {"nonce": nonce, "domains": self.domains or [request.host], "uri": f"http://{request.host}",
             "chain_id": 31337, "node": NODE, "expires_at": self.clock() + 300}
        )  # fmt: skip

    async def session(self, request: web.Request) -> web.StreamResponse:
        self.asked.append("session")
        body = await request.json()
        nonce = body["message"].partition("Nonce: ")[2][:16]
        if nonce not in self.nonces:
            return problem(409, "nonce_reused")
        self.nonces.discard(nonce)
        if self.script:
            return self.script.pop(0)()
        self.messages.append((body["message"], body["signature"]))
        token = secrets.token_hex(8)
        self.tokens.add(token)
        ends = self.clock() + self.session_seconds
        return web.json_response({"token": token, "address": NODE, "expires_at": ends})

    async def forget(self, request: web.Request) -> web.StreamResponse:
        self.asked.append("forget")
        self.tokens.discard(request.headers["Authorization"].removeprefix("Bearer "))
        return web.Response(status=204)

    async def execute(self, request: web.Request) -> web.StreamResponse:
        self.asked.append("execute")
        self.bodies.append(await request.json())
        header = request.headers.get("Authorization", "")
        self.authorizations.append(header)
        if self.script:
            return self.script.pop(0)()
        if header.startswith("Bearer ") and header.removeprefix("Bearer ") not in self.tokens:
            return problem(401, "session_expired")
        return web.json_response(ANSWER)

    async def plain(self, request: web.Request) -> web.StreamResponse:
        self.asked.append(request.raw_path)
        if self.script:
            return self.script.pop(0)()
        return web.json_response({"status": "ok"})
