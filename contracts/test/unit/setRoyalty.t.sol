// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {ERC2981} from "@openzeppelin/contracts/token/common/ERC2981.sol";
import {ILonja} from "../../src/interfaces/ILonja.sol";
import {Errors} from "../../src/libraries/Errors.sol";
import {Base} from "../Base.sol";

contract SetRoyaltyTest is Base {
    function test_RevertGiven_NoSuchModel() external {
        // it should revert
        _expectUnknownModel(9);
        lonja.setRoyalty(9, publisher, 500);
    }

    function test_RevertWhen_TheCallerIsNotThePublisher() external {
        // it should revert
        vm.expectRevert(abi.encodeWithSelector(Errors.Lonja_NotPublisher.selector, TOKEN_ID, stranger));
        vm.prank(stranger);
        lonja.setRoyalty(TOKEN_ID, stranger, 500);
    }

    function test_GivenThePublisherNoLongerOwnsTheToken() external {
        vm.prank(publisher);
        lonja.transferFrom(publisher, stranger, TOKEN_ID);

        // it should not be the owner's to set
        vm.expectRevert(abi.encodeWithSelector(Errors.Lonja_NotPublisher.selector, TOKEN_ID, stranger));
        vm.prank(stranger);
        lonja.setRoyalty(TOKEN_ID, stranger, 500);

        // it should still be the publisher's to set
        vm.prank(publisher);
        lonja.setRoyalty(TOKEN_ID, publisher, 500);
    }

    function test_RevertWhen_TheRoyaltyIsAboveThePrice() external {
        // it should revert
        vm.expectRevert(
            abi.encodeWithSelector(ERC2981.ERC2981InvalidTokenRoyalty.selector, TOKEN_ID, 10_001, 10_000)
        );
        vm.prank(publisher);
        lonja.setRoyalty(TOKEN_ID, publisher, 10_001);
    }

    function test_RevertWhen_TheReceiverIsZero() external {
        // it should revert
        vm.expectRevert(
            abi.encodeWithSelector(ERC2981.ERC2981InvalidTokenRoyaltyReceiver.selector, TOKEN_ID, address(0))
        );
        vm.prank(publisher);
        lonja.setRoyalty(TOKEN_ID, address(0), 1);
    }

    function test_WhenThePublisherSetsAndRemovesARoyalty() external {
        // it should emit RoyaltyChanged
        vm.expectEmit();
        emit ILonja.RoyaltyChanged(TOKEN_ID, giver, 250);
        vm.prank(publisher);
        lonja.setRoyalty(TOKEN_ID, giver, 250);

        // it should be what ERC-2981 tells
        (address receiver, uint256 amount) = lonja.royaltyInfo(TOKEN_ID, 1 ether);
        vm.assertEq(receiver, giver);
        vm.assertEq(amount, 0.025 ether);

        // it should remove the royalty
        vm.prank(publisher);
        lonja.setRoyalty(TOKEN_ID, address(0), 0);
        (receiver, amount) = lonja.royaltyInfo(TOKEN_ID, 1 ether);
        vm.assertEq(receiver, address(0));
        vm.assertEq(amount, 0);
    }

    function test_WhenTheReceiverHasNoShare() external {
        // it should be what ERC-2981 tells
        vm.prank(publisher);
        lonja.setRoyalty(TOKEN_ID, giver, 0);
        (address receiver, uint256 amount) = lonja.royaltyInfo(TOKEN_ID, 1 ether);
        vm.assertEq(receiver, giver);
        vm.assertEq(amount, 0);
    }
}
