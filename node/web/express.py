"""The express lane of `POST /api/inference/execute`: an inference that waits for nothing but the worker.

Enters: a request whose JSON body has arrived in full, from a caller whose session and license are in
memory, for a resident model. Leaves: the answer that the ordinary way (`middlewares.py`,
`handlers/inference.py`) gives, as bytes; or None before anything has happened: the request then goes the
ordinary way, which finds out and says what is missing or wrong.

Nothing is awaited here, so a request needs no task, no `web.Request`, no route and no `web.Response`: some 31
us of the main process (39 with the hop to a worker) where it took 126. A bare aiohttp handler takes 42.
A head that is known (`repeats.py`) takes another third off.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from typing import Final

from aiohttp import HttpVersion11, hdrs
from aiohttp.helpers import rfc822_formatted_time
from aiohttp.http_parser import RawRequestMessage
from multidict import CIMultiDict, CIMultiDictProxy

from node.errors import Fault, NodeError
from node.types import InferenceResult
from node.web import answers, inputs
from node.web.caller import bearer_token
from node.web.keys import Edge, Exchange
from node.web.middlewares import CLIENT_GONE, REQUEST_ID, failed, record, request_id
from node.web.problems import ALWAYS

PATH: Final = "/api/inference/execute"
Reply = Callable[[bytes, bool], None]
"""Takes a finished answer; the flag says that the connection ends with it."""

_HSTS: Final = ("Strict-Transport-Security", "max-age=31536000")
_SECURE: Final = f"{_HSTS[0]}: {_HSTS[1]}\r\n"

_log = logging.getLogger("node.web")


class Express:
    """See the module.

    Parameters
    ----------
    ours : what the middleware uses too.
    """

    def __init__(self, ours: Edge) -> None:
        self.ours = ours
        self._head = "HTTP/1.1 200 OK\r\n" + _lines(self.always({hdrs.CONTENT_TYPE: "application/json"}))

    @staticmethod
    def serves(message: RawRequestMessage) -> bool:
        """Whether the headers leave the express lane open."""
        headers = message.headers
        return (
            message.path == PATH
            and message.method == hdrs.METH_POST
            and message.version == HttpVersion11
            and not message.should_close
            and headers.get(hdrs.CONTENT_TYPE) == "application/json"
            and not (
                hdrs.EXPECT in headers
                or hdrs.CONTENT_ENCODING in headers
                or hdrs.TRANSFER_ENCODING in headers
                or hdrs.ORIGIN in headers
                or hdrs.UPGRADE in headers
            )
        )

    def begin(
        self, message: RawRequestMessage, body: bytes, *, remote: str | None, reply: Reply
    ) -> Passage | None:
        """Start the inference, whose end `reply` will be told unless the passage has its `answer` already;
        None where it takes the ordinary way."""
        ours, headers = self.ours, message.headers
        begun = ours.clock()
        flows, authorization = ours.state.flows, headers.getall(hdrs.AUTHORIZATION, ())
        if flows is None or ours.state.draining or len(authorization) != 1:
            return None
        token = bearer_token(authorization[0]) if authorization[0].isascii() else None
        if token is None or len(body) > ours.limits.body_bytes:
            return None
        try:
            caller = flows.authenticate.session(token)
            asked = inputs.from_json(None, body)
        except NodeError:
            return None
        passage = Passage(self, headers, remote=remote, begun=begun, reply=reply)
        outcome = flows.infer.begin(caller, asked, passage.settle)
        if outcome is None:
            return None
        passage.exchange.caller = caller.address
        if isinstance(outcome, InferenceResult):
            passage.answer = passage.conclude(outcome)
        else:
            passage.give_up = outcome
            ours.state.running += 1
        return passage

    def answer(self, passage: Passage, result: InferenceResult) -> bytes:
        """The bytes of an answer."""
        ours = self.ours
        content, timing = answers.written(result)
        secure = _SECURE if ours.https or ours.proxies.https(passage) else ""
        head = (
            f"{self._head}{secure}{REQUEST_ID}: {passage.exchange.request_id}\r\n"
            f"Server-Timing: total;dur={(ours.clock() - passage.begun) * 1000:.3f}{timing}\r\n"
            f"Content-Length: {len(content)}\r\nDate: {rfc822_formatted_time()}\r\n\r\n"
        )
        return head.encode() + content

    def refusal(self, passage: Passage, error: NodeError) -> tuple[int, bytes, bool]:
        """Status and bytes of a problem document, and whether the connection ends with it."""
        ours = self.ours
        response = failed(error, passage.exchange)
        headers = self.always(response.headers)
        headers[REQUEST_ID] = passage.exchange.request_id
        headers["Server-Timing"] = f"total;dur={(ours.clock() - passage.begun) * 1000:.3f}"
        if ours.https or ours.proxies.https(passage):
            headers.add(*_HSTS)
        closes = response.keep_alive is False
        if closes:
            headers[hdrs.CONNECTION] = "close"
        body = response.body if isinstance(response.body, bytes) else b""
        headers[hdrs.CONTENT_LENGTH] = str(len(body))
        headers[hdrs.DATE] = rfc822_formatted_time()
        head = f"HTTP/1.1 {response.status} {response.reason}\r\n{_lines(headers)}\r\n"
        return response.status, head.encode() + body, closes

    def always(self, headers: Mapping[str, str]) -> CIMultiDict[str]:
        """`headers` and those of every answer."""
        stamped: CIMultiDict[str] = CIMultiDict(headers)
        for name, value in ALWAYS.items():
            stamped.setdefault(name, value)
        self.ours.cors.stamp(None, stamped)
        return stamped


class Passage:
    """One request in the express lane; settled exactly once, by its result or by `abandon`.

    Attributes
    ----------
    answer : what `reply` would be told, where it is there at once.
    """

    __slots__ = ("_express", "_reply", "answer", "begun", "exchange", "give_up", "headers", "remote")

    give_up: Callable[[], None]

    def __init__(
        self,
        express: Express,
        headers: CIMultiDictProxy[str],
        *,
        remote: str | None,
        begun: float,
        reply: Reply,
    ) -> None:
        self._express, self._reply = express, reply
        self.headers, self.remote, self.begun = headers, remote, begun
        self.exchange = Exchange(request_id(headers), express.ours.proxies.client(self))
        self.answer: tuple[bytes, bool] | None = None

    def settle(self, outcome: InferenceResult | NodeError) -> None:
        """The inference is over."""
        content, closes = self.conclude(outcome)
        self._express.ours.state.left()
        self._reply(content, closes)

    def conclude(self, outcome: InferenceResult | NodeError) -> tuple[bytes, bool]:
        """The answer to an inference that is over, and whether the connection ends with it."""
        express, status, closes = self._express, 200, False
        try:
            if isinstance(outcome, InferenceResult):
                content = express.answer(self, outcome)
                express.ours.metrics.inferred("ok", outcome.run.timings)
            else:
                status, content, closes = express.refusal(self, outcome)
                express.ours.metrics.inferred(outcome.code)
        except Exception:
            fields = {"request_id": self.exchange.request_id}
            _log.exception("unexpected error", extra={"fields": fields})
            fault = Fault(
                "The node failed on this request; its operator finds the cause under this request_id."
            )
            status, content, closes = express.refusal(self, fault)
        self._record(status)
        return content, closes

    def abandon(self) -> None:
        """The client has gone: nobody waits for the result."""
        self.give_up()
        self._express.ours.state.left()
        self._record(CLIENT_GONE)

    def _record(self, status: int) -> None:
        ours = self._express.ours
        record(
            ours, self.exchange, route=PATH, method=hdrs.METH_POST, path=PATH, status=status,
            seconds=ours.clock() - self.begun,
        )  # fmt: skip


def _lines(headers: Mapping[str, str]) -> str:
    return "".join(f"{name}: {value}\r\n" for name, value in headers.items())
