// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {ILonja} from "../../src/interfaces/ILonja.sol";
import {Errors} from "../../src/libraries/Errors.sol";
import {Base} from "../Base.sol";

contract SetOffersTest is Base {
    function test_RevertGiven_NoSuchModel() external {
        // it should revert
        _expectUnknownModel(9);
        lonja.setOffers(9, _offer(1, NATIVE, 1));
    }

    function test_RevertWhen_TheCallerIsNotTheOwner() external {
        // it should revert
        _expectNotOwner(stranger);
        vm.prank(stranger);
        lonja.setOffers(TOKEN_ID, _offer(1, NATIVE, 1));
    }

    function test_RevertWhen_AnOfferIsNotAllowed() external {
        // it should revert and keep the offers as they were
        ILonja.OfferTerms[] memory offers = _offers();
        offers[4].currency = stranger;
        vm.expectRevert(abi.encodeWithSelector(Errors.Lonja_CurrencyInvalid.selector, stranger));
        vm.prank(publisher);
        lonja.setOffers(TOKEN_ID, offers);
        vm.assertEq(lonja.offersOf(TOKEN_ID)[4].offerId, FREE_PERPETUAL);
    }

    function test_WhenTheOwnerGivesNewOffers() external {
        // it should emit OffersChanged
        ILonja.Offer[] memory listed = new ILonja.Offer[](1);
        listed[0] = ILonja.Offer(6, 1, NATIVE, 2);
        vm.expectEmit();
        emit ILonja.OffersChanged(TOKEN_ID, listed);
        uint256 offerId = _sell(1, NATIVE, 2);

        // it should give them ids that were never used
        vm.assertEq(offerId, 6);
        vm.assertEq(lonja.offersOf(TOKEN_ID).length, 1);

        // it should refuse the earlier ids for good
        for (uint256 id = 0; id < 6; ++id) {
            vm.expectRevert(abi.encodeWithSelector(Errors.Lonja_OfferUnknown.selector, TOKEN_ID, id));
            vm.prank(licensee);
            lonja.purchaseLicense{value: 30 ether}(TOKEN_ID, id, licensee);
        }

        // it should not reuse ids after a time without offers
        vm.prank(publisher);
        lonja.setOffers(TOKEN_ID, new ILonja.OfferTerms[](0));
        vm.assertEq(lonja.offersOf(TOKEN_ID).length, 0);
        vm.expectRevert(abi.encodeWithSelector(Errors.Lonja_OfferUnknown.selector, TOKEN_ID, 6));
        lonja.purchaseLicense{value: 1}(TOKEN_ID, 6, licensee);
        vm.assertEq(_sell(1, NATIVE, 2), 7);
    }
}
