"""Which kinds of input there are: the spec of each, its formats, and where its preprocessor is.

A new kind is one module and one line in `INPUTS` (docs/extending.md). Nothing heavy is imported
until `create` is called, which only a worker does.
"""

from __future__ import annotations

import importlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, Union

import msgspec

from preprocessors.formats import IMAGE_FORMATS, TABULAR_FORMATS, TENSOR_FORMATS, Format
from preprocessors.specs import ImageInput, TabularInput, TensorInput

if TYPE_CHECKING:
    from preprocessors.base import Limits, Preprocessor


@dataclass(frozen=True, slots=True)
class InputKind:
    """One kind of input.

    Attributes
    ----------
    spec : msgspec struct tagged by `kind`.
    factory : "module:name" of a callable `(spec, *, limits) -> Preprocessor`.
    """

    spec: type[msgspec.Struct]
    factory: str
    formats: tuple[Format, ...]

    @property
    def kind(self) -> str:
        return str(self.spec.__struct_config__.tag)


class InputKinds:
    """An immutable set of kinds."""

    def __init__(self, kinds: Iterable[InputKind]) -> None:
        self._by_spec = {entry.spec: entry for entry in kinds}
        self.union: Any = Union[tuple(self._by_spec)]  # noqa: UP007 - built at run time

    def __iter__(self) -> Iterator[InputKind]:
        return iter(self._by_spec.values())

    def extended(self, *kinds: InputKind) -> InputKinds:
        """The same kinds and more."""
        return InputKinds([*self, *kinds])

    def formats(self, spec: msgspec.Struct) -> tuple[Format, ...]:
        """The formats in which an input of this spec may come."""
        return self._entry(spec).formats

    def create(self, spec: msgspec.Struct, *, limits: Limits) -> Preprocessor:
        """Import and make the preprocessor for `spec`."""
        module, _, name = self._entry(spec).factory.partition(":")
        made: Preprocessor = getattr(importlib.import_module(module), name)(spec, limits=limits)
        return made

    def _entry(self, spec: msgspec.Struct) -> InputKind:
        try:
            return self._by_spec[type(spec)]
        except KeyError:
            raise LookupError(f"no preprocessor is registered for {type(spec).__name__}") from None


INPUTS: Final = InputKinds(
    [
        InputKind(ImageInput, "preprocessors.image:ImagePreprocessor", IMAGE_FORMATS),
        InputKind(TensorInput, "preprocessors.tensor:TensorPreprocessor", TENSOR_FORMATS),
        InputKind(TabularInput, "preprocessors.tabular:TabularPreprocessor", TABULAR_FORMATS),
    ]
)
