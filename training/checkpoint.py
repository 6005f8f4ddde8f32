"""Checkpoints: all that a training needs to go on to the same bits, in one file that is replaced atomically.

Enters: a trainer at the end of an epoch. Leaves: a NumPy `.npz` with the arrays (parameters, state, optimizer
memory, best network so far) and one JSON text (position, random generators, statistics, fingerprint).
Nothing in it is executed when it is read: pickles are refused.
"""

from __future__ import annotations

import hashlib
import json
import os
import zipfile
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import msgspec
import numpy as np

from training.errors import CheckpointInvalid
from training.stats import TrainingStats

if TYPE_CHECKING:
    from training.ops import Array
    from training.trainer import Trainer

VERSION: Final = 1


class _Position(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """What is not an array."""

    version: int
    fingerprint: dict[str, str]
    epoch: int
    step: int
    stale: int
    best_loss: float | None
    random: str
    stats: TrainingStats


def save(trainer: Trainer, path: Path) -> None:
    """Write beside `path`, then put in its place: a crash leaves the checkpoint before."""
    position = _Position(
        version=VERSION,
        fingerprint=_fingerprint(trainer),
        epoch=trainer.epoch,
        step=trainer.step,
        stale=trainer.stale,
        best_loss=None if trainer.stats.best_epoch is None else trainer.best_loss,
        # generator states are integers of 128 bits, which only the standard library's JSON keeps
        random=json.dumps([trainer.batches.rng.bit_generator.state, trainer.network.rng.bit_generator.state]),
        stats=trainer.stats,
    )
    path.parent.mkdir(parents=True, exist_ok=True)
    beside = path.with_name(path.name + ".part")
    with beside.open("wb") as file:
        np.savez(
            file,
            allow_pickle=False,
            position=np.frombuffer(msgspec.json.encode(position), np.uint8),
            **_arrays(trainer),
        )
        file.flush()
        os.fsync(file.fileno())
    beside.replace(path)


def restore(trainer: Trainer, path: Path) -> None:
    """Put a trainer where the checkpoint was made. Raises `CheckpointInvalid`."""
    position, arrays = _read(path)
    ours = _fingerprint(trainer)
    if changed := [name for name in ours if position.fingerprint.get(name) != ours[name]]:
        raise CheckpointInvalid(
            f"{path} is a checkpoint of another training; changed since: {', '.join(changed)}. "
            "Train with what it was made with, or begin anew without resuming"
        )
    for name, target in _arrays(trainer).items():
        if name not in arrays or arrays[name].shape != target.shape or arrays[name].dtype != target.dtype:
            raise CheckpointInvalid(f"{path} does not hold {name} as this network has it")
        np.copyto(target, arrays[name])
    order, network = json.loads(position.random)
    trainer.batches.rng.bit_generator.state = order
    trainer.network.rng.bit_generator.state = network
    trainer.epoch, trainer.step, trainer.stale = position.epoch, position.step, position.stale
    if position.best_loss is not None:
        trainer.best_loss = position.best_loss
    trainer.continue_with(position.stats)


def _read(path: Path) -> tuple[_Position, dict[str, Array]]:
    try:
        # opened here: np.load leaves a damaged file open
        with path.open("rb") as raw:
            file = np.load(raw, allow_pickle=False)
            arrays: dict[str, Array] = {name: file[name] for name in file.files}
        position = msgspec.json.decode(arrays.pop("position").tobytes(), type=_Position)
    except FileNotFoundError:
        raise CheckpointInvalid(f"there is no checkpoint {path}: train once without resuming") from None
    except (
        OSError,
        AttributeError,
        ValueError,
        KeyError,
        EOFError,
        zipfile.BadZipFile,
        msgspec.MsgspecError,
    ) as error:
        raise CheckpointInvalid(
            f"{path} is not a checkpoint, or a damaged one ({error}): begin anew without resuming"
        ) from None
    if position.version != VERSION:
        raise CheckpointInvalid(f"{path} is of version {position.version}; this is version {VERSION}")
    return position, arrays


def _arrays(trainer: Trainer) -> dict[str, Array]:
    network = trainer.network
    memory = {f"memory_{i}": array for i, array in enumerate(trainer.optimizer.memory)}
    best = {"best_values": trainer.best[0], "best_state": trainer.best[1]}
    return {"values": network.values, "state": network.state, **best, **memory}


def _fingerprint(trainer: Trainer) -> dict[str, str]:
    """What must be the same for a training to go on as if it had not stopped.

    More epochs may be asked for, unless the schedule's shape depends on their number.
    """
    settings = trainer.settings
    plain = settings.schedule.shape == "constant" and not settings.schedule.warmup
    told: dict[str, Any] = {
        "layers": [trainer.network.inputs, trainer.network.dtype.name, *map(repr, trainer.network.layers)],
        "loss": repr(trainer.loss),
        "optimizer": repr(settings.optimizer),
        "schedule": repr(settings.schedule),
        "epochs (its schedule depends on them)": None if plain else settings.epochs,
        "batch": settings.batch,
        "settings": [settings.clip_norm, settings.min_delta, settings.stats_every, settings.seed],
    }
    marks = {name: _digest(json.dumps(value).encode()) for name, value in told.items()}
    rows = [trainer.train] if trainer.validation is None else [trainer.train, trainer.validation]
    marks["data"] = _digest(
        *(np.ascontiguousarray(part).data for each in rows for part in (each.x, each.targets))
    )
    return marks


def _digest(*parts: bytes | memoryview) -> str:
    digest = hashlib.blake2b(digest_size=16)
    for part in parts:
        digest.update(part)
    return digest.hexdigest()
