"""Every operation of the HTTP interface, as `/openapi.json` describes it. `routes.py` registers the same."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

from node.web import schemas

ALWAYS: Final = ("starting", "shutting_down", "malformed", "fault")
CALLER: Final = (
    "authentication_required",
    "signature_invalid",
    "session_expired",
    "nonce_reused",
    "chain_unavailable",
)
_BODY: Final = ("invalid_input", "input_too_large", "unsupported_media_type", "too_slow")
_LOADING: Final = (
    "model_not_found",
    "model_not_served",
    "model_ambiguous",
    "license_missing",
    "license_expired",
    "gateway_unavailable",
    "store_full",
    "content_mismatch",
    "manifest_invalid",
    "model_invalid",
    "overloaded",
    "too_many_in_flight",
    "deadline_exceeded",
    "worker_crashed",
)


@dataclass(frozen=True, slots=True)
class Parameter:
    """One parameter of the path, the query or the headers."""

    name: str
    where: str
    description: str
    schema: Mapping[str, object] = field(default_factory=lambda: {"type": "string"})

    def described(self) -> dict[str, object]:
        return {
            "name": self.name,
            "in": self.where,
            "required": self.where == "path",
            "description": self.description,
            "schema": dict(self.schema),
        }


@dataclass(frozen=True, slots=True)
class Operation:
    """One method of one URL."""

    method: str
    path: str
    summary: str
    tag: str
    answer: type | str | None
    """A struct, the media type of bytes, or None for no body."""
    status: int = 200
    body: Mapping[str, type | None] = field(default_factory=dict)
    """Media type to struct; None for bytes."""
    parameters: tuple[Parameter, ...] = ()
    errors: tuple[str, ...] = ()
    caller: str = "no"
    """`no`, `required`, `optional`, or `session` where a signature will not do."""


def _choice(*names: str) -> dict[str, object]:
    return {"type": "string", "enum": list(names)}


_OPTION_PARAMETERS: Final = (
    Parameter("model_id", "query", "For `image/*` bodies: the model. Or the header X-Model-ID."),
    Parameter(
        "options", "query", "For `image/*` bodies: options as JSON. Or the header X-Inference-Options."
    ),
    Parameter("top_k", "query", "For `image/*` bodies.", {"type": "integer", "minimum": 1}),
    Parameter("threshold", "query", "For `image/*` bodies.", {"type": "number", "minimum": 0, "maximum": 1}),
    Parameter("timeout", "query", "For `image/*` bodies: milliseconds.", {"type": "integer", "minimum": 1}),
)

OPERATIONS: Final = (
    Operation(
        "post",
        "/api/inference/execute",
        "Run a model on one input",
        "inference",
        schemas.ExecuteAnswer,
        body={"application/json": schemas.ExecuteBody, "image/*": None, "multipart/form-data": None},
        parameters=_OPTION_PARAMETERS,
        caller="required",
        errors=(*_BODY, "unsupported_mode", "url_fetch_failed", *_LOADING),
    ),
    Operation(
        "get",
        "/api/inference/formats",
        "Formats, limits and each model's own input",
        "inference",
        schemas.FormatsAnswer,
    ),
    Operation(
        "post",
        "/api/models/load",
        "Bring a model into a slot",
        "models",
        schemas.LoadAnswer,
        body={"application/json": schemas.LoadBody},
        caller="required",
        errors=(*_BODY, "not_permitted", "revision_mismatch", *_LOADING),
    ),
    Operation(
        "get",
        "/api/models",
        "The models that this node serves",
        "models",
        schemas.ModelsAnswer,
        parameters=(
            Parameter("search", "query", "Words in the name, description or model_id."),
            Parameter("owner", "query", "Only models of this address."),
            Parameter("offset", "query", "How many to leave out.", {"type": "integer", "minimum": 0}),
            Parameter(
                "limit", "query", "How many to list (50).", {"type": "integer", "minimum": 1, "maximum": 200}
            ),
        ),
        errors=("invalid_input",),
    ),
    Operation(
        "get",
        "/api/models/{id}",
        "One model with its offers and what it takes",
        "models",
        schemas.ModelDetailAnswer,
        parameters=(Parameter("id", "path", "`model_id` or the canonical name."),),
        errors=(
            "invalid_input",
            "model_not_found",
            "model_not_served",
            "model_ambiguous",
            "chain_unavailable",
        ),
    ),
    Operation(
        "get",
        "/api/licenses/{model}",
        "The caller's license for a model",
        "models",
        schemas.LicenseAnswer,
        parameters=(Parameter("model", "path", "`model_id` or the canonical name."),),
        caller="required",
        errors=(
            "invalid_input",
            "model_not_found",
            "model_not_served",
            "model_ambiguous",
            "license_missing",
            "license_expired",
        ),
    ),
    Operation("post", "/api/auth/nonce", "A nonce to sign", "auth", schemas.NonceAnswer),
    Operation(
        "post",
        "/api/auth/session",
        "A session token for a signed message (EIP-4361)",
        "auth",
        schemas.SessionAnswer,
        body={"application/json": schemas.SessionBody},
        errors=(*_BODY, "signature_invalid", "nonce_reused", "chain_unavailable"),
    ),
    Operation(
        "delete",
        "/api/auth/session",
        "End the session",
        "auth",
        None,
        status=204,
        caller="session",
        errors=("authentication_required", "session_expired"),
    ),
    Operation(
        "post",
        "/api/publish",
        "Put a CAR into the node's store",
        "content",
        schemas.PublishAnswer,
        status=201,
        body={"application/vnd.ipld.car": None},
        caller="session",
        errors=(*_BODY, "not_permitted", "store_full", "content_mismatch"),
    ),
    *(
        Operation(
            method,
            "/ipfs/{cid}",
            "A block or a CAR, as a trustless gateway",
            "content",
            "application/vnd.ipld.car" if method == "get" else None,
            caller="optional",
            parameters=(
                Parameter("cid", "path", "Version 0 or base32 version 1, sha2-256."),
                Parameter("format", "query", "The form; or say it in Accept.", _choice("raw", "car")),
                Parameter(
                    "dag-scope", "query", "How much of the DAG (all).", _choice("block", "entity", "all")
                ),
                Parameter("If-None-Match", "header", "The ETag that the client has."),
            ),
            errors=(
                "invalid_input",
                "not_acceptable",
                "content_not_found",
                "not_cached",
                "license_missing",
                "license_expired",
            ),
        )
        for method in ("get", "head")
    ),
    Operation("get", "/health", "State for people", "health", schemas.HealthAnswer),
    Operation("get", "/health/live", "The process answers", "health", schemas.LiveAnswer),
    Operation("get", "/health/ready", "A request would be served now", "health", schemas.HealthAnswer),
    Operation("get", "/metrics", "Figures for Prometheus", "health", "text/plain"),
    Operation("get", "/openapi.json", "This description", "health", "application/json"),
)
