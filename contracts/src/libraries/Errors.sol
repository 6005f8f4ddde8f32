// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

/// @title Everything for which the contract of this folder reverts, each prefixed by who owns it.
library Errors {
    // ---------------------------------------------------------------------------------------- models

    /// @notice No such token.
    error Lonja_ModelUnknown(uint256 tokenId);

    /// @notice The model has no such revision.
    error Lonja_RevisionUnknown(uint256 tokenId, uint64 revision);

    /// @notice Only the token's owner may do this.
    error Lonja_NotModelOwner(uint256 tokenId, address caller);

    /// @notice Only who registered the model may do this.
    error Lonja_NotPublisher(uint256 tokenId, address caller);

    /// @notice A metadata CID has 1 to 128 bytes.
    error Lonja_MetadataCidInvalid(uint256 length);

    // ---------------------------------------------------------------------------------------- offers

    /// @notice More offers than a model may have.
    error Lonja_TooManyOffers(uint256 count, uint256 maximum);

    /// @notice A price above 2**128 - 1.
    error Lonja_PriceTooHigh(uint256 price);

    /// @notice A currency is the zero address or an ERC-20 contract.
    error Lonja_CurrencyInvalid(address currency);

    /// @notice A license period above the maximum.
    error Lonja_DurationTooLong(uint64 duration, uint64 maximum);

    /// @notice The offer does not exist, or does no longer.
    error Lonja_OfferUnknown(uint256 tokenId, uint256 offerId);

    // -------------------------------------------------------------------------------------- licenses

    /// @notice The owner has paused sales of this model.
    error Lonja_SalesPaused(uint256 tokenId);

    /// @notice The zero address cannot hold a license.
    error Lonja_LicenseeZero();

    /// @notice The license is perpetual already: nothing can be added to it.
    error Lonja_LicensePerpetual(uint256 tokenId, address licensee);

    /// @notice The license has as many purchases that are not over as this caller may make.
    error Lonja_TooManyPurchases(uint256 tokenId, address licensee, uint256 maximum);

    /// @notice There is no license to revoke.
    error Lonja_LicenseNotActive(uint256 tokenId, address licensee);

    /// @notice A perpetual license that is fully earned can no longer be revoked.
    error Lonja_LicenseIrrevocable(uint256 tokenId, address licensee);

    // ----------------------------------------------------------------------------------------- money

    /// @notice What arrived is not the price: a wrong `msg.value`, or a token that takes a fee or lies.
    error Lonja_PaymentMismatch(uint256 price, uint256 received);

    /// @notice Nothing is earned or refunded in this currency.
    error Lonja_NothingToWithdraw(address account, address currency);

    /// @notice The receiver refused the native coin.
    error Lonja_TransferFailed(address to, uint256 amount);

    /// @notice The token took another amount from the contract than was paid out.
    error Lonja_PayoutMismatch(uint256 amount, uint256 taken);
}
