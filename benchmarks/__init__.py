"""Speed and memory, measured where they are run: `make bench` writes docs/benchmarks.md."""
