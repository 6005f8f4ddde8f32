"""Verified fetch of one large file from a gateway on this machine, beside what only reads, hashes and writes.

Every row is measured in a process of its own, rounds interleaved, against one gateway process that sends a
CAR which it made beforehand. `rows()` gives the figures, `main()` prints them as a Markdown table.
"""

from __future__ import annotations

import argparse
import asyncio
import hashlib
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import aiohttp
import uvloop
from aiohttp import web

from node.cid import Cid
from node.ipfs.fetch import Retriever
from node.ipfs.gateways import Gateways
from node.ipfs.importer import import_file, write_car
from node.ipfs.store import BlockStore

MIB = 2**20
_PIECE = 4 * MIB


class Row(NamedTuple):
    what: str
    figure: float
    spread: float
    unit: str


def rows(*, mib: int = 1024, rounds: int = 5) -> list[Row]:
    """Measure. `mib` is the size of the file, `rounds` how often each way is taken."""
    with tempfile.TemporaryDirectory(prefix="lonja-fetch-") as folder:
        root = _make(Path(folder), mib)
        with _gateway(Path(folder)) as url:
            runs: dict[str, list[dict[str, float]]] = {name: [] for name in WAYS}
            for number in range(rounds):
                for name in WAYS:
                    target = Path(folder) / f"out-{name}-{number}"
                    runs[name].append({**_run(name, url, root, target), "mib": mib})
    return _table(runs)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--mib", type=int, default=1024)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--one", nargs=4, metavar=("WAY", "URL", "CID", "TARGET"), help=argparse.SUPPRESS)
    parser.add_argument("--serve", metavar="FOLDER", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.one:
        _measure(*options.one)
    elif options.serve:
        uvloop.run(_serve(Path(options.serve)))
    else:
        print("| what | median | spread | unit |\n|---|---|---|---|")
        for row in rows(mib=options.mib, rounds=options.rounds):
            print(f"| {row.what} | {row.figure:.0f} | ± {row.spread:.0f} | {row.unit} |")


async def read_only(url: str, root: str, _: Path) -> None:
    """The limit of the HTTP client."""
    async for _chunk in _body(url, root):
        pass


async def read_hash_write(url: str, root: str, target: Path) -> None:
    """The limit of doing it in order: nothing is checked, nothing is made durable."""
    digest = hashlib.sha256()
    with target.open("wb", buffering=0) as out:
        async for chunk in _body(url, root):
            digest.update(chunk)
            out.write(chunk)


async def read_hash_write_fsync(url: str, root: str, target: Path) -> None:
    """The same, and durable, as the store's files are."""
    await read_hash_write(url, root, target)
    with target.open("rb") as out:
        os.fsync(out.fileno())


async def ours(url: str, root: str, target: Path) -> None:
    """Verified, stored, indexed, durable."""
    store = BlockStore(target, max_bytes=2**40)
    retriever = Retriever(store, Gateways([url]), stall_timeout=30, max_object_bytes=2**40)
    async with retriever.hold(Cid.parse(root), limit=2**40):
        pass
    await retriever.close()
    store.close()


WAYS: dict[str, Callable[[str, str, Path], Awaitable[None]]] = {
    "read only": read_only,
    "read + hash + write": read_hash_write,
    "read + hash + write + fsync": read_hash_write_fsync,
    "verified fetch": ours,
}


async def _body(url: str, root: str) -> AsyncIterator[bytes]:
    async with (
        aiohttp.ClientSession(auto_decompress=False, read_bufsize=2**18) as session,
        session.get(f"{url}/ipfs/{root}?format=car") as answer,
    ):
        while chunk := await answer.content.readany():
            yield chunk


def _make(folder: Path, mib: int) -> str:
    source = folder / "source"
    with source.open("wb") as out:
        for _ in range(mib):
            out.write(os.urandom(MIB))
    imported = import_file(source)
    write_car(folder / "served.car", imported)
    source.unlink()
    return str(imported.root)


async def _serve(folder: Path) -> None:
    async def answer(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse(headers={"Content-Type": "application/vnd.ipld.car; version=1"})
        await response.prepare(request)
        with (folder / "served.car").open("rb", buffering=0) as source:
            while piece := source.read(_PIECE):
                await response.write(piece)
        await response.write_eof()
        return response

    app = web.Application()
    app.router.add_get("/{path:.*}", answer)
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    print(runner.addresses[0][1], flush=True)
    await asyncio.Event().wait()


@contextmanager
def _gateway(folder: Path) -> Iterator[str]:
    command = [sys.executable, "-m", "benchmarks.fetch", "--serve", str(folder)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        try:
            yield f"http://127.0.0.1:{process.stdout.readline().strip()}"
        finally:
            process.terminate()


def _run(name: str, url: str, root: str, target: Path) -> dict[str, float]:
    command = [sys.executable, "-m", "benchmarks.fetch", "--one", name, url, root, str(target)]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
    subprocess.run(["rm", "-rf", str(target)], check=True)
    return dict(json.loads(done.stdout))


def _measure(name: str, url: str, root: str, target: str) -> None:
    before = _status_kib("VmRSS")
    started = time.perf_counter()
    uvloop.run(WAYS[name](url, root, Path(target)))
    seconds = time.perf_counter() - started
    print(json.dumps({"seconds": seconds, "extra_kib": _status_kib("VmHWM") - before}))


def _status_kib(name: str) -> int:
    """A memory figure of this process; the peak in getrusage would include the parent's."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(f"{name}:"))


def _table(runs: dict[str, list[dict[str, float]]]) -> list[Row]:
    speeds = {name: [run["mib"] * MIB / 1e6 / run["seconds"] for run in done] for name, done in runs.items()}
    table = [Row(f"{name}", *_middle(values), "MB/s") for name, values in speeds.items()]
    for peer in ("read + hash + write", "read + hash + write + fsync"):
        shares = [100 * us / they for us, they in zip(speeds["verified fetch"], speeds[peer], strict=True)]
        table.append(Row(f"verified fetch, share of {peer}", *_middle(shares), "%"))
    extra = [run["extra_kib"] / 1024 for run in runs["verified fetch"]]
    table.append(Row("verified fetch, extra RSS at its peak", *_middle(extra), "MiB"))
    return table


def _middle(values: list[float]) -> tuple[float, float]:
    """Median, and half the distance between the extremes."""
    return statistics.median(values), (max(values) - min(values)) / 2


if __name__ == "__main__":
    main()
