// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {Lonja} from "../../src/Lonja.sol";
import {ILonja} from "../../src/interfaces/ILonja.sol";
import {TestToken} from "../mocks/TestToken.sol";
import {Vm} from "../Vm.sol";

/// @title Does what anyone may try, and keeps beside it, in the plainest way, what must come of it.
/// @dev The books here hold every purchase for ever and know nothing of settling, cursors or slots.
contract Handler {
    struct Entry {
        uint256 tokenId;
        address licensee;
        address payer;
        address seller;
        address currency;
        uint256 price;
        uint256 start;
        uint256 end;
        uint256 stopped; // when it was revoked; 0 while it was not
    }

    Vm private constant vm = Vm(address(uint160(uint256(keccak256("hevm cheat code")))));
    uint256 private constant FOREVER = type(uint64).max;

    Lonja public immutable LONJA;
    TestToken public immutable TOKEN;
    address[] public people;

    Entry[] private _entries;
    mapping(uint256 tokenId => mapping(address licensee => uint256)) public expiresAt;
    mapping(uint256 tokenId => mapping(address licensee => uint256)) public irrevocableFrom;
    mapping(uint256 tokenId => mapping(address licensee => bool)) public paidOrGranted;
    mapping(address account => mapping(address currency => uint256)) public withdrawn;
    mapping(address currency => uint256) public paidIn;
    mapping(address currency => uint256) public paidOut;

    constructor(Lonja lonja, TestToken token, address[] memory people_) {
        LONJA = lonja;
        TOKEN = token;
        people = people_;
    }

    // ------------------------------------------------------------------------------- what anyone may try

    function purchase(uint256 buyerSeed, uint256 licenseeSeed, uint256 modelSeed, uint256 offerSeed)
        external
    {
        uint256 tokenId = _model(modelSeed);
        ILonja.Offer[] memory offers = LONJA.offersOf(tokenId);
        if (offers.length == 0) return;
        ILonja.Offer memory offer = offers[offerSeed % offers.length];
        address buyer = _someone(buyerSeed);
        // Half of all licenses go to one person, so that some grow long.
        address licensee = licenseeSeed % 2 == 0 ? people[3] : _someone(licenseeSeed / 2);
        bool expected = expiresAt[tokenId][licensee] != FOREVER && !LONJA.modelOf(tokenId).salesPaused
            && (offer.price == 0 || _running(tokenId, licensee) < (buyer == licensee ? 16 : 8));

        address seller = LONJA.ownerOf(tokenId);
        vm.prank(buyer);
        (bool bought,) = address(LONJA).call{value: offer.currency == address(0) ? offer.price : 0}(
            abi.encodeCall(ILonja.purchaseLicense, (tokenId, offer.offerId, licensee))
        );
        vm.assertTrue(bought == expected, "a purchase");
        if (!bought) return;
        (uint256 start, uint256 end) = _extend(tokenId, licensee, offer.duration);
        if (offer.price == 0) return;
        if (end == FOREVER) {
            end = start + 365 days;
            irrevocableFrom[tokenId][licensee] = end;
        }
        _entries.push(Entry(tokenId, licensee, buyer, seller, offer.currency, offer.price, start, end, 0));
        paidIn[offer.currency] += offer.price;
    }

    function grant(uint256 callerSeed, uint256 licenseeSeed, uint256 modelSeed, uint64 duration) external {
        uint256 tokenId = _model(modelSeed);
        (address caller, address licensee) = (_someone(callerSeed), _someone(licenseeSeed));
        duration = duration % 16 == 0 ? 0 : duration % 20 days + 1;
        bool expected = caller == LONJA.ownerOf(tokenId) && expiresAt[tokenId][licensee] != FOREVER;
        bool granted = _try(caller, abi.encodeCall(ILonja.grantLicense, (tokenId, licensee, duration)));
        vm.assertTrue(granted == expected, "a grant");
        if (!granted) return;
        _extend(tokenId, licensee, duration);
    }

    function revoke(uint256 callerSeed, uint256 licenseeSeed, uint256 modelSeed) external {
        uint256 tokenId = _model(modelSeed);
        address owner = LONJA.ownerOf(tokenId);
        address caller = callerSeed % 4 == 0 ? _someone(callerSeed / 4) : owner;
        address licensee = _someone(licenseeSeed);
        uint256 irrevocable = irrevocableFrom[tokenId][licensee];
        bool expected = caller == owner && block.timestamp < expiresAt[tokenId][licensee]
            && (irrevocable == 0 || block.timestamp < irrevocable);
        bool revoked = _try(caller, abi.encodeCall(ILonja.revokeLicense, (tokenId, licensee)));
        vm.assertTrue(revoked == expected, "a revocation");
        if (!revoked) return;
        expiresAt[tokenId][licensee] = block.timestamp;
        irrevocableFrom[tokenId][licensee] = 0;
        for (uint256 i; i < _entries.length; ++i) {
            Entry storage entry = _entries[i];
            if (entry.tokenId != tokenId || entry.licensee != licensee) continue;
            if (entry.stopped != 0 || entry.end <= block.timestamp) continue;
            entry.stopped = block.timestamp;
        }
    }

    function withdraw(uint256 accountSeed, uint256 currencySeed) external {
        address currency = currencySeed % 2 == 0 ? address(0) : address(TOKEN);
        _withdraw(_someone(accountSeed), currency);
    }

    function transferModel(uint256 modelSeed, uint256 toSeed) external {
        if (modelSeed % 4 != 0) return;
        uint256 tokenId = _model(modelSeed / 4);
        address owner = LONJA.ownerOf(tokenId);
        vm.prank(owner);
        LONJA.transferFrom(owner, _someone(toSeed), tokenId);
    }

    function setOffers(uint256 modelSeed, uint128 price, uint64 duration) external {
        uint256 tokenId = _model(modelSeed);
        ILonja.OfferTerms[] memory offers = new ILonja.OfferTerms[](4);
        price = price % 1e18 + 1;
        duration = duration % 100 days + 1;
        offers[0] = ILonja.OfferTerms(price, address(0), duration);
        offers[1] = ILonja.OfferTerms(price, address(TOKEN), duration);
        offers[2] = ILonja.OfferTerms(price, price % 2 == 0 ? address(0) : address(TOKEN), 0);
        offers[3] = ILonja.OfferTerms(0, address(0), duration % 7 days + 1);
        vm.prank(LONJA.ownerOf(tokenId));
        LONJA.setOffers(tokenId, offers);
    }

    function pauseOrResume(uint256 modelSeed) external {
        uint256 tokenId = _model(modelSeed);
        bool paused = LONJA.modelOf(tokenId).salesPaused;
        if (!paused && modelSeed % 8 != 0) return;
        vm.prank(LONJA.ownerOf(tokenId));
        if (paused) LONJA.resumeSales(tokenId);
        else LONJA.pauseSales(tokenId);
    }

    function wait(uint256 seed) external {
        vm.warp(block.timestamp + (seed % 8 == 0 ? seed % 400 days : seed % 10 days));
    }

    // ------------------------------------------------------------------------------ what must come of it

    /// @notice All that has ever become `account`'s in `currency`: earned as seller, refunded as payer.
    function credited(address account, address currency) public view returns (uint256 sum) {
        for (uint256 i; i < _entries.length; ++i) {
            Entry storage entry = _entries[i];
            if (entry.currency != currency) continue;
            if (entry.seller == account) sum += _earned(entry);
            if (entry.payer == account && entry.stopped != 0) sum += entry.price - _earned(entry);
        }
    }

    /// @notice What is neither earned nor refunded: still to be paid to one side or the other.
    function unearned(address currency) external view returns (uint256 sum) {
        for (uint256 i; i < _entries.length; ++i) {
            Entry storage entry = _entries[i];
            if (entry.currency == currency && entry.stopped == 0) sum += entry.price - _earned(entry);
        }
    }

    /// @notice Lets all time pass and everyone withdraw all.
    function drain() external {
        vm.warp(block.timestamp + 200 * 365 days);
        for (uint256 i; i < people.length; ++i) {
            _withdraw(people[i], address(0));
            _withdraw(people[i], address(TOKEN));
        }
    }

    // -------------------------------------------------------------------------------------------- private

    function _withdraw(address account, address currency) private {
        uint256 expected = credited(account, currency) - withdrawn[account][currency];
        bool paid = _try(account, abi.encodeCall(ILonja.withdraw, (currency)));
        vm.assertTrue(paid == (expected != 0), "a withdrawal");
        withdrawn[account][currency] += expected;
        paidOut[currency] += expected;
    }

    function _extend(uint256 tokenId, address licensee, uint256 duration)
        private
        returns (uint256 start, uint256 end)
    {
        start = expiresAt[tokenId][licensee];
        if (start < block.timestamp) start = block.timestamp;
        end = duration == 0 ? FOREVER : start + duration;
        expiresAt[tokenId][licensee] = end;
        paidOrGranted[tokenId][licensee] = true;
    }

    function _running(uint256 tokenId, address licensee) private view returns (uint256 count) {
        for (uint256 i; i < _entries.length; ++i) {
            Entry storage entry = _entries[i];
            bool its = entry.tokenId == tokenId && entry.licensee == licensee;
            if (its && entry.stopped == 0 && entry.end > block.timestamp) ++count;
        }
    }

    function _earned(Entry storage entry) private view returns (uint256) {
        uint256 time = entry.stopped == 0 ? block.timestamp : entry.stopped;
        if (time <= entry.start) return 0;
        if (time >= entry.end) return entry.price;
        return entry.price * (time - entry.start) / (entry.end - entry.start);
    }

    function _try(address caller, bytes memory data) private returns (bool accepted) {
        vm.prank(caller);
        (accepted,) = address(LONJA).call(data);
    }

    function _someone(uint256 seed) private view returns (address) {
        return people[seed % people.length];
    }

    function _model(uint256 seed) private view returns (uint256) {
        return seed % LONJA.totalModels() + 1;
    }
}
