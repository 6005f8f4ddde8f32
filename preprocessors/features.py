"""How rows of named features are decoded: a struct made from a manifest's features. No NumPy here."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec

from preprocessors.specs import Feature


def row_type(features: Sequence[Feature]) -> Any:
    """A struct with one field a feature, so that decoding checks names and types by itself."""
    fields: list[Any] = []
    for i, feature in enumerate(features):
        kind: Any = float if feature.values is None else str | int
        if feature.missing is None:
            fields.append((f"f{i}", kind))
        else:
            fields.append((f"f{i}", kind | None, None))
    names = {f"f{i}": feature.name for i, feature in enumerate(features)}
    return msgspec.defstruct("Row", fields, rename=names, forbid_unknown_fields=True, kw_only=True)
