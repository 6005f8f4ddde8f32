"""Starts the forkserver as a program of its own and brings what it prints into the log."""

from __future__ import annotations

import asyncio
import logging
import os
import socket
import subprocess
import sys
import time
from collections.abc import Sequence
from typing import IO, Final, cast

from node.runtime import forkserver
from node.runtime.forkserver import Kill, Report, Spawn

log = logging.getLogger("node.runtime.worker")

KEPT_ENVIRONMENT: Final = (
    "PATH", "PYTHONPATH", "PYTHONHOME", "LD_LIBRARY_PATH", "LANG", "LC_ALL", "LC_CTYPE", "TZ",
)  # fmt: skip
"""What Python and the dynamic linker need; everything else of the node's environment stays with it."""
FORCED_ENVIRONMENT: Final = {
    # Since 1.29 ONNX Runtime's Linux builds send names and hashes of models to their maker, unless told
    # otherwise before they are loaded; the thread that does it would also make forking unsafe.
    "ORT_DISABLE_TELEMETRY": "1",
    "OPENBLAS_NUM_THREADS": "1",  # threads that nobody needs, and with which forking is unsafe
    "OMP_NUM_THREADS": "1",
    "MALLOC_ARENA_MAX": "2",  # few arenas keep freed memory in one place
}
END_TIMEOUT: Final = 1.0
MAX_LINE: Final = 500
LINES_A_SECOND: Final = 20
"""A model that makes its worker print must not fill the node's log."""


class Launched:
    """A running forkserver: its process, its socket, its standard error."""

    def __init__(self, process: subprocess.Popen[bytes], control: socket.socket) -> None:
        self.process, self.control = process, control
        self._loop = asyncio.get_running_loop()
        self._stderr = cast("IO[bytes]", process.stderr)
        self._rest = b""
        self._window, self._lines = 0, 0
        os.set_blocking(self._stderr.fileno(), False)
        self._loop.add_reader(self._stderr.fileno(), self._read_stderr)

    def send(self, order: Spawn | Kill, fds: Sequence[int]) -> None:
        """Raises `OSError`."""
        socket.send_fds(self.control, [forkserver.encode(order)], list(fds))

    def receive(self) -> Report | None:
        """The next report, None at the end. Raises `BlockingIOError`."""
        try:
            raw = self.control.recv(forkserver.MAX_MESSAGE)
        except ConnectionError:
            return None
        return forkserver.read_report(raw) if raw else None

    async def close(self) -> None:
        """End the process and wait for it."""
        self.control.close()
        await self._loop.run_in_executor(None, self._wait)
        self._loop.remove_reader(self._stderr.fileno())
        self._read_stderr()
        self._stderr.close()

    def _wait(self) -> None:
        try:
            self.process.wait(END_TIMEOUT)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()

    def _read_stderr(self) -> None:
        try:
            raw = os.read(self._stderr.fileno(), 65536)
        except BlockingIOError:
            return
        if not raw:
            self._loop.remove_reader(self._stderr.fileno())
        self._take_lines(raw)

    def _take_lines(self, raw: bytes) -> None:
        *lines, self._rest = (self._rest + raw).split(b"\n")
        self._rest = self._rest[-MAX_LINE:]
        for line in lines:
            second = int(time.monotonic())
            if second != self._window:
                self._window, self._lines = second, 0
            self._lines += 1
            if line.strip() and self._lines <= LINES_A_SECOND:
                log.warning("%s", line[:MAX_LINE].decode(errors="replace"))


def launch() -> Launched:
    """Start a forkserver; it reports `Ready` by itself.

    The kernel ends it with the thread that calls this, so that must be one that lives as long as the node.
    """
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    ours.setblocking(False)
    kept = {name: os.environ[name] for name in KEPT_ENVIRONMENT if name in os.environ}
    program = [sys.executable, "-P", "-m", "node.runtime.forkserver"]
    with theirs:
        process = subprocess.Popen(  # noqa: S603 - our own interpreter and module
            [*program, str(theirs.fileno()), str(os.getpid())],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            pass_fds=(theirs.fileno(),),
            env=kept | FORCED_ENVIRONMENT,
            start_new_session=True,
        )
    return Launched(process, ours)
