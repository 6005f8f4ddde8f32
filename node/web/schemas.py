"""Bodies as they stand on the wire: decoded, checked and described in `/openapi.json` by one set of structs.

`content` and `predictions` stay raw JSON text: the main process neither decodes nor re-encodes them.
Numbers that may pass 2**53 (token ids, prices) are strings, as JavaScript would round them.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta, Raw, Struct

Name = Annotated[str, Meta(min_length=1, max_length=200)]
Decimal = Annotated[str, Meta(pattern=r"^[0-9]{1,78}$")]
AddressText = Annotated[str, Meta(pattern=r"^0x[0-9a-fA-F]{40}$")]
CidText = Annotated[str, Meta(min_length=8, max_length=512)]


class Inbound(Struct, frozen=True, forbid_unknown_fields=True):
    """A body that a client sends: members that we do not know are an error that names them."""


# POST /api/inference/execute


class InputData(Inbound, frozen=True):
    format: Annotated[Name, Meta(description="A name that `GET /api/inference/formats` lists, or `url`.")]
    content: Annotated[Raw, Meta(description="What the format says: base64 text, a URL, numbers.")]


class OptionsBody(Inbound, frozen=True):
    top_k: Annotated[int, Meta(ge=1, le=10_000)] | None = None
    threshold: Annotated[float, Meta(ge=0, le=1)] | None = None
    timeout: Annotated[int, Meta(ge=1, le=3_600_000, description="Milliseconds.")] | None = None


class ExecuteBody(Inbound, frozen=True):
    model_id: Annotated[Name, Meta(description="`model_id`, or `{chainId}:{contract}:{tokenId}`.")]
    input_data: InputData
    execution_mode: Annotated[Literal["sync", "async"], Meta(description="`async` is not served yet.")] = (
        "sync"
    )
    options: OptionsBody | None = None


class TimingsAnswer(Struct, frozen=True):
    inference_time_ms: float
    preprocessing_time_ms: float
    postprocessing_time_ms: float
    total_time_ms: float


class OriginAnswer(Struct, frozen=True):
    token_id: str
    revision: int
    manifest_cid: str
    entropy: Annotated[
        float | list[float] | None, Meta(description="Nats; one value a row where there are several rows.")
    ]


class Prediction(Struct, frozen=True):
    """What classification answers, best first. Other tasks answer with members of their own."""

    class_: str = msgspec.field(name="class")
    confidence: float
    class_id: int


class ExecuteAnswer(Struct, frozen=True):
    success: Literal[True]
    model_id: str
    predictions: Annotated[
        Raw, Meta(description="A list as the model's task defines it; for several rows a list of such lists.")
    ]
    metrics: TimingsAnswer
    metadata: OriginAnswer


# GET /api/inference/formats


class FormatAnswer(Struct, frozen=True):
    name: str
    encoding: Annotated[
        Literal["json", "binary"],
        Meta(description="In `input_data.content`, or as a raw body or a form's part."),
    ]
    media_types: list[str]
    description: str


class LimitsAnswer(Struct, frozen=True):
    body_bytes: int
    image_pixels: int
    url_bytes: Annotated[int | None, Meta(description="null where the node does not fetch URLs.")]
    timeout_ms: int


class ModelInputsAnswer(Struct, frozen=True):
    model_id: str
    id: str
    inputs: list[dict[str, Any]]


class FormatsAnswer(Struct, frozen=True):
    formats: list[FormatAnswer]
    limits: LimitsAnswer
    models: Annotated[list[ModelInputsAnswer], Meta(description="Of models that are resident now.")]


# POST /api/models/load


class LoadBody(Inbound, frozen=True):
    token_id: Decimal | Annotated[int, Meta(ge=0)] = msgspec.field(name="tokenId")
    metadata_cid: CidText | None = msgspec.field(name="metadataCid", default=None)
    warmup: bool = False


class SlotsAnswer(Struct, frozen=True):
    current_size: int
    max_size: int
    models_in_cache: Annotated[list[str], Meta(description="Least recently used first.")]


class LoadAnswer(Struct, frozen=True, rename={"cache_status": "cacheStatus"}):
    success: Literal[True]
    model_id: str
    message: str
    load_time_ms: float
    cache_status: SlotsAnswer


# GET /api/models, /api/models/{id}, /api/licenses/{model}


class OfferAnswer(Struct, frozen=True):
    offer_id: str
    price: Annotated[str, Meta(description="In the currency's smallest unit.")]
    currency: Annotated[str, Meta(description="The zero address is the native coin.")]
    duration: Annotated[int, Meta(description="Seconds; 0 is perpetual.")]


class WeightsAnswer(Struct, frozen=True):
    cid: str
    bytes: int


class ModelAnswer(Struct, frozen=True):
    id: Annotated[str, Meta(description="The one name that cannot be ambiguous.")]
    model_id: str
    token_id: str
    revision: int
    manifest_cid: str
    owner: str
    name: str
    description: Annotated[str, Meta(description="In lists at most its first 500 characters.")]
    model_type: str
    weights: WeightsAnswer


class ModelDetailAnswer(ModelAnswer, frozen=True):
    offers: list[OfferAnswer]
    resident: Annotated[bool, Meta(description="Whether it sits in a slot now.")]
    inputs: Annotated[
        list[dict[str, Any]] | None, Meta(description="What it takes; null while it is not resident.")
    ]


class ModelsAnswer(Struct, frozen=True):
    models: list[ModelAnswer]
    total: int
    offset: int
    limit: int


class LicenseAnswer(Struct, frozen=True):
    model_id: str
    token_id: str
    licensee: str
    valid: Literal[True]
    perpetual: bool
    expires_at: Annotated[int | None, Meta(description="Unix seconds of block time; null when perpetual.")]


# /api/auth


class SessionBody(Inbound, frozen=True):
    message: Annotated[str, Meta(min_length=1, max_length=8_192, description="The EIP-4361 message.")]
    signature: Annotated[str, Meta(pattern=r"^0x[0-9a-fA-F]+$", max_length=65_536)]


class NonceAnswer(Struct, frozen=True):
    nonce: str
    domains: list[str]
    uri: str
    chain_id: int
    node: str
    expires_at: Annotated[float, Meta(description="Unix seconds.")]


class SessionAnswer(Struct, frozen=True):
    token: str
    address: str
    expires_at: Annotated[float, Meta(description="Unix seconds.")]


# POST /api/publish


class PublishAnswer(Struct, frozen=True):
    success: Literal[True]
    roots: list[str]


# Health and errors


class LiveAnswer(Struct, frozen=True):
    status: Literal["ok"]


class HealthAnswer(Struct, frozen=True):
    status: Literal["ok", "degraded", "starting", "draining"]
    version: str
    uptime_s: float
    checks: Annotated[dict[str, str], Meta(description="`ok`, or the reason, for each part.")]


class ProblemAnswer(Struct, frozen=True, omit_defaults=True):
    """RFC 9457. Errors may add members of their own."""

    type: str
    title: str
    status: int
    detail: str
    code: Annotated[str, Meta(description="Stable; docs/errors.md has a row for each.")]
    error: Annotated[str, Meta(description="The title once more.")]
    message: Annotated[str, Meta(description="What was wrong and what to do.")]
    request_id: str
    suggestion: str | None = None
    retriable: bool = False
