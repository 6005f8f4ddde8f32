"""The gateways that content is fetched from: which one next, and which ones not (yet, or ever) again.

Enters: URLs in the operator's order, and what came of each request. Leaves: gateways, best first.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass
from typing import Final

from yarl import URL

from node.errors import SettingsInvalid

_ERROR_WEIGHT: Final = 3
_LONGEST_PAUSE: Final = 60.0
LONGEST_RETRY_AFTER: Final = 3600.0


@dataclass(slots=True)
class Gateway:
    """One gateway and its record.

    Attributes
    ----------
    refused : why it is never asked again; empty while it may be.
    ready_at : when it may be asked again, on the clock of `Gateways`.
    told : that this rest is one which the gateway itself has asked for.
    pause : how long it rests after its next failure.
    ranges : whether it is believed to answer `entity-bytes`.
    """

    url: URL
    attempts: int = 0
    successes: int = 0
    errors: int = 0
    refused: str = ""
    ready_at: float = 0.0
    ranges: bool = True
    last_error: str = ""
    pause: float = 0.0
    told: bool = False

    @property
    def score(self) -> float:
        """successes / (attempts + 3 x errors); one that was never asked counts as perfect."""
        weight = self.attempts + _ERROR_WEIGHT * self.errors
        return self.successes / weight if weight else 1.0

    @property
    def name(self) -> str:
        """For texts and logs: without user name or password."""
        return str(self.url.with_user(None).with_password(None).origin())


class Gateways:
    """Ranks gateways. State lives as long as the process.

    Parameters
    ----------
    urls
        Base URLs, most trusted first; `/ipfs/<cid>` is put behind them.

    Raises
    ------
    SettingsInvalid
        A URL is not http(s), or has a query or fragment.
    """

    def __init__(
        self,
        urls: Iterable[str],
        *,
        allow_private: bool = True,
        first_pause: float = 1.0,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.allow_private = allow_private
        self._first_pause = first_pause
        self._clock = clock
        self.all = [Gateway(_base(url), pause=first_pause) for url in dict.fromkeys(urls)]

    def usable(self) -> list[Gateway]:
        """Those that may be asked now, best first; the operator's order decides between equals."""
        now = self._clock()
        ready = [gateway for gateway in self.all if not gateway.refused and gateway.ready_at <= now]
        return sorted(ready, key=lambda gateway: -gateway.score)

    def resting(self) -> list[Gateway]:
        """Those that rest because we thought so, and may be asked in need: best first.

        A gateway also fails for content that nobody has, which says nothing of other content.
        """
        now = self._clock()
        found = [g for g in self.all if not g.refused and not g.told and g.ready_at > now]
        return sorted(found, key=lambda gateway: -gateway.score)

    def next_in(self, *, without: Collection[str] = ()) -> float | None:
        """Seconds until one may be asked again; None if none ever will. `without` are names to leave out."""
        rest = [gateway for gateway in self.all if not gateway.refused and gateway.name not in without]
        times = [gateway.ready_at for gateway in rest]
        return max(0.0, min(times) - self._clock()) if times else None

    def asked(self, gateway: Gateway) -> None:
        gateway.attempts += 1

    def delivered(self, gateway: Gateway) -> None:
        gateway.successes += 1
        gateway.pause, gateway.last_error = self._first_pause, ""

    def failed(self, gateway: Gateway, why: str, *, retry_after: float | None = None) -> None:
        """It could not deliver: it rests, longer each time, or as long as it asked to."""
        gateway.errors += 1
        gateway.last_error = why
        pause = min(retry_after, LONGEST_RETRY_AFTER) if retry_after is not None else gateway.pause
        gateway.ready_at, gateway.told = self._clock() + pause, retry_after is not None
        gateway.pause = min(gateway.pause * 2, _LONGEST_PAUSE)

    def moved(self, gateway: Gateway) -> None:
        """It delivered something before it failed: its next rest is short again."""
        gateway.pause = self._first_pause

    def lacks(self, gateway: Gateway, why: str) -> None:
        """It does not have this content, which says nothing against it."""
        gateway.last_error = why

    def drop(self, gateway: Gateway, why: str) -> None:
        """It sent an invalid block: it is not asked again."""
        gateway.errors += 1
        gateway.refused = gateway.last_error = why


def _base(text: str) -> URL:
    try:
        url = URL(text.strip())
    except ValueError:
        raise SettingsInvalid("IPFS_GATEWAYS: one of the URLs cannot be read") from None
    if url.scheme not in {"http", "https"} or not url.host:
        raise SettingsInvalid(f"IPFS_GATEWAYS: {url.host or text!r} is not an http or https URL")
    if url.query_string or url.fragment:
        raise SettingsInvalid(f"IPFS_GATEWAYS: the URL of {url.host} must have no query and no fragment")
    return url
