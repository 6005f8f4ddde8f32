"""The license contract's artifacts (ABI and bytecode) as package data."""
