// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {Base} from "../Base.sol";
import {Handler} from "./Handler.sol";

/// @title What holds after any calls by anyone, at any time.
contract InvariantTest is Base {
    Handler private handler;
    address[] private people;

    function setUp() public override {
        super.setUp();
        vm.prank(giver);
        lonja.registerModel(CID, _offers());
        people = [publisher, giver, licensee, stranger];
        handler = new Handler(lonja, token, people);
        vm.deal(address(handler), 1_000_000 ether);
        for (uint256 i; i < people.length; ++i) {
            vm.deal(people[i], 1_000_000 ether);
            token.mint(people[i], type(uint128).max);
        }
    }

    /// @dev forge asks this for what it shall call.
    function targetContracts() external view returns (address[] memory targets) {
        targets = new address[](1);
        targets[0] = address(handler);
    }

    struct Selectors {
        address target;
        bytes4[] selectors;
    }

    /// @dev All that is tried but `drain`, which ends a run. Purchases thrice, so that the rest finds some.
    function targetSelectors() external view returns (Selectors[] memory targets) {
        bytes4[10] memory tried = [
            Handler.purchase.selector,
            Handler.purchase.selector,
            Handler.purchase.selector,
            Handler.grant.selector,
            Handler.revoke.selector,
            Handler.withdraw.selector,
            Handler.transferModel.selector,
            Handler.setOffers.selector,
            Handler.pauseOrResume.selector,
            Handler.wait.selector
        ];
        targets = new Selectors[](1);
        targets[0] = Selectors(address(handler), new bytes4[](tried.length));
        for (uint256 i; i < tried.length; ++i) {
            targets[0].selectors[i] = tried[i];
        }
    }

    function invariant_TheBalanceIsWhatIsOwed() external view {
        for (uint256 i; i < 2; ++i) {
            address currency = [NATIVE, address(token)][i];
            uint256 owed = handler.unearned(currency);
            for (uint256 j; j < people.length; ++j) {
                owed += lonja.withdrawable(people[j], currency);
            }
            vm.assertEq(_balance(currency), owed);
            vm.assertEq(_balance(currency), handler.paidIn(currency) - handler.paidOut(currency));
        }
    }

    function invariant_EveryoneMayWithdrawWhatIsTheirs() external view {
        for (uint256 i; i < 2; ++i) {
            address currency = [NATIVE, address(token)][i];
            for (uint256 j; j < people.length; ++j) {
                uint256 expected =
                    handler.credited(people[j], currency) - handler.withdrawn(people[j], currency);
                vm.assertEq(lonja.withdrawable(people[j], currency), expected);
            }
        }
    }

    function invariant_NoLicenseWithoutPaymentOrGrant() external view {
        for (uint256 tokenId = 1; tokenId < 4; ++tokenId) {
            for (uint256 j; j < people.length; ++j) {
                uint256 expiresAt = handler.expiresAt(tokenId, people[j]);
                vm.assertEq(lonja.licenseOf(people[j], tokenId).expiresAt, expiresAt);
                vm.assertEq(
                    lonja.licenseOf(people[j], tokenId).irrevocableFrom,
                    handler.irrevocableFrom(tokenId, people[j])
                );
                bool holds = lonja.hasValidLicense(people[j], tokenId);
                vm.assertTrue(holds == block.timestamp < expiresAt);
                vm.assertTrue(!holds || handler.paidOrGranted(tokenId, people[j]));
            }
        }
    }

    function invariant_ThePurchasesOfALicenseAreBoundedAndWithoutOverlap() external view {
        for (uint256 j; j < people.length; ++j) {
            uint256 last;
            for (uint256 i; i < lonja.purchasesOf(people[j], TOKEN_ID).length; ++i) {
                vm.assertTrue(i < 16);
                vm.assertGe(lonja.purchasesOf(people[j], TOKEN_ID)[i].start, last, "an overlap");
                last = lonja.purchasesOf(people[j], TOKEN_ID)[i].end;
            }
        }
    }

    /// @dev At the end of each run: what came in goes out, to the last unit.
    function afterInvariant() external {
        handler.drain();
        vm.assertEq(_balance(NATIVE), 0);
        vm.assertEq(_balance(address(token)), 0);
    }

    function _balance(address currency) private view returns (uint256) {
        return currency == NATIVE ? address(lonja).balance : token.balanceOf(address(lonja));
    }
}
