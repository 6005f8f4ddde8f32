"""The same network as a custom runtime of MLServer, without its parallel workers.

python -m benchmarks.peers.mlserver_numpy FOLDER PORT    (WEIGHTS names the raw file)
"""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

import numpy as np
from mlserver import MLModel
from mlserver.codecs import NumpyCodec
from mlserver.types import InferenceRequest, InferenceResponse

INPUTS, HIDDEN, CLASSES = 16, 64, 10


class Network(MLModel):
    async def load(self) -> bool:
        values = np.fromfile(os.environ["WEIGHTS"], "<f4")
        parts = np.split(values, np.cumsum([HIDDEN * INPUTS, HIDDEN, CLASSES * HIDDEN]))
        self.w1, self.b1, self.w2, self.b2 = parts
        self.w1, self.w2 = self.w1.reshape(HIDDEN, INPUTS), self.w2.reshape(CLASSES, HIDDEN)
        return True

    async def predict(self, payload: InferenceRequest) -> InferenceResponse:
        rows = NumpyCodec.decode_input(payload.inputs[0])
        logits = np.maximum(rows @ self.w1.T + self.b1, 0) @ self.w2.T + self.b2
        scores = np.exp(logits - logits.max(axis=1, keepdims=True))
        scores /= scores.sum(axis=1, keepdims=True)
        return InferenceResponse(
            model_name=self.name, outputs=[NumpyCodec.encode_output(name="scores", payload=scores)]
        )


def main(folder: Path, port: int) -> None:
    """Write the settings that MLServer reads and become its server."""
    settings = {
        "http_port": port,
        "grpc_port": port + 1,
        "metrics_port": port + 2,
        "parallel_workers": 0,
        "debug": False,
        "host": "127.0.0.1",
        "metrics_endpoint": None,
    }
    (folder / "settings.json").write_text(json.dumps(settings))
    model = {"name": "small", "implementation": "benchmarks.peers.mlserver_numpy.Network"}
    (folder / "model-settings.json").write_text(json.dumps(model))
    os.execv(sys.executable, [sys.executable, "-m", "mlserver.cli.main", "start", str(folder)])


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]))
