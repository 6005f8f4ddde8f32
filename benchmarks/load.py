"""HTTP load from one process: `wrk` where it is installed, else a small asyncio client.

Enters: a URL, a body and headers. Leaves: requests per second and latencies of a bounded run on loopback.
"""

from __future__ import annotations

import asyncio
import re
import shutil
import statistics
import subprocess
import tempfile
import time
from dataclasses import dataclass
from urllib.parse import urlsplit


@dataclass(frozen=True, slots=True)
class Load:
    """`requests_per_second` over the run; latencies in milliseconds."""

    requests_per_second: float
    p50_ms: float
    p99_ms: float
    failures: int


def generator() -> str:
    """The name of the client that `run` will use."""
    return "wrk" if shutil.which("wrk") else "asyncio client"


def run(url: str, *, body: bytes, headers: dict[str, str], connections: int, seconds: float) -> Load:
    """POST `body` over `connections` keep-alive connections for `seconds`."""
    if shutil.which("wrk"):
        return _wrk(url, body=body, headers=headers, connections=connections, seconds=seconds)
    return asyncio.run(_asyncio(url, body=body, headers=headers, connections=connections, seconds=seconds))


def _wrk(url: str, *, body: bytes, headers: dict[str, str], connections: int, seconds: float) -> Load:
    lines = ['wrk.method = "POST"', f"wrk.body = [==[{body.decode()}]==]"]
    lines += [f'wrk.headers["{name}"] = "{value}"' for name, value in headers.items()]
    with tempfile.NamedTemporaryFile("w", suffix=".lua") as script:
        script.write("\n".join(lines))
        script.flush()
        out = subprocess.run(
            [
                "wrk",
                "-t1",
                f"-c{connections}",
                f"-d{max(1, round(seconds))}s",
                "--latency",
                "-s",
                script.name,
                url,
            ],
            capture_output=True,
            text=True,
            check=True,
            timeout=seconds + 30,
        ).stdout
    failed = re.search(r"Non-2xx or 3xx responses: (\d+)", out)
    return Load(
        float(re.search(r"Requests/sec:\s+([\d.]+)", out)[1]),  # type: ignore[index]
        _milliseconds(out, "50%"),
        _milliseconds(out, "99%"),
        int(failed[1]) if failed else 0,
    )


def _milliseconds(out: str, percentile: str) -> float:
    found = re.search(rf"{percentile}\s+([\d.]+)(us|ms|s)", out)
    if found is None:
        raise ValueError(f"wrk printed no {percentile} latency")
    return float(found[1]) * {"us": 0.001, "ms": 1.0, "s": 1000.0}[found[2]]


class _Connection(asyncio.Protocol):
    """Sends the same request again as soon as its answer is complete."""

    def __init__(self, request: bytes, until: float) -> None:
        self.request, self.until = request, until
        self.latencies: list[float] = []
        self.failures = 0
        self.done = asyncio.get_running_loop().create_future()
        self.buffer = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport: asyncio.Transport = transport  # type: ignore[assignment]
        self._send()

    def _send(self) -> None:
        self.sent = time.perf_counter()
        self.transport.write(self.request)

    def data_received(self, data: bytes) -> None:
        self.buffer += data
        head = self.buffer.find(b"\r\n\r\n")
        if head < 0:
            return
        length = re.search(rb"(?i)content-length: (\d+)", self.buffer[:head])
        if length is None or len(self.buffer) < head + 4 + int(length[1]):
            return
        now = time.perf_counter()
        self.latencies.append(now - self.sent)
        self.failures += self.buffer[9:10] != b"2"
        self.buffer = b""
        if now < self.until:
            self._send()
        else:
            self.transport.close()

    def connection_lost(self, _exc: Exception | None) -> None:
        if not self.done.done():
            self.done.set_result(None)


async def _asyncio(
    url: str, *, body: bytes, headers: dict[str, str], connections: int, seconds: float
) -> Load:
    parts = urlsplit(url)
    head = [
        f"POST {parts.path or '/'}{'?' + parts.query if parts.query else ''} HTTP/1.1",
        f"Host: {parts.netloc}",
    ]
    head += [f"{name}: {value}" for name, value in headers.items()] + [f"Content-Length: {len(body)}"]
    request = "\r\n".join(head).encode() + b"\r\n\r\n" + body
    loop = asyncio.get_running_loop()
    started = time.perf_counter()
    clients = [
        (
            await loop.create_connection(
                lambda: _Connection(request, started + seconds), parts.hostname, parts.port
            )
        )[1]
        for _ in range(connections)
    ]
    async with asyncio.timeout(seconds + 30):
        await asyncio.gather(*(client.done for client in clients))
    elapsed = time.perf_counter() - started
    latencies = sorted(latency for client in clients for latency in client.latencies)
    cuts = statistics.quantiles(latencies, n=100) if len(latencies) > 1 else [0.0] * 99
    return Load(
        len(latencies) / elapsed, cuts[49] * 1000, cuts[98] * 1000, sum(client.failures for client in clients)
    )
