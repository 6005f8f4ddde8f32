// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {ERC721} from "@openzeppelin/contracts/token/ERC721/ERC721.sol";
import {ERC2981} from "@openzeppelin/contracts/token/common/ERC2981.sol";
import {ILonja} from "../interfaces/ILonja.sol";
import {Errors} from "../libraries/Errors.sol";

/// @title Models as tokens: their revisions, offers, pauses and royalties.
abstract contract Catalogue is ILonja, ERC721, ERC2981 {
    /// @notice Most offers a model may have at a time.
    uint256 public constant MAX_OFFERS = 32;

    /// @notice Longest period of one purchase or grant: 100 years.
    uint64 public constant MAX_DURATION = 100 * 365 days;

    /// @dev Most bytes of a metadata CID: a CIDv1 of sha2-512 in base32 takes 111.
    uint256 private constant MAX_CID_BYTES = 128;

    struct ModelState {
        address publisher;
        uint64 revision;
        bool salesPaused;
    }

    /// @dev The offers `firstId`, `firstId + 1`, ... ; replaced as a whole, so that ids never come back.
    struct OfferBook {
        uint256 firstId;
        OfferTerms[] terms;
    }

    /// @inheritdoc ILonja
    uint256 public override totalModels;

    mapping(uint256 tokenId => ModelState state) private _models;
    mapping(uint256 tokenId => mapping(uint64 revision => string cid)) private _metadataCids;
    mapping(uint256 tokenId => OfferBook book) private _books;

    modifier onlyModelOwner(uint256 tokenId) {
        if (_modelOwner(tokenId) != msg.sender) revert Errors.Lonja_NotModelOwner(tokenId, msg.sender);
        _;
    }

    // --------------------------------------------------------------------------------------- writing

    /// @inheritdoc ILonja
    function registerModel(string calldata metadataCid, OfferTerms[] calldata offers)
        external
        override
        returns (uint256 tokenId)
    {
        tokenId = ++totalModels;
        _models[tokenId].publisher = msg.sender;
        _books[tokenId].firstId = 1;
        // Not _safeMint: the caller asks for the token itself, and a smart account need not know ERC-721.
        _mint(msg.sender, tokenId);
        _addRevision(tokenId, metadataCid);
        emit ModelRegistered(tokenId, msg.sender, metadataCid);
        _replaceOffers(tokenId, offers);
    }

    /// @inheritdoc ILonja
    function updateModel(uint256 tokenId, string calldata metadataCid)
        external
        override
        onlyModelOwner(tokenId)
    {
        emit ModelUpdated(tokenId, _addRevision(tokenId, metadataCid), metadataCid);
    }

    /// @inheritdoc ILonja
    function setOffers(uint256 tokenId, OfferTerms[] calldata offers)
        external
        override
        onlyModelOwner(tokenId)
    {
        _replaceOffers(tokenId, offers);
    }

    /// @inheritdoc ILonja
    function pauseSales(uint256 tokenId) external override onlyModelOwner(tokenId) {
        _models[tokenId].salesPaused = true;
        emit SalesPaused(tokenId);
    }

    /// @inheritdoc ILonja
    function resumeSales(uint256 tokenId) external override onlyModelOwner(tokenId) {
        _models[tokenId].salesPaused = false;
        emit SalesResumed(tokenId);
    }

    /// @inheritdoc ILonja
    function setRoyalty(uint256 tokenId, address receiver, uint96 basisPoints) external override {
        if (publisherOf(tokenId) != msg.sender) revert Errors.Lonja_NotPublisher(tokenId, msg.sender);
        if (receiver == address(0) && basisPoints == 0) _resetTokenRoyalty(tokenId);
        else _setTokenRoyalty(tokenId, receiver, basisPoints);
        emit RoyaltyChanged(tokenId, receiver, basisPoints);
    }

    // --------------------------------------------------------------------------------------- reading

    /// @inheritdoc ILonja
    function modelOf(uint256 tokenId) external view override returns (Model memory) {
        address owner = _modelOwner(tokenId);
        ModelState storage state = _models[tokenId];
        return Model(owner, state.revision, state.salesPaused, _metadataCids[tokenId][state.revision]);
    }

    /// @inheritdoc ILonja
    function publisherOf(uint256 tokenId) public view override returns (address) {
        _modelOwner(tokenId);
        return _models[tokenId].publisher;
    }

    /// @inheritdoc ILonja
    function metadataCidOf(uint256 tokenId, uint64 revision) external view override returns (string memory) {
        if (revision == 0 || revision > _models[tokenId].revision) {
            revert Errors.Lonja_RevisionUnknown(tokenId, revision);
        }
        return _metadataCids[tokenId][revision];
    }

    /// @inheritdoc ILonja
    function offersOf(uint256 tokenId) external view override returns (Offer[] memory offers) {
        _modelOwner(tokenId);
        OfferBook storage book = _books[tokenId];
        offers = new Offer[](book.terms.length);
        for (uint256 i; i < offers.length; ++i) {
            OfferTerms storage terms = book.terms[i];
            offers[i] = Offer(book.firstId + i, terms.price, terms.currency, terms.duration);
        }
    }

    /// @notice `ipfs://` and the CID of the current metadata, which is ERC-721 metadata as well.
    function tokenURI(uint256 tokenId) public view override returns (string memory) {
        _modelOwner(tokenId);
        return string.concat("ipfs://", _metadataCids[tokenId][_models[tokenId].revision]);
    }

    /// @inheritdoc ERC721
    function supportsInterface(bytes4 interfaceId) public view override(ERC721, ERC2981) returns (bool) {
        return interfaceId == type(ILonja).interfaceId || super.supportsInterface(interfaceId);
    }

    // -------------------------------------------------------------------------------------- internal

    /// @dev The token's owner; reverts where there is no such token.
    function _modelOwner(uint256 tokenId) internal view returns (address owner) {
        owner = _ownerOf(tokenId);
        if (owner == address(0)) revert Errors.Lonja_ModelUnknown(tokenId);
    }

    /// @dev The terms of an offer that can be bought now.
    function _buyableTerms(uint256 tokenId, uint256 offerId) internal view returns (OfferTerms memory) {
        if (_models[tokenId].salesPaused) revert Errors.Lonja_SalesPaused(tokenId);
        OfferBook storage book = _books[tokenId];
        if (offerId < book.firstId || offerId - book.firstId >= book.terms.length) {
            revert Errors.Lonja_OfferUnknown(tokenId, offerId);
        }
        return book.terms[offerId - book.firstId];
    }

    function _addRevision(uint256 tokenId, string calldata metadataCid) private returns (uint64 revision) {
        uint256 length = bytes(metadataCid).length;
        if (length == 0 || length > MAX_CID_BYTES) revert Errors.Lonja_MetadataCidInvalid(length);
        revision = ++_models[tokenId].revision;
        _metadataCids[tokenId][revision] = metadataCid;
    }

    function _replaceOffers(uint256 tokenId, OfferTerms[] calldata offers) private {
        if (offers.length > MAX_OFFERS) revert Errors.Lonja_TooManyOffers(offers.length, MAX_OFFERS);
        OfferBook storage book = _books[tokenId];
        uint256 firstId = book.firstId + book.terms.length;
        book.firstId = firstId;
        delete book.terms;
        Offer[] memory listed = new Offer[](offers.length);
        for (uint256 i; i < offers.length; ++i) {
            OfferTerms calldata terms = offers[i];
            _checkTerms(terms);
            book.terms.push(terms);
            listed[i] = Offer(firstId + i, terms.price, terms.currency, terms.duration);
        }
        emit OffersChanged(tokenId, listed);
    }

    function _checkTerms(OfferTerms calldata terms) private view {
        if (terms.price > type(uint128).max) revert Errors.Lonja_PriceTooHigh(terms.price);
        if (terms.currency != address(0) && terms.currency.code.length == 0) {
            revert Errors.Lonja_CurrencyInvalid(terms.currency);
        }
        _checkDuration(terms.duration);
    }

    /// @dev With this bound no sum of block time and periods comes near `type(uint64).max`.
    function _checkDuration(uint64 duration) internal pure {
        if (duration > MAX_DURATION) revert Errors.Lonja_DurationTooLong(duration, MAX_DURATION);
    }
}
