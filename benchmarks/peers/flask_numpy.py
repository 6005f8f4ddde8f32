"""Flask and NumPy under gunicorn: no validation, no license, no metrics.

WEIGHTS=weights.bin gunicorn benchmarks.peers.flask_numpy:app
"""

from __future__ import annotations

import os

import numpy as np
from flask import Flask, jsonify, request

INPUTS, HIDDEN, CLASSES = 16, 64, 10
LABELS = [f"class {i}" for i in range(CLASSES)]

app = Flask(__name__)
_all = np.fromfile(os.environ["WEIGHTS"], "<f4")
W1, B1, W2, B2 = np.split(_all, np.cumsum([HIDDEN * INPUTS, HIDDEN, CLASSES * HIDDEN]))
W1, W2 = W1.reshape(HIDDEN, INPUTS), W2.reshape(CLASSES, HIDDEN)


@app.post("/api/inference/execute")
def execute():
    x = np.asarray(request.get_json()["input_data"]["content"], np.float32)
    logits = W2 @ np.maximum(W1 @ x + B1, 0) + B2
    scores = np.exp(logits - logits.max())
    scores /= scores.sum()
    best = np.argsort(-scores)[:3]
    return jsonify(
        success=True,
        predictions=[
            {"class": LABELS[i], "confidence": float(scores[i]), "class_id": int(i)} for i in best.tolist()
        ],
    )
