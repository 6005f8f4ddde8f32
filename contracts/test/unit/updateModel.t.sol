// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {ILonja} from "../../src/interfaces/ILonja.sol";
import {Errors} from "../../src/libraries/Errors.sol";
import {Base} from "../Base.sol";

contract UpdateModelTest is Base {
    function test_RevertGiven_NoSuchModel() external {
        // it should revert
        _expectUnknownModel(9);
        lonja.updateModel(9, "new");
    }

    function test_RevertWhen_TheCallerIsNotTheOwner() external {
        // it should revert
        _expectNotOwner(stranger);
        vm.prank(stranger);
        lonja.updateModel(TOKEN_ID, "new");
    }

    function test_RevertWhen_TheCidIsEmpty() external {
        // it should revert
        vm.expectRevert(abi.encodeWithSelector(Errors.Lonja_MetadataCidInvalid.selector, 0));
        vm.prank(publisher);
        lonja.updateModel(TOKEN_ID, "");
    }

    function test_WhenTheOwnerGivesANewCid() external {
        _buy(licensee, DATED, licensee);

        // it should emit ModelUpdated
        vm.expectEmit();
        emit ILonja.ModelUpdated(TOKEN_ID, 2, "new");
        vm.prank(publisher);
        lonja.updateModel(TOKEN_ID, "new");

        // it should be the next revision
        vm.assertEq(lonja.modelOf(TOKEN_ID).revision, 2);
        vm.assertEq(lonja.modelOf(TOKEN_ID).metadataCid, "new");
        vm.assertEq(lonja.tokenURI(TOKEN_ID), "ipfs://new");

        // it should keep the earlier CID readable
        vm.assertEq(lonja.metadataCidOf(TOKEN_ID, 1), CID);
        vm.assertEq(lonja.metadataCidOf(TOKEN_ID, 2), "new");

        // it should leave licenses as they are
        vm.assertTrue(_holds());
    }
}
