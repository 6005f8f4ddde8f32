"""The behaviour of each contract function is written as a tree beside its test; the two say the same."""

from __future__ import annotations

import re
from collections import Counter
from pathlib import Path

import pytest

UNIT = Path(__file__).resolve().parents[3] / "contracts" / "test" / "unit"
TREES = sorted(UNIT.glob("*.tree"))


def test_each_test_has_a_tree_and_each_tree_a_test() -> None:
    assert TREES
    assert {path.stem for path in TREES} == {
        path.name.removesuffix(".t.sol") for path in UNIT.glob("*.t.sol")
    }


@pytest.mark.parametrize("tree", TREES, ids=lambda path: path.stem)
def test_each_leaf_is_tested_and_each_test_is_a_leaf(tree: Path) -> None:
    leaves = Counter(re.findall(r"── (it .+)$", tree.read_text(), re.MULTILINE))
    tested = Counter(re.findall(r"^ +// (it .+)$", tree.with_suffix(".t.sol").read_text(), re.MULTILINE))
    # A leaf may take several tests; a plain "it should revert" stands once for each branch that ends so.
    assert set(tested) == set(leaves)
    assert {leaf: count for leaf, count in leaves.items() if tested[leaf] < count} == {}


@pytest.mark.parametrize("tree", TREES, ids=lambda path: path.stem)
def test_each_line_of_a_tree_is_a_condition_or_a_behaviour(tree: Path) -> None:
    root, *lines = tree.read_text().splitlines()
    assert root == tree.stem[0].upper() + tree.stem[1:]
    assert [line for line in lines if not re.fullmatch(r"[│ ]*[├└]── (given|when|it) .+", line)] == []
