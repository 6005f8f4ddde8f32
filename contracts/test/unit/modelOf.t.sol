// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {IERC721} from "@openzeppelin/contracts/token/ERC721/IERC721.sol";
import {IERC721Metadata} from "@openzeppelin/contracts/token/ERC721/extensions/IERC721Metadata.sol";
import {IERC2981} from "@openzeppelin/contracts/interfaces/IERC2981.sol";
import {IERC165} from "@openzeppelin/contracts/utils/introspection/IERC165.sol";
import {ILonja} from "../../src/interfaces/ILonja.sol";
import {Errors} from "../../src/libraries/Errors.sol";
import {Base} from "../Base.sol";

contract ModelOfTest is Base {
    function test_RevertGiven_NoSuchModel() external {
        // it should revert in every reading of models
        for (uint256 i; i < 2; ++i) {
            uint256 tokenId = [0, uint256(2)][i];
            _expectUnknownModel(tokenId);
            lonja.modelOf(tokenId);
            _expectUnknownModel(tokenId);
            lonja.publisherOf(tokenId);
            _expectUnknownModel(tokenId);
            lonja.offersOf(tokenId);
            _expectUnknownModel(tokenId);
            lonja.tokenURI(tokenId);
            vm.expectRevert(abi.encodeWithSelector(Errors.Lonja_RevisionUnknown.selector, tokenId, 1));
            lonja.metadataCidOf(tokenId, 1);
        }
    }

    function test_RevertWhen_TheRevisionIsUnknown() external {
        // it should revert
        vm.expectRevert(abi.encodeWithSelector(Errors.Lonja_RevisionUnknown.selector, TOKEN_ID, 0));
        lonja.metadataCidOf(TOKEN_ID, 0);
        vm.expectRevert(abi.encodeWithSelector(Errors.Lonja_RevisionUnknown.selector, TOKEN_ID, 2));
        lonja.metadataCidOf(TOKEN_ID, 2);
    }

    function test_GivenThereIsAModel() external view {
        // it should tell what was registered
        ILonja.Model memory expected = ILonja.Model(publisher, 1, false, CID);
        vm.assertEq(keccak256(abi.encode(lonja.modelOf(TOKEN_ID))), keccak256(abi.encode(expected)));
        vm.assertEq(lonja.tokenURI(TOKEN_ID), string.concat("ipfs://", CID));
        ILonja.Offer memory offer = ILonja.Offer(IN_TOKEN, 30e6, address(token), 30 days);
        vm.assertEq(keccak256(abi.encode(lonja.offersOf(TOKEN_ID)[2])), keccak256(abi.encode(offer)));
        vm.assertEq(lonja.name(), "Lonja Model");
        vm.assertEq(lonja.symbol(), "LONJA");
    }

    function test_WhenAskedForItsInterfaces() external view {
        // it should know ERC-165, ERC-721, its metadata, ERC-2981 and ILonja
        vm.assertTrue(lonja.supportsInterface(type(IERC165).interfaceId));
        vm.assertTrue(lonja.supportsInterface(type(IERC721).interfaceId));
        vm.assertTrue(lonja.supportsInterface(type(IERC721Metadata).interfaceId));
        vm.assertTrue(lonja.supportsInterface(type(IERC2981).interfaceId));
        vm.assertTrue(lonja.supportsInterface(type(ILonja).interfaceId));
        vm.assertFalse(lonja.supportsInterface(0xffffffff));
    }
}
