// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {ILonja} from "../../src/interfaces/ILonja.sol";
import {Base} from "../Base.sol";

/// @title Times and prices over their whole range, through the public functions only.
contract FuzzTest is Base {
    uint64 private constant LONGEST = 100 * 365 days;

    function setUp() public override {
        super.setUp();
        vm.deal(licensee, type(uint192).max);
    }

    function testFuzz_ALicenseHoldsUpToItsLastSecondAndNotBeyond(uint64 duration, uint256 later) external {
        duration = uint64(_bound(duration, 1, LONGEST));
        _buy(licensee, _sell(0, NATIVE, duration), licensee);
        vm.assertEq(_license().expiresAt, uint256(NOW) + duration);
        vm.warp(uint256(NOW) + duration - 1);
        vm.assertTrue(_holds());
        later = _bound(later, uint256(NOW) + duration, type(uint64).max - 1);
        vm.warp(later);
        vm.assertFalse(_holds());
        vm.assertFalse(_license().active);
    }

    function testFuzz_AnExtensionAddsExactlyItsTime(uint64[8] memory durations, uint32[8] memory pauses)
        external
    {
        uint256 clock = NOW;
        uint256 expected;
        for (uint256 i; i < 8; ++i) {
            uint64 duration = uint64(_bound(durations[i], 1, LONGEST));
            expected = (expected > clock ? expected : clock) + duration;
            if (i % 3 == 2) _grant(duration);
            else _pay(1, duration);
            vm.assertEq(_license().expiresAt, expected);
            vm.warp(clock += pauses[i]);
            vm.assertTrue(_holds() == (clock < expected));
        }
    }

    function testFuzz_WhatIsEarnedAndWhatIsRefundedIsThePrice(uint128 price, uint64 duration, uint64 after_)
        external
    {
        price = uint128(_bound(price, 1, type(uint128).max));
        duration = uint64(_bound(duration, 1, LONGEST));
        after_ = uint64(_bound(after_, 0, duration - 1));
        _pay(price, duration);
        vm.warp(uint256(NOW) + after_);
        uint256 told = lonja.purchasesOf(licensee, TOKEN_ID)[0].refund;
        _revoke();
        uint256 refund = lonja.withdrawable(licensee, NATIVE);
        uint256 earned = lonja.withdrawable(publisher, NATIVE);
        vm.assertEq(refund, told);
        vm.assertEq(earned + refund, price);
        // In proportion to the time, rounded in the payer's favour by less than one unit.
        vm.assertEq(earned, uint256(price) * after_ / duration);
        vm.assertLe(uint256(price) * (duration - after_), refund * duration);
    }

    function testFuzz_APerpetualLicenseIsEarnedInAYear(uint128 price, uint64 after_) external {
        price = uint128(_bound(price, 1, type(uint128).max));
        after_ = uint64(_bound(after_, 0, 365 days - 1));
        _pay(price, 0);
        vm.warp(uint256(NOW) + after_);
        _revoke();
        vm.assertEq(lonja.withdrawable(publisher, NATIVE), uint256(price) * after_ / 365 days);
        vm.assertEq(lonja.withdrawable(licensee, NATIVE), price - uint256(price) * after_ / 365 days);
    }

    function testFuzz_HowOftenTheSellerWithdrawsChangesNothing(
        uint128 price,
        uint64 duration,
        uint64[5] memory steps
    ) external {
        price = uint128(_bound(price, 1, type(uint128).max));
        duration = uint64(_bound(duration, 10, LONGEST));
        _pay(price, duration);
        uint256 clock = NOW;
        uint256 begin = publisher.balance;
        for (uint256 i; i < 5; ++i) {
            vm.warp(clock += _bound(steps[i], 0, duration / 5 - 1));
            uint256 expected = lonja.withdrawable(publisher, NATIVE);
            if (expected == 0) continue;
            vm.prank(publisher);
            lonja.withdraw(NATIVE);
            vm.assertEq(publisher.balance - begin, uint256(price) * (clock - NOW) / duration);
        }
        _revoke();
        uint256 paid = publisher.balance - begin;
        vm.assertEq(
            paid + lonja.withdrawable(publisher, NATIVE) + lonja.withdrawable(licensee, NATIVE), price
        );
        vm.assertEq(address(lonja).balance, price - paid);
    }

    function testFuzz_OnlyTheExactPriceBuys(uint128 price, uint128 value) external {
        vm.assume(value != price);
        uint256 offerId = _sell(price, NATIVE, 1 days);
        vm.prank(licensee);
        (bool bought,) = address(lonja).call{value: value}(
            abi.encodeCall(ILonja.purchaseLicense, (TOKEN_ID, offerId, licensee))
        );
        vm.assertFalse(bought);
        vm.assertFalse(_holds());
        vm.assertEq(address(lonja).balance, 0);
    }

    function testFuzz_AnOfferIdNeverMeansOtherTerms(uint8[6] memory counts, uint256 id) external {
        uint256 next = 6;
        for (uint256 i; i < 6; ++i) {
            ILonja.OfferTerms[] memory offers = new ILonja.OfferTerms[](counts[i] % 33);
            for (uint256 j; j < offers.length; ++j) {
                offers[j] = ILonja.OfferTerms(next + j, NATIVE, 1 days); // the price tells the id
            }
            vm.prank(publisher);
            lonja.setOffers(TOKEN_ID, offers);
            next += offers.length;
            id = _bound(id, 0, next);
            vm.prank(licensee);
            (bool bought,) = address(lonja).call{value: id}(
                abi.encodeCall(ILonja.purchaseLicense, (TOKEN_ID, id, licensee))
            );
            vm.assertTrue(bought == (id >= next - offers.length && id < next));
        }
    }

    function testFuzz_ReadingALicenseNeverReverts(address account, uint256 tokenId) external view {
        vm.assertFalse(lonja.hasValidLicense(account, tokenId));
        vm.assertEq(lonja.licenseOf(account, tokenId).expiresAt, 0);
        vm.assertEq(lonja.purchasesOf(account, tokenId).length, 0);
        vm.assertEq(lonja.withdrawable(account, address(uint160(tokenId))), 0);
    }

    function testFuzz_OnlyTheOwnerGivesAndTakes(address caller) external {
        vm.assume(caller != publisher);
        _buy(licensee, DATED, licensee);
        _expectNotOwner(caller);
        vm.prank(caller);
        lonja.grantLicense(TOKEN_ID, caller, 1);
        _expectNotOwner(caller);
        vm.prank(caller);
        lonja.revokeLicense(TOKEN_ID, licensee);
    }

    function _pay(uint256 price, uint64 duration) private {
        uint256 offerId = _sell(price, NATIVE, duration);
        vm.prank(licensee);
        lonja.purchaseLicense{value: price}(TOKEN_ID, offerId, licensee);
    }
}
