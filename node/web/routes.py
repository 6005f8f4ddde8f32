"""Every URL of the node, each with the handler that answers it and its line in `/openapi.json`."""

from __future__ import annotations

from aiohttp import web

from node.web.body import expect_later
from node.web.handlers import auth, content, health, inference, models


def add_routes(app: web.Application) -> None:
    """Register all routes. `openapi.OPERATIONS` describes the same ones; a test compares."""
    post, get, delete = app.router.add_post, app.router.add_get, app.router.add_delete
    post("/api/inference/execute", inference.execute, expect_handler=expect_later)
    get("/api/inference/formats", inference.formats)
    post("/api/models/load", models.load, expect_handler=expect_later)
    get("/api/models", models.catalogue)
    get("/api/models/{id}", models.detail)
    get("/api/licenses/{model}", models.license_of_caller)
    post("/api/auth/nonce", auth.nonce, expect_handler=expect_later)
    post("/api/auth/session", auth.open_session, expect_handler=expect_later)
    delete("/api/auth/session", auth.close_session)
    post("/api/publish", content.publish, expect_handler=expect_later)
    get("/ipfs/{cid}", content.fetch)
    get("/health", health.health)
    get("/health/live", health.live)
    get("/health/ready", health.ready)
    get("/metrics", health.exposition)
    get("/openapi.json", health.description)
