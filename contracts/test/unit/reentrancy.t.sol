// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {ReentrancyGuard} from "@openzeppelin/contracts/utils/ReentrancyGuard.sol";
import {ILonja} from "../../src/interfaces/ILonja.sol";
import {Base} from "../Base.sol";
import {ReentrantReceiver} from "../mocks/HostileReceivers.sol";
import {HookToken} from "../mocks/HostileTokens.sol";

contract ReentrancyTest is Base {
    bytes private refused = abi.encodeWithSelector(ReentrancyGuard.ReentrancyGuardReentrantCall.selector);
    HookToken private hook;

    function setUp() public override {
        super.setUp();
        hook = new HookToken();
        hook.mint(licensee, 1000);
        vm.prank(licensee);
        hook.approve(address(lonja), type(uint256).max);
    }

    function test_WhenAReceiverWithdrawsAgain() external {
        // it should be refused, and be paid once
        ReentrantReceiver buyer = _refunded();
        _buy(giver, DATED, licensee); // more money in the contract
        buyer.withdraw();
        vm.assertTrue(buyer.called());
        vm.assertFalse(buyer.accepted());
        vm.assertEq(keccak256(buyer.answer()), keccak256(refused));
        vm.assertEq(address(buyer).balance, 30 ether);
        vm.assertEq(address(lonja).balance, 30 ether);
    }

    function test_WhenAReceiverBuysGrantsOrRevokes() external {
        // it should be refused
        ReentrantReceiver buyer = _refunded();
        vm.prank(publisher);
        lonja.transferFrom(publisher, address(buyer), TOKEN_ID);
        for (uint256 i; i < 3; ++i) {
            vm.prank(stranger);
            uint256 other = lonja.registerModel(CID, _offers());
            if (i != 0) {
                vm.deal(address(buyer), 30 ether);
                buyer.buy(other, DATED, 30 ether);
                vm.prank(stranger);
                lonja.revokeLicense(other, address(buyer));
            }
            buyer.setData(_calls(licensee)[i]);
            buyer.withdraw();
            vm.assertFalse(buyer.accepted());
            vm.assertEq(keccak256(buyer.answer()), keccak256(refused));
        }
        vm.assertFalse(_holds());
    }

    function test_WhenATokenActsInAPayment() external {
        // it should be refused
        uint256 offerId = _sell(100, address(hook), 1 days);
        vm.prank(publisher);
        lonja.transferFrom(publisher, address(hook), TOKEN_ID); // it may do all that the owner may
        bytes[] memory calls = _calls(giver);
        for (uint256 i; i < calls.length; ++i) {
            hook.setHook(address(lonja), calls[i], "");
            _buy(licensee, offerId, licensee);
            vm.assertFalse(hook.accepted());
            vm.assertEq(keccak256(hook.answer()), keccak256(refused));
        }
        vm.assertFalse(lonja.hasValidLicense(giver, TOKEN_ID));
        vm.assertEq(_license().expiresAt, NOW + 4 days);
    }

    function test_WhenATokenLooksAtTheLicenseInAPayment() external {
        // it should not be there yet
        uint256 offerId = _sell(100, address(hook), 1 days);
        hook.setHook(address(lonja), "", abi.encodeCall(ILonja.hasValidLicense, (licensee, TOKEN_ID)));
        _buy(licensee, offerId, licensee);
        vm.assertEq(keccak256(hook.seen()), keccak256(abi.encode(false)));
        vm.assertTrue(_holds());
    }

    function test_WhenATokenLooksAtWhatIsOwedInAPayout() external {
        // it should be gone already
        uint256 offerId = _sell(100, address(hook), 1 days);
        _buy(licensee, offerId, licensee);
        vm.warp(NOW + 1 days);
        hook.setHook(address(lonja), "", abi.encodeCall(ILonja.withdrawable, (publisher, address(hook))));
        vm.prank(publisher);
        lonja.withdraw(address(hook));
        vm.assertEq(keccak256(hook.seen()), keccak256(abi.encode(uint256(0))));
        vm.assertEq(hook.balanceOf(publisher), 100);
    }

    /// @dev A receiver to which 30 coins are owed.
    function _refunded() private returns (ReentrantReceiver buyer) {
        buyer = new ReentrantReceiver{value: 30 ether}(lonja);
        buyer.buy(TOKEN_ID, DATED, 30 ether);
        vm.prank(publisher);
        lonja.revokeLicense(TOKEN_ID, address(buyer));
    }

    function _calls(address account) private pure returns (bytes[] memory calls) {
        calls = new bytes[](4);
        calls[0] = abi.encodeCall(ILonja.purchaseLicense, (TOKEN_ID, FREE, account));
        calls[1] = abi.encodeCall(ILonja.grantLicense, (TOKEN_ID, account, 0));
        calls[2] = abi.encodeCall(ILonja.revokeLicense, (TOKEN_ID, account));
        calls[3] = abi.encodeCall(ILonja.withdraw, (NATIVE));
    }
}
