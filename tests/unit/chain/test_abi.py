from __future__ import annotations

import pytest

from node.chain.abi import LonjaAbi
from node.chain.client import abi_codec
from node.errors import InvalidInput

LICENSEE = "0x3C44CdDdB6a900fa2b585dd299e03d12FA4293BC"


def test_a_number_that_its_type_cannot_hold_is_told_with_the_call_s_signature() -> None:
    abi = LonjaAbi(abi_codec())
    assert len(abi.call("grantLicense", 1, LICENSEE, 2**64 - 1)) == 4 + 3 * 32
    for arguments in ((1, LICENSEE, 2**64), (2**256, LICENSEE, 1), (-1, LICENSEE, 1)):
        with pytest.raises(InvalidInput) as caught:
            abi.call("grantLicense", *arguments)
        assert caught.value.message == (
            "an argument does not fit grantLicense(tokenId uint256, licensee address, duration uint64)"
        )
