// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

/// @title A market hall for licenses of models.
/// @notice A publisher registers a model as an ERC-721 token and sells licenses of it; a node serves the
/// model to whoever `hasValidLicense`. Nobody has special rights over the contract: no owner, no upgrade,
/// no fee.
/// @dev Times are Unix seconds of block time. The zero address as a currency is the chain's native coin.
interface ILonja {
    // ----------------------------------------------------------------------------------------- types

    /// @notice What a publisher asks for a license.
    /// @param price In the currency's smallest unit; 0 gives licenses away.
    /// @param currency An ERC-20, or the zero address for the native coin.
    /// @param duration Seconds that one purchase adds; 0 for a perpetual license.
    struct OfferTerms {
        uint256 price;
        address currency;
        uint64 duration;
    }

    /// @notice Terms with the id under which they are bought. An id always means the same terms.
    struct Offer {
        uint256 offerId;
        uint256 price;
        address currency;
        uint64 duration;
    }

    /// @notice A model as it stands now.
    /// @param owner Who owns the token, sells and grants licenses.
    /// @param revision Number of the current metadata, from 1.
    /// @param salesPaused Whether purchases are refused for now.
    /// @param metadataCid CID of the current `metadata.json`.
    struct Model {
        address owner;
        uint64 revision;
        bool salesPaused;
        string metadataCid;
    }

    /// @notice What an account may do with a model.
    /// @param expiresAt First second at which the license no longer holds; `type(uint64).max` for a perpetual
    /// one, 0 for an account that never had one. A revoked license expired when it was revoked.
    /// @param grantedUntil End of the last period that was granted and not bought; 0 if none was.
    /// @param active Whether the license holds in this block.
    /// @param irrevocableFrom From this second on a perpetual license that was paid for cannot be revoked;
    /// 0 where there is none.
    struct License {
        uint64 expiresAt;
        uint64 grantedUntil;
        bool active;
        uint64 irrevocableFrom;
    }

    /// @notice A paid purchase that is not fully earned yet.
    /// @param payer Who paid, and is paid back if the license is revoked.
    /// @param seller Who owned the token at the purchase, and earns the price.
    /// @param currency An ERC-20, or the zero address for the native coin.
    /// @param price What was paid.
    /// @param start When the purchase begins to be earned.
    /// @param end When it is fully earned.
    /// @param refund What a revocation in this block would pay back.
    struct Purchase {
        address payer;
        address seller;
        address currency;
        uint256 price;
        uint64 start;
        uint64 end;
        uint256 refund;
    }

    // ---------------------------------------------------------------------------------------- events

    /// @notice A model was registered; its revision is 1.
    event ModelRegistered(uint256 indexed tokenId, address indexed publisher, string metadataCid);

    /// @notice A model has a new revision.
    event ModelUpdated(uint256 indexed tokenId, uint64 indexed revision, string metadataCid);

    /// @notice These are now all offers of the model; earlier offer ids are void for good.
    event OffersChanged(uint256 indexed tokenId, Offer[] offers);

    /// @notice A license was bought or extended. `buyer` paid; it is a gift where `licensee` is another.
    event LicensePurchased(
        uint256 indexed tokenId,
        address indexed licensee,
        address indexed buyer,
        uint256 offerId,
        address currency,
        uint256 price,
        uint64 expiresAt
    );

    /// @notice A license was granted or extended by the model's owner, free of charge.
    event LicenseGranted(uint256 indexed tokenId, address indexed licensee, uint64 expiresAt);

    /// @notice A license was revoked. One event for each purchase that had not run out; where there is none
    /// (a grant, a free offer), one event with zero `payer`, `currency` and `refund`.
    event LicenseRevoked(
        uint256 indexed tokenId,
        address indexed licensee,
        address indexed payer,
        address currency,
        uint256 refund
    );

    /// @notice The model's owner stopped its sales.
    event SalesPaused(uint256 indexed tokenId);

    /// @notice The model's owner resumed its sales.
    event SalesResumed(uint256 indexed tokenId);

    /// @notice The publisher changed the royalty of resales of the model token (ERC-2981).
    event RoyaltyChanged(uint256 indexed tokenId, address indexed receiver, uint96 basisPoints);

    /// @notice `account` took its earnings and refunds in one currency, to be paid to `to`.
    event Withdrawn(address indexed account, address indexed currency, address indexed to, uint256 amount);

    // ---------------------------------------------------------------------------------------- models

    /// @notice Registers a model: mints its token to the caller, with revision 1.
    /// @param metadataCid CID of its `metadata.json`: 1 to 128 bytes.
    /// @param offers What licenses of it cost; may be empty.
    /// @return tokenId From 1, without gaps.
    function registerModel(string calldata metadataCid, OfferTerms[] calldata offers)
        external
        returns (uint256 tokenId);

