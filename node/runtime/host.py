"""Owns the forkserver and makes workers.

Enters: settings, then load plans. Leaves: `Worker`s. The forkserver is started as a program of its
own, with an environment built from nothing, so that no secret of the node's is ever in a worker's
memory. If it dies it is started again; its workers die with it, and their holders replace them.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import logging
import os
import socket
import subprocess
import sys
from typing import Final

import msgspec

from node import errors
from node.runtime import forkserver
from node.runtime.forkserver import Exited, Ready, Refused, Spawned
from node.runtime.plan import LoadPlan
from node.runtime.remote import Limits, Worker
from node.runtime.threads import available_cpus
from node.settings import Settings

log = logging.getLogger(__name__)

KEPT_ENVIRONMENT: Final = (
    "PATH",
    "PYTHONPATH",
    "PYTHONHOME",
    "LD_LIBRARY_PATH",
    "LANG",
    "LC_ALL",
    "LC_CTYPE",
    "TZ",
)
LOAD_TIMEOUT: Final = 120.0
START_TIMEOUT: Final = 60.0


class WorkerHost:
    """See the module. Made by `start`."""

    def __init__(self, settings: Settings) -> None:
        self._loop = asyncio.get_running_loop()
        self._threads = settings.worker_threads or available_cpus()
        self._limits = Limits(
            queue_depth=settings.max_queue_depth,
            queue_bytes=max(256 * 2**20, 2 * settings.max_body_bytes),
            grace=settings.worker_grace / 1e3,
            longest=settings.inference_timeout / 1e3,
        )
        self._numbers = itertools.count(1)
        self._spawning: dict[int, asyncio.Future[int]] = {}
        self._workers: dict[int, Worker] = {}
        self._closing = False
        self._process: subprocess.Popen[bytes]
        self._control: socket.socket
        self._ready: asyncio.Future[None]

    @classmethod
    async def start(cls, settings: Settings) -> WorkerHost:
        """Start the forkserver, without waiting until it is ready."""
        host = cls(settings)
        host._start_forkserver()
        return host

    async def ready(self) -> None:
        """Wait until workers can be made. Raises `Fault` if that takes too long."""
        try:
            async with asyncio.timeout(START_TIMEOUT):
                await asyncio.shield(self._ready)
        except TimeoutError:
            raise errors.Fault("The process that starts workers does not answer.") from None

    async def spawn(self, plan: LoadPlan, *, timeout: float = LOAD_TIMEOUT) -> Worker:
        """Make a worker and have it load a model.

        Raises
        ------
        ModelInvalid
            The model cannot be served; the message is for its publisher.
        DeadlineExceeded
            Loading took longer than `timeout` seconds.
        Fault, WorkerCrashed
        """
        await self.ready()
        if not plan.threads:
            plan = msgspec.structs.replace(plan, threads=self._threads)
        worker = await self._fork()
        try:
            async with asyncio.timeout(timeout):
                loaded = await worker.load(plan)
        except TimeoutError:
            worker.kill("loading took too long")
            raise errors.DeadlineExceeded(f"The model did not load within {timeout:g} s.") from None
        except BaseException:
            worker.kill("loading failed")
            raise
        report = loaded.report
        log.info(
            "worker %d: loaded in %.0f ms, %.0f MB, %d threads%s",
            worker.pid, report.load_ms, report.memory_bytes / 2**20, report.threads,
            f"; this kernel refused: {', '.join(loaded.missing)}" if loaded.missing else "",
        )  # fmt: skip
        return worker

    async def close(self) -> None:
        """End all workers and the forkserver."""
        self._closing = True
        for worker in list(self._workers.values()):
            await worker.close(drain=0)
        self._loop.remove_reader(self._control.fileno())
        self._control.close()
        await self._loop.run_in_executor(None, self._wait)

    # -- the forkserver

    def _start_forkserver(self) -> None:
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        ours.setblocking(False)
        environment = {name: os.environ[name] for name in KEPT_ENVIRONMENT if name in os.environ}
        # One arena keeps freed memory in one place; BLAS threads would only make forking unsafe.
        environment |= {"OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1", "MALLOC_ARENA_MAX": "2"}
        command = [
            sys.executable,
            "-P",
            "-m",
            "node.runtime.forkserver",
            str(theirs.fileno()),
            str(os.getpid()),
        ]
        with theirs:
            self._process = subprocess.Popen(  # noqa: S603 - our own interpreter and module
                command,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                pass_fds=(theirs.fileno(),),
                env=environment,
                start_new_session=True,
            )
        self._control = ours
        self._ready = self._loop.create_future()
        self._loop.add_reader(ours.fileno(), self._report)

    def _report(self) -> None:
        try:
            raw = self._control.recv(forkserver.MAX_MESSAGE)
        except BlockingIOError:
            return
        except OSError:
            raw = b""
        if not raw:
            self._forkserver_lost()
            return
        report = forkserver.read_report(raw)
        if isinstance(report, Ready):
            self._ready.set_result(None)
        elif isinstance(report, Spawned | Refused):
            future = self._spawning.pop(report.number, None)
            if future is None or future.done():
                return
            if isinstance(report, Spawned):
                future.set_result(report.pid)
            else:
                future.set_exception(
                    errors.Overloaded(f"No process for a worker: {report.reason}.", retry_after=1)
                )
        elif isinstance(report, Exited):
            worker = self._workers.pop(report.pid, None)
            if worker is not None:
                worker.exited(report.status)

    def _forkserver_lost(self) -> None:
        self._loop.remove_reader(self._control.fileno())
        self._control.close()
        if self._closing:
            return
        log.error("the forkserver ended with status %s; starting another", self._process.poll())
        for future in self._spawning.values():
            if not future.done():
                future.set_exception(errors.WorkerCrashed("The process that starts workers died; try again."))
        self._spawning.clear()
        self._workers.clear()
        self._start_forkserver()

    def _wait(self) -> None:
        try:
            self._process.wait(1.0)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()

    # -- workers

    async def _fork(self) -> Worker:
        number = next(self._numbers)
        worker = Worker(number=number, limits=self._limits, kill=self._kill)
        data, worker_data = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
        control, worker_control = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        data.setblocking(False)
        control.setblocking(False)
        forked: asyncio.Future[int] = self._loop.create_future()
        self._spawning[number] = forked
        with worker_data, worker_control:
            socket.send_fds(
                self._control,
                [forkserver.encode(forkserver.Spawn(number))],
                [worker_data.fileno(), worker_control.fileno()],
            )
        await self._loop.create_unix_connection(lambda: worker, sock=data)
        worker.connect_control(control)
        worker.pid = await forked
        self._workers[worker.pid] = worker
        return worker

    def _kill(self, worker: Worker) -> None:
        with contextlib.suppress(OSError):
            self._control.send(forkserver.encode(forkserver.Kill(worker.pid)))
