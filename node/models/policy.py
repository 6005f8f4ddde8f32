"""Which tokens this node serves: the reading of `SERVE_MODELS`.

`all`, or a list of token ids and owners' addresses. Unset means all in development and none in
production, so that nobody serves strangers' models by forgetting a line.
"""

from __future__ import annotations

from dataclasses import dataclass

from node.errors import SettingsInvalid
from node.types import Address, TokenId


@dataclass(frozen=True, slots=True)
class ServePolicy:
    """Immutable answer to "is this token served here?"."""

    everything: bool
    token_ids: frozenset[int] = frozenset()
    owners: frozenset[str] = frozenset()

    @classmethod
    def parse(cls, names: tuple[str, ...] | None, *, production: bool) -> ServePolicy:
        """Read `SERVE_MODELS`. Raises `SettingsInvalid` naming the entry that cannot be read."""
        if names is None:
            return cls(everything=not production)
        token_ids, owners = set[int](), set[str]()
        for name in names:
            if name == "all":
                return cls(everything=True)
            if name.isdecimal():
                token_ids.add(int(name))
            elif name.startswith("0x") and len(name) == 42:
                owners.add(name.lower())
            else:
                raise SettingsInvalid(
                    f"SERVE_MODELS: {name!r} is neither 'all', a token id nor an owner's address"
                )
        return cls(everything=False, token_ids=frozenset(token_ids), owners=frozenset(owners))

    def serves(self, token_id: TokenId, owner: Address) -> bool:
        return self.everything or token_id in self.token_ids or owner.lower() in self.owners

    @property
    def nothing(self) -> bool:
        return not (self.everything or self.token_ids or self.owners)

    def __str__(self) -> str:
        if self.everything:
            return "every model of the contract"
        if self.nothing:
            return "no model: set SERVE_MODELS to 'all', token ids or owners' addresses"
        return f"{len(self.token_ids)} token(s) and the models of {len(self.owners)} owner(s)"
