"""A real chain in a process of its own: Foundry's anvil on a free port."""

from __future__ import annotations

import re
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


class Anvil:
    """A chain that can be stopped and started again.

    Parameters
    ----------
    state : where it keeps its blocks while it is stopped; without, each start is a new chain.
    """

    def __init__(self, program: Path, *, state: Path | None = None) -> None:
        self._program, self._state = program, state
        self._port = 0
        self._process: subprocess.Popen[str] | None = None

    @property
    def url(self) -> str:
        """The same after each start."""
        return f"http://127.0.0.1:{self._port}"

    def start(self) -> None:
        kept = [] if self._state is None else ["--state", str(self._state)]
        self._process = subprocess.Popen(
            [self._program, "--port", str(self._port), "--host", "127.0.0.1", *kept],
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        )
        assert self._process.stdout is not None
        for line in self._process.stdout:
            found = re.search(r"Listening on \S+:(\d+)", line)
            if found:
                break
        else:
            raise AssertionError("anvil ended before it listened")
        self._port = int(found[1])
        # a full pipe would stop it
        self._drain = threading.Thread(target=self._process.stdout.read, daemon=True)
        self._drain.start()

    def stop(self) -> None:
        """End it; with `state`, its blocks are on disk when this returns."""
        if self._process is None:
            return
        if self._state is None:
            self._process.kill()
        else:
            self._process.terminate()
        self._process.wait(20)
        self._drain.join()
        assert self._process.stdout is not None
        self._process.stdout.close()
        self._process = None


@contextmanager
def anvil(program: Path) -> Iterator[str]:
    """Start one and give its URL; ended with the context."""
    chain = Anvil(program)
    chain.start()
    try:
        yield chain.url
    finally:
        chain.stop()
