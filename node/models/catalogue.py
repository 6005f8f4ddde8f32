"""The models that this node knows, kept in SQLite so that a restart answers at once.

Enters: entries that a flow has joined from the contract and a checked manifest. Leaves: an entry by
any of its names, pages for browsing, and the set of CIDs that tokens refer to. Everything here can
be had again from the chain, except who had which weights first (`claims`), where tokens were updated.

Reads of the hot path (`resolve`) touch memory only; the database is written a row at a time.
"""

from __future__ import annotations

import difflib
import itertools
import logging
import re
import sqlite3
from collections import Counter, defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import msgspec

from node.cid import Cid
from node.errors import ModelAmbiguous, ModelNotFound, StartupError
from node.models.claims import BlockKey, Claims, block_key, oldest, write
from node.models.policy import ServePolicy
from node.types import Address, CatalogueEntry, ContractRef, ModelKey, TokenId

log = logging.getLogger(__name__)

_SCHEMA: Final = """
CREATE TABLE IF NOT EXISTS entries (
    chain_id INTEGER NOT NULL, contract TEXT NOT NULL, token_id TEXT NOT NULL,
    entry BLOB NOT NULL,
    PRIMARY KEY (chain_id, contract, token_id)
) WITHOUT ROWID;
"""
_LAST_TOKEN: Final = 2**256
_CANONICAL: Final = re.compile(r"([0-9]{1,78}):([^:]*):([0-9]{1,78})")
_SEARCHED: Final = 2_000
"""Characters of a description that a search looks at; a publisher may write 65,536."""
_NEAR_NAMES: Final = 200
"""Names that an unknown one is compared with: comparing takes 0.3 ms each, and anybody may ask."""


class KnownModel(msgspec.Struct, frozen=True):
    """An entry and the CIDs that its manifest names beside the weights."""

    entry: CatalogueEntry
    public_cids: tuple[Cid, ...] = ()
    newest_token: int | None = None
    """The highest token id of the contract when this revision was read, for revisions after the first."""

    @property
    def cids(self) -> tuple[Cid, ...]:
        return (self.entry.manifest_cid, self.entry.weights_cid, *self.public_cids)

    @property
    def claimed_before(self) -> int:
        """Every token above this id was registered after this one got its weights."""
        if self.entry.revision == 1:
            return self.entry.key.token_id
        return _LAST_TOKEN if self.newest_token is None else self.newest_token


