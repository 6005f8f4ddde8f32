"""Connections: bounds on time and size that hold before there is a request, errors in our form, and the
junction of the express lane (`express.py`) with aiohttp's own handling of requests.

aiohttp bounds the size of headers but not the time that they may take; a client that sends one byte a
second would keep its connection for as long as it likes.
"""

from __future__ import annotations

import asyncio
import logging
from typing import Any, Final, cast

from aiohttp import StreamReader, web
from aiohttp.http_exceptions import LineTooLong
from aiohttp.http_parser import RawRequestMessage
from aiohttp.web_protocol import RequestHandler, _ErrInfo

from node.errors import Fault, HeadersTooLarge, Malformed, NodeError
from node.web.crowd import LATE_HEADERS_SECONDS, Crowd
from node.web.express import Express, Passage
from node.web.keys import Limits
from node.web.problems import ALWAYS, new_request_id, problem_response
from node.web.repeats import Repeat, exact
from node.web.unsent import Unsent

_TIMED_OUT: Final = b"HTTP/1.1 408 Request Timeout\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"

_log = logging.getLogger("node.web")


class Connection(RequestHandler):
    """One client's connection: closed when the headers of a request are not complete in time, or when the
    client does not take its answers."""

    __slots__ = (
        "_between", "_crowd", "_express", "_headers_timer", "_limits", "_passage", "_repeat", "_sleeper",
        "_unsent", "late",
    )  # fmt: skip

    def __init__(
        self, manager: web.Server, *, express: Express, crowd: Crowd, limits: Limits, **options: Any
    ) -> None:
        super().__init__(manager, **options)
        self._express = express
        self._passage: Passage | None = None
        self._sleeper: asyncio.Future[None] | None = None
        """What aiohttp's own loop waits for, while a passage is under way."""
        self._between = True
        """Whether the parser surely stands between two messages; it is not always found out."""
        self._repeat: Repeat | None = None
        """What the last request has, if it took the express lane and nothing has come since."""
        self._crowd, self._limits = crowd, limits
        self.late = False
        """Whether it came when the node had as many connections as it serves."""
        self._unsent: Unsent | None = None
        self._headers_timer: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        opened = cast("asyncio.Transport", transport)
        self._unsent = Unsent(opened, stall=self._limits.stall_seconds, longest=self._limits.body_seconds)
        self.late = self._crowd.enter(self, cut_off=opened.abort)
        self._arm()

    async def start(self) -> None:
        try:
            await super().start()
        finally:
            self._watch_the_rest()

    def force_close(self) -> None:
        super().force_close()
        self._watch_the_rest()

    def pause_writing(self) -> None:
        super().pause_writing()
        self._watch_the_rest()

    def resume_writing(self) -> None:
        super().resume_writing()
        if self._unsent is not None and self.transport is not None and not self.transport.is_closing():
            self._unsent.rest()

    def _watch_the_rest(self) -> None:
        if self._unsent is not None:
            self._unsent.watch()

    def data_received(self, data: bytes) -> None:
        sleeper = self._waiter if self._waiter is not None and not self._waiter.done() else None
        between, known = self._between and not self._messages, self._repeat
        self._between, self._repeat = False, None
        if sleeper is not None:
            self._waiter = None  # aiohttp's own loop sleeps on until it is known whether it is needed
            if known is not None and self._depart_again(known, data, sleeper):
                self._between, self._repeat = True, known
                return
        super().data_received(data)
        message = self._only_message()
        repeat = exact(data, message) if message is not None and between else None
        self._between = repeat is not None
        if sleeper is not None:
            if message is not None and self._depart(message, sleeper):
                self._repeat = repeat
                self._disarm()
                return
            self._waiter = sleeper
            if self._messages:
                sleeper.set_result(None)
        if self._messages or self._request_in_progress:
            self._disarm()
            if self._messages and self._current_request is not None:
                self._fail_broken_body(self._current_request)
        elif self._headers_timer is None and data and self._waiter is not None:
            self._arm()  # the first bytes of a further request on this connection

    def resume_reading(self, resume_parser: bool = True) -> None:
        """Only what is paused: aiohttp calls this whenever a body was read, and then parses nothing anew."""
        if self._reading_paused:
            super().resume_reading(resume_parser)

    def _only_message(self) -> RawRequestMessage | None:
        """The one request that has arrived, if it has in full and there is no other."""
        if len(self._messages) != 1:
            return None
        message, payload = self._messages[0]
        return None if isinstance(message, _ErrInfo) or not payload.is_eof() else message

    def _depart(self, message: RawRequestMessage, sleeper: asyncio.Future[None]) -> bool:
        """Try the express lane for the only message; False where it goes the ordinary way."""
        if self._paused or self._upgraded or self.late or not self._express.serves(message):
            return False
        body = self._messages[0][1].read_nowait(-1)
        passage = self._begin(message, body)
        if passage is None:
            self._messages[0] = message, self._unread(body)
            return False
        self._messages.popleft()
        if self._parser is not None:
            self._parser.message_consumed()
        self._follow(passage, sleeper)
        return True

    def _depart_again(self, repeat: Repeat, data: bytes, sleeper: asyncio.Future[None]) -> bool:
        """`_depart` for a request that need not be parsed."""
        body = repeat.body(data)
        if body is None or self._paused or self._close or self._force_close:
            return False
        passage = self._begin(repeat.message, body)
        if passage is not None:
            self._follow(passage, sleeper)
        return passage is not None

    def _begin(self, message: RawRequestMessage, body: bytes) -> Passage | None:
        peer = self.peername
        remote = peer[0] if isinstance(peer, tuple) else None
        return self._express.begin(message, body, remote=remote, reply=self._arrive)

    def _follow(self, passage: Passage, sleeper: asyncio.Future[None]) -> None:
        self._sleeper = sleeper
        if passage.answer is not None:
            self._arrive(*passage.answer)
            return
        # Hidden from aiohttp, so that it neither takes the connection for idle nor begins the next request.
        self._passage = passage
        self._request_in_progress = True

    def _unread(self, body: bytes) -> StreamReader:
        payload = StreamReader(self, self._read_bufsize, loop=self._loop)
        if body:
            payload.feed_data(body)
        payload.feed_eof()
        return payload

    def _arrive(self, answer: bytes, last: bool) -> None:
        """Write the answer of a passage and go on as aiohttp does after one of its own."""
        sleeper, self._passage, self._sleeper = self._sleeper, None, None
        self._end_request()
        if self.transport is None or sleeper is None:
            return
        self.transport.write(answer)
        self._waiter = sleeper
        if last or self._close or self._force_close:
            sleeper.cancel()
            self.transport.close()
        elif self._messages:
            sleeper.set_result(None)
        else:
            self._next_keepalive_close_time = self._loop.time() + self._keepalive_timeout
            if self._keepalive_handle is None:
                self._keepalive_handle = self._loop.call_at(
                    self._next_keepalive_close_time, self._process_keepalive
                )

    def _end_request(self) -> None:
        self._request_in_progress = False
        if self._handler_waiter is not None and not self._handler_waiter.done():
            self._handler_waiter.set_result(None)  # `shutdown` waits for it

    def connection_lost(self, exc: BaseException | None) -> None:
        if self._passage is not None:
            self._passage.abandon()
            self._passage = None
            self._end_request()
        self._disarm()
        if self._unsent is not None:
            self._unsent.rest()
            self._unsent = None
        self._crowd.leave(self)
        super().connection_lost(exc)

    def handle_error(
        self,
        request: web.BaseRequest,
        status: int = 500,
        exc: BaseException | None = None,
        message: str | None = None,
    ) -> web.StreamResponse:
        """What the HTTP parser refused, or what failed outside the middleware, as a problem document."""
        if request.writer.output_size > 0:
            raise ConnectionError("the answer has begun, no other can be sent")
        error: NodeError
        if isinstance(exc, LineTooLong):
            error = HeadersTooLarge("The request line or a header is longer than this node accepts.")
        elif status < 500:
            error = Malformed("This is not a valid HTTP request.")
            if message and "Too many headers" in message:
                error = HeadersTooLarge("The request has more headers than this node accepts.")
        else:
            _log.error("unexpected error outside a handler", exc_info=exc)
            error = Fault("The node failed on this request.")
        response = problem_response(error, request_id=new_request_id())
        response.headers.update(ALWAYS)
        response.force_close()
        return response

    def _fail_broken_body(self, request: web.BaseRequest) -> None:
        """Tell the handler that reads a body when its framing broke: aiohttp would let it wait."""
        if isinstance(self._messages[-1][0], _ErrInfo) and not request.content.is_eof():
            request.content.set_exception(web.RequestPayloadError("broken framing"))
            request.content.feed_eof()  # nothing more can be read off before the connection is closed

    def _arm(self) -> None:
        seconds = self._limits.headers_seconds
        if self.late:
            seconds = min(seconds, LATE_HEADERS_SECONDS)
        self._headers_timer = self._loop.call_later(seconds, self._headers_overdue)

    def _disarm(self) -> None:
        if self._headers_timer is not None:
            self._headers_timer.cancel()
            self._headers_timer = None

    def _headers_overdue(self) -> None:
        self._headers_timer = None
        if self.transport is not None:
            self.transport.write(_TIMED_OUT)
        self.force_close()
