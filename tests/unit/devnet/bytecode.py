"""Small contracts, assembled by hand, so that these tests need no compiler."""

from __future__ import annotations


def creation(runtime: str) -> str:
    """Creation code that returns `runtime` (at most 255 bytes)."""
    size = f"{len(runtime) // 2:02x}"
    return f"0x60{size}600c60003960{size}6000f3{runtime}"


RETURNS_42 = creation("602a60005260206000f3")
EMITS_LOG = creation("60016002" + "60206000a2" + "00")  # LOG2(0, 32, topic 2, topic 1)
REVERTS_CUSTOM = creation("63deadbeef60e01b600052602a60045260246000fd")  # 0xdeadbeef(uint256 42)
LOOPS = creation("5b600056")  # never ends
RETURNS_TIMESTAMP = creation("4260005260206000f3")
