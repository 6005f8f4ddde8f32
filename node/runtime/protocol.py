"""Frames between the node and one worker.

A frame is two little-endian uint32 (length of the header, length of the body), the header (one
msgpack array, its first element the kind) and the body (raw bytes: the input as it came, or the
finished JSON of an answer). Bodies are never copied through msgpack.

The node trusts nothing that a worker sends: lengths are bounded, a frame that does not decode is a
`FrameInvalid`, upon which the worker is killed. A second, message-preserving socket (`SOCK_SEQPACKET`)
carries `Terminate` and `Seen`: they must pass a worker that is busy with a run.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from typing import Annotated, Final, TypeVar

import msgspec

from node.runtime.plan import LoadPlan
from node.types import LoadReport

PREFIX: Final = struct.Struct("<II")
MAX_HEADER: Final = 2**20
"""A load plan with the labels of a large classifier is the longest header."""
MAX_ANSWER_HEADER: Final = 2**16
MAX_BODY: Final = 2**30
MAX_ANSWER_BODY: Final = 64 * 2**20
MAX_CONTROL: Final = 4096
CONTROL_IDS: Final = 256
"""At most this many ids in one control message, so that it fits into `MAX_CONTROL`."""
MAX_BATCH: Final = 64
"""Requests that may share a run."""
READ_CHUNK: Final = 256 * 2**10
INLINE_BODY: Final = 64 * 2**10
"""Bodies up to this size are joined into one write; larger ones are handed over without a copy."""


T = TypeVar("T")


class FrameInvalid(ValueError):
    """The peer broke the protocol."""


class Load(msgspec.Struct, array_like=True, frozen=True, tag=1):
    """Node to worker, once: what to load."""

    plan: LoadPlan


class Run(msgspec.Struct, array_like=True, frozen=True, tag=2):
    """Node to worker: one request; its input is the body. Times are of the monotonic clock, in seconds."""

    id: int
    format: str
    binary: bool
    top_k: int | None
    threshold: float | None
    deadline: float
    sent: float


class Started(msgspec.Struct, array_like=True, frozen=True, tag=16):
    """Worker to node: the process runs and waits for its plan."""

    pid: int


class Loaded(msgspec.Struct, array_like=True, frozen=True, tag=17):
    """Worker to node: the model answers from now on. `sandbox` lists what the kernel refused."""

    report: LoadReport
    missing: list[str]


class LoadFailed(msgspec.Struct, array_like=True, frozen=True, tag=18):
    """Worker to node: the model cannot be served; the worker ends."""

    code: str
    message: str


class Done(msgspec.Struct, array_like=True, frozen=True, tag=19):
    """Worker to node: one answer; the predictions are the body. Times are milliseconds.

    `batch` counts the requests that shared the run, this one included.
    """

    id: int
    preprocessing: float
    inference: float
    postprocessing: float
    queue: float
    entropy: float | list[float] | None
    batch: Annotated[int, msgspec.Meta(ge=1, le=MAX_BATCH)] = 1


class Failed(msgspec.Struct, array_like=True, frozen=True, tag=20):
    """Worker to node: one request that has no answer."""

    id: int
    code: str
    message: str


class Terminate(msgspec.Struct, array_like=True, frozen=True, tag=32):
    """Node to worker, on the control socket: nobody waits for these requests any more."""

    ids: list[int]


class Seen(msgspec.Struct, array_like=True, frozen=True, tag=33):
    """Worker to node, on the control socket: what became of a `Terminate`.

    `stopping` requests are being ended now; `waiting` ones will be dropped when their turn comes, or
    share a run with a request that is still wanted.
    """

    stopping: list[int]
    waiting: list[int]


Answer = Started | Loaded | LoadFailed | Done | Failed
_encoder: Final = msgspec.msgpack.Encoder()
_answers: Final = msgspec.msgpack.Decoder(Answer)
_orders: Final = msgspec.msgpack.Decoder(Load | Run)
_seen: Final = msgspec.msgpack.Decoder(Seen)
_terminate: Final = msgspec.msgpack.Decoder(Terminate)


def frame(message: Load | Run | Answer, *, body_length: int = 0) -> bytes:
    """Prefix and header of a frame; `body_length` bytes of body must follow it."""
    header = _encoder.encode(message)
    return PREFIX.pack(len(header), body_length) + header


def control(message: Terminate | Seen) -> bytes:
    """One message for the control socket."""
    return _encoder.encode(message)


def read_terminate(raw: bytes) -> Terminate:
    """Decode what the node sent on the control socket."""
    return _terminate.decode(raw)


def read_seen(raw: bytes) -> Seen:
    """Decode what a worker sent on the control socket. Raises `FrameInvalid`."""
    try:
        return _seen.decode(raw)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise FrameInvalid(f"control message: {error}") from None


class Receiver:
    """Collects bytes of a stream and cuts them into frames; one growing buffer, one copy per body.

    Use `space()` for the buffer to receive into, then `received(n)`, then iterate over `answers()`
    (node's side) or `orders()` (worker's side).
    """

    __slots__ = ("_buffer", "_end", "_max_body", "_max_header", "_start", "_view")

    def __init__(self, *, max_header: int, max_body: int) -> None:
        self._buffer = bytearray(READ_CHUNK)
        self._view = memoryview(self._buffer)
        self._start = self._end = 0
        self._max_header, self._max_body = max_header, max_body

    def space(self) -> memoryview:
        """Where the next bytes go; never empty."""
        return self._view[self._end :]

    def received(self, count: int) -> None:
        """Tell that `count` bytes were put into `space()`."""
        self._end += count

    @property
    def partial(self) -> bool:
        """Whether a frame has begun and not ended."""
        return self._end > self._start

    def answers(self) -> Iterator[tuple[Answer, bytes]]:
        """Complete frames from a worker. Raises `FrameInvalid`."""
        return self._frames(_answers)

    def orders(self) -> Iterator[tuple[Load | Run, bytes]]:
        """Complete frames from the node. Raises `FrameInvalid`."""
        return self._frames(_orders)

    def _frames(self, decoder: msgspec.msgpack.Decoder[T]) -> Iterator[tuple[T, bytes]]:
        view = self._view
        while self._end - self._start >= PREFIX.size:
            header, body = PREFIX.unpack_from(view, self._start)
            if header > self._max_header or body > self._max_body:
                raise FrameInvalid(f"a frame of {header} + {body} bytes is longer than allowed")
            at = self._start + PREFIX.size
            if self._end - at < header + body:
                self._reserve(PREFIX.size + header + body)
                return
            self._start = at + header + body
            try:
                message = decoder.decode(view[at : at + header])
            except (msgspec.DecodeError, UnicodeDecodeError) as error:
                raise FrameInvalid(f"frame header: {error}") from None
            yield message, bytes(view[at + header : self._start])
        self._reserve(PREFIX.size)

    def _reserve(self, frame_length: int) -> None:
        """Make room for the frame that has begun, and give back the room of a large one that is over."""
        rest = self._end - self._start
        size = max(READ_CHUNK, frame_length)
        if (len(self._buffer) > READ_CHUNK >= frame_length and rest < READ_CHUNK) or len(self._buffer) < size:
            grown = bytearray(size)
            grown[:rest] = self._view[self._start : self._end]
            self._buffer, self._view = grown, memoryview(grown)
        elif self._start:
            self._view[:rest] = bytes(self._view[self._start : self._end])
        self._start, self._end = 0, rest
