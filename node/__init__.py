"""The Lonja node: license on chain, model by CID, three-slot LRU, prediction."""
