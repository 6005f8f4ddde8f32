// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {Lonja} from "../src/Lonja.sol";
import {Vm} from "../test/Vm.sol";

/// @title Deploys the market. It has no owner and no parameters: any account may do it, and gains nothing.
/// @dev forge script script/Deploy.s.sol --rpc-url URL --keystore FILE --broadcast
contract Deploy {
    Vm private constant vm = Vm(address(uint160(uint256(keccak256("hevm cheat code")))));

    function run() external returns (Lonja lonja) {
        vm.startBroadcast();
        lonja = new Lonja();
        vm.stopBroadcast();
    }
}
