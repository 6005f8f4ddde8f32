// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {ILonja} from "../../src/interfaces/ILonja.sol";
import {Errors} from "../../src/libraries/Errors.sol";
import {Base} from "../Base.sol";

contract GrantLicenseTest is Base {
    function test_RevertGiven_NoSuchModel() external {
        // it should revert
        _expectUnknownModel(9);
        lonja.grantLicense(9, licensee, 1);
    }

    function test_RevertWhen_TheCallerIsNotTheOwner() external {
        // it should revert
        _expectNotOwner(licensee);
        vm.prank(licensee);
        lonja.grantLicense(TOKEN_ID, licensee, 1);
    }

    function test_RevertWhen_TheLicenseeIsZero() external {
        // it should revert
        vm.expectRevert(Errors.Lonja_LicenseeZero.selector);
        vm.prank(publisher);
        lonja.grantLicense(TOKEN_ID, address(0), 1);
    }

    function test_RevertWhen_TheDurationIsTooLong() external {
        // it should revert
        uint64 most = lonja.MAX_DURATION();
        vm.expectRevert(abi.encodeWithSelector(Errors.Lonja_DurationTooLong.selector, type(uint64).max, most));
        _grant(type(uint64).max);
        _grant(most);
        vm.assertEq(_license().expiresAt, NOW + most);
    }

    function test_RevertGiven_TheLicenseIsPerpetual() external {
        // it should revert
        _buy(licensee, PERPETUAL, licensee);
        vm.expectRevert(abi.encodeWithSelector(Errors.Lonja_LicensePerpetual.selector, TOKEN_ID, licensee));
        _grant(1 days);
    }

    function test_GivenTheLicenseStillRuns() external {
        // it should add the time
        _buy(licensee, DATED, licensee);
        _grant(5 days);
        _grant(5 days);
        vm.assertEq(_license().expiresAt, NOW + 40 days);
        vm.assertEq(_license().grantedUntil, NOW + 40 days);
    }

    function test_GivenTheLicenseIsOver() external {
        // it should begin now
        _grant(5 days);
        vm.warp(NOW + 5 days);
        vm.assertFalse(_holds());
        _grant(1);
        vm.assertEq(_license().expiresAt, NOW + 5 days + 1);
        vm.assertTrue(_holds());
        vm.warp(NOW + 5 days + 1);
        vm.assertFalse(_holds());
    }

    function test_WhenTheDurationIsZero() external {
        // it should license for ever and stay revocable
        _grant(0);
        vm.assertEq(_license().expiresAt, FOREVER);
        vm.assertEq(_license().grantedUntil, FOREVER);
        vm.assertEq(_license().irrevocableFrom, 0);
        vm.warp(NOW + 366 days);
        _revoke();
        vm.assertFalse(_holds());
    }

    function test_WhenTheDurationIsAnyOther() external {
        // it should emit LicenseGranted
        vm.expectEmit();
        emit ILonja.LicenseGranted(TOKEN_ID, licensee, NOW + 3 days);
        _grant(3 days);

        // it should license until its end
        vm.assertTrue(_holds());
        vm.warp(NOW + 3 days - 1);
        vm.assertTrue(_holds());
        vm.warp(NOW + 3 days);
        vm.assertFalse(_holds());
        vm.assertEq(address(lonja).balance, 0);
    }
}
