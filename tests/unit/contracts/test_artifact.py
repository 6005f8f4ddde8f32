"""node/chain and dApps are written against the committed artifact: its shape may not change unseen."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[3]
LONJA = ROOT / "contracts" / "artifacts" / "Lonja.json"
FAKES = ROOT / "tests" / "fakes" / "artifacts"

OFFER_TERMS = "(uint256,address,uint64)"
OFFER = "(uint256,uint256,address,uint64)"

FUNCTIONS = {
    f"registerModel(string,{OFFER_TERMS}[])": ("nonpayable", "uint256"),
    "updateModel(uint256,string)": ("nonpayable", ""),
    f"setOffers(uint256,{OFFER_TERMS}[])": ("nonpayable", ""),
    "pauseSales(uint256)": ("nonpayable", ""),
    "resumeSales(uint256)": ("nonpayable", ""),
    "setRoyalty(uint256,address,uint96)": ("nonpayable", ""),
    "modelOf(uint256)": ("view", "(address,uint64,bool,string)"),
    "publisherOf(uint256)": ("view", "address"),
    "metadataCidOf(uint256,uint64)": ("view", "string"),
    "offersOf(uint256)": ("view", f"{OFFER}[]"),
    "totalModels()": ("view", "uint256"),
    "purchaseLicense(uint256,uint256,address)": ("payable", ""),
    "grantLicense(uint256,address,uint64)": ("nonpayable", ""),
    "revokeLicense(uint256,address)": ("nonpayable", ""),
    "hasValidLicense(address,uint256)": ("view", "bool"),
    "licenseOf(address,uint256)": ("view", "(uint64,uint64,bool,uint64)"),
    "purchasesOf(address,uint256)": (
        "view",
        "(address,address,address,uint256,uint64,uint64,uint256)[]",
    ),
    "withdraw(address)": ("nonpayable", ""),
    "withdrawTo(address,address)": ("nonpayable", ""),
    "withdrawable(address,address)": ("view", "uint256"),
    "openPurchasesOf(address,address)": ("view", "uint256"),
    "ownerOf(uint256)": ("view", "address"),
    "tokenURI(uint256)": ("view", "string"),
    "royaltyInfo(uint256,uint256)": ("view", "address,uint256"),
    "supportsInterface(bytes4)": ("view", "bool"),
}

EVENTS = {
    "ModelRegistered(uint256 indexed,address indexed,string)",
    "ModelUpdated(uint256 indexed,uint64 indexed,string)",
    f"OffersChanged(uint256 indexed,{OFFER}[])",
    "LicensePurchased(uint256 indexed,address indexed,address indexed,uint256,address,uint256,uint64)",
    "LicenseGranted(uint256 indexed,address indexed,uint64)",
    "LicenseRevoked(uint256 indexed,address indexed,address indexed,address,uint256)",
    "SalesPaused(uint256 indexed)",
    "SalesResumed(uint256 indexed)",
    "RoyaltyChanged(uint256 indexed,address indexed,uint96)",
    "Withdrawn(address indexed,address indexed,address indexed,uint256)",
    "Transfer(address indexed,address indexed,uint256 indexed)",
}

LARGEST_CODE = 24_576  # bytes, EIP-170


def load(path: Path) -> dict[str, Any]:
    artifact: dict[str, Any] = json.loads(path.read_text())
    return artifact


def canonical(parameter: dict[str, Any]) -> str:
    """The parameter's type as it stands in a signature (Solidity ABI specification, "JSON")."""
    kind: str = parameter["type"]
    if not kind.startswith("tuple"):
        return kind
    return "(" + ",".join(map(canonical, parameter["components"])) + ")" + kind.removeprefix("tuple")


def entries(kind: str) -> list[dict[str, Any]]:
    return [entry for entry in load(LONJA)["abi"] if entry["type"] == kind]


def signature(entry: dict[str, Any]) -> str:
    inputs = [canonical(p) + (" indexed" if p.get("indexed") else "") for p in entry["inputs"]]
    return f"{entry['name']}({','.join(inputs)})"


@pytest.mark.parametrize(
    "path", [LONJA, FAKES / "TestToken.json", FAKES / "TestWallet.json"], ids=lambda path: path.stem
)
def test_an_artifact_has_what_a_deployment_needs(path: Path) -> None:
    artifact = load(path)
    assert list(artifact) == ["contractName", "compiler", "abi", "bytecode", "deployedBytecode"]
    assert artifact["contractName"] == path.stem
    assert re.fullmatch(r"0\.8\.37\+commit\.[0-9a-f]{8}", artifact["compiler"])
    for member in ("bytecode", "deployedBytecode"):
        # Whole bytes, and no placeholder of a library that would have to be linked.
        assert re.fullmatch(r"0x([0-9a-f]{2})+", artifact[member])
    assert artifact["bytecode"].endswith(artifact["deployedBytecode"][-64:])
    assert len(artifact["deployedBytecode"]) // 2 - 1 <= LARGEST_CODE


def test_the_functions_are_those_that_others_call() -> None:
    functions = {
        signature(f): (f["stateMutability"], ",".join(map(canonical, f["outputs"])))
        for f in entries("function")
    }
    assert {name: functions.get(name) for name in FUNCTIONS} == FUNCTIONS


def test_the_events_are_those_that_an_indexer_follows() -> None:
    events = {signature(event) for event in entries("event")}
    assert events - {signature(e) for e in entries("event") if e["name"].startswith("Approval")} == EVENTS


def test_a_deployment_takes_no_arguments() -> None:
    constructors = entries("constructor")
    assert [constructor["inputs"] for constructor in constructors] == [[]]


def test_our_errors_say_whose_they_are() -> None:
    declared = re.findall(
        r"^ +error (\w+)\(", (ROOT / "contracts/src/libraries/Errors.sol").read_text(), re.MULTILINE
    )
    assert declared
    assert all(name.startswith("Lonja_") for name in declared)
    in_abi = {error["name"] for error in entries("error")}
    # Each is in the ABI, so that a revert can be decoded, and none is declared that is never used.
    assert {name for name in in_abi if name.startswith("Lonja_")} == set(declared)


def test_each_struct_member_has_a_name() -> None:
    license_of = next(f for f in entries("function") if f["name"] == "licenseOf")
    assert [c["name"] for c in license_of["outputs"][0]["components"]] == [
        "expiresAt",
        "grantedUntil",
        "active",
        "irrevocableFrom",
    ]


def test_every_function_event_and_error_is_in_the_docs() -> None:
    page = (ROOT / "docs" / "contract.md").read_text()
    ours = [entry["name"] for kind in ("function", "event", "error") for entry in entries(kind)]
    standard = re.compile(
        r"^(ERC\d|SafeERC20|ReentrancyGuard|approve|Approval|isApproved|setApproval|getApproved)"
    )
    missing = sorted({name for name in ours if not standard.match(name) and f"`{name}" not in page})
    assert missing == []


def test_every_number_of_the_docs_is_the_contracts() -> None:
    page = (ROOT / "docs" / "contract.md").read_text()
    sources = "\n".join(path.read_text() for path in (ROOT / "contracts/src/abstracts").glob("*.sol"))
    constants = dict(re.findall(r"public constant (\w+) = ([^;]+);", sources))
    assert constants
    documented = dict(re.findall(r"^\| `([A-Z_]+)` \| `([^`]+)` \|", page, re.MULTILINE))
    assert documented == constants
