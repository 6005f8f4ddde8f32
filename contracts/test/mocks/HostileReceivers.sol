// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {ILonja} from "../../src/interfaces/ILonja.sol";

/// @title An account that buys, and does something else when it is paid.
abstract contract BuyingReceiver {
    ILonja internal immutable LONJA;

    constructor(ILonja lonja) payable {
        LONJA = lonja;
    }

    function buy(uint256 tokenId, uint256 offerId, uint256 value) external {
        LONJA.purchaseLicense{value: value}(tokenId, offerId, address(this));
    }

    function withdraw() external {
        LONJA.withdraw(address(0));
    }

    function withdrawTo(address to) external {
        LONJA.withdrawTo(address(0), to);
    }
}

/// @title Cannot receive the native coin.
contract RefusingReceiver is BuyingReceiver {
    constructor(ILonja lonja) payable BuyingReceiver(lonja) {}
}

/// @title Calls the market again when it is paid, and keeps what became of it.
contract ReentrantReceiver is BuyingReceiver {
    bool public called;
    bool public accepted;
    bytes public answer;
    bytes public data = abi.encodeCall(ILonja.withdraw, (address(0)));

    constructor(ILonja lonja) payable BuyingReceiver(lonja) {}

    function setData(bytes calldata data_) external {
        data = data_;
    }

    receive() external payable {
        called = true;
        (accepted, answer) = address(LONJA).call(data);
    }
}
