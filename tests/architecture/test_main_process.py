"""The main process stays light: what it must never import, and what it may only import late."""

from __future__ import annotations

import subprocess
import sys

NEVER = ("numpy", "PIL", "onnxruntime", "cython_ops")
LATE = ("web3", "eth_account", "siwe", "pydantic", "ipfshttpclient", "eth_tester")


def modules_after(statement: str) -> set[str]:
    code = f"import sys; {statement}; print('\\n'.join(sys.modules))"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return {name.split(".")[0] for name in run.stdout.split()}


def test_the_node_starts_without_array_libraries_and_without_web3() -> None:
    loaded = modules_after("import node.app, node.parts")
    assert not loaded & {*NEVER, *LATE}


def test_small_models_are_answered_without_array_libraries() -> None:
    loaded = modules_after("import node.runtime.inline, bare_models._row")
    assert not loaded & {*NEVER, *LATE}


def test_the_client_starts_without_array_libraries() -> None:
    loaded = modules_after("import lonja")
    assert not loaded & {*NEVER, "onnx", "eth_tester"}


def test_preloading_the_sign_in_leaves_an_optional_package_of_3_mb_out() -> None:
    loaded = modules_after("from node.chain import sign_in_message; sign_in_message.preload()")
    assert {"siwe", "web3", "requests"} <= loaded
    assert "charset_normalizer" not in loaded
