"""Which tasks there are: the spec of each and where its postprocessor is.

A new task is one module and one line in `OUTPUTS` (docs/extending.md). Nothing heavy is imported
until `create` is called, which only a worker does.
"""

from __future__ import annotations

import importlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, Union

import msgspec

from postprocessors.specs import ClassificationOutput, RawOutput, RegressionOutput

if TYPE_CHECKING:
    from postprocessors.base import Postprocessor


@dataclass(frozen=True, slots=True)
class OutputTask:
    """One task.

    Attributes
    ----------
    spec : msgspec struct tagged by `task`.
    factory : "module:name" of a callable `(spec, *, labels) -> Postprocessor`.
    """

    spec: type[msgspec.Struct]
    factory: str

    @property
    def task(self) -> str:
        return str(self.spec.__struct_config__.tag)


class OutputTasks:
    """An immutable set of tasks."""

    def __init__(self, tasks: Iterable[OutputTask]) -> None:
        self._by_spec = {entry.spec: entry for entry in tasks}
        self.union: Any = Union[tuple(self._by_spec)]  # noqa: UP007 - built at run time

    def __iter__(self) -> Iterator[OutputTask]:
        return iter(self._by_spec.values())

    def extended(self, *tasks: OutputTask) -> OutputTasks:
        """The same tasks and more."""
        return OutputTasks([*self, *tasks])

    def create(self, spec: msgspec.Struct, *, labels: list[str] | None) -> Postprocessor:
        """Import and make the postprocessor for `spec`; `labels[i]` names class i."""
        entry = self._by_spec.get(type(spec))
        if entry is None:
            raise LookupError(f"no postprocessor is registered for {type(spec).__name__}")
        module, _, name = entry.factory.partition(":")
        made: Postprocessor = getattr(importlib.import_module(module), name)(spec, labels=labels)
        return made


OUTPUTS: Final = OutputTasks(
    [
        OutputTask(ClassificationOutput, "postprocessors.classification:ClassificationPostprocessor"),
        OutputTask(RegressionOutput, "postprocessors.regression:RegressionPostprocessor"),
        OutputTask(RawOutput, "postprocessors.raw:RawPostprocessor"),
    ]
)
