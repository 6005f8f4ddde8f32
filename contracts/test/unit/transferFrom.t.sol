// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {Base} from "../Base.sol";

contract TransferFromTest is Base {
    function test_GivenLicensesWereSoldBefore() external {
        _buy(licensee, DATED, licensee);
        vm.warp(NOW + 10 days);
        _transfer();

        // it should leave them valid
        vm.assertTrue(_holds());

        // it should leave their price to who sold them
        vm.warp(NOW + 30 days);
        vm.assertEq(lonja.withdrawable(publisher, NATIVE), 30 ether);
        vm.assertEq(lonja.withdrawable(stranger, NATIVE), 0);
    }

    function test_WhenALicenseIsSoldAfter() external {
        // it should earn for the new owner
        _transfer();
        _buy(licensee, DATED, licensee);
        vm.warp(NOW + 30 days);
        vm.assertEq(lonja.withdrawable(publisher, NATIVE), 0);
        vm.assertEq(lonja.withdrawable(stranger, NATIVE), 30 ether);
        vm.assertEq(lonja.publisherOf(TOKEN_ID), publisher);
    }

    function test_RevertWhen_TheFormerOwnerActs() external {
        // it should revert
        _buy(licensee, DATED, licensee);
        _transfer();
        _expectAllRefused(publisher);
    }

    function test_WhenTheNewOwnerRevokesWhatTheFormerSold() external {
        // it should refund the payer, and leave the former owner what it had earned
        _buy(licensee, DATED, licensee);
        _transfer();
        vm.warp(NOW + 10 days);
        vm.prank(stranger);
        lonja.revokeLicense(TOKEN_ID, licensee);
        vm.assertEq(lonja.withdrawable(licensee, NATIVE), 20 ether);
        vm.assertEq(lonja.withdrawable(publisher, NATIVE), 10 ether);
        vm.assertEq(lonja.withdrawable(stranger, NATIVE), 0);
    }

    function test_RevertWhen_AnApprovedOperatorActs() external {
        // it should revert
        _buy(licensee, DATED, licensee);
        vm.prank(publisher);
        lonja.setApprovalForAll(stranger, true);
        _expectAllRefused(stranger);
    }

    function _transfer() private {
        vm.prank(publisher);
        lonja.transferFrom(publisher, stranger, TOKEN_ID);
    }

    function _expectAllRefused(address caller) private {
        _expectNotOwner(caller);
        vm.prank(caller);
        lonja.grantLicense(TOKEN_ID, giver, 1 days);
        _expectNotOwner(caller);
        vm.prank(caller);
        lonja.revokeLicense(TOKEN_ID, licensee);
        _expectNotOwner(caller);
        vm.prank(caller);
        lonja.updateModel(TOKEN_ID, "new");
        _expectNotOwner(caller);
        vm.prank(caller);
        lonja.pauseSales(TOKEN_ID);
    }
}
