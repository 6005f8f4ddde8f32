"""What `GET /api/inference/formats` tells before a model is known: the formats, and this node's limits."""

from __future__ import annotations

from node.settings import Settings
from node.web.schemas import FormatAnswer, FormatsAnswer, LimitsAnswer
from preprocessors.registry import INPUTS


def described(settings: Settings) -> FormatsAnswer:
    """Formats of every kind of input, each once, and `url` where it is on; `models` is empty."""
    by_name = {each.name: each for kind in INPUTS for each in kind.formats}
    formats = [
        FormatAnswer(each.name, each.encoding, list(each.media_types), each.description)
        for each in by_name.values()
    ]
    if settings.url_fetch == "on":
        formats.append(
            FormatAnswer("url", "json", [], "a public http(s) URL of an image, which the node fetches")
        )
    limits = LimitsAnswer(
        body_bytes=settings.max_body_bytes,
        image_pixels=settings.max_image_pixels,
        url_bytes=settings.url_fetch_max_bytes if settings.url_fetch == "on" else None,
        timeout_ms=settings.inference_timeout,
    )
    return FormatsAnswer(formats, limits, [])
