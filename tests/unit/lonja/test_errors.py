"""The SDK's errors are the node's, under the same names and codes."""

from __future__ import annotations

import pytest

import lonja.errors
import node.errors
from lonja.errors import BY_CODE, ApiError, LicenseMissing, Overloaded, from_problem
from node.errors import NodeError, StartupError


def kinds(root: type) -> set[type]:
    return {root}.union(*(kinds(kind) for kind in root.__subclasses__()))


def node_kinds() -> list[type[NodeError]]:
    """All that a client may see, as node/errors.py defines them."""
    ours = {kind for kind in kinds(NodeError) - kinds(StartupError) if kind.__module__ == "node.errors"}
    return sorted(ours - {NodeError}, key=lambda kind: kind.__name__)


@pytest.mark.parametrize("kind", node_kinds(), ids=lambda kind: kind.__name__)
def test_every_error_of_the_node_has_a_twin(kind):
    twin = getattr(lonja.errors, kind.__name__)
    assert (twin.code, twin.retriable) == (kind.code, kind.retriable)
    parent = kind.__mro__[1].__name__
    assert twin.__mro__[1].__name__ == ("ApiError" if parent == "NodeError" else parent)


def test_there_is_no_twin_of_something_that_is_gone():
    codes = {kind.code for kind in node_kinds()} | {NodeError.code}
    assert set(BY_CODE) == codes


def test_every_class_stands_in_the_tree_at_the_head_of_the_module():
    drawn = lonja.errors.__doc__ or ""
    missing = [kind.__name__ for kind in kinds(lonja.errors.LonjaError)
               if kind.__module__ == "lonja.errors" and kind.__name__ not in drawn]  # fmt: skip
    assert missing == []


def test_a_problem_becomes_its_typed_error():
    problem = {"code": "license_missing", "detail": "no license", "suggestion": "buy one", "request_id": "r1"}
    error = from_problem(problem, status=403, retry_after=None)
    assert type(error) is LicenseMissing
    assert (error.status, error.message, error.suggestion, error.request_id) == (
        403,
        "no license",
        "buy one",
        "r1",
    )


def test_a_code_of_a_later_version_is_a_plain_api_error():
    error = from_problem({"code": "quota_spent", "detail": "x"}, status=429, retry_after=3.0)
    assert (type(error), error.code, error.retry_after) == (ApiError, "quota_spent", 3.0)
    assert ApiError.code == "internal"


def test_a_problem_without_members_still_says_something():
    assert str(from_problem({}, status=502, retry_after=None)) == "HTTP 502"
    assert Overloaded("full").retriable is True


def test_node_errors_module_is_the_one_compared():
    assert node.errors.LicenseMissing in node_kinds()
