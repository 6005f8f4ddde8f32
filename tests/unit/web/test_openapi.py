"""`/openapi.json` says what the node does."""

from __future__ import annotations

import inspect
from typing import Any

import msgspec
import pytest
from aiohttp import web
from openapi_schema_validator import OAS31Validator
from openapi_spec_validator import OpenAPIV31SpecValidator

from node.web import schemas
from node.web.openapi import description
from node.web.operations import OPERATIONS
from node.web.problems import STATUS
from node.web.routes import add_routes
from tests.unit.web.conftest import AUTH, Served


@pytest.fixture(scope="module")
def document() -> dict[str, Any]:
    made: dict[str, Any] = msgspec.json.decode(msgspec.json.encode(description("1.2.3")))
    return made


def check(document: dict[str, Any], name: str, value: object) -> None:
    """Raises unless `value` is what the component `name` says."""
    schema = {"$ref": f"#/components/schemas/{name}", "components": document["components"]}
    OAS31Validator(schema).validate(value)


def test_is_a_valid_description(document: dict[str, Any]) -> None:
    assert [str(error) for error in OpenAPIV31SpecValidator(document).iter_errors()] == []
    assert document["info"]["version"] == "1.2.3"


def test_describes_every_route_and_no_other() -> None:
    app = web.Application()
    add_routes(app)
    routes = {
        (route.method.lower(), route.resource.canonical)
        for route in app.router.routes()
        if route.resource is not None
    }
    described = {(operation.method, operation.path) for operation in OPERATIONS}
    heads = {("head", path) for method, path in routes if method == "get"}
    assert described - heads == routes - heads


def test_operations_have_names_of_their_own(document: dict[str, Any]) -> None:
    names = [op["operationId"] for path in document["paths"].values() for op in path.values()]
    assert len(names) == len(set(names)) == len(OPERATIONS)


def test_every_struct_is_used(document: dict[str, Any]) -> None:
    structs = {
        name
        for name, kind in vars(schemas).items()
        if inspect.isclass(kind)
        and issubclass(kind, msgspec.Struct)
        and kind not in (msgspec.Struct, schemas.Inbound)
    }
    assert structs == set(document["components"]["schemas"])


def test_every_error_that_is_promised_exists() -> None:
    promised = {code for operation in OPERATIONS for code in operation.errors}
    assert promised <= set(STATUS)


async def test_answers_are_what_is_described(node: Served, document: dict[str, Any]) -> None:
    body = {"model_id": "resnet18", "input_data": {"format": "tensor", "content": [1]}}
    check(document, "ExecuteBody", body)
    async with node.client.post("/api/inference/execute", json=body, headers=AUTH) as response:
        answer = await response.json()
    check(document, "ExecuteAnswer", answer)
    check(document, "Prediction", answer["predictions"][0])
    for url, name in (
        ("/api/models", "ModelsAnswer"),
        ("/api/models/resnet18", "ModelDetailAnswer"),
        ("/api/licenses/resnet18", "LicenseAnswer"),
        ("/api/inference/formats", "FormatsAnswer"),
        ("/health", "HealthAnswer"),
        ("/nowhere", "ProblemAnswer"),
    ):
        async with node.client.get(url, headers=AUTH) as response:
            check(document, name, await response.json())


async def test_is_served(node: Served) -> None:
    async with node.client.get("/openapi.json") as response:
        assert response.content_type == "application/json"
        assert (await response.json())["openapi"] == "3.1.0"
