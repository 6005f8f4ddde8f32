from collections.abc import Sequence
from typing import Literal, TypeAlias

from bare_models.layers import Activation

Layer: TypeAlias = tuple[memoryview[float], memoryview[float] | None, Activation, float]

class RowNetwork:
    @property
    def inputs(self) -> int: ...
    @property
    def outputs(self) -> int: ...
    def __init__(self, layers: Sequence[Layer], *, inputs: int) -> None: ...
    def __call__(self, values: list[float], /) -> list[float] | None: ...
    def best(
        self, values: list[float], k: int, activation: Literal["softmax", "sigmoid", "none"]
    ) -> tuple[list[float], list[int], float] | None: ...
