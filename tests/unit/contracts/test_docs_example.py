"""The Python example of docs/contract.md runs, against the committed artifact on the embedded chain."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[3]


def example() -> str:
    (code,) = re.findall(r"```python\n(.*?)```", (ROOT / "docs" / "contract.md").read_text(), re.DOTALL)
    return code


def test_the_example_sells_revokes_and_refunds(monkeypatch: pytest.MonkeyPatch) -> None:
    from web3 import EthereumTesterProvider, Web3  # 0.7 s that the other tests need not pay

    provider = EthereumTesterProvider()
    chain = Web3(provider)
    artifact = json.loads((ROOT / "contracts" / "artifacts" / "Lonja.json").read_text())
    contract = chain.eth.contract(abi=artifact["abi"], bytecode=artifact["bytecode"])
    deployed = chain.eth.wait_for_transaction_receipt(contract.constructor().transact())
    code = bytes(chain.eth.get_code(deployed["contractAddress"])).hex()
    assert "0x" + code == artifact["deployedBytecode"]

    publisher, licensee = chain.eth.accounts[:2]
    monkeypatch.chdir(ROOT)
    monkeypatch.setattr(Web3, "HTTPProvider", lambda _url: provider)
    world: dict[str, Any] = {
        "rpc_url": "http://127.0.0.1:8545",
        "contract_address": deployed["contractAddress"],
        "metadata_cid": "bafybeigdyrzt5sfp7udm7hu76uh7y26nf3efuylqabf3oclgtqy55fbzdi",
        "publisher": publisher,
        "licensee": licensee,
    }
    exec(compile(example(), "docs/contract.md", "exec"), world)

    assert world["token_id"] == 1
    assert 0 < world["refund"] <= world["price"]
    assert chain.eth.get_balance(deployed["contractAddress"]) == world["price"] - world["refund"]
