"""aiohttp and ONNX Runtime in one process: no validation, no license, no metrics.

python -m benchmarks.peers.bare_aiohttp MODEL.onnx PORT
"""

from __future__ import annotations

import sys

import numpy as np
import onnxruntime as ort
import orjson
import uvloop
from aiohttp import web


def main(model: str, port: int) -> None:
    options = ort.SessionOptions()
    options.intra_op_num_threads = 1
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    session = ort.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    name, output = session.get_inputs()[0].name, [session.get_outputs()[0].name]

    async def infer(request: web.Request) -> web.Response:
        rows = np.asarray(orjson.loads(await request.read())["input_data"]["content"], dtype=np.float32)
        logits = session.run(output, {name: rows.reshape(1, -1)})[0]
        return web.Response(
            body=orjson.dumps({"predictions": logits[0].tolist()}), content_type="application/json"
        )

    app = web.Application()
    app.router.add_post("/api/inference/execute", infer)
    uvloop.install()
    web.run_app(app, host="127.0.0.1", port=port, print=None, access_log=None)


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]))
