"""What can be wrong with what training is given. Texts say what was wrong and what to do.

TrainingError(ValueError)
├── DataInvalid        a table that cannot be learned from; names row and column where there is one
├── PlanInvalid        a network, loss or setting that does not fit the data or itself
└── CheckpointInvalid  a file that does not continue this training
"""

from __future__ import annotations


class TrainingError(ValueError):
    """Base of all errors that training raises on purpose."""


class DataInvalid(TrainingError):
    """The data cannot be learned from."""


class PlanInvalid(TrainingError):
    """The network, loss or a setting does not fit the data or itself."""


class CheckpointInvalid(TrainingError):
    """The file is no checkpoint, or one of another training."""
