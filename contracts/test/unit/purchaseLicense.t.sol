// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {IERC20Errors} from "@openzeppelin/contracts/interfaces/draft-IERC6093.sol";
import {SafeERC20} from "@openzeppelin/contracts/token/ERC20/utils/SafeERC20.sol";
import {ILonja} from "../../src/interfaces/ILonja.sol";
import {Errors} from "../../src/libraries/Errors.sol";
import {Base} from "../Base.sol";
import {
    BonusToken,
    FalseToken,
    FeeToken,
    LyingToken,
    MintableToken,
    SilentToken
} from "../mocks/HostileTokens.sol";

contract PurchaseLicenseTest is Base {
    function test_RevertGiven_NoSuchModel() external {
        // it should revert
        _expectUnknownModel(9);
        lonja.purchaseLicense(9, 1, licensee);
    }

    function test_RevertGiven_TheOfferDoesNotExist() external {
        // it should revert
        for (uint256 i; i < 3; ++i) {
            uint256 offerId = [0, 6, type(uint256).max][i];
            vm.expectRevert(abi.encodeWithSelector(Errors.Lonja_OfferUnknown.selector, TOKEN_ID, offerId));
            lonja.purchaseLicense(TOKEN_ID, offerId, licensee);
        }
    }

    function test_RevertWhen_TheLicenseeIsZero() external {
        // it should revert
        vm.expectRevert(Errors.Lonja_LicenseeZero.selector);
        vm.prank(giver);
        lonja.purchaseLicense{value: 30 ether}(TOKEN_ID, DATED, address(0));
    }

    // ------------------------------------------------------------------------------------ the native coin

    function test_RevertWhen_TheValueIsNotThePrice() external {
        // it should revert
        for (uint256 i; i < 3; ++i) {
            uint256 value = [0, 30 ether - 1, 30 ether + 1][i];
            vm.expectRevert(abi.encodeWithSelector(Errors.Lonja_PaymentMismatch.selector, 30 ether, value));
            vm.prank(licensee);
            lonja.purchaseLicense{value: value}(TOKEN_ID, DATED, licensee);
        }
        vm.assertFalse(_holds());
    }

    function test_WhenTheValueIsThePrice() external {
        // it should emit LicensePurchased
        vm.expectEmit();
        emit ILonja.LicensePurchased(TOKEN_ID, licensee, licensee, DATED, NATIVE, 30 ether, NOW + 30 days);
        _buy(licensee, DATED, licensee);

        // it should license the licensee until the end of the period
        ILonja.License memory license = _license();
        vm.assertEq(license.expiresAt, NOW + 30 days);
        vm.assertEq(license.grantedUntil, 0);
        vm.assertTrue(license.active);
        vm.assertEq(license.irrevocableFrom, 0);
        vm.assertTrue(_holds());
        vm.warp(NOW + 30 days - 1);
        vm.assertTrue(_holds());
        vm.warp(NOW + 30 days);
        vm.assertFalse(_holds());
        vm.assertFalse(_license().active);
        vm.assertEq(_license().expiresAt, NOW + 30 days);

        // it should hold the price
        vm.assertEq(address(lonja).balance, 30 ether);
        vm.assertEq(publisher.balance, 100_000 ether);
    }

    // ---------------------------------------------------------------------------------------------- tokens

    function test_RevertWhen_NativeCoinComesWithAPriceInTokens() external {
        // it should revert
        vm.expectRevert(abi.encodeWithSelector(Errors.Lonja_PaymentMismatch.selector, 0, 1));
        vm.prank(licensee);
        lonja.purchaseLicense{value: 1}(TOKEN_ID, IN_TOKEN, licensee);
    }

    function test_RevertWhen_TheBuyerHasNotApproved() external {
        // it should revert
        vm.prank(licensee);
        token.approve(address(lonja), 30e6 - 1);
        vm.expectRevert(
            abi.encodeWithSelector(
                IERC20Errors.ERC20InsufficientAllowance.selector, address(lonja), 30e6 - 1, 30e6
            )
        );
        vm.prank(licensee);
        lonja.purchaseLicense(TOKEN_ID, IN_TOKEN, licensee);
    }

    function test_RevertGiven_TheTokenTakesAFee() external {
        // it should revert
        _expectRefused(new FeeToken(), 1000, 990);
    }

    function test_RevertGiven_TheTokenGivesMore() external {
        // it should revert
        _expectRefused(new BonusToken(), 1000, 1001);
    }

    function test_RevertGiven_TheTokenLies() external {
        // it should revert
        _expectRefused(new LyingToken(), 1000, 0);
    }

    function test_RevertGiven_TheTokenReturnsFalse() external {
        // it should revert
        FalseToken bad = new FalseToken();
        uint256 offerId = _sell(1000, address(bad), 1 days);
        vm.expectRevert(abi.encodeWithSelector(SafeERC20.SafeERC20FailedOperation.selector, address(bad)));
        vm.prank(licensee);
        lonja.purchaseLicense(TOKEN_ID, offerId, licensee);
    }

    function test_GivenTheTokenReturnsNothing() external {
        // it should license
        SilentToken silent = new SilentToken();
        silent.mint(licensee, 1000);
        uint256 offerId = _sell(1000, address(silent), 1 days);
        _buy(licensee, offerId, licensee);
        vm.assertTrue(_holds());
        vm.warp(NOW + 1 days);
        vm.prank(publisher);
        lonja.withdraw(address(silent));
        vm.assertEq(silent.balanceOf(publisher), 1000);
    }

    function test_WhenTheBuyerHasApproved() external {
        vm.prank(licensee);
        token.approve(address(lonja), 30e6);
        _buy(licensee, IN_TOKEN, licensee);

        // it should take exactly the price from the buyer
        vm.assertEq(token.balanceOf(licensee), 100_000e6 - 30e6);
        vm.assertEq(token.balanceOf(address(lonja)), 30e6);
        vm.assertEq(token.allowance(licensee, address(lonja)), 0);

        // it should license the licensee
        vm.assertEq(_license().expiresAt, NOW + 30 days);
    }

    // ---------------------------------------------------------------------------------------- free offers

    function test_RevertWhen_NativeCoinComesWithAFreeOffer() external {
        // it should revert
        for (uint256 offerId = FREE; offerId <= FREE_PERPETUAL; ++offerId) {
            vm.expectRevert(abi.encodeWithSelector(Errors.Lonja_PaymentMismatch.selector, 0, 1));
            vm.prank(licensee);
            lonja.purchaseLicense{value: 1}(TOKEN_ID, offerId, licensee);
        }
    }

    function test_WhenNothingComesWithAFreeOffer() external {
        // it should license without an open purchase
        vm.expectEmit();
        emit ILonja.LicensePurchased(TOKEN_ID, licensee, licensee, FREE, address(token), 0, NOW + 7 days);
        _buy(licensee, FREE, licensee);
        vm.assertEq(_license().expiresAt, NOW + 7 days);
        _buy(licensee, FREE_PERPETUAL, licensee);
        vm.assertEq(_license().expiresAt, FOREVER);
        vm.assertEq(_license().irrevocableFrom, 0);
        vm.assertEq(lonja.purchasesOf(licensee, TOKEN_ID).length, 0);
        vm.assertEq(lonja.openPurchasesOf(publisher, NATIVE), 0);
        vm.assertEq(lonja.openPurchasesOf(publisher, address(token)), 0);
    }

    // ------------------------------------------------------------------------------------------- the time

    function test_GivenTheOfferIsPerpetual() external {
        _buy(licensee, PERPETUAL, licensee);

        // it should license for ever
        vm.assertEq(_license().expiresAt, FOREVER);
        vm.warp(NOW + 100 * 365 days);
        vm.assertTrue(_holds());

        // it should tell from when on it is irrevocable
        vm.assertEq(_license().irrevocableFrom, NOW + 365 days);
    }

    function test_WhenTheLicenseeIsNotTheBuyer() external {
        // it should license the licensee and not the buyer
        vm.expectEmit();
        emit ILonja.LicensePurchased(TOKEN_ID, licensee, giver, DATED, NATIVE, 30 ether, NOW + 30 days);
        _buy(giver, DATED, licensee);
        vm.assertTrue(_holds());
        vm.assertFalse(lonja.hasValidLicense(giver, TOKEN_ID));
        vm.assertEq(giver.balance, 100_000 ether - 30 ether);
    }

    function test_GivenTheLicenseStillRuns() external {
        // it should begin where the license ends
        _buy(licensee, DATED, licensee);
        vm.warp(NOW + 29 days);
        _buy(giver, IN_TOKEN, licensee);
        vm.assertEq(_license().expiresAt, NOW + 60 days);
        _buy(licensee, PERPETUAL, licensee);
        vm.assertEq(_license().expiresAt, FOREVER);
        vm.assertEq(_license().irrevocableFrom, NOW + 60 days + 365 days);
        ILonja.Purchase[] memory purchases = lonja.purchasesOf(licensee, TOKEN_ID);
        vm.assertEq(purchases.length, 3);
        vm.assertEq(purchases[1].start, NOW + 30 days);
        vm.assertEq(purchases[2].start, NOW + 60 days);
    }

    function test_GivenTheLicenseIsOver() external {
        // it should begin now
        _buy(licensee, DATED, licensee);
        vm.warp(NOW + 30 days);
        _buy(licensee, DATED, licensee);
        vm.assertEq(_license().expiresAt, NOW + 60 days);
        vm.warp(NOW + 90 days);
        vm.assertFalse(_holds());
        _buy(licensee, DATED, licensee);
        vm.assertEq(_license().expiresAt, NOW + 120 days);
        vm.assertEq(lonja.purchasesOf(licensee, TOKEN_ID)[0].start, NOW + 90 days);
    }

    function test_RevertGiven_TheLicenseIsPerpetual() external {
        // it should revert
        _buy(licensee, PERPETUAL, licensee);
        vm.expectRevert(abi.encodeWithSelector(Errors.Lonja_LicensePerpetual.selector, TOKEN_ID, licensee));
        vm.prank(licensee);
        lonja.purchaseLicense{value: 30 ether}(TOKEN_ID, DATED, licensee);
    }

    function test_GivenAGrantedPeriodStillRuns() external {
        // it should begin where the grant ends
        _grant(10 days);
        _buy(licensee, DATED, licensee);
        vm.assertEq(_license().expiresAt, NOW + 40 days);
        vm.assertEq(_license().grantedUntil, NOW + 10 days);
        vm.assertEq(lonja.purchasesOf(licensee, TOKEN_ID)[0].start, NOW + 10 days);
    }

    // ------------------------------------------------------------------------------------------ the bound

    function test_GivenTheLicenseHasAsManyPurchasesAsAllowed() external {
        for (uint256 i; i < 8; ++i) {
            _buy(giver, DATED, licensee);
        }

        // it should revert
        _expectTooMany(8);
        vm.prank(giver);
        lonja.purchaseLicense{value: 30 ether}(TOKEN_ID, DATED, licensee);

        // it should take the licensee's own when others have filled their part
        for (uint256 i; i < 8; ++i) {
            _buy(licensee, DATED, licensee);
        }
        _expectTooMany(16);
        vm.prank(licensee);
        lonja.purchaseLicense{value: 30 ether}(TOKEN_ID, DATED, licensee);
        vm.assertEq(lonja.purchasesOf(licensee, TOKEN_ID).length, 16);

        // it should make place as purchases run out
        vm.warp(NOW + 30 days - 1);
        _expectTooMany(16);
        vm.prank(licensee);
        lonja.purchaseLicense{value: 30 ether}(TOKEN_ID, DATED, licensee);
        vm.warp(NOW + 30 days);
        _buy(licensee, DATED, licensee);
        vm.assertEq(lonja.purchasesOf(licensee, TOKEN_ID).length, 16);
        vm.warp(NOW + 17 * 30 days - 1);
        vm.assertTrue(_holds());
        _buy(giver, DATED, licensee);
        vm.assertEq(lonja.purchasesOf(licensee, TOKEN_ID).length, 2);
        vm.assertEq(_license().expiresAt, NOW + 18 * 30 days);
    }

    function test_GivenTheOwnerBuysOfItself() external {
        // it should license as anyone
        vm.assertFalse(lonja.hasValidLicense(publisher, TOKEN_ID));
        _buy(publisher, DATED, publisher);
        vm.assertTrue(lonja.hasValidLicense(publisher, TOKEN_ID));
    }

    function _expectTooMany(uint256 maximum) private {
        vm.expectRevert(
            abi.encodeWithSelector(Errors.Lonja_TooManyPurchases.selector, TOKEN_ID, licensee, maximum)
        );
    }

    function _expectRefused(MintableToken bad, uint256 price, uint256 received) private {
        bad.mint(licensee, 10 * price);
        vm.prank(licensee);
        bad.approve(address(lonja), type(uint256).max);
        uint256 offerId = _sell(price, address(bad), 1 days);
        vm.expectRevert(abi.encodeWithSelector(Errors.Lonja_PaymentMismatch.selector, price, received));
        vm.prank(licensee);
        lonja.purchaseLicense(TOKEN_ID, offerId, licensee);
        vm.assertFalse(_holds());
    }
}
