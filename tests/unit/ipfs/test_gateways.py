from __future__ import annotations

import pytest

from node.errors import SettingsInvalid
from node.ipfs.gateways import LONGEST_RETRY_AFTER, Gateways


class Clock:
    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


def names(gateways: Gateways) -> list[str]:
    return [gateway.url.host or "" for gateway in gateways.usable()]


def test_the_operators_order_decides_at_first() -> None:
    assert names(Gateways(["http://b", "http://a", "http://c", "http://b"])) == ["b", "a", "c"]


def test_the_better_record_comes_first() -> None:
    clock = Clock()
    gateways = Gateways(["http://a", "http://b"], clock=clock)
    a, b = gateways.all
    for _ in range(4):
        gateways.asked(a)
        gateways.delivered(a)
        gateways.asked(b)
        gateways.delivered(b)
    gateways.asked(a)
    gateways.failed(a, "broke")
    assert a.score == 4 / (5 + 3 * 1)
    assert names(gateways) == ["b"]
    clock.now += 1
    assert names(gateways) == ["b", "a"]


def test_rests_grow_and_a_delivery_ends_them() -> None:
    clock = Clock()
    gateways = Gateways(["http://a"], clock=clock)
    (a,) = gateways.all
    rests = []
    for _ in range(9):
        gateways.failed(a, "broke")
        rests.append(a.ready_at - clock.now)
    assert rests == [1, 2, 4, 8, 16, 32, 60, 60, 60]
    gateways.delivered(a)
    gateways.failed(a, "broke")
    assert a.ready_at - clock.now == 1


def test_retry_after_is_taken_up_to_an_hour() -> None:
    clock = Clock()
    gateways = Gateways(["http://a"], clock=clock)
    gateways.failed(gateways.all[0], "busy", retry_after=120)
    assert gateways.next_in() == 120
    gateways.failed(gateways.all[0], "busy", retry_after=1e9)
    assert gateways.next_in() == LONGEST_RETRY_AFTER


def test_a_dropped_gateway_never_comes_back() -> None:
    clock = Clock()
    gateways = Gateways(["http://a", "http://b"], clock=clock)
    gateways.drop(gateways.all[0], "it lied")
    clock.now += 1e9
    assert names(gateways) == ["b"]
    gateways.drop(gateways.all[1], "it lied too")
    assert gateways.next_in() is None


@pytest.mark.parametrize("url", ["ftp://a", "a", "", "http://", "http://a?x=1", "http://a#x", "http://[::1"])
def test_what_is_no_gateway_url_is_refused(url: str) -> None:
    with pytest.raises(SettingsInvalid, match="IPFS_GATEWAYS"):
        Gateways([url])


def test_the_name_of_a_gateway_has_no_password() -> None:
    (gateway,) = Gateways(["https://user:secret@a/base/"]).all
    assert gateway.name == "https://a"
