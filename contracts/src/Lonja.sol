// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {ERC721} from "@openzeppelin/contracts/token/ERC721/ERC721.sol";
import {Licenses} from "./abstracts/Licenses.sol";

/// @title Lonja: models as tokens, licenses of them as time.
/// @notice See `interfaces/ILonja.sol` for what each function does.
contract Lonja is Licenses {
    constructor() ERC721("Lonja Model", "LONJA") {}
}
