// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {ILonja} from "../../src/interfaces/ILonja.sol";
import {Errors} from "../../src/libraries/Errors.sol";
import {Base} from "../Base.sol";

contract RevokeLicenseTest is Base {
    function test_RevertGiven_NoSuchModel() external {
        // it should revert
        _expectUnknownModel(9);
        lonja.revokeLicense(9, licensee);
    }

    function test_RevertWhen_TheCallerIsNotTheOwner() external {
        // it should revert
        _buy(licensee, DATED, licensee);
        _expectNotOwner(licensee);
        vm.prank(licensee);
        lonja.revokeLicense(TOKEN_ID, licensee);
    }

    function test_RevertGiven_TheAccountNeverHadALicense() external {
        // it should revert
        _expectNotActive();
        _revoke();
    }

    function test_RevertGiven_TheLicenseIsOver() external {
        // it should revert
        _buy(licensee, DATED, licensee);
        vm.warp(NOW + 30 days);
        _expectNotActive();
        _revoke();
    }

    function test_GivenTheLicenseWasGranted() external {
        _grant(0);
        vm.warp(NOW + 1 days);

        // it should emit LicenseRevoked without a payer
        vm.expectEmit();
        emit ILonja.LicenseRevoked(TOKEN_ID, licensee, address(0), address(0), 0);
        _revoke();

        // it should end now
        vm.assertFalse(_holds());
        vm.assertEq(_license().expiresAt, NOW + 1 days);
        vm.assertEq(_license().grantedUntil, NOW + 1 days);
    }

    function test_GivenTheLicenseWasTakenAtNoPrice() external {
        // it should end now, however long ago it was taken
        _buy(licensee, FREE_PERPETUAL, licensee);
        vm.warp(NOW + 1000 days);
        vm.expectEmit();
        emit ILonja.LicenseRevoked(TOKEN_ID, licensee, address(0), address(0), 0);
        _revoke();
        vm.assertFalse(_holds());
        vm.assertEq(_license().grantedUntil, 0);
    }

    function test_GivenTheLicenseWasBought() external {
        _buy(licensee, DATED, licensee);
        vm.warp(NOW + 10 days);
        vm.assertEq(lonja.purchasesOf(licensee, TOKEN_ID)[0].refund, 20 ether);

        // it should emit LicenseRevoked
        vm.expectEmit();
        emit ILonja.LicenseRevoked(TOKEN_ID, licensee, licensee, NATIVE, 20 ether);
        _revoke();

        // it should end now and tell when
        vm.assertFalse(_holds());
        ILonja.License memory license = _license();
        vm.assertEq(license.expiresAt, NOW + 10 days);
        vm.assertFalse(license.active);

        // it should refund the unearned rest to the payer
        vm.assertEq(lonja.withdrawable(licensee, NATIVE), 20 ether);

        // it should leave the earned part to the seller
        vm.assertEq(lonja.withdrawable(publisher, NATIVE), 10 ether);
        vm.warp(NOW + 60 days);
        vm.assertEq(lonja.withdrawable(publisher, NATIVE), 10 ether);
        vm.assertEq(lonja.openPurchasesOf(publisher, NATIVE), 0);
        vm.assertEq(lonja.purchasesOf(licensee, TOKEN_ID).length, 0);
    }

    function test_GivenTheLicenseWasBoughtInThisSecond() external {
        // it should refund all
        _buy(licensee, DATED, licensee);
        _revoke();
        vm.assertEq(lonja.withdrawable(licensee, NATIVE), 30 ether);
        vm.assertEq(lonja.withdrawable(publisher, NATIVE), 0);
    }

    function test_GivenTheLicenseWasAGift() external {
        // it should refund the giver
        _buy(giver, DATED, licensee);
        vm.warp(NOW + 15 days);
        _revoke();
        vm.assertEq(lonja.withdrawable(giver, NATIVE), 15 ether);
        vm.assertEq(lonja.withdrawable(licensee, NATIVE), 0);
    }

    function test_GivenTheLicenseWasExtendedBySeveral() external {
        _buy(giver, IN_TOKEN, licensee); // days 0 to 30
        _buy(licensee, DATED, licensee); // 30 to 60
        _grant(30 days); //                 60 to 90
        _buy(stranger, PERPETUAL, licensee); // 90 on, earned until 455
        vm.warp(NOW + 40 days);

        // it should emit LicenseRevoked for each purchase that has not run out
        vm.expectEmit();
        emit ILonja.LicenseRevoked(TOKEN_ID, licensee, licensee, NATIVE, 20 ether);
        vm.expectEmit();
        emit ILonja.LicenseRevoked(TOKEN_ID, licensee, stranger, NATIVE, 365 ether);
        vm.recordLogs();
        _revoke();
        vm.assertEq(vm.getRecordedLogs().length, 2);

        // it should refund each payer its own unearned rest in its own currency
        vm.assertEq(lonja.withdrawable(giver, address(token)), 0);
        vm.assertEq(lonja.withdrawable(licensee, NATIVE), 20 ether);
        vm.assertEq(lonja.withdrawable(stranger, NATIVE), 365 ether);
        vm.assertEq(lonja.withdrawable(publisher, NATIVE), 10 ether);
        vm.assertEq(lonja.withdrawable(publisher, address(token)), 30e6);
        vm.assertEq(_license().grantedUntil, NOW + 40 days);
        vm.assertEq(_license().irrevocableFrom, 0);
    }

    function test_GivenABoughtPeriodHasRunOutAndAGrantedOneRuns() external {
        // it should refund nothing
        _buy(licensee, DATED, licensee);
        _grant(30 days);
        vm.warp(NOW + 30 days);
        vm.expectEmit();
        emit ILonja.LicenseRevoked(TOKEN_ID, licensee, address(0), address(0), 0);
        _revoke();
        vm.assertEq(lonja.withdrawable(licensee, NATIVE), 0);
        vm.assertEq(lonja.withdrawable(publisher, NATIVE), 30 ether);
    }

    function test_GivenTheSellerHasAlreadyWithdrawn() external {
        // it should refund the same
        _buy(licensee, DATED, licensee);
        vm.warp(NOW + 10 days);
        vm.prank(publisher);
        lonja.withdraw(NATIVE);
        vm.warp(NOW + 12 days);
        _revoke();
        vm.assertEq(lonja.withdrawable(licensee, NATIVE), 18 ether);
        vm.assertEq(lonja.withdrawable(publisher, NATIVE), 2 ether);
        vm.assertEq(address(lonja).balance, 20 ether);
    }

    function test_GivenThePerpetualLicenseIsNotFullyEarned() external {
        // it should refund the unearned rest
        _buy(licensee, PERPETUAL, licensee);
        vm.warp(NOW + 364 days);
        _revoke();
        vm.assertFalse(_holds());
        vm.assertEq(lonja.withdrawable(licensee, NATIVE), 1 ether);
        vm.assertEq(lonja.withdrawable(publisher, NATIVE), 364 ether);
    }

    function test_RevertGiven_ThePerpetualLicenseIsFullyEarned() external {
        // it should revert
        _buy(licensee, PERPETUAL, licensee);
        vm.warp(NOW + 365 days);
        _expectIrrevocable();
        _revoke();
        vm.prank(publisher);
        lonja.withdraw(NATIVE); // closes the purchase, and changes nothing in this
        _expectIrrevocable();
        _revoke();
        vm.assertTrue(_holds());
        vm.assertEq(_license().irrevocableFrom, NOW + 365 days);
    }

    function test_GivenTheLicenseWasRevoked() external {
        _buy(licensee, PERPETUAL, licensee);
        vm.warp(NOW + 1 days);
        _revoke();

        // it should revert
        _expectNotActive();
        _revoke();

        // it should be for sale again, from now on
        _buy(licensee, DATED, licensee);
        vm.assertEq(_license().expiresAt, NOW + 31 days);
        vm.warp(NOW + 16 days);
        _revoke();
        vm.assertEq(lonja.withdrawable(licensee, NATIVE), 364 ether + 15 ether);
    }

    function _expectNotActive() private {
        vm.expectRevert(abi.encodeWithSelector(Errors.Lonja_LicenseNotActive.selector, TOKEN_ID, licensee));
    }

    function _expectIrrevocable() private {
        vm.expectRevert(abi.encodeWithSelector(Errors.Lonja_LicenseIrrevocable.selector, TOKEN_ID, licensee));
    }
}
