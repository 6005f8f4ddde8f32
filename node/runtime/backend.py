"""The face of what runs a model's numbers: a backend per `format` of the manifest, in the worker only."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol, TypeAlias

import numpy.typing as npt

Array: TypeAlias = npt.NDArray[Any]


class Refused(Exception):
    """A model that cannot be served, or a request that cannot be answered.

    Parameters
    ----------
    code : the code of an error in `node/errors.py`.
    message : for people; no path of this machine.
    """

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code, self.message = code, message


class Stopped(Exception):
    """The run was ended because nobody waits for it."""


@dataclass(frozen=True, slots=True)
class TensorInfo:
    """One input or output of a model. A dimension is a size, or None where any size will do."""

    name: str
    dtype: str
    shape: tuple[int | None, ...]

    def __str__(self) -> str:
        sizes = ", ".join("any" if size is None else str(size) for size in self.shape)
        return f"{self.name!r} {self.dtype} [{sizes}]"


class Stop:
    """Asks a run to end, from another thread."""

    __slots__ = ("_action", "_lock", "asked")

    def __init__(self) -> None:
        self.asked = False
        self._action: Callable[[], None] | None = None
        self._lock = threading.Lock()

    def ask(self) -> None:
        """End the run that goes on, and every later one that is given this object."""
        with self._lock:
            self.asked = True
            if self._action is not None:
                self._action()

    def calls(self, action: Callable[[], None]) -> None:
        """Say how the run that begins now can be ended. Raises `Stopped` if that was asked already."""
        with self._lock:
            self._action = action
            if self.asked:
                raise Stopped


class Backend(Protocol):
    """A loaded model."""

    input: TensorInfo
    outputs: tuple[TensorInfo, ...]
    rows: int | None
    """How many rows one run takes; None for any number."""
    threads: int
    starts_threads: bool
    """Whether runs start threads; the process may not, once it serves, where they do not."""

    def run(self, rows: Array, stop: Stop) -> Mapping[str, Array]:
        """Run the model on rows of its input.

        Raises
        ------
        Refused
            The model cannot take these rows, or failed on them.
        Stopped
            `stop` was asked.
        """
        ...
