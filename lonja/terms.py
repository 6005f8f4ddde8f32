"""Offers as people write them: `price=0.01,days=30`, `price=5,currency=0x...,perpetual`.

Leaves: terms in the units of the contract, exactly: prices go through `Decimal`, never through a float.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from decimal import Decimal, InvalidOperation
from typing import Final

from lonja.errors import UsageInvalid

NATIVE: Final = "0x" + "00" * 20
_DECIMALS: Final = 18
_SECONDS: Final = {"days": 86_400, "hours": 3_600, "minutes": 60, "seconds": 1}
_ADDRESS: Final = re.compile(r"0x[0-9a-fA-F]{40}")
_EXAMPLE: Final = "for example price=0.01,days=30 or price=0,perpetual"


@dataclass(frozen=True, slots=True)
class OfferTerms:
    """Price in the currency's smallest unit; `duration` in seconds, 0 for a perpetual license."""

    price: int
    duration: int
    currency: str = NATIVE


def parse_offer(text: str) -> OfferTerms:
    """Terms from `price=AMOUNT,(days|hours|minutes|seconds)=N|perpetual[,currency=ADDRESS]`.

    The price is in whole coins; of a token it is in the token's smallest unit, whose decimals we do not know.

    Raises
    ------
    UsageInvalid
    """
    fields = _fields(text)
    currency = fields.pop("currency", NATIVE)
    if not _ADDRESS.fullmatch(currency):
        raise UsageInvalid(f"offer {text!r}: currency is an address, 0x and 40 hex digits")
    if "price" not in fields:
        raise UsageInvalid(f"offer {text!r} has no price; {_EXAMPLE}")
    price = _price(fields.pop("price"), native=currency == NATIVE, offer=text)
    return OfferTerms(price, _duration(fields, offer=text), currency)


def coins(wei: int) -> str:
    """An amount of the native coin for people: exact, without needless zeros."""
    return f"{(Decimal(wei) / 10**_DECIMALS).normalize():f}"


def period(seconds: int) -> str:
    """A duration for people: in the largest unit that divides it."""
    if seconds == 0:
        return "perpetual"
    for name, size in _SECONDS.items():
        if seconds % size == 0:
            count = seconds // size
            return f"{count} {name.removesuffix('s') if count == 1 else name}"
    return f"{seconds} seconds"  # pragma: no cover - every whole number is divisible by 1


def _fields(text: str) -> dict[str, str]:
    fields: dict[str, str] = {}
    for part in text.split(","):
        name, _, value = (piece.strip() for piece in part.partition("="))
        if name not in {"price", "currency", "perpetual", *_SECONDS} or (name == "perpetual") == bool(value):
            raise UsageInvalid(f"offer {text!r}: {part.strip()!r} is not understood; {_EXAMPLE}")
        if name in fields:
            raise UsageInvalid(f"offer {text!r} names {name} twice")
        fields[name] = value
    return fields


def _price(text: str, *, native: bool, offer: str) -> int:
    try:
        amount = Decimal(text) * (10**_DECIMALS if native else 1)
    except InvalidOperation:
        raise UsageInvalid(f"offer {offer!r}: {text!r} is not a price") from None
    if not amount.is_finite() or amount < 0 or amount != int(amount) or amount >= 2**256:
        unit = "at most 18 decimals" if native else "a whole number of the token's smallest unit"
        raise UsageInvalid(f"offer {offer!r}: the price is 0 or more, with {unit}")
    return int(amount)


def _duration(fields: dict[str, str], *, offer: str) -> int:
    if len(fields) != 1:
        raise UsageInvalid(f"offer {offer!r} needs one of perpetual, {', '.join(_SECONDS)}; {_EXAMPLE}")
    (name, value), *_ = fields.items()
    if name == "perpetual":
        return 0
    try:
        seconds = Decimal(value) * _SECONDS[name]
    except InvalidOperation:
        raise UsageInvalid(f"offer {offer!r}: {value!r} is not a number of {name}") from None
    if not seconds.is_finite() or not 1 <= seconds < 2**63 or seconds != int(seconds):
        raise UsageInvalid(f"offer {offer!r}: a license runs for at least a whole second")
    return int(seconds)
