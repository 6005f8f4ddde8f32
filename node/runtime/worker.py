"""The process of one resident model, forked from the forkserver.

Enters, over one socket: a plan, then requests; over the other: which of them nobody waits for any
more. Leaves: a load report, then answers. One thread reads, computes and writes; a second one only
listens for `Terminate`, so that a run can be ended while the first is inside it.
"""

from __future__ import annotations

import faulthandler
import os
import socket
import struct
import threading
import time
from typing import Final

from node.runtime import linux, protocol
from node.runtime.backend import Refused, Stop
from node.runtime.pipeline import Pipeline
from node.runtime.plan import LoadPlan
from node.runtime.protocol import Load, Receiver, Run

LISTENER_STACK: Final = 256 * 2**10
SEND_AT: Final = 4
"""So many answers of one batch are sent without waiting for the others, so that the node delivers them
meanwhile (see `flight.SEND_AT`)."""
IDLE_SECONDS: Final = 1
"""Without a request for so long, a worker gives free memory back."""


def preload() -> None:
    """Import whatever a worker may come to need; runs in the forkserver."""
    from node.runtime import loading, sandbox

    loading.preload()
    sandbox.code_paths()
    threading.stack_size(LISTENER_STACK)


def main(data: socket.socket, control: socket.socket) -> int:
    """Load, serve until the node closes the socket, and return the exit status."""
    from node.runtime import loading, sandbox

    faulthandler.enable()
    linux.name_process("lonja-worker")
    receiver = Receiver(max_header=protocol.MAX_HEADER, max_body=protocol.MAX_BODY)
    data.sendall(protocol.frame(protocol.Started(os.getpid())))
    plan = _receive_plan(data, receiver)
    if plan is None:
        return 0
    # The kernel's own time-out costs no system call a request; the sandbox takes the call away.
    data.setsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, struct.pack("ll", IDLE_SECONDS, 0))
    missing = sandbox.enter(plan)
    try:
        began = time.monotonic()
        pipeline, report = loading.load(plan, began=began)
    except Refused as error:
        data.sendall(protocol.frame(protocol.LoadFailed(error.code, error.message)))
        return 0
    watch = Watch(control)
    watch.start()
    missing += sandbox.tighten(threads=pipeline.starts_threads)
    data.sendall(protocol.frame(protocol.Loaded(report, missing)))
    Server(data, receiver, watch, pipeline).run()
    return 0


def _receive_plan(data: socket.socket, receiver: Receiver) -> LoadPlan | None:
    while True:
        for message, _ in receiver.orders():
            if not isinstance(message, Load):
                raise protocol.FrameInvalid("the first frame is a plan")
            return message.plan
        count = data.recv_into(receiver.space())
        if count == 0:
            return None
        receiver.received(count)


class Watch:
    """Listens for `Terminate` and knows which requests run now."""

    def __init__(self, control: socket.socket) -> None:
        self._control = control
        self._lock = threading.Lock()
        self._running: frozenset[int] = frozenset()
        self._stop: Stop | None = None
        self._unwanted: set[int] = set()
        self.dead: set[int] = set()
        """Those among the running that nobody waits for."""

    def start(self) -> None:
        """Begin to listen; the thread ends with the process."""
        threading.Thread(target=self._listen, name="terminate", daemon=True).start()

    def begin(self, ids: frozenset[int]) -> Stop:
        """Tell which requests run now; returns what ends them once nobody waits for any of them."""
        stop = Stop()
        with self._lock:
            self._running, self._stop = ids, stop
            self.dead = self._unwanted & ids
            if len(self.dead) == len(ids):
                stop.ask()
        return stop

    def end(self, ids: frozenset[int]) -> None:
        """Tell that these requests have their answers."""
        with self._lock:
            self._running, self._stop = frozenset(), None
            if self._unwanted:
                self._unwanted -= ids

    def forget(self, *, through: int) -> None:
        """All requests up to this id are over: ids of late `Terminate`s need not be kept."""
        if self._unwanted:
            with self._lock:
                self._unwanted = {number for number in self._unwanted if number > through}

    def _listen(self) -> None:
        while raw := self._control.recv(protocol.MAX_CONTROL):
            seen = self._terminate(protocol.read_terminate(raw).ids)
            self._control.send(protocol.control(seen))

    def _terminate(self, ids: list[int]) -> protocol.Seen:
        with self._lock:
            running = [number for number in ids if number in self._running]
            self._unwanted.update(ids)
            self.dead.update(running)
            if self._stop is not None and len(self.dead) == len(self._running):
                self._stop.ask()
                stopping = running
            else:
                stopping = []
        return protocol.Seen(stopping, [number for number in ids if number not in stopping])


class Server:
    """Reads whatever has arrived, answers it, and writes each run's answers at once."""

    def __init__(self, data: socket.socket, receiver: Receiver, watch: Watch, pipeline: Pipeline) -> None:
        self._data, self._receiver, self._watch, self._pipeline = data, receiver, watch, pipeline
        self._untidy = False

    def run(self) -> None:
        """Serve until the node closes its end."""
        while True:
            requests = [(order, body) for order, body in self._receiver.orders() if isinstance(order, Run)]
            at = 0
            while at < len(requests):
                size = self._pipeline.batch_size
                self._answer(requests[at : at + size])
                at += size
            if requests:
                self._watch.forget(through=requests[-1][0].id)
                requests.clear()
                self._untidy = True
            try:
                count = self._data.recv_into(self._receiver.space())
            except BlockingIOError:  # nothing came for a while
                self._tidy()
                continue
            if count == 0:
                return
            self._receiver.received(count)

    def _tidy(self) -> None:
        """Give back what runs have freed; glibc would keep it, 50 MB of an image model's 98."""
        if self._untidy:
            self._untidy = False
            linux.trim_heap()

    def _answer(self, requests: list[tuple[Run, bytes]]) -> None:
        ids = frozenset(request.id for request, _ in requests)
        stop = self._watch.begin(ids)
        parts: list[bytes] = []
        for message, body in self._pipeline.answer(requests, stop, self._watch.dead):
            parts.append(protocol.frame(message, body_length=len(body)))
            parts.append(body)
            if len(parts) >= 2 * SEND_AT:
                self._data.sendall(b"".join(parts))
                parts.clear()
        self._watch.end(ids)
        self._data.sendall(b"".join(parts))
