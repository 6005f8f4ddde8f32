"""docs/manifest.md and manifest.schema.json say what the structs say."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from node.errors import ManifestInvalid
from node.models import manifest
from preprocessors.specs import PRESETS

ROOT = Path(__file__).resolve().parents[3]
PAGE = (ROOT / "docs" / "manifest.md").read_text(encoding="utf-8")
SCHEMA = ROOT / "node" / "models" / "manifest.schema.json"
SECTIONS = {
    "Manifest": "Beside `model`",
    "Model": "`model`",
    "Weights": "`model.weights`",
    "LabelsRef": "`model.labels` in a file",
    "ImageInput": "`model.input` of kind `image`",
    "DenseLayer": "`model.layers` of kind `dense`",
    "ActivationLayer": "`model.layers` of kind `activation`",
    "BatchNormLayer": "`model.layers` of kind `batch_norm`",
    "DropoutLayer": "`model.layers` of kind `dropout`",
    "TensorInput": "`model.input` of kind `tensor`",
    "TabularInput": "`model.input` of kind `tabular`",
    "Feature": "`model.input.features` of kind `tabular`",
    "ClassificationOutput": "`model.output` of task `classification`",
    "RegressionOutput": "`model.output` of task `regression`",
    "Target": "`model.output.targets` of task `regression`",
    "RawOutput": "`model.output` of task `raw`",
}


def section(title: str) -> str:
    return PAGE.split(f"\n## {title}\n", 1)[1].split("\n## ", 1)[0]


def definitions() -> dict[str, Any]:
    found: dict[str, Any] = manifest.json_schema()["$defs"]
    return found


def examples() -> list[bytes]:
    return [text.encode() for text in re.findall(r"```json\n(.*?)```", PAGE, re.DOTALL)]


def test_the_checked_in_schema_is_the_one_that_the_code_gives() -> None:
    assert json.loads(SCHEMA.read_text(encoding="utf-8")) == manifest.json_schema(), (
        "run scripts/manifest_schema"
    )


def test_the_schema_is_a_schema() -> None:
    jsonschema.Draft202012Validator.check_schema(manifest.json_schema())


def test_the_page_has_a_section_for_every_struct() -> None:
    assert set(definitions()) == set(SECTIONS)


@pytest.mark.parametrize("struct", SECTIONS)
def test_the_page_describes_exactly_the_members_there_are(struct: str) -> None:
    rows = re.findall(r"^\| `([a-z0-9_]+)` \|", section(SECTIONS[struct]), re.MULTILINE)
    assert sorted(rows) == sorted(definitions()[struct]["properties"])


@pytest.mark.parametrize("struct", SECTIONS)
def test_the_page_names_every_value_that_a_member_may_take(struct: str) -> None:
    text = section(SECTIONS[struct])
    for name, member in definitions()[struct]["properties"].items():
        nodes = [member, *member.get("anyOf", [])]
        values = [value for node in nodes for value in node.get("enum", []) if isinstance(value, str)]
        row = next(line for line in text.splitlines() if line.startswith(f"| `{name}` |"))
        assert [value for value in values if f"`{value}`" not in row] == []


@pytest.mark.parametrize("struct", SECTIONS)
def test_the_page_says_which_members_are_needed(struct: str) -> None:
    rows = dict(re.findall(r"^\| `([a-z0-9_]+)` \| ([^|]*)\|", section(SECTIONS[struct]), re.MULTILINE))
    tags = {"kind", "task"}
    needed = {name for name, second in rows.items() if second.strip() == "needed"} - tags
    assert needed == set(definitions()[struct].get("required", [])) - tags


def test_the_page_states_the_presets() -> None:
    row = next(line for line in PAGE.splitlines() if line.startswith("| `preset` |"))
    for name, preset in PRESETS.items():
        assert f"`{name}` ({preset.size[0]} x {preset.size[1]}, scale {preset.scale:g}, mean " in row
    assert "mean 0.485 0.456 0.406, std 0.229 0.224 0.225" in row


def test_the_example_is_a_manifest_by_code_and_by_schema() -> None:
    published, draft = examples()
    manifest.parse(published)
    jsonschema.validate(json.loads(published), json.loads(SCHEMA.read_text(encoding="utf-8")))
    manifest.parse_draft(draft)


def test_the_schema_refuses_what_the_code_refuses() -> None:
    whole = json.loads(examples()[0])
    for member, value in [
        ("schema", 2),
        ("shema", 1),
        ("model_id", "a b"),
        ("format", "pickle"),
        ("labels", []),
    ]:
        broken = whole | {"model": whole["model"] | {member: value}}
        with pytest.raises(jsonschema.ValidationError):
            jsonschema.validate(broken, manifest.json_schema())
        with pytest.raises(ManifestInvalid):
            manifest.parse(json.dumps(broken).encode())
