"""Lonja: an inference node for licensed models. `Client` and `AsyncClient` talk to one.

Nothing is loaded before it is used, so that `import lonja` and `lonja --help` are quick.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from lonja.answers import Inference, LicenseStatus, Model, Offer, Prediction, Published, Purchase
    from lonja.client import AsyncClient, Client
    from lonja.errors import LonjaError
    from lonja.terms import OfferTerms
    from lonja.transport import RetryPolicy

_HOMES = {
    "AsyncClient": "client",
    "Client": "client",
    "Inference": "answers",
    "LicenseStatus": "answers",
    "LonjaError": "errors",
    "Model": "answers",
    "Offer": "answers",
    "OfferTerms": "terms",
    "Prediction": "answers",
    "Published": "answers",
    "Purchase": "answers",
    "RetryPolicy": "transport",
}

__all__ = [
    "AsyncClient",
    "Client",
    "Inference",
    "LicenseStatus",
    "LonjaError",
    "Model",
    "Offer",
    "OfferTerms",
    "Prediction",
    "Published",
    "Purchase",
    "RetryPolicy",
]


def __getattr__(name: str) -> Any:
    home = _HOMES.get(name)
    if home is None:
        raise AttributeError(f"module 'lonja' has no attribute {name!r}")
    from importlib import import_module

    return getattr(import_module(f"lonja.{home}"), name)


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
