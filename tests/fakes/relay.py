"""TCP passed on to a server, counted, and held up once in the middle."""

from __future__ import annotations

import asyncio


class Relay:
    """Passes connections on to `target` (`http://host:port`). Use `async with`.

    Parameters
    ----------
    after : bytes from the server at which it stops and waits for `open`; None never does.

    Attributes
    ----------
    reached : set when it has stopped.
    open : set it to let everything through from then on.
    passed : bytes that came from the server.
    """

    def __init__(self, target: str, *, after: int | None = None) -> None:
        self._host, _, port = target.rpartition("//")[2].partition(":")
        self._port = int(port)
        self._after = after
        self._writers: set[asyncio.StreamWriter] = set()
        self.reached = asyncio.Event()
        self.open = asyncio.Event()
        self.passed = 0
        self.url = ""

    async def __aenter__(self) -> Relay:
        self._server = await asyncio.start_server(self._connection, "127.0.0.1", 0)
        self.url = f"http://127.0.0.1:{self._server.sockets[0].getsockname()[1]}"
        return self

    async def __aexit__(self, *_exc: object) -> None:
        self.open.set()
        self._server.close()
        for writer in list(self._writers):
            writer.close()
        await self._server.wait_closed()

    async def _connection(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._writers.add(writer)
        try:
            up_reader, up_writer = await asyncio.open_connection(self._host, self._port)
            back = asyncio.create_task(self._back(up_reader, writer))
            try:
                while data := await reader.read(65_536):
                    up_writer.write(data)
            finally:
                up_writer.close()
            await back
        except OSError:
            pass  # one of the two is gone
        finally:
            self._writers.discard(writer)
            writer.close()

    async def _back(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while data := await reader.read(65_536):
                self.passed += len(data)
                writer.write(data)
                await writer.drain()
                if self._after is not None and self.passed > self._after and not self.open.is_set():
                    self.reached.set()
                    await self.open.wait()
        except OSError:
            pass
        writer.close()
