// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {ILonja} from "../../src/interfaces/ILonja.sol";
import {Base} from "../Base.sol";

contract LicenseOfTest is Base {
    function test_GivenNoSuchModel() external view {
        // it should tell of no license
        _assertNone(licensee, 9);
        _assertNone(address(0), 0);
    }

    function test_GivenNoLicense() external view {
        // it should tell of no license
        _assertNone(licensee, TOKEN_ID);
    }

    function test_GivenALicenseOfAnotherModel() external {
        // it should tell of no license
        vm.prank(publisher);
        uint256 other = lonja.registerModel(CID, _offers());
        _buy(licensee, DATED, licensee);
        _assertNone(licensee, other);
        vm.assertTrue(_holds());
    }

    function test_GivenPurchasesInSeveralStates() external {
        _buy(licensee, DATED, licensee); //  days 0 to 30
        _buy(giver, IN_TOKEN, licensee); //  30 to 60
        _buy(licensee, FREE, licensee); //   60 to 67
        _buy(giver, PERPETUAL, licensee); // 67 on
        vm.warp(NOW + 45 days);
        vm.prank(publisher);
        lonja.withdraw(NATIVE);

        // it should list those that are not over, in their order
        ILonja.Purchase[] memory list = lonja.purchasesOf(licensee, TOKEN_ID);
        vm.assertEq(list.length, 2);

        // it should tell who paid what to whom, and what a revocation would refund
        ILonja.Purchase memory expected = ILonja.Purchase({
            payer: giver,
            seller: publisher,
            currency: address(token),
            price: 30e6,
            start: NOW + 30 days,
            end: NOW + 60 days,
            refund: 15e6
        });
        vm.assertEq(keccak256(abi.encode(list[0])), keccak256(abi.encode(expected)));
        expected = ILonja.Purchase({
            payer: giver,
            seller: publisher,
            currency: NATIVE,
            price: 365 ether,
            start: NOW + 67 days,
            end: NOW + 67 days + 365 days,
            refund: 365 ether
        });
        vm.assertEq(keccak256(abi.encode(list[1])), keccak256(abi.encode(expected)));

        // it should list none when all are over
        vm.warp(NOW + 67 days + 365 days);
        vm.assertEq(lonja.purchasesOf(licensee, TOKEN_ID).length, 0);
        vm.assertTrue(_holds());
    }

    function _assertNone(address account, uint256 tokenId) private view {
        ILonja.License memory none;
        vm.assertFalse(lonja.hasValidLicense(account, tokenId));
        vm.assertEq(keccak256(abi.encode(lonja.licenseOf(account, tokenId))), keccak256(abi.encode(none)));
        vm.assertEq(lonja.purchasesOf(account, tokenId).length, 0);
    }
}
