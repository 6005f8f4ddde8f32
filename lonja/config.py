"""`devnet.json`: where a development world is, and the key files of its people."""

from __future__ import annotations

from pathlib import Path

import msgspec

from lonja.errors import UsageInvalid


class DevnetAccount(msgspec.Struct, frozen=True):
    """One person of the world; `key_file` is absolute."""

    address: str
    key_file: str


class Devnet(msgspec.Struct, frozen=True):
    """What `lonja devnet` writes and `--devnet FILE` reads. Members that are not known are ignored."""

    node_url: str
    rpc_url: str
    chain_id: int
    contract: str
    accounts: dict[str, DevnetAccount]

    @classmethod
    def read(cls, path: Path) -> Devnet:
        """Raises `UsageInvalid`, naming the member that is wrong."""
        try:
            found = msgspec.json.decode(path.read_bytes(), type=cls)
        except OSError as error:
            raise UsageInvalid(
                f"{path}: {error.strerror or error}; `lonja devnet` writes this file"
            ) from None
        except msgspec.DecodeError as error:
            raise UsageInvalid(f"{path} is not a devnet.json: {error}") from None
        here = path.resolve().parent
        accounts = {
            role: DevnetAccount(account.address, str(here / account.key_file))
            for role, account in found.accounts.items()
        }
        return msgspec.structs.replace(found, accounts=accounts)

    def account(self, role: str) -> DevnetAccount:
        """Raises `UsageInvalid` for a role that is not there."""
        try:
            return self.accounts[role]
        except KeyError:
            raise UsageInvalid(f"no account {role!r}; there are {', '.join(self.accounts)}") from None
