// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {IERC20} from "@openzeppelin/contracts/token/ERC20/IERC20.sol";
import {SafeERC20} from "@openzeppelin/contracts/token/ERC20/utils/SafeERC20.sol";
import {ReentrancyGuard} from "@openzeppelin/contracts/utils/ReentrancyGuard.sol";
import {ILonja} from "../interfaces/ILonja.sol";
import {Errors} from "../libraries/Errors.sol";

/// @title Money: prices held until they are earned, paid out only when asked for.
/// @dev Each purchase stands for itself: what its seller has been credited, plus what is still held, is its
/// price to the last unit. Its record is closed when it is fully earned and settled, or refunded. A seller's
/// open purchases are a list without order, walked from the end in steps of bounded length.
abstract contract Escrow is ILonja, ReentrancyGuard {
    using SafeERC20 for IERC20;

    /// @notice Most open purchases that one withdrawal looks through.
    uint256 public constant MAX_SETTLED = 64;

    /// @dev `price` is earned linearly from `start` to `end`; `settled` of it has been credited to `seller`.
    struct Deposit {
        address payer;
        uint64 start;
        uint32 position; // in the seller's list of open purchases
        address seller;
        uint64 end;
        address currency;
        uint128 price;
        uint128 settled;
    }

    /// @dev What an account may withdraw of one currency, and the keys of the deposits it still earns from.
    /// Those at `cursor` and above were looked through in the present round; 0 begins a new round.
    struct Account {
        uint256 balance;
        uint256 cursor;
        bytes32[] open;
    }

    mapping(bytes32 key => Deposit deposit) internal _deposits;
    mapping(address account => mapping(address currency => Account)) private _accounts;

    // ---------------------------------------------------------------------------------------- public

    /// @inheritdoc ILonja
    function withdraw(address currency) external override {
        withdrawTo(currency, msg.sender);
    }

    /// @inheritdoc ILonja
    function withdrawTo(address currency, address to) public override nonReentrant {
        Account storage account = _accounts[msg.sender][currency];
        (uint256 first, uint256 end) = _nextStep(account);
        for (uint256 i = end; i > first; --i) {
            _settle(account.open[i - 1]);
        }
        account.cursor = first;
        uint256 amount = account.balance;
        account.balance = 0;
        if (amount != 0) {
            emit Withdrawn(msg.sender, currency, to, amount);
            _pay(currency, to, amount);
        } else if (account.open.length <= MAX_SETTLED) {
            // With more open purchases the next call may find something: this one must count as a step.
            revert Errors.Lonja_NothingToWithdraw(msg.sender, currency);
        }
    }

    /// @inheritdoc ILonja
    function withdrawable(address owner, address currency) external view override returns (uint256 amount) {
        Account storage account = _accounts[owner][currency];
        (uint256 first, uint256 end) = _nextStep(account);
        amount = account.balance;
        for (uint256 i = first; i < end; ++i) {
            Deposit storage deposit = _deposits[account.open[i]];
            amount += _earned(deposit) - deposit.settled;
        }
    }

    /// @inheritdoc ILonja
    function openPurchasesOf(address account, address currency) external view override returns (uint256) {
        return _accounts[account][currency].open.length;
    }

    // -------------------------------------------------------------------------------------- internal

    /// @dev Takes exactly `price` from the caller, or reverts.
    function _collect(address currency, uint256 price) internal {
        bool native = currency == address(0);
        uint256 value = native ? price : 0;
        if (msg.value != value) revert Errors.Lonja_PaymentMismatch(value, msg.value);
        if (native || price == 0) return;
        IERC20 token = IERC20(currency);
        uint256 before = token.balanceOf(address(this));
        token.safeTransferFrom(msg.sender, address(this), price);
        uint256 received = token.balanceOf(address(this)) - before;
        if (received != price) revert Errors.Lonja_PaymentMismatch(price, received);
    }

    /// @dev Opens a deposit, which has been collected.
    function _open(bytes32 key, Deposit memory deposit) internal {
        bytes32[] storage open = _accounts[deposit.seller][deposit.currency].open;
        // 2**32 purchases are out of reach: each costs its buyer more than 100,000 gas.
        deposit.position = uint32(open.length);
        open.push(key);
        _deposits[key] = deposit;
    }

    /// @dev Credits the seller with what is earned, the payer with the rest, and closes the deposit.
    /// @return refund The rest.
    function _refund(bytes32 key) internal returns (uint256 refund) {
        Deposit storage deposit = _deposits[key];
        uint256 earned = _earned(deposit);
        refund = deposit.price - earned;
        _accounts[deposit.seller][deposit.currency].balance += earned - deposit.settled;
        _accounts[deposit.payer][deposit.currency].balance += refund;
        _close(deposit, key);
    }

    /// @dev Rounded down, so that rounding is never at the payer's cost.
    function _earned(Deposit storage deposit) internal view returns (uint256) {
        (uint256 start, uint256 end) = (deposit.start, deposit.end);
        if (block.timestamp >= end) return deposit.price;
        if (block.timestamp <= start) return 0;
        return deposit.price * (block.timestamp - start) / (end - start);
    }

    // --------------------------------------------------------------------------------------- private

    /// @dev The part `first <= i < end` of the open purchases that the next withdrawal looks through: all
    /// where they are few. It goes from the end down, so that closing one, which moves the last into its
    /// place, never hides one that is still to come.
    function _nextStep(Account storage account) private view returns (uint256 first, uint256 end) {
        end = account.open.length;
        if (end <= MAX_SETTLED) return (0, end);
        uint256 cursor = account.cursor;
        if (cursor != 0 && cursor < end) end = cursor;
        first = end > MAX_SETTLED ? end - MAX_SETTLED : 0;
    }

    /// @dev Credits the seller with what was earned since the last time; closes what is fully earned.
    function _settle(bytes32 key) private {
        Deposit storage deposit = _deposits[key];
        uint256 earned = _earned(deposit);
        _accounts[deposit.seller][deposit.currency].balance += earned - deposit.settled;
        if (earned == deposit.price) _close(deposit, key);
        else deposit.settled = uint128(earned); // less than the price, which has 128 bits
    }

    function _close(Deposit storage deposit, bytes32 key) private {
        bytes32[] storage open = _accounts[deposit.seller][deposit.currency].open;
        bytes32 last = open[open.length - 1];
        if (last != key) {
            uint32 position = deposit.position;
            open[position] = last;
            _deposits[last].position = position;
        }
        open.pop();
        delete _deposits[key];
    }

    function _pay(address currency, address to, uint256 amount) private {
        if (currency == address(0)) {
            (bool accepted,) = to.call{value: amount}("");
            if (!accepted) revert Errors.Lonja_TransferFailed(to, amount);
            return;
        }
        IERC20 token = IERC20(currency);
        uint256 before = token.balanceOf(address(this));
        token.safeTransfer(to, amount);
        uint256 taken = before - token.balanceOf(address(this));
        if (taken != amount) revert Errors.Lonja_PayoutMismatch(amount, taken);
    }
}
