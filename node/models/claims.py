"""Whose weights are these: which tokens have carried them, and who can be shown to have been the first.

Enters: tokens with the weights that they carry. Leaves: the owner whose claim is the oldest, or nobody
where that cannot be told. A claim is never forgotten: else a copy of a token would inherit the weights
of a revision that its publisher has replaced.

The contract does not say when a token got its present weights, only when tokens were registered: in the
order of their ids. So a claim has an age between two ids: it is not older than its own token, and every
token above `before` (the newest one when the claim was first seen) is younger than it.
"""

from __future__ import annotations

import sqlite3
from collections import defaultdict
from collections.abc import Iterable, Mapping
from typing import Final

from node.cid import Cid
from node.disk import told_when_full
from node.types import ContractRef, TokenId

SCHEMA: Final = """
CREATE TABLE IF NOT EXISTS claims (
    chain_id INTEGER NOT NULL, contract TEXT NOT NULL, weights BLOB NOT NULL, token_id TEXT NOT NULL,
    before TEXT NOT NULL,
    PRIMARY KEY (chain_id, contract, weights, token_id)
) WITHOUT ROWID;
"""

BlockKey = bytes
"""What CIDs of one block have in common."""


def block_key(cid: Cid) -> BlockKey:
    """The same for version 0 and version 1 of a CID, which name the same block."""
    return bytes((cid.codec, cid.hash_code)) + cid.digest


def write(database: sqlite3.Connection, statement: str, parameters: tuple[object, ...]) -> None:
    """Run one statement that writes. Raises `StoreFull` where the disk is full."""
    with told_when_full():
        database.execute(statement, parameters)


class Claims:
    """The claims on one contract, in memory and in a table beside the catalogue's."""

    def __init__(self, database: sqlite3.Connection, contract: ContractRef) -> None:
        self._database = database
        self._contract = (contract.chain_id, contract.address)
        self._claims: dict[BlockKey, dict[TokenId, int]] = defaultdict(dict)
        self.weights: dict[BlockKey, Cid] = {}
        """Everything that is, or once was, a token's weights."""
        database.executescript(SCHEMA)
        rows = database.execute(
            "SELECT weights, token_id, before FROM claims WHERE chain_id = ? AND contract = ?", self._contract
        )
        for weights, token_id, before in rows:
            self._claims[weights][TokenId(int(token_id))] = int(before)
            self.weights[weights] = Cid(1, weights[0], weights[1], weights[2:])

    def add(self, weights: Cid, token_id: TokenId, *, before: int) -> None:
        """Remember that a token carries these weights; of several words on one claim the first counts."""
        key = block_key(weights)
        if token_id in self._claims.get(key, ()):
            return
        write(
            self._database,
            "INSERT OR IGNORE INTO claims VALUES (?, ?, ?, ?, ?)",
            (*self._contract, key, str(token_id), str(before)),
        )
        self._claims[key][token_id] = before
        self.weights[key] = weights

    def __contains__(self, weights: Cid) -> bool:
        return block_key(weights) in self._claims

    def on(self, weights: Iterable[Cid]) -> dict[TokenId, int]:
        """Token and `before` of every claim on any of these."""
        merged: dict[TokenId, int] = {}
        for cid in weights:
            for token_id, before in self._claims.get(block_key(cid), {}).items():
                merged[token_id] = min(before, merged.get(token_id, before))
        return merged


def oldest(claims: Mapping[TokenId, int], owners: Mapping[TokenId, str]) -> list[TokenId]:
    """The tokens, lowest first, of the one owner who claimed before all others; none if that is unsure."""
    known = sorted(token for token in claims if token in owners)
    for first in known:
        others = [token for token in known if owners[token] != owners[first]]
        if all(token > claims[first] for token in others):
            return [token for token in known if owners[token] == owners[first]]
    return []
