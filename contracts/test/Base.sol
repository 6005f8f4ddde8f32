// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {Lonja} from "../src/Lonja.sol";
import {ILonja} from "../src/interfaces/ILonja.sol";
import {Errors} from "../src/libraries/Errors.sol";
import {TestToken} from "./mocks/TestToken.sol";
import {Vm} from "./Vm.sol";

/// @title What all tests start from: one model on sale, and people with money.
/// @dev Prices are one unit a day, so that what is earned can be read off the days that passed.
abstract contract Base {
    Vm internal constant vm = Vm(address(uint160(uint256(keccak256("hevm cheat code")))));

    address internal constant NATIVE = address(0);
    string internal constant CID = "bafybeigdyrzt5sfp7udm7hu76uh7y26nf3efuylqabf3oclgtqy55fbzdi";
    uint64 internal constant FOREVER = type(uint64).max;
    uint64 internal constant NOW = 1_800_000_000;

    uint256 internal constant TOKEN_ID = 1;
    uint256 internal constant DATED = 1;
    uint256 internal constant PERPETUAL = 2;
    uint256 internal constant IN_TOKEN = 3;
    uint256 internal constant FREE = 4;
    uint256 internal constant FREE_PERPETUAL = 5;

    address internal publisher = _person("publisher");
    address internal licensee = _person("licensee");
    address internal giver = _person("giver");
    address internal stranger = _person("stranger");

    Lonja internal lonja;
    TestToken internal token;

    function setUp() public virtual {
        vm.warp(NOW);
        lonja = new Lonja();
        token = new TestToken("Test", "TST", 6);
        vm.prank(publisher);
        lonja.registerModel(CID, _offers());
        for (uint256 i; i < 4; ++i) {
            address person = [publisher, licensee, giver, stranger][i];
            vm.deal(person, 100_000 ether);
            token.mint(person, 100_000e6);
            vm.prank(person);
            token.approve(address(lonja), type(uint256).max);
        }
    }

    function _offers() internal view returns (ILonja.OfferTerms[] memory offers) {
        offers = new ILonja.OfferTerms[](5);
        offers[0] = ILonja.OfferTerms(30 ether, NATIVE, 30 days);
        offers[1] = ILonja.OfferTerms(365 ether, NATIVE, 0);
        offers[2] = ILonja.OfferTerms(30e6, address(token), 30 days);
        offers[3] = ILonja.OfferTerms(0, address(token), 7 days);
        offers[4] = ILonja.OfferTerms(0, NATIVE, 0);
    }

    function _offer(uint256 price, address currency, uint64 duration)
        internal
        pure
        returns (ILonja.OfferTerms[] memory offers)
    {
        offers = new ILonja.OfferTerms[](1);
        offers[0] = ILonja.OfferTerms(price, currency, duration);
    }

    /// @dev Replaces all offers by one, and gives its id.
    function _sell(uint256 price, address currency, uint64 duration) internal returns (uint256 offerId) {
        vm.prank(publisher);
        lonja.setOffers(TOKEN_ID, _offer(price, currency, duration));
        return lonja.offersOf(TOKEN_ID)[0].offerId;
    }

    function _buy(address buyer, uint256 offerId, address for_) internal {
        uint256 value = offerId == DATED ? 30 ether : offerId == PERPETUAL ? 365 ether : 0;
        vm.prank(buyer);
        lonja.purchaseLicense{value: value}(TOKEN_ID, offerId, for_);
    }

    function _grant(uint64 duration) internal {
        vm.prank(publisher);
        lonja.grantLicense(TOKEN_ID, licensee, duration);
    }

    function _revoke() internal {
        vm.prank(publisher);
        lonja.revokeLicense(TOKEN_ID, licensee);
    }

    function _license() internal view returns (ILonja.License memory) {
        return lonja.licenseOf(licensee, TOKEN_ID);
    }

    function _holds() internal view returns (bool) {
        return lonja.hasValidLicense(licensee, TOKEN_ID);
    }

    function _expectUnknownModel(uint256 tokenId) internal {
        vm.expectRevert(abi.encodeWithSelector(Errors.Lonja_ModelUnknown.selector, tokenId));
    }

    function _expectNotOwner(address caller) internal {
        vm.expectRevert(abi.encodeWithSelector(Errors.Lonja_NotModelOwner.selector, TOKEN_ID, caller));
    }

    function _person(string memory name) internal returns (address person) {
        person = address(uint160(uint256(keccak256(bytes(name)))));
        vm.label(person, name);
    }

    /// @dev `value` folded into `low` to `high`, the ends included.
    function _bound(uint256 value, uint256 low, uint256 high) internal pure returns (uint256) {
        uint256 size = high - low + 1;
        return size == 0 ? value : low + value % size;
    }
}
