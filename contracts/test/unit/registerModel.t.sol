// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {IERC721} from "@openzeppelin/contracts/token/ERC721/IERC721.sol";
import {ILonja} from "../../src/interfaces/ILonja.sol";
import {Errors} from "../../src/libraries/Errors.sol";
import {Base} from "../Base.sol";
import {RefusingReceiver} from "../mocks/HostileReceivers.sol";

contract RegisterModelTest is Base {
    ILonja.OfferTerms[] private none;

    function test_RevertWhen_TheCidIsEmpty() external {
        // it should revert
        vm.expectRevert(abi.encodeWithSelector(Errors.Lonja_MetadataCidInvalid.selector, 0));
        lonja.registerModel("", none);
    }

    function test_RevertWhen_TheCidIsTooLong() external {
        // it should revert
        vm.expectRevert(abi.encodeWithSelector(Errors.Lonja_MetadataCidInvalid.selector, 129));
        lonja.registerModel(string(new bytes(129)), none);
    }

    function test_RevertWhen_ThereAreTooManyOffers() external {
        // it should revert
        vm.expectRevert(abi.encodeWithSelector(Errors.Lonja_TooManyOffers.selector, 33, 32));
        lonja.registerModel(CID, new ILonja.OfferTerms[](33));
    }

    function test_RevertWhen_APriceIsTooHigh() external {
        // it should revert
        uint256 price = uint256(type(uint128).max) + 1;
        vm.expectRevert(abi.encodeWithSelector(Errors.Lonja_PriceTooHigh.selector, price));
        lonja.registerModel(CID, _offer(price, NATIVE, 0));
    }

    function test_RevertWhen_ACurrencyHasNoCode() external {
        // it should revert
        vm.expectRevert(abi.encodeWithSelector(Errors.Lonja_CurrencyInvalid.selector, stranger));
        lonja.registerModel(CID, _offer(1, stranger, 0));
    }

    function test_RevertWhen_ADurationIsTooLong() external {
        // it should revert
        uint64 most = lonja.MAX_DURATION();
        vm.expectRevert(abi.encodeWithSelector(Errors.Lonja_DurationTooLong.selector, most + 1, most));
        lonja.registerModel(CID, _offer(1, NATIVE, most + 1));
    }

    function test_WhenThereAreNoOffers() external {
        // it should register a model that cannot be bought
        uint256 tokenId = lonja.registerModel(CID, none);
        vm.assertEq(lonja.offersOf(tokenId).length, 0);
        vm.expectRevert(abi.encodeWithSelector(Errors.Lonja_OfferUnknown.selector, tokenId, 1));
        lonja.purchaseLicense(tokenId, 1, licensee);
    }

    function test_WhenEachValueIsTheLargest() external {
        // it should register
        ILonja.OfferTerms[] memory offers = new ILonja.OfferTerms[](lonja.MAX_OFFERS());
        for (uint256 i; i < offers.length; ++i) {
            offers[i] = ILonja.OfferTerms(type(uint128).max, address(token), lonja.MAX_DURATION());
        }
        uint256 tokenId = lonja.registerModel(string(new bytes(128)), offers);
        vm.assertEq(lonja.offersOf(tokenId)[31].price, type(uint128).max);
        vm.assertEq(lonja.offersOf(tokenId)[31].duration, 100 * 365 days);
    }

    function test_WhenTheCallerDoesNotKnowERC721() external {
        // it should register
        RefusingReceiver caller = new RefusingReceiver(lonja);
        vm.prank(address(caller));
        vm.assertEq(lonja.modelOf(lonja.registerModel(CID, none)).owner, address(caller));
    }

    function test_WhenTheModelIsLikeAnyOther() external {
        // it should emit Transfer, ModelRegistered and OffersChanged
        ILonja.Offer[] memory listed = new ILonja.Offer[](1);
        listed[0] = ILonja.Offer(1, 5, address(token), 7);
        vm.expectEmit();
        emit IERC721.Transfer(address(0), stranger, 2);
        vm.expectEmit();
        emit ILonja.ModelRegistered(2, stranger, CID);
        vm.expectEmit();
        emit ILonja.OffersChanged(2, listed);
        vm.prank(stranger);
        uint256 tokenId = lonja.registerModel(CID, _offer(5, address(token), 7));

        // it should mint the next token to the caller
        vm.assertEq(tokenId, 2);
        vm.assertEq(lonja.totalModels(), 2);
        vm.assertEq(lonja.ownerOf(2), stranger);
        vm.assertEq(lonja.publisherOf(2), stranger);

        // it should begin with revision 1
        vm.assertEq(lonja.modelOf(2).revision, 1);
        vm.assertEq(lonja.metadataCidOf(2, 1), CID);
        vm.assertFalse(lonja.modelOf(2).salesPaused);

        // it should number the offers from 1
        vm.assertEq(keccak256(abi.encode(lonja.offersOf(2))), keccak256(abi.encode(listed)));
    }
}
