"""Child processes of the development world: they end when we do, whatever happens to us.

A child starts in a session of its own, so that Ctrl-C in the terminal reaches us alone and we stop the
children in order; and the kernel is asked to end it should we be killed (PR_SET_PDEATHSIG, Linux).
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Final

from lonja.errors import DevnetFailed

_GRACE: Final = 15.0
_LAUNCHER: Final = (
    "import ctypes, os, sys\n"
    "parent = int(sys.argv[1])\n"
    "getattr(ctypes.CDLL(None), 'prctl', lambda *_: 0)(1, 15, 0, 0, 0)\n"
    "os.getppid() == parent or sys.exit(1)\n"
    "os.execv(sys.argv[2], sys.argv[2:])\n"
)


class Child:
    """A program that says on its standard output when it can be used."""

    def __init__(self, name: str, command: Sequence[str | Path], *, log: Path) -> None:
        self.name = name
        self._command = [str(part) for part in command]
        self._log = log
        self._process: asyncio.subprocess.Process | None = None
        self._draining: asyncio.Task[None] | None = None

    @property
    def pid(self) -> int:
        if self._process is None:
            raise RuntimeError("not started")
        return self._process.pid

    async def start(self, *, env: Mapping[str, str], cwd: Path, until: str, timeout: float) -> str:
        """Start it and return the first line that contains `until`.

        Raises
        ------
        DevnetFailed
            It ended, or said nothing of the kind in time; the last line of its log is quoted.
        """
        import os

        with self._log.open("wb") as log:
            self._process = await asyncio.create_subprocess_exec(
                sys.executable, "-I", "-S", "-c", _LAUNCHER, str(os.getpid()), *self._command,
                stdin=asyncio.subprocess.DEVNULL, stdout=asyncio.subprocess.PIPE, stderr=log,
                env=dict(env), cwd=cwd, start_new_session=True,
            )  # fmt: skip
        try:
            async with asyncio.timeout(timeout):
                line = await self._line_with(until)
        except TimeoutError:
            await self.stop()
            raise DevnetFailed(
                f"{self.name} was not ready within {timeout:g} s{self._last_words()}"
            ) from None
        except BaseException:
            await self.stop()
            raise
        self._draining = asyncio.create_task(self._drain())
        return line

    async def wait(self) -> int:
        """The exit code, once it has ended by itself."""
        if self._process is None:
            raise RuntimeError("not started")
        return await self._process.wait()

    async def stop(self) -> None:
        """SIGTERM, then SIGKILL after a grace period; returns when it is gone."""
        process = self._process
        if process is None:
            return
        if process.returncode is None:
            with suppress(ProcessLookupError):
                process.terminate()
            try:
                async with asyncio.timeout(_GRACE):
                    await process.wait()
            except TimeoutError:
                with suppress(ProcessLookupError):
                    process.kill()
                await process.wait()
        if self._draining is not None:
            self._draining.cancel()
            with suppress(asyncio.CancelledError):
                await self._draining

    async def _line_with(self, until: str) -> str:
        output = self._output()
        while line := (await output.readline()).decode(errors="replace"):
            if until in line:
                return line.strip()
        code = await self.wait()
        raise DevnetFailed(f"{self.name} ended with code {code}{self._last_words()}")

    async def _drain(self) -> None:
        """Read on, so that the child never waits for a full pipe."""
        output = self._output()
        while await output.read(65_536):
            pass

    def _output(self) -> asyncio.StreamReader:
        if self._process is None or self._process.stdout is None:
            raise RuntimeError("not started")
        return self._process.stdout

    def _last_words(self) -> str:
        lines = [line for line in self._log.read_text(errors="replace").splitlines() if line.strip()]
        return f": {lines[-1].strip()[:500]}" if lines else ""