    /// @notice Publishes a new revision of the model. Earlier CIDs stay readable, licenses stay valid.
    /// @dev Only the model's owner.
    function updateModel(uint256 tokenId, string calldata metadataCid) external;

    /// @notice Replaces all offers of the model. Earlier offer ids are void for good, so what a buyer signed
    /// can never be filled on other terms.
    /// @dev Only the model's owner. At most `MAX_OFFERS`, of at most `MAX_DURATION` and `type(uint128).max`.
    function setOffers(uint256 tokenId, OfferTerms[] calldata offers) external;

    /// @notice Refuses purchases until they are resumed. Licenses stay valid, and grants possible.
    /// @dev Only the model's owner.
    function pauseSales(uint256 tokenId) external;

    /// @notice Allows purchases again.
    /// @dev Only the model's owner.
    function resumeSales(uint256 tokenId) external;

    /// @notice Sets who receives how much of a resale of the model token (ERC-2981), in 1/100 of a per cent.
    /// The zero receiver and 0 remove it.
    /// @dev Only the publisher, also after the token has gone to another owner.
    function setRoyalty(uint256 tokenId, address receiver, uint96 basisPoints) external;

    /// @notice The model as it stands now. Reverts `Lonja_ModelUnknown`.
    function modelOf(uint256 tokenId) external view returns (Model memory);

    /// @notice Who registered the model. Reverts `Lonja_ModelUnknown`.
    function publisherOf(uint256 tokenId) external view returns (address);

    /// @notice The metadata CID of any revision of the model. Reverts `Lonja_RevisionUnknown`.
    function metadataCidOf(uint256 tokenId, uint64 revision) external view returns (string memory);

    /// @notice The offers that can be bought now. Reverts `Lonja_ModelUnknown`.
    function offersOf(uint256 tokenId) external view returns (Offer[] memory);

    /// @notice How many models were registered; also the last token id.
    function totalModels() external view returns (uint256);

    // -------------------------------------------------------------------------------------- licenses

    /// @notice Buys a license of the model for `licensee`. A license that still runs is extended: the bought
    /// time begins where it ends.
    /// @dev The price is held in escrow and earned linearly over the bought time (`VESTING_PERIOD` for a
    /// perpetual license) by who owns the token now. An account holds at most `MAX_PURCHASES` purchases of a
    /// model that are not over, of which others may fill `MAX_GIFTS`.
    /// @param offerId One of `offersOf(tokenId)`.
    /// @param licensee Who may use the model; need not be the caller.
    function purchaseLicense(uint256 tokenId, uint256 offerId, address licensee) external payable;

    /// @notice Gives `licensee` a license free of charge, or extends the one it has.
    /// @dev Only the model's owner.
    /// @param duration Seconds, at most `MAX_DURATION`; 0 for a perpetual license.
    function grantLicense(uint256 tokenId, address licensee, uint64 duration) external;

    /// @notice Ends a license at once. Whoever paid for time that is not over can withdraw its price, less
    /// the part that is earned.
    /// @dev Only the model's owner. Reverts for a paid perpetual license from `irrevocableFrom` on.
    function revokeLicense(uint256 tokenId, address licensee) external;

    /// @notice Whether `licensee` may use the model in this block. Never reverts.
    function hasValidLicense(address licensee, uint256 tokenId) external view returns (bool);

    /// @notice The license of an account, all zero if it never had one. Never reverts.
    function licenseOf(address licensee, uint256 tokenId) external view returns (License memory);

    /// @notice The paid purchases of a license that are not fully earned, in the order of their time.
    function purchasesOf(address licensee, uint256 tokenId) external view returns (Purchase[] memory);

    // ----------------------------------------------------------------------------------------- money

    /// @notice Pays the caller what it has earned and what is refunded to it in one currency.
    /// @dev Looks through at most `MAX_SETTLED` of the caller's open purchases; where there are more, the next
    /// call goes on. Reverts `Lonja_NothingToWithdraw` where all were looked through and nothing is there.
    function withdraw(address currency) external;

    /// @notice As `withdraw`, paid to `to`: for accounts that cannot receive the currency themselves.
    function withdrawTo(address currency, address to) external;

    /// @notice What `withdraw` would pay `account` in this block.
    function withdrawable(address account, address currency) external view returns (uint256);

    /// @notice How many purchases `account` has sold whose price it has not fully settled.
    function openPurchasesOf(address account, address currency) external view returns (uint256);
}