class Catalogue:
    """Known models of one contract.

    Parameters
    ----------
    path
        The SQLite file; `":memory:"` for tests.
    contract
        Entries of other contracts stay in the file untouched and unseen.
    policy
        Models outside it are known (so that 404 can say why) but not listed and not resolved.
    """

    def __init__(self, path: Path | str, *, contract: ContractRef, policy: ServePolicy) -> None:
        self._contract = contract
        self._policy = policy
        self._database = _open(path)
        self._known: dict[ModelKey, KnownModel] = {}
        self._texts: dict[ModelKey, str] = {}
        self._by_name: dict[str, set[ModelKey]] = defaultdict(set)
        self._staged: dict[tuple[ModelKey, int], CatalogueEntry] = {}
        # Counted, so that the store's threads need one look-up instead of a walk over a changing dict.
        self._manifests: Counter[BlockKey] = Counter()
        self._referred: Counter[BlockKey] = Counter()
        self._public: Counter[BlockKey] = Counter()
        self._claims = Claims(self._database, contract)
        rows = self._database.execute(
            "SELECT entry FROM entries WHERE chain_id = ? AND contract = ?",
            (contract.chain_id, contract.address),
        )
        for (blob,) in rows:
            try:
                self._remember(msgspec.json.decode(blob, type=KnownModel, dec_hook=_decode))
            except (msgspec.MsgspecError, ValueError) as error:
                log.warning("an entry of the catalogue cannot be read, its token is read again: %s", error)

    def close(self) -> None:
        self._database.close()

    def key(self, token_id: TokenId) -> ModelKey:
        return ModelKey(self._contract.chain_id, self._contract.address, token_id)

    def put(self, known: KnownModel) -> None:
        """Add a model or replace what was known of it. Raises `StoreFull` where the disk is full."""
        key = known.entry.key
        write(
            self._database,
            "INSERT OR REPLACE INTO entries VALUES (?, ?, ?, ?)",
            (
                key.chain_id,
                key.contract,
                str(key.token_id),
                msgspec.json.encode(known, enc_hook=_encode),
            ),
        )
        self._forget(key)
        self._remember(known)

    def stage(self, known: KnownModel) -> None:
        """Keep a revision beside the current one until `put` makes it current."""
        self._staged[known.entry.key, known.entry.revision] = known.entry

    def unstage(self, key: ModelKey, revision: int) -> None:
        self._staged.pop((key, revision), None)

    def revision(self, key: ModelKey, revision: int) -> CatalogueEntry:
        """The entry of one revision, current or staged. Raises `ModelNotFound`."""
        staged = self._staged.get((key, revision))
        if staged is not None:
            return staged
        known = self._known.get(key)
        if known is None or known.entry.revision != revision:
            raise ModelNotFound(
                f"revision {revision} of {key} is not known here; ask again without a revision"
            )
        return known.entry

    def known(self, key: ModelKey) -> KnownModel | None:
        return self._known.get(key)

    def parse_canonical(self, name: str) -> ModelKey | None:
        """The key that `{chainId}:{contract}:{tokenId}` names, None for a bare `model_id`.

        Raises `ModelNotFound` for a canonical name of another chain or contract.
        """
        found = _CANONICAL.fullmatch(name)
        if found is None or int(found[3]) >= _LAST_TOKEN:
            return None
        ours = self._contract
        if int(found[1]) != ours.chain_id or found[2].lower() != ours.address.lower():
            raise ModelNotFound(
                f"{name} belongs to another contract; this node serves {ours.chain_id}:{ours.address}",
                suggestion="Ask a node of that contract.",
            )
        return self.key(TokenId(int(found[3])))

    def resolve(self, name: str) -> CatalogueEntry:
        """The served model of that name.

        Raises
        ------
        ModelNotFound
            No served model has it; the suggestion names near ones.
        ModelAmbiguous
            Several tokens share this `model_id`; the message lists their canonical names.
        """
        keys = self._by_name.get(name)
        if keys is None:
            key = self.parse_canonical(name)
            known = self._known.get(key) if key else None
            if known is None or not self._served(known.entry):
                raise self._not_found(name)
            return known.entry
        if len(keys) == 1:
            return self._known[next(iter(keys))].entry
        names = sorted(str(key) for key in keys)
        raise ModelAmbiguous(
            f"{len(names)} models are called {name!r} here; use one of {', '.join(names)}", models=names
        )

    def at_hand(self, name: str) -> CatalogueEntry | None:
        """The served model with this `model_id`, if it is the only one; None tells nothing."""
        keys = self._by_name.get(name)
        if keys is None or len(keys) != 1:
            return None
        (key,) = keys
        return self._known[key].entry

    def page(
        self, *, search: str | None, owner: Address | None, offset: int, limit: int
    ) -> tuple[list[CatalogueEntry], int]:
        """Served models in the order of their tokens, and how many there are in all.

        `search` matches name, model_id and the begin of the description without regard to case.
        """
        wanted = search.casefold() if search else ""
        found = [
            entry
            for entry in self._served_entries()
            if (not owner or entry.owner.lower() == owner.lower())
            and (not wanted or wanted in self._searched(entry))
        ]
        found.sort(key=lambda entry: entry.key.token_id)
        return found[offset : offset + limit], len(found)

    def _searched(self, entry: CatalogueEntry) -> str:
        text = self._texts.get(entry.key)
        if text is None:
            text = f"{entry.model_id}\n{entry.name}\n{entry.description[:_SEARCHED]}".casefold()
            self._texts[entry.key] = text
        return text

    def referenced(self, cid: Cid) -> bool:
        """Whether any known token refers to this root, so that the store must keep it. For any thread."""
        return self._referred[block_key(cid)] > 0

    def sellers_of(self, *weights: Cid) -> list[CatalogueEntry]:
        """Tokens of the account that claimed these weights first: their licensees may fetch them.

        None where it is unsure who was the first. Of several CIDs (roots that share a block) the oldest
        claim on any of them decides.
        """
        claims = self._claims.on(weights)
        known = {token: self._known.get(self.key(token)) for token in claims}
        entries = {token: found.entry for token, found in known.items() if found is not None}
        tokens = oldest(claims, {token: entry.owner for token, entry in entries.items()})
        return [entries[token] for token in tokens]

    def is_manifest(self, cid: Cid) -> bool:
        """Whether a known token has this manifest: it was read as one, so it is nothing else besides."""
        return self._manifests[block_key(cid)] > 0

    def is_public(self, cid: Cid) -> bool:
        """A manifest, labels or the like of a known token, and nobody's weights."""
        return self.is_manifest(cid) or (self._public[block_key(cid)] > 0 and not self.is_weights(cid))

    def is_weights(self, cid: Cid) -> bool:
        """Whether some token carries this root as its weights, or once did."""
        return cid in self._claims

    def all_weights(self) -> list[Cid]:
        """Every root that is a token's weights, or once was."""
        return list(self._claims.weights.values())

    def serves(self, token_id: TokenId, owner: Address) -> bool:
        return self._policy.serves(token_id, owner)

    def _served(self, entry: CatalogueEntry) -> bool:
        return self._policy.serves(entry.key.token_id, entry.owner)

    def _served_entries(self) -> Iterator[CatalogueEntry]:
        return (known.entry for known in self._known.values() if self._served(known.entry))

    def _not_found(self, name: str) -> ModelNotFound:
        names = itertools.islice(self._by_name, _NEAR_NAMES)
        near = difflib.get_close_matches(name, names, n=3, cutoff=0.5)
        return ModelNotFound(
            f"no model {name!r} is served here",
            suggestion=f"Did you mean {' or '.join(near)}?"
            if near
            else "GET /api/models lists the models that this node serves.",
        )

    def _remember(self, known: KnownModel) -> None:
        self._known[known.entry.key] = known
        self._count(known, 1)
        self._claims.add(known.entry.weights_cid, known.entry.key.token_id, before=known.claimed_before)
        if self._served(known.entry):
            self._by_name[known.entry.model_id].add(known.entry.key)

    def _forget(self, key: ModelKey) -> None:
        known = self._known.pop(key, None)
        if known is not None:
            self._count(known, -1)
            self._texts.pop(key, None)
        if known is not None and key in self._by_name.get(known.entry.model_id, ()):
            names = self._by_name[known.entry.model_id]
            names.discard(key)
            if not names:
                del self._by_name[known.entry.model_id]

    def _count(self, known: KnownModel, change: int) -> None:
        self._manifests[block_key(known.entry.manifest_cid)] += change
        for cid in known.public_cids:
            self._public[block_key(cid)] += change
        for cid in known.cids:
            self._referred[block_key(cid)] += change


def _open(path: Path | str) -> sqlite3.Connection:
    database = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
    try:
        database.execute("PRAGMA journal_mode=WAL")
        database.execute("PRAGMA synchronous=NORMAL")
        database.executescript(_SCHEMA)
    except sqlite3.Error as error:
        database.close()
        raise StartupError(
            f"{Path(path).name} in DATA_DIR cannot be used: {error}. If it is damaged, put back a backup, or "
            "move it away: the models in it are read from the chain again, but not who had weights first "
            "that an update has replaced since; a copy of those might then be taken for the original"
        ) from error
    return database


def _encode(value: object) -> object:
    if isinstance(value, Cid):
        return str(value)
    raise TypeError(f"cannot store a {type(value).__name__}")


def _decode(kind: type, value: object) -> object:
    if kind is Cid:
        return Cid.parse(str(value))
    raise TypeError(f"cannot read a {kind.__name__}")
