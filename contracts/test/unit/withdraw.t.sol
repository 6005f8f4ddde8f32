// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {ILonja} from "../../src/interfaces/ILonja.sol";
import {Errors} from "../../src/libraries/Errors.sol";
import {Base} from "../Base.sol";
import {RefusingReceiver} from "../mocks/HostileReceivers.sol";
import {GreedyToken} from "../mocks/HostileTokens.sol";

contract WithdrawTest is Base {
    function test_RevertGiven_NothingIsThere() external {
        // it should revert
        _expectNothing(publisher, NATIVE);
        _withdraw(publisher, NATIVE);
        _buy(licensee, DATED, licensee); // nothing earned in its first second
        _expectNothing(publisher, NATIVE);
        _withdraw(publisher, NATIVE);
    }

    function test_RevertGiven_AnotherCurrency() external {
        // it should revert
        _buy(licensee, DATED, licensee);
        vm.warp(NOW + 30 days);
        _expectNothing(publisher, address(token));
        _withdraw(publisher, address(token));
        _expectNothing(publisher, stranger);
        _withdraw(publisher, stranger);
    }

    function test_GivenAPeriodRuns() external {
        _buy(licensee, DATED, licensee);
        vm.warp(NOW + 10 days);
        vm.assertEq(lonja.withdrawable(publisher, NATIVE), 10 ether);

        // it should emit Withdrawn
        vm.expectEmit();
        emit ILonja.Withdrawn(publisher, NATIVE, publisher, 10 ether);
        _withdraw(publisher, NATIVE);

        // it should pay what is earned by now
        vm.assertEq(publisher.balance, 100_010 ether);
        vm.assertEq(lonja.withdrawable(publisher, NATIVE), 0);

        // it should pay the rest as time goes on
        vm.warp(NOW + 30 days - 1);
        vm.assertEq(
            lonja.withdrawable(publisher, NATIVE), uint256(30 ether) * (30 days - 1) / 30 days - 10 ether
        );
        _withdraw(publisher, NATIVE);
        vm.assertEq(lonja.openPurchasesOf(publisher, NATIVE), 1);

        // it should close the purchase when it is fully earned
        vm.warp(NOW + 30 days);
        _withdraw(publisher, NATIVE);
        vm.assertEq(publisher.balance, 100_030 ether);
        vm.assertEq(address(lonja).balance, 0);
        vm.assertEq(lonja.openPurchasesOf(publisher, NATIVE), 0);
    }

    function test_GivenAPeriodIsStillToCome() external {
        // it should earn nothing of it
        _buy(licensee, DATED, licensee);
        _buy(licensee, DATED, licensee);
        vm.warp(NOW + 30 days);
        vm.assertEq(lonja.withdrawable(publisher, NATIVE), 30 ether);
        vm.warp(NOW + 31 days);
        vm.assertEq(lonja.withdrawable(publisher, NATIVE), 31 ether);
        _withdraw(publisher, NATIVE);
        vm.assertEq(publisher.balance, 100_031 ether);
        vm.assertEq(lonja.openPurchasesOf(publisher, NATIVE), 1);
    }

    function test_GivenEarningsInTokens() external {
        // it should pay in tokens
        _buy(licensee, IN_TOKEN, licensee);
        vm.warp(NOW + 30 days);
        _withdraw(publisher, address(token));
        vm.assertEq(token.balanceOf(publisher), 100_030e6);
        vm.assertEq(token.balanceOf(address(lonja)), 0);
    }

    function test_GivenEarningsAndRefunds() external {
        // it should pay both together
        vm.prank(stranger);
        uint256 other = lonja.registerModel(CID, _offers());
        vm.prank(publisher);
        lonja.purchaseLicense{value: 30 ether}(other, DATED, publisher);
        _buy(licensee, DATED, licensee);
        vm.warp(NOW + 10 days);
        vm.prank(stranger);
        lonja.revokeLicense(other, publisher);
        vm.assertEq(lonja.withdrawable(publisher, NATIVE), 30 ether);
        _withdraw(publisher, NATIVE);
        vm.assertEq(publisher.balance, 100_000 ether);
    }

    function test_WhenItIsToBePaidToAnother() external {
        // it should pay the other
        _buy(licensee, DATED, licensee);
        vm.warp(NOW + 30 days);
        vm.expectEmit();
        emit ILonja.Withdrawn(publisher, NATIVE, stranger, 30 ether);
        vm.prank(publisher);
        lonja.withdrawTo(NATIVE, stranger);
        vm.assertEq(stranger.balance, 100_030 ether);
        vm.assertEq(publisher.balance, 100_000 ether);
    }

    function test_GivenTheReceiverRefusesTheNativeCoin() external {
        RefusingReceiver buyer = new RefusingReceiver{value: 30 ether}(lonja);
        buyer.buy(TOKEN_ID, DATED, 30 ether);
        vm.warp(NOW + 10 days);
        vm.prank(publisher);
        lonja.revokeLicense(TOKEN_ID, address(buyer));

        // it should revert and keep what is owed
        vm.expectRevert(
            abi.encodeWithSelector(Errors.Lonja_TransferFailed.selector, address(buyer), 20 ether)
        );
        buyer.withdraw();
        vm.assertEq(lonja.withdrawable(address(buyer), NATIVE), 20 ether);

        // it should pay another whom the receiver names
        buyer.withdrawTo(giver);
        vm.assertEq(giver.balance, 100_020 ether);
    }

    function test_RevertGiven_TheTokenTakesMoreThanItIsTold() external {
        // it should revert and keep what is owed
        GreedyToken greedy = new GreedyToken();
        greedy.mint(licensee, 200);
        vm.prank(licensee);
        greedy.approve(address(lonja), 200);
        uint256 offerId = _sell(100, address(greedy), 1 days);
        _buy(licensee, offerId, licensee);
        _buy(licensee, offerId, licensee);
        vm.warp(NOW + 1 days);
        greedy.setGreedy();
        vm.expectRevert(abi.encodeWithSelector(Errors.Lonja_PayoutMismatch.selector, 100, 101));
        _withdraw(publisher, address(greedy));
        vm.assertEq(lonja.withdrawable(publisher, address(greedy)), 100);
        vm.assertEq(greedy.balanceOf(address(lonja)), 200);
    }

    function test_GivenMoreOpenPurchasesThanOneCallLooksThrough() external {
        _buyForMany(150);
        vm.warp(NOW + 10 days);

        // it should pay part by part
        // it should tell beforehand what each call pays
        uint256[4] memory parts = [uint256(640 ether), 640 ether, 220 ether, 0];
        for (uint256 i; i < 3; ++i) {
            uint256 before = publisher.balance;
            vm.assertEq(lonja.withdrawable(publisher, NATIVE), parts[i]);
            _withdraw(publisher, NATIVE);
            vm.assertEq(publisher.balance - before, parts[i]);
        }

        // it should never revert for an empty part
        for (uint256 i; i < 4; ++i) {
            _withdraw(publisher, NATIVE);
        }
        vm.assertEq(publisher.balance, 101_500 ether);

        // it should pay all in the end
        vm.warp(NOW + 30 days);
        for (uint256 i; i < 3; ++i) {
            uint256 before = publisher.balance;
            uint256 expected = lonja.withdrawable(publisher, NATIVE);
            _withdraw(publisher, NATIVE);
            vm.assertEq(publisher.balance - before, expected);
        }
        vm.assertEq(publisher.balance, 104_500 ether);
        vm.assertEq(lonja.openPurchasesOf(publisher, NATIVE), 0);
        vm.assertEq(address(lonja).balance, 0);
        _expectNothing(publisher, NATIVE);
        _withdraw(publisher, NATIVE);
    }

    function test_GivenPurchasesOfARoundWereClosedByRevocations() external {
        // it should begin anew from the end
        _buyForMany(200);
        vm.warp(NOW + 1 days);
        _withdraw(publisher, NATIVE); // looked through 136 to 199
        for (uint256 i; i < 100; ++i) {
            vm.prank(publisher);
            lonja.revokeLicense(TOKEN_ID, address(uint160(1000 + i)));
        }
        vm.assertEq(lonja.openPurchasesOf(publisher, NATIVE), 100);
        uint256 paid = publisher.balance;
        for (uint256 i; i < 2; ++i) {
            uint256 expected = lonja.withdrawable(publisher, NATIVE);
            _withdraw(publisher, NATIVE);
            vm.assertEq(publisher.balance - paid, expected);
            paid = publisher.balance;
        }
        vm.assertEq(publisher.balance, 100_200 ether);
    }

    function test_GivenFewPurchasesAreLeftOfARound() external {
        // it should look through all that are left
        _buyForMany(70);
        vm.warp(NOW + 1 days);
        _withdraw(publisher, NATIVE); // looked through 6 to 69
        for (uint256 i = 60; i < 70; ++i) {
            vm.prank(publisher);
            lonja.revokeLicense(TOKEN_ID, address(uint160(1000 + i)));
        }
        vm.warp(NOW + 2 days);
        vm.assertEq(lonja.withdrawable(publisher, NATIVE), 66 ether);
        _withdraw(publisher, NATIVE);
        vm.assertEq(publisher.balance, 100_130 ether);
    }

    function test_GivenCoinWasForcedIn() external {
        // it should not be anyone's
        vm.deal(address(lonja), 5 ether);
        token.mint(address(lonja), 5);
        _expectNothing(publisher, NATIVE);
        _withdraw(publisher, NATIVE);
        _buy(licensee, IN_TOKEN, licensee);
        vm.warp(NOW + 30 days);
        vm.assertEq(lonja.withdrawable(publisher, address(token)), 30e6);
    }

    function _buyForMany(uint256 count) private {
        for (uint256 i; i < count; ++i) {
            _buy(giver, DATED, address(uint160(1000 + i)));
        }
    }

    function _withdraw(address account, address currency) private {
        vm.prank(account);
        lonja.withdraw(currency);
    }

    function _expectNothing(address account, address currency) private {
        vm.expectRevert(abi.encodeWithSelector(Errors.Lonja_NothingToWithdraw.selector, account, currency));
    }
}
