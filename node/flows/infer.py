"""A prediction for a licensee: the whole way of one request.

Enters: a proven caller and a request whose input is still undecoded. Leaves: the worker's answer,
with the catalogue entry that gave it.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable
from dataclasses import dataclass

import msgspec

from node.chain.licenses import Licenses
from node.errors import DeadlineExceeded, InvalidInput, NodeError, Rejected
from node.flows.load_model import Resident
from node.flows.sync_catalogue import SyncCatalogue
from node.models.slots import Held, Slots
from node.outbound import GuardedFetcher
from node.types import Caller, InferenceRequest, InferenceResult, Payload, RunResult

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class Infer:
    """Parameters are the parts it uses; `timeout_ms` is the longest that a caller may ask for."""

    models: SyncCatalogue
    licenses: Licenses
    slots: Slots[Resident]
    fetcher: GuardedFetcher | None
    """None where `URL_FETCH` is off."""
    url_limit: int
    url_timeout: float
    timeout_ms: int

    async def __call__(self, caller: Caller, request: InferenceRequest) -> InferenceResult:
        """Run one request.

        Raises
        ------
        ModelNotFound, ModelAmbiguous
            The name means no model here, or several.
        LicenseMissing, LicenseExpired, ChainUnavailable
            The caller may not, or it cannot be told.
        InvalidInput, InputTooLarge, UrlFetchFailed
            The input cannot be used.
        DeadlineExceeded, Overloaded, TooManyInFlight, WorkerCrashed, ModelInvalid, GatewayUnavailable,
        ContentMismatch
            It could not be run.
        """
        began = time.perf_counter()
        deadline = asyncio.get_running_loop().time() + self._timeout(request.options.timeout) / 1000
        try:
            async with asyncio.timeout_at(deadline):
                entry = await self.models.find(request.model)
                if self.licenses.cached(caller.address, entry.key.token_id) is None:
                    await self.licenses.require(caller.address, entry.key.token_id)
                payload = request.payload
                if payload.format == "url":
                    payload = await self._fetched(payload)
                async with self.slots.use(entry.key, entry.revision) as resident:
                    run = await resident.worker.run(
                        payload, request.options, deadline=deadline, caller=caller.address
                    )
        except TimeoutError:
            raise DeadlineExceeded(
                f"no answer within {self._timeout(request.options.timeout)} ms",
                suggestion="Try again: a model that was being loaded goes on loading. "
                "`options.timeout` may be raised up to the node's INFERENCE_TIMEOUT.",
            ) from None
        total = time.perf_counter() - began
        return InferenceResult(entry=resident.entry, run=run, total_ms=total * 1000)

    def begin(
        self,
        caller: Caller,
        request: InferenceRequest,
        settled: Callable[[InferenceResult | NodeError], None],
    ) -> InferenceResult | Callable[[], None] | None:
        """Run one request for which everything is at hand, without a task and without waiting here.

        Parameters
        ----------
        settled : called once, later, with what calling this object would have returned or raised.

        Returns
        -------
        The result, where it is there at once: then `settled` is not called. Or what gives the request up,
        upon which `settled` is not called either. Or None where something has to be waited for or is
        amiss: then nothing was begun, and calling this object does it or tells.
        """
        started = time.perf_counter()
        entry = self.models.catalogue.at_hand(request.model)
        if entry is None or request.payload.format == "url":
            return None
        if self.licenses.cached(caller.address, entry.key.token_id) is None:
            return None
        held = self.slots.take(entry.key, entry.revision)
        if held is None:
            return None
        resident = held.resident
        try:
            if resident.inline is not None:
                run = resident.inline.answer(request.payload, request.options)
                if run is not None:
                    held.release()
                    return InferenceResult(resident.entry, run, (time.perf_counter() - started) * 1000)
            begun = _Begun(held, started, settled)
            # Asked for only here: it costs a system call, and uvloop's clock counts whole milliseconds.
            deadline = asyncio.get_running_loop().time() + self._timeout(request.options.timeout) / 1000
            begun.number = resident.worker.submit(
                request.payload, request.options, deadline=deadline, promise=begun, caller=caller.address
            )
        except BaseException as error:
            held.release()  # whatever happened: a hold that nobody ends keeps the node from stopping
            if isinstance(error, NodeError):
                return None
            raise
        return begun.give_up

    def _timeout(self, asked: int | None) -> int:
        return self.timeout_ms if asked is None else min(asked, self.timeout_ms)

    async def _fetched(self, payload: Payload) -> Payload:
        if self.fetcher is None:
            raise Rejected("this node does not fetch URLs (URL_FETCH is off); send the image itself")
        try:
            url = msgspec.json.decode(payload.content, type=str)
        except msgspec.DecodeError:
            raise InvalidInput("input_data.content: with format 'url' it is one URL as text") from None
        fetched = await self.fetcher.get(
            url, limit=self.url_limit, timeout=self.url_timeout, accept="image/*"
        )
        return Payload(format="image", content=fetched.body, encoding="binary")


class _Begun:
    """An inference that was begun without a task: a `Promise` for the worker.

    It calls `settled` when the worker's answer is read, without a future and a further turn of the loop.
    """

    __slots__ = ("_held", "_settled", "_started", "number")

    number: int

    def __init__(
        self, held: Held[Resident], started: float, settled: Callable[[InferenceResult | NodeError], None]
    ) -> None:
        self._held, self._started, self._settled = held, started, settled

    def done(self) -> bool:
        return False  # once it is settled or given up, the worker does not know it any more

    def set_result(self, result: RunResult) -> None:
        took = (time.perf_counter() - self._started) * 1000
        self._tell(InferenceResult(self._held.resident.entry, result, took))

    def set_exception(self, exception: NodeError) -> None:
        self._tell(exception)

    def give_up(self) -> None:
        self._held.resident.worker.give_up(self.number)
        self._held.release()

    def _tell(self, outcome: InferenceResult | NodeError) -> None:
        self._held.release()
        try:
            self._settled(outcome)
        except Exception:  # the worker's socket is being read: a defect here must not break it
            log.exception("an answer could not be delivered")
