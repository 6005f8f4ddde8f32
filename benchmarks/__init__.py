"""Speed and memory, measured where they are run: `make bench` writes docs/benchmarks.md."""

import os

os.environ["ORT_DISABLE_TELEMETRY"] = "1"  # before a peer imports ONNX Runtime
