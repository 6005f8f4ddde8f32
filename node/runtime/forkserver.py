"""The process from which workers are forked: `python -m node.runtime.forkserver FD PARENT`.

It loads NumPy, Pillow and ONNX Runtime once, so that a worker is ready in milliseconds and shares
their pages. It never sees a model or an input, and it runs no thread, so that forking is safe. Over
a message-preserving socket it takes `Spawn` (two sockets for the worker come with it) and `Kill`,
and reports `Ready`, `Spawned`, `Refused` and `Exited`. It ends with the node: the kernel kills it
when the node dies, and the end of the socket ends it too.
"""

from __future__ import annotations

import contextlib
import errno
import gc
import os
import selectors
import signal
import socket
import sys
from typing import Final

import msgspec

from node.runtime import linux

MAX_MESSAGE: Final = 4096


class Spawn(msgspec.Struct, array_like=True, frozen=True, tag=1):
    """Fork a worker that serves the two sockets sent along (frames, control)."""

    number: int


class Kill(msgspec.Struct, array_like=True, frozen=True, tag=2):
    """SIGKILL a worker, unless it has ended: only its parent can tell without a race for the pid."""

    pid: int


class Ready(msgspec.Struct, array_like=True, frozen=True, tag=16):
    """Everything is loaded."""

    pid: int


class Spawned(msgspec.Struct, array_like=True, frozen=True, tag=17):
    number: int
    pid: int


class Refused(msgspec.Struct, array_like=True, frozen=True, tag=18):
    number: int
    reason: str


class Exited(msgspec.Struct, array_like=True, frozen=True, tag=19):
    """A worker ended; `status` is an exit code, or a signal's number below zero."""

    pid: int
    status: int


Report = Ready | Spawned | Refused | Exited
encode: Final = msgspec.msgpack.Encoder().encode
_orders: Final = msgspec.msgpack.Decoder(Spawn | Kill)
_reports: Final = msgspec.msgpack.Decoder(Report)


def read_report(raw: bytes) -> Report:
    """Decode what the forkserver sent."""
    report: Report = _reports.decode(raw)
    return report


def preload() -> None:
    """Import all that a worker needs, down to the plugins that libraries would load at their first use."""
    from node.runtime import worker

    worker.preload()
    gc.collect()
    gc.freeze()  # the collector would otherwise write to, and so copy, every shared page


class Forkserver:
    """The loop. `control` is the socket to the node."""

    def __init__(self, control: socket.socket) -> None:
        self._control = control
        self._children: set[int] = set()
        self._wake_read, self._wake_write = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)

    def run(self) -> None:
        """Serve until the node closes the socket."""
        # Ctrl-C and a service manager's SIGTERM reach the whole group; the node decides when we end.
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            signal.signal(number, signal.SIG_IGN)
        signal.signal(signal.SIGCHLD, lambda _number, _stack: None)
        signal.set_wakeup_fd(self._wake_write, warn_on_full_buffer=False)
        self._send(Ready(os.getpid()))
        selector = selectors.PollSelector()
        selector.register(self._control, selectors.EVENT_READ)
        selector.register(self._wake_read, selectors.EVENT_READ)
        while True:
            for key, _ in selector.select():
                if key.fd == self._wake_read:
                    self._reap()
                elif not self._serve():
                    return

    def _serve(self) -> bool:
        raw, fds, _, _ = socket.recv_fds(self._control, MAX_MESSAGE, 2, socket.MSG_CMSG_CLOEXEC)
        if not raw:
            return False
        order = _orders.decode(raw)
        if isinstance(order, Spawn):
            self._spawn(order.number, fds)
        elif order.pid in self._children:
            os.kill(order.pid, signal.SIGKILL)
        return True

    def _spawn(self, number: int, fds: list[int]) -> None:
        parent = os.getpid()
        try:
            pid = os.fork()
        except OSError as error:
            self._send(Refused(number, os.strerror(error.errno or errno.EAGAIN)))
        else:
            if pid == 0:
                self._become_worker(fds, parent)
            self._children.add(pid)
            self._send(Spawned(number, pid))
        finally:
            for fd in fds:
                os.close(fd)

    def _become_worker(self, fds: list[int], parent: int) -> None:
        """In the child; never returns."""
        status = 1
        try:
            linux.die_with_parent(parent)
            signal.set_wakeup_fd(-1)
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
            keep = sorted(fds)
            os.closerange(3, keep[0])
            os.closerange(keep[0] + 1, keep[1])
            os.closerange(keep[1] + 1, 1 << 16)
            from node.runtime import worker

            status = worker.main(socket.socket(fileno=fds[0]), socket.socket(fileno=fds[1]))
        except BaseException:  # whatever happens, the child must not run on as a second forkserver
            import traceback

            traceback.print_exc()
        finally:
            with contextlib.suppress(Exception):
                sys.stderr.flush()
            os._exit(status)

    def _reap(self) -> None:
        with contextlib.suppress(BlockingIOError):
            while os.read(self._wake_read, 512):
                pass
        while self._children:
            pid, status = os.waitpid(-1, os.WNOHANG)
            if pid == 0:
                return
            self._children.discard(pid)
            self._send(Exited(pid, os.waitstatus_to_exitcode(status)))

    def _send(self, report: Report) -> None:
        try:
            self._control.send(encode(report))
        except OSError:
            os._exit(0)  # the node is gone


def main() -> None:
    """Entry point."""
    fd, parent = int(sys.argv[1]), int(sys.argv[2])
    linux.die_with_parent(parent)
    linux.name_process("lonja-fork")
    control = socket.socket(fileno=fd)
    preload()
    Forkserver(control).run()


if __name__ == "__main__":
    main()
