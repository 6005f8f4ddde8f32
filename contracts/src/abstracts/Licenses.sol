// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {ILonja} from "../interfaces/ILonja.sol";
import {Errors} from "../libraries/Errors.sol";
import {Catalogue} from "./Catalogue.sol";
import {Escrow} from "./Escrow.sol";

/// @title Licenses: bought, given, granted, extended, revoked.
/// @dev The periods of a license follow each other without a gap, whoever paid for which: each begins where
/// the license so far ends, or now. So one time, `expiresAt`, says whether it holds.
abstract contract Licenses is Catalogue, Escrow {
    /// @notice Time over which the price of a perpetual license is earned; after it, it is irrevocable.
    uint64 public constant VESTING_PERIOD = 365 days;

    /// @notice Most purchases of a license that are not over.
    uint256 public constant MAX_PURCHASES = 16;

    /// @notice How many of these others than the licensee may make: nobody can fill up another's license.
    uint256 public constant MAX_GIFTS = 8;

    uint64 private constant PERPETUAL = type(uint64).max;

    /// @dev Purchases `firstOpen` to `nextPurchase - 1` may have a deposit; those before are over. One slot.
    struct LicenseState {
        uint64 expiresAt;
        uint64 grantedUntil;
        uint64 irrevocableFrom;
        uint32 firstOpen;
        uint32 nextPurchase;
    }

    mapping(uint256 tokenId => mapping(address licensee => LicenseState)) private _licenses;

    // --------------------------------------------------------------------------------------- writing

    /// @inheritdoc ILonja
    function purchaseLicense(uint256 tokenId, uint256 offerId, address licensee)
        external
        payable
        override
        nonReentrant
    {
        address seller = _modelOwner(tokenId);
        OfferTerms memory terms = _buyableTerms(tokenId, offerId);
        _collect(terms.currency, terms.price);
        LicenseState storage license = _licenses[tokenId][licensee];
        (uint64 start, uint64 expiresAt) = _extend(license, tokenId, licensee, terms.duration);
        if (terms.price != 0) {
            uint64 end = expiresAt;
            if (expiresAt == PERPETUAL) {
                end = start + VESTING_PERIOD;
                license.irrevocableFrom = end;
            }
            Deposit memory deposit;
            deposit.payer = msg.sender;
            deposit.seller = seller;
            deposit.currency = terms.currency;
            deposit.price = uint128(terms.price); // bounded when it was offered
            deposit.start = start;
            deposit.end = end;
            _open(_key(tokenId, licensee, _takePlace(license, tokenId, licensee)), deposit);
        }
        emit LicensePurchased(tokenId, licensee, msg.sender, offerId, terms.currency, terms.price, expiresAt);
    }

    /// @inheritdoc ILonja
    function grantLicense(uint256 tokenId, address licensee, uint64 duration)
        external
        override
        nonReentrant
        onlyModelOwner(tokenId)
    {
        _checkDuration(duration);
        LicenseState storage license = _licenses[tokenId][licensee];
        (, uint64 expiresAt) = _extend(license, tokenId, licensee, duration);
        license.grantedUntil = expiresAt;
        emit LicenseGranted(tokenId, licensee, expiresAt);
    }

    /// @inheritdoc ILonja
    function revokeLicense(uint256 tokenId, address licensee)
        external
        override
        nonReentrant
        onlyModelOwner(tokenId)
    {
        LicenseState memory license = _licenses[tokenId][licensee];
        if (block.timestamp >= license.expiresAt) revert Errors.Lonja_LicenseNotActive(tokenId, licensee);
        if (license.irrevocableFrom != 0 && block.timestamp >= license.irrevocableFrom) {
            revert Errors.Lonja_LicenseIrrevocable(tokenId, licensee);
        }
        bool paid;
        for (uint32 i = license.firstOpen; i < license.nextPurchase; ++i) {
            bytes32 key = _key(tokenId, licensee, i);
            (address payer, address currency, uint64 end) = _parties(key);
            if (block.timestamp >= end) continue; // earned: the seller settles it
            paid = true;
            emit LicenseRevoked(tokenId, licensee, payer, currency, _refund(key));
        }
        if (!paid) emit LicenseRevoked(tokenId, licensee, address(0), address(0), 0);
        license.expiresAt = uint64(block.timestamp);
        if (license.grantedUntil > license.expiresAt) license.grantedUntil = license.expiresAt;
        license.irrevocableFrom = 0;
        license.firstOpen = license.nextPurchase;
        _licenses[tokenId][licensee] = license;
    }

    // --------------------------------------------------------------------------------------- reading

    /// @inheritdoc ILonja
    function hasValidLicense(address licensee, uint256 tokenId) external view override returns (bool) {
        return block.timestamp < _licenses[tokenId][licensee].expiresAt;
    }

    /// @inheritdoc ILonja
    function licenseOf(address licensee, uint256 tokenId) external view override returns (License memory) {
        LicenseState storage license = _licenses[tokenId][licensee];
        uint64 expiresAt = license.expiresAt;
        return License(expiresAt, license.grantedUntil, block.timestamp < expiresAt, license.irrevocableFrom);
    }

    /// @inheritdoc ILonja
    function purchasesOf(address licensee, uint256 tokenId)
        external
        view
        override
        returns (Purchase[] memory purchases)
    {
        LicenseState storage license = _licenses[tokenId][licensee];
        uint32 first = _firstRunning(license, tokenId, licensee);
        purchases = new Purchase[](license.nextPurchase - first);
        for (uint32 i; i < purchases.length; ++i) {
            Deposit storage deposit = _deposits[_key(tokenId, licensee, first + i)];
            purchases[i] = Purchase({
                payer: deposit.payer,
                seller: deposit.seller,
                currency: deposit.currency,
                price: deposit.price,
                start: deposit.start,
                end: deposit.end,
                refund: deposit.price - _earned(deposit)
            });
        }
    }

    // --------------------------------------------------------------------------------------- private

    /// @dev Adds `duration` (0: for ever) behind the license, or from now on where it is over.
    function _extend(LicenseState storage license, uint256 tokenId, address licensee, uint64 duration)
        private
        returns (uint64 start, uint64 expiresAt)
    {
        if (licensee == address(0)) revert Errors.Lonja_LicenseeZero();
        start = license.expiresAt;
        if (start == PERPETUAL) revert Errors.Lonja_LicensePerpetual(tokenId, licensee);
        if (start < block.timestamp) start = uint64(block.timestamp);
        expiresAt = duration == 0 ? PERPETUAL : start + duration;
        license.expiresAt = expiresAt;
    }

    /// @dev The number of a new purchase, after those that are over have made place.
    function _takePlace(LicenseState storage license, uint256 tokenId, address licensee)
        private
        returns (uint32 number)
    {
        uint32 first = _firstRunning(license, tokenId, licensee);
        number = license.nextPurchase;
        uint256 maximum = msg.sender == licensee ? MAX_PURCHASES : MAX_GIFTS;
        if (number - first >= maximum) revert Errors.Lonja_TooManyPurchases(tokenId, licensee, maximum);
        license.firstOpen = first;
        license.nextPurchase = number + 1;
    }

    /// @dev The first purchase that is not over. They end in their order; a closed deposit has ended at 0.
    function _firstRunning(LicenseState storage license, uint256 tokenId, address licensee)
        private
        view
        returns (uint32 first)
    {
        uint32 next = license.nextPurchase;
        first = license.firstOpen;
        while (first < next && _deposits[_key(tokenId, licensee, first)].end <= block.timestamp) ++first;
    }

    function _parties(bytes32 key) private view returns (address payer, address currency, uint64 end) {
        Deposit storage deposit = _deposits[key];
        return (deposit.payer, deposit.currency, deposit.end);
    }

    function _key(uint256 tokenId, address licensee, uint32 number) private pure returns (bytes32) {
        return keccak256(abi.encode(tokenId, licensee, number));
    }
}
