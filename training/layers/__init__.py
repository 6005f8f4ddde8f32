"""Layers: one a file, each with its shapes, its first values, its forward pass and its backprop."""

from __future__ import annotations

from typing import TypeAlias

from training.layers.activation import Activate
from training.layers.base import Bound, Layer, Slot
from training.layers.batch_norm import BatchNorm
from training.layers.dense import Dense
from training.layers.dropout import Dropout

AnyLayer: TypeAlias = Dense | Activate | BatchNorm | Dropout

__all__ = ["Activate", "AnyLayer", "BatchNorm", "Bound", "Dense", "Dropout", "Layer", "Slot"]
