// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {ILonja} from "../../src/interfaces/ILonja.sol";
import {Errors} from "../../src/libraries/Errors.sol";
import {Base} from "../Base.sol";

contract PauseSalesTest is Base {
    function test_RevertGiven_NoSuchModel() external {
        // it should revert
        _expectUnknownModel(9);
        lonja.pauseSales(9);
        _expectUnknownModel(9);
        lonja.resumeSales(9);
    }

    function test_RevertWhen_TheCallerIsNotTheOwner() external {
        // it should revert
        _expectNotOwner(stranger);
        vm.prank(stranger);
        lonja.pauseSales(TOKEN_ID);
        _expectNotOwner(stranger);
        vm.prank(stranger);
        lonja.resumeSales(TOKEN_ID);
    }

    function test_WhenTheOwnerPausesAndResumes() external {
        _buy(licensee, DATED, licensee);

        // it should emit SalesPaused
        vm.expectEmit();
        emit ILonja.SalesPaused(TOKEN_ID);
        vm.prank(publisher);
        lonja.pauseSales(TOKEN_ID);
        vm.assertTrue(lonja.modelOf(TOKEN_ID).salesPaused);

        // it should refuse purchases
        vm.expectRevert(abi.encodeWithSelector(Errors.Lonja_SalesPaused.selector, TOKEN_ID));
        vm.prank(licensee);
        lonja.purchaseLicense{value: 30 ether}(TOKEN_ID, DATED, licensee);

        // it should leave licenses and grants possible
        vm.assertTrue(_holds());
        _grant(1 days);

        // it should leave other models on sale
        vm.prank(stranger);
        uint256 other = lonja.registerModel(CID, _offer(0, NATIVE, 1 days));
        lonja.purchaseLicense(other, 1, licensee);

        // it should emit SalesResumed
        vm.expectEmit();
        emit ILonja.SalesResumed(TOKEN_ID);
        vm.prank(publisher);
        lonja.resumeSales(TOKEN_ID);
        vm.assertFalse(lonja.modelOf(TOKEN_ID).salesPaused);

        // it should allow purchases
        _buy(licensee, DATED, licensee);
    }
}
