"""From a license on chain to a node that honours it: waiting until the node has seen a purchase.

A node remembers for a few seconds that somebody had no license, and a production node waits for
confirmations. Enters: a client and a model's canonical name. Leaves: what the node says of the license.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from lonja.errors import LicenseExpired, LicenseMissing, LonjaError, NotFound

if TYPE_CHECKING:
    from lonja.client import AsyncClient

PATIENCE: Final = 10.0
"""Seconds; a refusal is remembered for 3, and a confirmation takes a block."""
_PAUSE: Final = 0.1


@dataclass(frozen=True, slots=True)
class Admission:
    """Whether the node honours the license; None where it does not serve the model. `says` is its reason."""

    agrees: bool | None
    says: str | None = None


async def admitted(client: AsyncClient, name: str, *, patience: float = PATIENCE) -> Admission:
    """Ask the node until it honours the caller's license of `name`, at most `patience` seconds.

    Never raises for what the node does: the license is bought, whatever it answers.
    """
    refusal = "it did not answer in time"
    try:
        async with asyncio.timeout(patience):
            while True:
                try:
                    await client.my_license(name)
                except (LicenseMissing, LicenseExpired) as error:
                    refusal = error.message
                else:
                    return Admission(True)
                await asyncio.sleep(_PAUSE)
    except TimeoutError:
        return Admission(False, refusal)
    except NotFound as error:
        return Admission(None, error.message)
    except LonjaError as error:
        return Admission(False, str(error))
