"""Makes workers, with the help of a forkserver that it owns.

Enters: settings, then load plans. Leaves: `Worker`s. The forkserver is a program of its own, with an
environment built from nothing, so that no secret of the node's is ever in a worker's memory. If it
dies it is started again; its workers die with it, and their holders replace them.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import logging
import socket
from typing import Final

import msgspec

from node import errors
from node.runtime.flight import Limits
from node.runtime.forkserver import Exited, Kill, Ready, Refused, Report, Spawn, Spawned
from node.runtime.launcher import Launched, launch
from node.runtime.plan import LoadPlan
from node.runtime.remote import Worker
from node.runtime.threads import available_cpus
from node.settings import Settings

log = logging.getLogger(__name__)

LOAD_TIMEOUT: Final = 120.0
START_TIMEOUT: Final = 30.0
QUEUE_BYTES: Final = 256 * 2**20


class WorkerHost:
    """See the module. Made by `start`."""

    def __init__(self, settings: Settings) -> None:
        self._loop = asyncio.get_running_loop()
        self._threads = settings.worker_threads or available_cpus()
        self._limits = Limits(
            queue_depth=settings.max_queue_depth,
            caller_depth=settings.max_queue_per_caller or max(1, settings.max_queue_depth // 4),
            queue_bytes=max(QUEUE_BYTES, 2 * settings.max_body_bytes),
            caller_bytes=max(QUEUE_BYTES, 2 * settings.max_body_bytes) // 4,
            grace=settings.worker_grace / 1e3,
            longest=settings.inference_timeout / 1e3,
        )
        self._numbers = itertools.count(1)
        self._spawning: dict[int, tuple[Worker, asyncio.Future[None]]] = {}
        self._workers: dict[int, Worker] = {}
        self._closing = False
        self._launch()

    @classmethod
    async def start(cls, settings: Settings) -> WorkerHost:
        """Start the forkserver, without waiting until it is ready."""
        return cls(settings)

    @property
    def forkserver_pid(self) -> int:
        """The process from which workers are forked."""
        return self._forkserver.process.pid

    async def ready(self) -> None:
        """Wait until workers can be made. Raises `Fault` if that fails or takes too long."""
        if self._ready.done() and self._ready.exception() is not None and not self._closing:
            self._launch()
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
        Overloaded, Fault, WorkerCrashed
        """
        worker = await self.fork()
        if not plan.threads:
            plan = msgspec.structs.replace(plan, threads=self._threads)
        try:
            loaded = await worker.load(plan, timeout=timeout)
        except TimeoutError:
            worker.discard("loading took too long")
            raise errors.DeadlineExceeded(f"The model did not load within {timeout:g} s.") from None
        except BaseException:
            worker.discard("loading failed")
            raise
        report = loaded.report
        log.info(
            "worker %d: loaded in %.0f ms, %.0f MB, %d threads",
            worker.pid, report.load_ms, report.memory_bytes / 1e6, report.threads,
        )  # fmt: skip
        if loaded.missing:
            log.warning("worker %d is less confined: refused by %s", worker.pid, ", ".join(loaded.missing))
        return worker

    async def fork(self) -> Worker:
        """A worker that has no model yet. Raises `Overloaded`, `Fault`, `WorkerCrashed`."""
        await self.ready()
        number, forked = next(self._numbers), self._loop.create_future()
        worker = Worker(limits=self._limits, kill=self._kill)
        data, worker_data = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
        control, worker_control = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        data.setblocking(False)
        control.setblocking(False)
        with worker_data, worker_control:
            transport, _ = await self._loop.create_unix_connection(lambda: worker, sock=data)
            worker.connect_control(control)
            self._spawning[number] = worker, forked
            self._order(Spawn(number), worker_data.fileno(), worker_control.fileno())
        try:
            async with asyncio.timeout(START_TIMEOUT):
                await forked
                await worker.started()
        except BaseException as error:
            worker.discard("it could not be started")
            transport.abort()
            if isinstance(error, TimeoutError):
                self._forkserver.process.kill()  # it does not serve: `_lost` starts another
                raise errors.Fault("The process that starts workers does not answer.") from None
            raise
        finally:
            self._spawning.pop(number, None)
        return worker

    async def close(self) -> None:
        """End all workers and the forkserver."""
        self._closing = True
        await asyncio.gather(*(worker.close(drain=0) for worker in list(self._workers.values())))
        self._loop.remove_reader(self._forkserver.control.fileno())
        await self._forkserver.close()

    # -- the forkserver

    def _launch(self) -> None:
        self._forkserver: Launched = launch()
        self._ready: asyncio.Future[None] = self._loop.create_future()
        self._loop.add_reader(self._forkserver.control.fileno(), self._report)

    def _order(self, order: Spawn | Kill, *fds: int) -> None:
        try:
            self._forkserver.send(order, fds)
        except OSError as error:  # full or gone
            log.warning("the forkserver does not take orders: %s", error.strerror)

    def _kill(self, pid: int) -> None:
        if pid:
            self._order(Kill(pid))

    def _report(self) -> None:
        try:
            report = self._forkserver.receive()
        except BlockingIOError:
            return
        if report is None:
            self._lost()
        else:
            self._take(report)

    def _take(self, report: Report) -> None:
        if isinstance(report, Ready):
            self._ready.set_result(None)
        elif isinstance(report, Exited):
            worker = self._workers.pop(report.pid, None)
            if worker is not None:
                worker.exited(report.status)
        elif report.number in self._spawning:
            worker, forked = self._spawning[report.number]
            if isinstance(report, Spawned):
                worker.pid = report.pid
                self._workers[report.pid] = worker
                _settle(forked, None)
            elif isinstance(report, Refused):
                _settle(
                    forked, errors.Overloaded(f"No process for a worker: {report.reason}.", retry_after=1)
                )

    def _lost(self) -> None:
        """The forkserver ended. One that had been ready is started again now, else at the next `ready`."""
        self._loop.remove_reader(self._forkserver.control.fileno())
        self._ending = self._loop.create_task(self._forkserver.close())
        if self._closing:
            return
        log.error("the process that starts workers ended; another is started")
        for _, forked in self._spawning.values():
            _settle(forked, errors.WorkerCrashed("The process that starts workers died; try again."))
        self._workers.clear()
        if self._ready.done():
            self._launch()
        else:
            self._ready.set_exception(errors.Fault("The process that starts workers could not be started."))
            with contextlib.suppress(errors.Fault):
                self._ready.result()  # nobody may be waiting for it


def _settle(future: asyncio.Future[None], error: errors.NodeError | None) -> None:
    if future.done():
        return
    if error is None:
        future.set_result(None)
    else:
        future.set_exception(error)
