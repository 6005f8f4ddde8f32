"""The three ways to send an input: a JSON body, a raw `image/*` body, a multipart form.

Leaves: an `InferenceRequest` whose payload is still as it came; it is opened in the worker only.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from typing import Final

import msgspec
from aiohttp import BodyPartReader, MultipartReader, StreamReader, hdrs, web
from aiohttp.base_protocol import BaseProtocol

from node.errors import InputTooLarge, InvalidInput, Malformed, UnsupportedMode
from node.types import InferenceRequest, Options, Payload
from node.web import body, schemas
from node.web.query import parameters

Parser = Callable[[web.Request, bytes], InferenceRequest | Awaitable[InferenceRequest]]

_ACCEPTED: Final = ("application/json", "image/*", "multipart/form-data")
_OPTION_NAMES: Final = ("top_k", "threshold", "timeout")
_MOST_PARTS: Final = 16
_FIELD_BYTES: Final = 16_384
_DEFAULTS: Final = Options()
_execute_body: Final = msgspec.json.Decoder(schemas.ExecuteBody)
_options_body: Final = msgspec.json.Decoder(schemas.OptionsBody)


def parser_for(request: web.Request) -> Parser:
    """How this request's body is read. Raises `UnsupportedMediaType`."""
    media = body.media_type(request)
    if media == "application/json":
        return from_json
    if media.startswith("image/"):
        return from_image
    if media == "multipart/form-data":
        return from_form
    raise body.unsupported(media, _ACCEPTED)


def from_json(_request: web.Request | None, content: bytes) -> InferenceRequest:
    """`{"model_id", "input_data": {"format", "content"}, "execution_mode", "options"}`."""
    asked = body.decode(_execute_body, content)
    _require_sync(asked.execution_mode)
    given = asked.input_data
    return InferenceRequest(
        asked.model_id,
        Payload(given.format, memoryview(given.content), "json"),
        _DEFAULTS if asked.options is None else _options(asked.options),
    )


def from_image(request: web.Request, content: bytes) -> InferenceRequest:
    """The body is the image; model and options stand in the query or in headers."""
    if not content:
        raise Malformed("The body is empty; send the image's bytes.")
    fields = parameters(request, "model_id", "options", "execution_mode", *_OPTION_NAMES)
    for name, header in (("model_id", "X-Model-ID"), ("options", "X-Inference-Options")):
        value = _text_header(request, header)
        if value is not None and fields.setdefault(name, value) != value:
            raise InvalidInput(f"{name} in the query and {header} differ; send one of them.", parameter=name)
    return _from_fields(fields, content)


def _text_header(request: web.Request, name: str) -> str | None:
    value = request.headers.get(name)
    if value is not None and not value.isascii():
        try:
            value.encode()
        except UnicodeEncodeError:  # aiohttp keeps bytes that are no UTF-8 as lone surrogates
            raise Malformed(f"The header {name} is not UTF-8.") from None
    return value


async def from_form(request: web.Request, content: bytes) -> InferenceRequest:
    """A form with a part `file` and fields `model_id`, `options` (JSON) or the options one by one."""
    fields: dict[str, str] = {}
    image: bytes | None = None
    try:
        async for part in _parts(request, content):
            name = part.name or ""
            if name == "file":
                if image is not None:
                    raise InvalidInput("The form has more than one part 'file'; send one.", member="file")
                image = bytes(await part.read())
            else:
                fields[_new_field(name, fields)] = await _field(part, name)
    except (ValueError, LookupError, RuntimeError, AssertionError) as error:
        raise Malformed("The body is not a multipart form that can be read.") from error
    if not image:
        raise InvalidInput("The form has no part 'file' with the image's bytes.", member="file")
    return _from_fields(fields, image)


async def _parts(request: web.Request, content: bytes) -> AsyncIterator[BodyPartReader]:
    loop = asyncio.get_running_loop()
    stream = StreamReader(BaseProtocol(loop), 2**16, loop=loop)
    stream.feed_data(content)
    stream.feed_eof()
    reader = MultipartReader(request.headers, stream)
    for _ in range(_MOST_PARTS):
        part = await reader.next()
        if part is None:
            return
        if not isinstance(part, BodyPartReader):
            raise InvalidInput("The form holds a nested form; send its parts directly.")
        if hdrs.CONTENT_ENCODING in part.headers or hdrs.CONTENT_TRANSFER_ENCODING in part.headers:
            raise InvalidInput("The form's parts are sent as they are, without an encoding.")
        yield part
    raise InvalidInput(f"The form has more than {_MOST_PARTS} parts.")


async def _field(part: BodyPartReader, name: str) -> str:
    raw = bytes(await part.read())
    if len(raw) > _FIELD_BYTES:
        raise InputTooLarge(f"The form's field {name!r} is larger than {_FIELD_BYTES} bytes.")
    return raw.decode()


def _new_field(name: str, fields: Mapping[str, str]) -> str:
    known = ("model_id", "options", "execution_mode", *_OPTION_NAMES)
    if name not in known:
        raise InvalidInput(
            f"Unknown form field {name[:60]!r}; there are file, {', '.join(known)}.", member=name[:60]
        )
    if name in fields:
        raise InvalidInput(f"The form's field {name!r} is there twice.", member=name)
    return name


def _from_fields(fields: Mapping[str, str], image: bytes) -> InferenceRequest:
    model = fields.get("model_id", "")
    if not 1 <= len(model) <= 200:
        raise InvalidInput("model_id is missing: say which model is to run.", member="model_id")
    _require_sync(fields.get("execution_mode", "sync"))
    return InferenceRequest(model, Payload("image", image, "binary"), _options_of_fields(fields))


def _options_of_fields(fields: Mapping[str, str]) -> Options:
    single = {name: fields[name] for name in _OPTION_NAMES if name in fields}
    if "options" in fields:
        if single:
            raise InvalidInput(f"Send options or {next(iter(single))}, not both.", member="options")
        return _options(body.decode(_options_body, fields["options"].encode()))
    try:
        return _options(msgspec.convert(single, schemas.OptionsBody, strict=False))
    except msgspec.ValidationError as error:
        raise InvalidInput(f"{error}.") from None


def _options(given: schemas.OptionsBody) -> Options:
    return Options(given.top_k, given.threshold, given.timeout)


def _require_sync(mode: str) -> None:
    if mode == "async":
        raise UnsupportedMode(
            "execution_mode 'async' is not served yet; leave it out or send 'sync' and wait for the answer."
        )
    if mode != "sync":
        raise InvalidInput("execution_mode is 'sync'.", member="execution_mode")
