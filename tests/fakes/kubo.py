"""A real Kubo daemon, offline, on free loopback ports."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from time import monotonic, sleep
from urllib.error import URLError
from urllib.request import Request, urlopen

STARTS_WITHIN = 20.0


@dataclass
class KuboDaemon:
    """A daemon with a repository of its own.

    Attributes
    ----------
    api, gateway : base URLs.
    """

    program: Path
    repo: Path
    api: str
    gateway: str
    process: subprocess.Popen[bytes] | None = None

    def ipfs(self, *arguments: str) -> str:
        """Run the command line on the repository (through the daemon, where it runs)."""
        env = {**os.environ, "IPFS_PATH": str(self.repo)}
        done = subprocess.run(
            [self.program, *arguments], env=env, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stderr
        return done.stdout.strip()

    def export(self, cid: str) -> bytes:
        """The DAG as a CAR."""
        env = {**os.environ, "IPFS_PATH": str(self.repo)}
        command = [self.program, "dag", "export", "--progress=false", cid]
        return subprocess.run(command, env=env, stdout=subprocess.PIPE, check=True).stdout

    def start(self) -> None:
        env = {**os.environ, "IPFS_PATH": str(self.repo), "IPFS_TELEMETRY": "off"}
        self.process = subprocess.Popen(
            [self.program, "daemon", "--offline"],
            env=env,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        until = monotonic() + STARTS_WITHIN
        while not self._answers():
            assert self.process.poll() is None, "the Kubo daemon ended at its start"
            assert monotonic() < until, "the Kubo daemon does not answer"
            sleep(0.05)

    def kill(self) -> None:
        assert self.process is not None
        self.process.send_signal(signal.SIGKILL)
        self.process.wait()

    def _answers(self) -> bool:
        try:
            with urlopen(Request(f"{self.api}/api/v0/version", method="POST"), timeout=1):
                return True
        except (URLError, OSError):
            return False


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


@contextmanager
def kubo_daemon(program: Path, repo: Path) -> Iterator[KuboDaemon]:
    """Initialise a repository in `repo` and run a daemon on it; ended with the context."""
    api, gateway = free_port(), free_port()
    daemon = KuboDaemon(program, repo, f"http://127.0.0.1:{api}", f"http://127.0.0.1:{gateway}")
    daemon.ipfs("init", "--profile=test")
    daemon.ipfs("config", "Addresses.API", f"/ip4/127.0.0.1/tcp/{api}")
    daemon.ipfs("config", "Addresses.Gateway", f"/ip4/127.0.0.1/tcp/{gateway}")
    daemon.start()
    try:
        yield daemon
    finally:
        daemon.kill()
