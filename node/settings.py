"""Every setting of a node, read once at the start from the environment and an optional `.env` file.

Enters: a mapping of names to texts. Leaves: a frozen `Settings`, or `SettingsInvalid` naming the
setting, its value (never that of a secret) and what would be right. `.env.example` lists the same
names; a test holds the two together.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Final, Literal

import msgspec
from dotenv import dotenv_values
from msgspec import Meta

from node.errors import SettingsInvalid

Milliseconds = Annotated[int, Meta(gt=0, le=3_600_000)]
Seconds = Annotated[float, Meta(gt=0, le=86_400)]
Positive = Annotated[int, Meta(gt=0)]
Count = Annotated[int, Meta(ge=0)]
AddressOrAny = Annotated[str, Meta(pattern=r"^(0x[0-9a-fA-F]{40}|any)$")]
AddressText = Annotated[str, Meta(pattern=r"^0x[0-9a-fA-F]{40}$")]

_PREFIXES: Final = (
    "AVALANCHE_", "CONTRACT_", "CHAIN_", "RPC_", "LICENSE_", "IPFS_", "STORE_", "PUBLISH",
    "SERVE_", "OPERATORS", "CORS_", "TRUSTED_", "PUBLIC_", "SESSION_", "SIGN_IN_", "MAX_", "INFERENCE_",
    "URL_FETCH", "WORKER_", "NODE_", "MODEL_", "DATA_", "LOG_",
)  # fmt: skip
"""Names that are ours: one of these that we do not know is a spelling mistake, not somebody else's."""

_FOREIGN: Final = frozenset(
    {"NODE_PATH", "NODE_OPTIONS", "NODE_EXTRA_CA_CERTS", "NODE_NO_WARNINGS", "NODE_VERSION",
     "NODE_TLS_REJECT_UNAUTHORIZED", "NODE_REPL_HISTORY", "NODE_DEBUG", "NODE_ICU_DATA", "NODE_AUTH_TOKEN",
     "MAX_JOBS", "LOG_DIR"}
)  # fmt: skip
"""Names under our prefixes that other programs own (Node.js above all)."""

SECRETS: Final = frozenset({"AVALANCHE_RPC_URL", "NODE_KEY_PASSWORD"})


class Settings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, rename="upper"):
    """One field a setting; the setting's name is the field's in capitals.

    Lists are written comma-separated. Sizes are bytes.
    """

    # The process
    port: Annotated[int, Meta(ge=0, le=65535)] = 3000
    host: str = "127.0.0.1"
    node_env: Literal["development", "production", "test"] = "development"
    log_level: Literal["debug", "info", "warning", "error"] = "info"
    data_dir: Path = Path("./data")
    model_dir: Path = Path("./models")
    public_url: str = ""
    max_connections: Positive = 1024
    trusted_proxies: tuple[str, ...] = ()
    cors_origins: tuple[str, ...] = ()
    operators: tuple[AddressText, ...] = ()
    node_key_file: Path | None = None
    node_key_password: str = ""

    # Chain and licenses
    avalanche_rpc_url: tuple[str, ...] = ()
    contract_address: AddressText | None = None
    contract_from_block: Count = 0
    chain_id: Positive | None = None
    rpc_timeout: Milliseconds = 5_000
    rpc_poll_interval: Milliseconds = 1_000
    license_confirmations: Count = 1
    license_ttl: Seconds = 30.0
    license_negative_ttl: Seconds = 3.0
    license_clock_tolerance: Seconds = 60.0

    # Who is calling
    session_ttl: Annotated[int, Meta(gt=0, le=900)] = 900
    sign_in_domains: tuple[str, ...] = ()
    sign_in_nonce_ttl: Annotated[int, Meta(gt=0, le=3600)] = 300

    # Content
    ipfs_gateways: tuple[str, ...] = ()
    ipfs_stall_timeout: Milliseconds = 5_000
    ipfs_allow_private_gateways: bool = True
    ipfs_max_object_bytes: Positive = 8 * 2**30
    ipfs_peers: tuple[AddressText, ...] = ()
    store_max_bytes: Positive = 50 * 2**30
    publishers: tuple[AddressOrAny, ...] = ()
    publish_max_bytes: Positive = 2 * 2**30
    publish_grace: Seconds = 3_600.0

    # Models and inference
    serve_models: tuple[str, ...] | None = None
    max_models_in_memory: Annotated[int, Meta(ge=1, le=64)] = 3
    inference_timeout: Milliseconds = 30_000
    max_body_bytes: Positive = 32 * 2**20
    max_image_pixels: Positive = 50_000_000
    max_queue_depth: Positive = 256
    max_queue_per_caller: Count = 0
    worker_memory_bytes: Positive = 4 * 2**30
    worker_threads: Count = 0
    worker_grace: Milliseconds = 500
    url_fetch: Literal["on", "off"] = "on"
    url_fetch_max_bytes: Positive = 20 * 2**20
    url_fetch_timeout: Milliseconds = 10_000

    @property
    def production(self) -> bool:
        return self.node_env == "production"


FIELDS: Final[dict[str, msgspec.structs.FieldInfo]] = {
    field.encode_name: field for field in msgspec.structs.fields(Settings)
}
_LISTS: Final = frozenset(name for name, field in FIELDS.items() if "tuple[" in str(field.type))


def load(environ: Mapping[str, str] | None = None, *, env_file: Path | None = Path(".env")) -> Settings:
    """Settings from `environ` (default: the process's) over those of `env_file`.

    Raises
    ------
    SettingsInvalid
        A name under one of our prefixes is unknown, or a value has the wrong form.
    """
    texts: dict[str, str] = {}
    if env_file is not None and env_file.is_file():
        try:
            lines = dotenv_values(env_file, interpolate=False)
        except (OSError, UnicodeDecodeError) as error:
            raise SettingsInvalid(f"{env_file.name} cannot be read: {error}") from None
        for name, value in lines.items():
            if name not in FIELDS:
                raise SettingsInvalid(f"{env_file.name}: unknown setting {name}{_near(name)}")
            texts[name] = value or ""
    for name, value in (os.environ if environ is None else environ).items():
        if name in FIELDS:
            texts[name] = value
        elif name.startswith(_PREFIXES) and name not in _FOREIGN:
            raise SettingsInvalid(f"environment: unknown setting {name}{_near(name)}")
    return from_texts(texts)


def from_texts(texts: Mapping[str, str]) -> Settings:
    """Settings from texts alone; an empty text means the default. Raises `SettingsInvalid`."""
    values: dict[str, Any] = {}
    for name, text in texts.items():
        if name not in FIELDS:
            raise SettingsInvalid(f"unknown setting {name}{_near(name)}")
        if text.strip():
            values[FIELDS[name].name] = _one(name, text.strip())
    return Settings(**values)


def _one(name: str, text: str) -> Any:
    raw: object = [part.strip() for part in text.split(",") if part.strip()] if name in _LISTS else text
    try:
        return msgspec.convert(raw, FIELDS[name].type, strict=False, dec_hook=_decode)
    except msgspec.ValidationError as error:
        shown = "(value hidden)" if name in SECRETS else repr(text)
        raise SettingsInvalid(f"{name}={shown} is not valid: {error}") from None


def _decode(kind: type, value: object) -> object:
    if kind is Path:
        return Path(str(value))
    raise NotImplementedError(kind)  # pragma: no cover - msgspec's own protocol for "unknown type"


def _near(name: str) -> str:
    from difflib import get_close_matches  # costs 4 ms, needed only to word an error

    close = get_close_matches(name, FIELDS, n=1)
    return f"; did you mean {close[0]}?" if close else ""
