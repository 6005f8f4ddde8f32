"""Structs as HTTP answers, and the values of the layers below as structs of the wire."""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING, Final

import msgspec
from aiohttp import hdrs, web
from multidict import CIMultiDict

from node.cid import Cid
from node.types import PERPETUAL, CatalogueEntry, InferenceResult, License, Offer, RunTimings, TokenId
from node.web import schemas
from node.web.problems import ALWAYS

if TYPE_CHECKING:
    from node.flows.browse import ModelDetail

LISTED_DESCRIPTION: Final = 500
"""Characters of a description in lists."""

encode: Final = msgspec.json.Encoder().encode
_HEADERS: Final[CIMultiDict[str]] = CIMultiDict({hdrs.CONTENT_TYPE: "application/json"} | ALWAYS)


def json(content: msgspec.Struct, *, status: int = 200) -> web.Response:
    """`content` as a JSON answer."""
    return encoded(encode(content), status=status)


def encoded(content: bytes, *, status: int = 200) -> web.Response:
    """Finished JSON as an answer."""
    return web.Response(body=content, status=status, headers=_HEADERS.copy())


_text: Final = lru_cache(maxsize=256)(str)
"""Texts of CIDs: base32 costs more than the rest of an answer together."""


def executed(result: InferenceResult) -> schemas.ExecuteAnswer:
    """The answer to `execute`; the worker's `predictions` go in as they came."""
    entry, run = result.entry, result.run
    spent = run.timings
    return schemas.ExecuteAnswer(
        True,
        entry.model_id,
        run.predictions,
        schemas.TimingsAnswer(
            round(spent.inference, 3),
            round(spent.preprocessing, 3),
            round(spent.postprocessing, 3),
            round(result.total_ms, 3),
        ),
        schemas.OriginAnswer(str(entry.key.token_id), entry.revision, _text(entry.manifest_cid), run.entropy),
    )


def written(result: InferenceResult) -> tuple[bytes, str]:
    """`executed` as JSON, and `timing`, put together from texts that most answers share: 2 us less."""
    entry, run, spent = result.entry, result.run, result.run.timings
    begins, ends = _frame(entry.model_id, entry.key.token_id, entry.revision, entry.manifest_cid)
    pre, inference, post = (
        f"{spent.preprocessing:.3f}",
        f"{spent.inference:.3f}",
        f"{spent.postprocessing:.3f}",
    )
    metrics = (
        f',"metrics":{{"inference_time_ms":{inference},"preprocessing_time_ms":{pre},'
        f'"postprocessing_time_ms":{post},"total_time_ms":{result.total_ms:.3f}{ends}'
    )
    content = b"".join((begins, run.predictions, metrics.encode(), encode(run.entropy), b"}}"))
    return content, f", queue;dur={spent.queue:.3f}, pre;dur={pre}, run;dur={inference}, post;dur={post}"


@lru_cache(maxsize=256)
def _frame(model_id: str, token_id: TokenId, revision: int, manifest_cid: Cid) -> tuple[bytes, str]:
    origin = encode(schemas.OriginAnswer(str(token_id), revision, str(manifest_cid), None)).decode()
    begins = b'{"success":true,"model_id":%b,"predictions":' % encode(model_id)
    return begins, '},"metadata":' + origin.removesuffix("null}")


def timing(spent: RunTimings) -> str:
    """Entries of `Server-Timing`, each beginning with a comma."""
    return (
        f", queue;dur={spent.queue:.3f}, pre;dur={spent.preprocessing:.3f}"
        f", run;dur={spent.inference:.3f}, post;dur={spent.postprocessing:.3f}"
    )


def listed(entry: CatalogueEntry) -> schemas.ModelAnswer:
    """A model as lists show it: a page of 200 whole descriptions could have 13 MB."""
    shown = entry.description
    if len(shown) > LISTED_DESCRIPTION:
        shown = shown[: LISTED_DESCRIPTION - 1] + "…"
    return _described(entry, shown)


def _described(entry: CatalogueEntry, description: str) -> schemas.ModelAnswer:
    return schemas.ModelAnswer(
        id=str(entry.key),
        model_id=entry.model_id,
        token_id=str(entry.key.token_id),
        revision=entry.revision,
        manifest_cid=str(entry.manifest_cid),
        owner=entry.owner,
        name=entry.name,
        description=description,
        model_type=entry.model_type,
        weights=schemas.WeightsAnswer(str(entry.weights_cid), entry.weights_bytes),
    )


def detailed(found: ModelDetail) -> schemas.ModelDetailAnswer:
    """A model with its offers."""
    return schemas.ModelDetailAnswer(
        **msgspec.structs.asdict(_described(found.entry, found.entry.description)),
        offers=[offered(offer) for offer in found.offers],
        resident=found.resident,
        inputs=found.inputs,
    )


def offered(offer: Offer) -> schemas.OfferAnswer:
    """An offer with its large numbers as strings."""
    return schemas.OfferAnswer(str(offer.offer_id), str(offer.price), offer.currency, offer.duration)


def licensed(name: str, held: License) -> schemas.LicenseAnswer:
    """A license that is valid now."""
    return schemas.LicenseAnswer(
        model_id=name,
        token_id=str(held.token_id),
        licensee=held.licensee,
        valid=True,
        perpetual=held.perpetual,
        expires_at=None if held.expires_at == PERPETUAL else held.expires_at,
    )
