"""The face of every postprocessor and what it answers with. Runs in a model's worker only."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol, TypeAlias

import msgspec
import numpy.typing as npt

Array: TypeAlias = npt.NDArray[Any]


class OutputInvalid(ValueError):
    """The model's output is not what its manifest promises; the text is for its publisher."""


class Answer(msgspec.Struct, frozen=True):
    """A finished answer.

    Attributes
    ----------
    predictions_json : for one row what the task defines (a list), for several a list of those.
    entropy : nats; a list where there are several rows; None where the task has none.
    """

    predictions_json: bytes
    entropy: float | list[float] | None = None


class Postprocessor(Protocol):
    """Turns a model's outputs into an answer. Holds no state between calls: threads may share it."""

    def __call__(self, outputs: Mapping[str, Array], *, top_k: int | None, threshold: float | None) -> Answer:
        """Read the outputs, each of n rows.

        Parameters
        ----------
        outputs : output name -> array of shape [n, ...], in the model's order.
        top_k, threshold : what the caller asks for; None means the manifest's value.

        Raises
        ------
        OutputInvalid
            Where an output is missing, has a shape that the task cannot read, or holds NaN.
        """
        ...


def pick(outputs: Mapping[str, Array], name: str | None) -> Array:
    """The output called `name`, or the first one. Raises `OutputInvalid`."""
    if name is None:
        return next(iter(outputs.values()))
    if name not in outputs:
        raise OutputInvalid(
            f"the manifest's model.output names {name!r}, but the model has {', '.join(map(repr, outputs))}"
        )
    return outputs[name]
