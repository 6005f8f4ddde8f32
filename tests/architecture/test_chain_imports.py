"""Importing the modules of chain, identity and sign-in costs nothing heavy: the port opens before web3."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

HEAVY = ("web3", "eth_account", "eth_abi", "pydantic", "numpy", "siwe", "abnf", "PIL", "onnxruntime")
MODULES = (
    "node.addresses",
    "node.chain.abi",
    "node.chain.account",
    "node.chain.client",
    "node.chain.events",
    "node.chain.licenses",
    "node.chain.registry",
    "node.chain.sign_in_message",
    "node.chain.signatures",
    "node.chain.transactions",
    "node.chain.typed_data",
    "node.identity.database",
    "node.identity.node_key",
    "node.identity.nonces",
    "node.identity.sessions",
    "node.flows.sign_in",
)


def loaded_by(code: str) -> set[str]:
    script = f"import json, sys\n{code}\nprint(json.dumps(sorted(sys.modules)))"
    run = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    return {name.partition(".")[0] for name in json.loads(run.stdout)}


@pytest.mark.parametrize("module", MODULES)
def test_importing_it_loads_nothing_heavy(module: str) -> None:
    assert not loaded_by(f"import {module}") & set(HEAVY)


def test_the_check_itself_would_notice() -> None:
    assert "pydantic" in loaded_by("import pydantic")


def test_signing_and_checking_a_request_needs_nothing_heavy() -> None:
    code = """
import asyncio
from coincurve import PrivateKey
from node.chain.signatures import recover
from node.chain.typed_data import SignedRequest, body_hash, request_digest
from node.types import Address, ContractRef
request = SignedRequest("GET", "/", body_hash(b""), Address("0x" + "1" * 40), "abcdefgh", 1)
digest = request_digest(ContractRef(1, Address("0x" + "2" * 40)), request)
signature = PrivateKey(b"1" * 32).sign_recoverable(digest, hasher=None)
recover(digest, signature[:64] + bytes([signature[64] + 27]))
"""
    assert not loaded_by(code) & set(HEAVY)


USES = {
    "siwe": "from node.chain.sign_in_message import preload as use",
    "eth_account": """
from node.chain.account import Account
use = lambda: Account(None, b"1" * 32, chain_id=1, abi=None)
""",
    "web3": """
from types import SimpleNamespace
from node.chain.client import ChainClient
use = lambda: ChainClient.web3.func(SimpleNamespace(rpc=None))
""",
}


@pytest.mark.parametrize("use", USES.values(), ids=USES)
def test_what_raises_the_recursion_limit_leaves_it_where_it_was(use: str) -> None:
    """py_ecc raises it beyond what the stack holds, and nested JSON would then end the process."""
    code = f"""
import sys
{use}
before = sys.getrecursionlimit()
use()
assert sys.getrecursionlimit() == before
"""
    assert "py_ecc" in loaded_by(code)
