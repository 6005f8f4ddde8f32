"""The contract's custom errors in words. A test holds the names against the artifact."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

TEXTS: Final[Mapping[str, str]] = {
    "Lonja_CurrencyInvalid": "{currency} is not a contract that could be a currency",
    "Lonja_DurationTooLong": "{duration} s are longer than the {maximum} s that the contract allows",
    "Lonja_LicenseIrrevocable": "this license was paid for in full and can no longer be revoked",
    "Lonja_LicenseNotActive": "{licensee} holds no valid license for token {tokenId}",
    "Lonja_LicensePerpetual": "{licensee} already holds a perpetual license for token {tokenId}",
    "Lonja_LicenseeZero": "the licensee cannot be the zero address",
    "Lonja_MetadataCidInvalid": "a metadata CID of {length} characters is not one",
    "Lonja_ModelUnknown": "there is no model with token id {tokenId}",
    "Lonja_NotModelOwner": "{caller} does not own token {tokenId}",
    "Lonja_NotPublisher": "{caller} did not publish token {tokenId}",
    "Lonja_NothingToWithdraw": "the contract owes {account} nothing in this currency",
    "Lonja_OfferUnknown": "token {tokenId} has no offer {offerId} now; read its offers again",
    "Lonja_PaymentMismatch": "the price is {price}, but {received} was sent",
    "Lonja_PayoutMismatch": "the currency took {taken} where {amount} was to be paid out",
    "Lonja_PriceTooHigh": "a price of {price} is higher than the contract allows",
    "Lonja_RevisionUnknown": "token {tokenId} has no revision {revision}",
    "Lonja_SalesPaused": "the sales of token {tokenId} are paused by its owner",
    "Lonja_TooManyOffers": "{count} offers are more than the {maximum} that a model may have",
    "Lonja_TooManyPurchases": "{licensee} already has {maximum} running purchases of token {tokenId}",
    "Lonja_TransferFailed": "the payment of {amount} to {to} failed",
    "ERC721NonexistentToken": "there is no model with token id {tokenId}",
    "ERC721InsufficientApproval": "{operator} may not transfer token {tokenId}",
    "ERC721IncorrectOwner": "{sender} does not own token {tokenId}",
    "ERC721InvalidReceiver": "{receiver} cannot receive a model token",
    "SafeERC20FailedOperation": "the currency {token} refused the payment: is the balance sufficient?",
    "ReentrancyGuardReentrantCall": "the contract was called back while it was paying",
}


def explain(name: str, arguments: Mapping[str, object]) -> str:
    """The error in words; its name and arguments where there are none for it."""
    try:
        return TEXTS[name].format_map(arguments)
    except (KeyError, IndexError):
        return f"{name}({', '.join(f'{key}={value}' for key, value in arguments.items())})"
