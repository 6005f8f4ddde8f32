from __future__ import annotations

import pytest

from lonja.errors import UsageInvalid
from lonja.terms import NATIVE, OfferTerms, coins, parse_offer, period

TOKEN = "0x" + "ab" * 20


@pytest.mark.parametrize(
    ("text", "terms"),
    [
        ("price=0.01,days=30", OfferTerms(10**16, 30 * 86_400)),
        ("price=0,perpetual", OfferTerms(0, 0)),
        ("days=1, price=1", OfferTerms(10**18, 86_400)),
        ("price=0.000000000000000001,seconds=90", OfferTerms(1, 90)),
        ("price=1e-18,hours=0.5", OfferTerms(1, 1_800)),
        (f"price=2500000,minutes=1,currency={TOKEN}", OfferTerms(2_500_000, 60, TOKEN)),
    ],
)
def test_an_offer_is_read_exactly(text, terms):
    assert parse_offer(text) == terms


@pytest.mark.parametrize(
    "text",
    [
        "", "0.01", "price=0.01", "days=30", "price=x,days=1", "price=-1,days=1", "price=nan,days=1",
        "price=inf,days=1", "price=0.0000000000000000001,days=1", "price=1,days=x", "price=1,days=0",
        "price=1,days=-3", "price=1,seconds=0.5", "price=1,perpetual=1", "price=1,price=2,days=1",
        "price=1,days=1,hours=1", "price=1,weeks=2", "price=1,days=1,currency=0x12",
        f"price=0.5,days=1,currency={TOKEN}", "price=1,days=nan", "price=1,days=1e30", "price=1e70,days=1",
    ],
)  # fmt: skip
def test_what_is_no_offer_is_refused_and_named(text):
    with pytest.raises(UsageInvalid, match="offer"):
        parse_offer(text)


@pytest.mark.parametrize(
    ("wei", "text"), [(0, "0"), (10**16, "0.01"), (10**21, "1000"), (1, "0.000000000000000001")]
)
def test_amounts_are_shown_exactly(wei, text):
    assert coins(wei) == text


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0, "perpetual"), (86_400, "1 day"), (2_592_000, "30 days"), (5_400, "90 minutes"), (61, "61 seconds")],
)
def test_durations_are_shown_in_the_largest_unit_that_fits(seconds, text):
    assert period(seconds) == text


def test_the_native_coin_is_the_zero_address():
    assert parse_offer("price=1,days=1").currency == NATIVE == "0x" + "0" * 40
