// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {ILonja} from "../../src/interfaces/ILonja.sol";
import {Base} from "../Base.sol";
import {TestWallet} from "../mocks/TestWallet.sol";

contract TestWalletTest is Base {
    bytes32 private constant DIGEST = keccak256("what is signed");
    bytes4 private constant VALID = 0x1626ba7e;
    TestWallet private wallet;

    function setUp() public override {
        super.setUp();
        wallet = new TestWallet(vm.addr(1));
    }

    function test_WhenASignatureIsItsOwners() external view {
        // it should be valid
        vm.assertTrue(wallet.isValidSignature(DIGEST, _signature(1)) == VALID);
    }

    function test_WhenASignatureIsAnothers() external view {
        // it should not be valid
        vm.assertTrue(wallet.isValidSignature(DIGEST, _signature(2)) == 0xffffffff);
        vm.assertTrue(wallet.isValidSignature(keccak256("other"), _signature(1)) == 0xffffffff);
        vm.assertTrue(wallet.isValidSignature(DIGEST, "") == 0xffffffff);
    }

    function test_RevertWhen_AnotherActs() external {
        // it should revert
        vm.expectRevert(bytes("not the owner"));
        wallet.setOwner(stranger);
        vm.expectRevert(bytes("not the owner"));
        wallet.execute(stranger, 0, "");
    }

    function test_WhenItsOwnerActs() external {
        // it should make the call
        vm.deal(address(wallet), 30 ether);
        vm.prank(vm.addr(1));
        wallet.execute(
            address(lonja),
            30 ether,
            abi.encodeCall(ILonja.purchaseLicense, (TOKEN_ID, DATED, address(wallet)))
        );
        vm.assertTrue(lonja.hasValidLicense(address(wallet), TOKEN_ID));

        // it should tell of a call that reverted
        vm.expectRevert(bytes("the call reverted"));
        vm.prank(vm.addr(1));
        wallet.execute(address(lonja), 0, abi.encodeCall(ILonja.withdraw, (NATIVE)));

        // it should change the owner
        vm.prank(vm.addr(1));
        wallet.setOwner(vm.addr(2));
        vm.assertTrue(wallet.isValidSignature(DIGEST, _signature(2)) == VALID);
        vm.assertTrue(wallet.isValidSignature(DIGEST, _signature(1)) == 0xffffffff);
    }

    function _signature(uint256 key) private pure returns (bytes memory) {
        (uint8 v, bytes32 r, bytes32 s) = vm.sign(key, DIGEST);
        return abi.encodePacked(r, s, v);
    }
}
