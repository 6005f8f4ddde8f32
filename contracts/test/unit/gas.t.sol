// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {Base} from "../Base.sol";

/// @dev Each call of a test counts as a transaction of its own (`isolate` in foundry.toml), so these are
/// what callers pay: slots are cold, and the 21,000 of a transaction are in them.
contract GasTest is Base {
    function test_GivenALicenseWithAsManyPurchasesAsAllowed() external {
        for (uint256 i; i < 16; ++i) {
            _buy(i < 8 ? giver : licensee, i % 2 == 0 ? DATED : IN_TOKEN, licensee);
        }
        vm.warp(NOW + 1 days);
        uint256 first = vm.snapshotState();
        uint256 gas = gasleft();
        _revoke();
        // it should revoke for less than 1,000,000
        vm.assertLt(gas - gasleft(), 1_000_000);

        vm.revertToState(first);
        vm.warp(NOW + 16 * 30 days);
        gas = gasleft();
        _buy(licensee, DATED, licensee);
        // it should sell another, when all of them are over, for less than 300,000
        vm.assertLt(gas - gasleft(), 300_000);
    }

    function test_GivenALicenseThatWasRenewedOften() external {
        for (uint256 i; i < 100; ++i) {
            _buy(licensee, DATED, licensee);
            vm.warp(NOW + (i + 1) * 30 days);
        }
        uint256 gas = gasleft();
        _buy(licensee, DATED, licensee);
        // it should sell another for less than 200,000
        vm.assertLt(gas - gasleft(), 200_000);
        gas = gasleft();
        _revoke();
        // it should revoke for less than 100,000
        vm.assertLt(gas - gasleft(), 100_000);
    }

    function test_GivenASellerWithManyOpenPurchases() external {
        for (uint256 i; i < 200; ++i) {
            _buy(giver, i % 2 == 0 ? DATED : PERPETUAL, address(uint160(1000 + i)));
        }
        for (uint256 days_ = 15; days_ <= 30; days_ += 15) {
            vm.warp(NOW + days_ * 1 days);
            uint256 gas = gasleft();
            vm.prank(publisher);
            lonja.withdraw(NATIVE);
            // it should withdraw for less than 1,500,000
            vm.assertLt(gas - gasleft(), 1_500_000);
        }
    }
}
