// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {ERC20} from "@openzeppelin/contracts/token/ERC20/ERC20.sol";

/// @title ERC-20s that do something else than they are asked to.
abstract contract MintableToken is ERC20("Hostile", "HST") {
    function mint(address to, uint256 amount) external {
        _mint(to, amount);
    }
}

/// @title Takes one per cent of each transfer from what arrives.
contract FeeToken is MintableToken {
    function _update(address from, address to, uint256 amount) internal override {
        super._update(from, to, amount);
        if (from != address(0) && to != address(0)) super._update(to, address(0), amount / 100);
    }
}

/// @title Gives more than was asked for, as if by a rebase in the middle of the transfer.
contract BonusToken is MintableToken {
    function _update(address from, address to, uint256 amount) internal override {
        super._update(from, to, amount);
        if (from != address(0)) super._update(address(0), to, 1);
    }
}

/// @title Says that it has transferred, and has not.
contract LyingToken is MintableToken {
    function transferFrom(address, address, uint256) public pure override returns (bool) {
        return true;
    }
}

/// @title Says that it has not transferred, instead of reverting.
contract FalseToken is MintableToken {
    function transferFrom(address, address, uint256) public pure override returns (bool) {
        return false;
    }
}

/// @title Takes one unit more from the sender when it is told to.
contract GreedyToken is MintableToken {
    bool public greedy;

    function setGreedy() external {
        greedy = true;
    }

    function transfer(address to, uint256 amount) public override returns (bool) {
        if (greedy) _burn(msg.sender, 1);
        return super.transfer(to, amount);
    }
}

/// @title Returns nothing from its transfers, as some old tokens of great value do.
contract SilentToken {
    mapping(address account => uint256 amount) public balanceOf;

    function mint(address to, uint256 amount) external {
        balanceOf[to] += amount;
    }

    function transfer(address to, uint256 amount) external {
        balanceOf[msg.sender] -= amount;
        balanceOf[to] += amount;
    }

    function transferFrom(address from, address to, uint256 amount) external {
        balanceOf[from] -= amount;
        balanceOf[to] += amount;
    }
}

/// @title Calls whom it is told to in the middle of each transfer, and keeps what became of it.
contract HookToken is MintableToken {
    address public target;
    bytes public data;
    bool public accepted;
    bytes public answer;
    bytes public probe;
    bytes public seen;

    /// @param probe_ A view of the target that is read in the middle of the transfer.
    function setHook(address target_, bytes calldata data_, bytes calldata probe_) external {
        (target, data, probe) = (target_, data_, probe_);
    }

    function _update(address from, address to, uint256 amount) internal override {
        super._update(from, to, amount);
        if (target == address(0) || from == address(0)) return;
        (accepted, answer) = target.call(data);
        (, seen) = target.staticcall(probe);
    }
}
