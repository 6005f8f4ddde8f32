"""What the HTTP layer itself costs: `POST /api/inference/execute` with flows that answer at once.

Run as `python -m benchmarks.http` (needs `wrk`). A bare aiohttp handler that decodes the body and answers
the same bytes runs in the same way beside it. Figures are processor time of the server a request, which a
noisy machine disturbs less than requests a second.
"""

from __future__ import annotations

import asyncio
import json
import logging
import os
import resource
import subprocess
import sys
import tempfile
import urllib.request
from pathlib import Path

from aiohttp import web

EXECUTE = "/api/inference/execute"
CONNECTIONS, SECONDS = 16, 5
TOKEN = "licensee-session-token"
BODY = json.dumps(
    {
        "model_id": "resnet18",
        "input_data": {"format": "tensor", "content": [round(0.0625 * i, 4) for i in range(16)]},
    }
)


async def node_server() -> None:
    """The node's application with fake flows and production logging into /dev/null."""
    from prometheus_client import CollectorRegistry

    from node import logs
    from node.settings import Settings
    from node.web.keys import NodeState
    from node.web.runner import make_runner
    from node.web.server import make_application
    from tests.fakes.flows import FakeFlows

    nowhere = open(os.devnull, "w")  # noqa: ASYNC230, SIM115 - for the life of the process
    logs.configure(level=os.environ.get("LEVEL", "info"), production=True, stream=nowhere)
    fakes = FakeFlows()
    fakes.infer.asked = _Forgetful()
    app = make_application(
        settings=Settings(), state=NodeState(flows=fakes.flows), registry=CollectorRegistry()
    )
    app.router.add_get("/cpu", cpu)
    runner = make_runner(app)
    await runner.setup()
    await _serve(web.TCPSite(runner, "127.0.0.1", 0), runner)


async def bare_server() -> None:
    """aiohttp and msgspec, nothing else."""
    import msgspec

    from node.web import answers
    from node.web.schemas import ExecuteBody
    from tests.fakes.flows import RESULT

    decoder = msgspec.json.Decoder(ExecuteBody)
    answer = answers.executed(RESULT)

    async def execute(request: web.Request) -> web.Response:
        decoder.decode(await request.read())
        return web.Response(body=msgspec.json.encode(answer), content_type="application/json")

    app = web.Application()
    app.router.add_post(EXECUTE, execute)
    app.router.add_get("/cpu", cpu)
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    await _serve(web.TCPSite(runner, "127.0.0.1", 0), runner)


async def cpu(_request: web.Request) -> web.Response:
    used = resource.getrusage(resource.RUSAGE_SELF)
    return web.json_response(used.ru_utime + used.ru_stime)


async def _serve(site: object, runner: object) -> None:
    await site.start()  # type: ignore[attr-defined]
    print(runner.addresses[0][1], flush=True)  # type: ignore[attr-defined]
    logging.getLogger("aiohttp").setLevel(logging.ERROR)
    await asyncio.Event().wait()


class _Forgetful(list):  # type: ignore[type-arg]
    def append(self, _item: object) -> None:
        pass


def measure(kind: str, script: Path) -> tuple[float, float]:
    """Requests a second, and microseconds of the server's processor a request."""
    server = subprocess.Popen(
        [sys.executable, "-m", "benchmarks.http", kind], stdout=subprocess.PIPE, text=True
    )
    try:
        assert server.stdout is not None
        port = int(server.stdout.readline())
        url = f"http://127.0.0.1:{port}"
        before = _cpu(url)
        told = subprocess.run(
            ["wrk", "-t1", f"-c{CONNECTIONS}", f"-d{SECONDS}s", "-s", str(script), url + EXECUTE],
            capture_output=True, text=True, check=True,
        ).stdout  # fmt: skip
        used = _cpu(url) - before
    finally:
        server.terminate()
        server.wait()
    if "Non-2xx" in told:
        raise SystemExit(told)
    requests = int(told.split(" requests in ")[0].split()[-1])
    return requests / SECONDS, used / requests * 1e6


def _cpu(url: str) -> float:
    with urllib.request.urlopen(f"{url}/cpu") as answer:
        return float(json.load(answer))


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        script = Path(folder) / "post.lua"
        script.write_text(
            f"wrk.method = 'POST'\nwrk.body = '{BODY}'\n"
            "wrk.headers['Content-Type'] = 'application/json'\n"
            f"wrk.headers['Authorization'] = 'Bearer {TOKEN}'\n"
        )
        bare = measure("bare", script)
        node = measure("node", script)
    print(f"bare aiohttp {bare[0]:8.0f} requests/s {bare[1]:6.1f} us a request")
    print(f"node         {node[0]:8.0f} requests/s {node[1]:6.1f} us a request (+{node[1] - bare[1]:.1f})")


if __name__ == "__main__":
    if len(sys.argv) > 1:
        import uvloop

        uvloop.run({"node": node_server, "bare": bare_server}[sys.argv[1]]())
    else:
        main()
