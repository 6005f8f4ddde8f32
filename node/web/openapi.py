"""`/openapi.json`: OpenAPI 3.1, generated from the structs that decode and encode the bodies."""

from __future__ import annotations

from functools import cache
from typing import Any, Final

import msgspec

from node.web import problems, schemas
from node.web.operations import ALWAYS, CALLER, OPERATIONS, Operation

_REF: Final = "#/components/schemas/{name}"
_BINARY: Final[dict[str, object]] = {"type": "string", "format": "binary"}


@cache
def encoded(version: str) -> bytes:
    """The description as JSON text; made at the first request."""
    return msgspec.json.encode(description(version))


def description(version: str) -> dict[str, Any]:
    """The description as plain values."""
    components = _components()
    paths: dict[str, dict[str, object]] = {}
    for operation in OPERATIONS:
        paths.setdefault(operation.path, {})[operation.method] = _described(operation)
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "Lonja",
            "version": version,
            "summary": "An inference node for licensed models",
            "license": {"name": "Apache-2.0", "identifier": "Apache-2.0"},
        },
        "servers": [{"url": "/"}],
        "paths": paths,
        "components": {
            "schemas": components,
            "securitySchemes": {
                "session": {"type": "http", "scheme": "bearer"},
                "signature": {
                    "type": "apiKey",
                    "in": "header",
                    "name": "Authorization",
                    "description": "`Lonja-EIP712 address=...,nonce=...,deadline=...,signature=...`",
                },
            },
        },
    }


def _components() -> dict[str, Any]:
    types: list[type] = [schemas.ProblemAnswer, schemas.Prediction]
    for operation in OPERATIONS:
        types += [kind for kind in operation.body.values() if kind is not None]
        if isinstance(operation.answer, type):
            types.append(operation.answer)
    _, components = msgspec.json.schema_components(dict.fromkeys(types), ref_template=_REF)
    components["ProblemAnswer"]["additionalProperties"] = True
    return components


def _described(operation: Operation) -> dict[str, object]:
    described: dict[str, object] = {
        "operationId": _operation_id(operation),
        "summary": operation.summary,
        "tags": [operation.tag],
        "responses": _responses(operation),
    }
    if operation.parameters:
        described["parameters"] = [parameter.described() for parameter in operation.parameters]
    if operation.body:
        content = {media: {"schema": _body_schema(media, kind)} for media, kind in operation.body.items()}
        described["requestBody"] = {"required": True, "content": content}
    if operation.caller != "no":
        session: list[dict[str, list[str]]] = [{"session": []}]
        signature: list[dict[str, list[str]]] = [] if operation.caller == "session" else [{"signature": []}]
        nobody: list[dict[str, list[str]]] = [{}] if operation.caller == "optional" else []
        described["security"] = session + signature + nobody
    return described


def _operation_id(operation: Operation) -> str:
    words = [part.strip("{}") for part in operation.path.replace(".", "_").split("/") if part != "api"]
    return "_".join([operation.method, *filter(None, words)])


def _body_schema(media: str, kind: type | None) -> dict[str, object]:
    if kind is not None:
        return _ref(kind)
    if media != "multipart/form-data":
        return _BINARY
    text = {"type": "string"}
    return {
        "type": "object",
        "properties": {"file": _BINARY}
        | dict.fromkeys(("model_id", "options", "execution_mode", "top_k", "threshold", "timeout"), text),
        "required": ["file", "model_id"],
        "additionalProperties": False,
    }


def _responses(operation: Operation) -> dict[str, object]:
    good: dict[str, object] = {"description": operation.summary}
    if isinstance(operation.answer, str):
        good["content"] = {operation.answer: {"schema": {} if "json" in operation.answer else _BINARY}}
    elif operation.answer is not None:
        good["content"] = {"application/json": {"schema": _ref(operation.answer)}}
    responses: dict[str, object] = {str(operation.status): good}
    if operation.path == "/health/ready":
        responses["503"] = good | {"description": "Not now; `checks` says why"}
    if operation.path == "/ipfs/{cid}":
        responses["304"] = {"description": "The client has it already"}
    by_status: dict[int, list[str]] = {}
    for code in _codes(operation):
        by_status.setdefault(problems.STATUS[code], []).append(code)
    for status, codes in sorted(by_status.items()):
        responses[str(status)] = {
            "description": ", ".join(codes),
            "content": {problems.PROBLEM_TYPE: {"schema": _ref(schemas.ProblemAnswer)}},
        }
    return responses


def _codes(operation: Operation) -> tuple[str, ...]:
    if operation.tag == "health":
        return ()
    caller = CALLER if operation.caller in ("required", "optional", "session") else ()
    return tuple(dict.fromkeys((*operation.errors, *caller, *ALWAYS)))


def _ref(kind: type) -> dict[str, object]:
    return {"$ref": _REF.format(name=kind.__name__)}
