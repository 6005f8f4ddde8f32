"""Bare models: dense networks as numbers in a file, without a graph.

`layers` says what a network is, `container` and `raw` how its numbers lie in a file, `reader` brings
them into memory, `network` runs them, `writer` writes them, `from_onnx` and `to_onnx` convert.
docs/bare-format.md describes the format byte by byte. `layers`, `container` and `reader` do not import
NumPy: the main process checks manifests with them.
"""
