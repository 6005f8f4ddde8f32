"""The configuration of `lonja train`: TOML to checked structs; unknown members are errors that name them."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta

from bare_models.layers import MAX_LAYERS
from training.errors import PlanInvalid
from training.initializers import Initializer
from training.layers import Activate, AnyLayer, BatchNorm, Dense, Dropout
from training.losses import BinaryCrossEntropy, CrossEntropy, Huber, Loss, MeanSquaredError
from training.ops import Array
from training.optimizers import Adam, AdamW, Optimizer, RmsProp, Sgd
from training.schedules import Schedule, Shape
from training.settings import Settings
from training.tables import Table, TaskName

Count = Annotated[int, Meta(ge=1)]
Width = Annotated[int, Meta(ge=1, le=2**24)]  # as a bare model's
Widths = Annotated[list[Width], Meta(max_length=MAX_LAYERS - 1)]
Positive = Annotated[float, Meta(gt=0)]
Share = Annotated[float, Meta(ge=0, lt=1)]
HiddenActivation = Literal["identity", "relu", "leaky_relu", "gelu", "tanh", "sigmoid"]


class Data(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """`[data]`: what is learned from. `file` is taken from the configuration's folder."""

    file: str
    target: Annotated[str, Meta(min_length=1)]
    task: TaskName | None = None
    validation: Share = 0.2
    scale: Literal["standard", "none"] = "standard"


class Net(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """`[network]`: hidden layers; the output layer follows from the target."""

    hidden: Widths = msgspec.field(default_factory=lambda: [64, 32])
    activation: HiddenActivation = "relu"
    initializer: Initializer | None = None
    batch_norm: bool = False
    dropout: Share = 0.0


class Training(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """`[training]`. `rate` left out is the optimizer's own: sgd 0.01, the others 0.001."""

    epochs: Count = 100
    batch: Count = 64
    loss: Literal["cross_entropy", "binary_cross_entropy", "mse", "huber"] | None = None
    class_weight: Literal["none", "balanced"] = "none"
    optimizer: Literal["sgd", "adam", "adamw", "rmsprop"] = "adam"
    rate: Positive | None = None
    momentum: Share | None = None
    weight_decay: Annotated[float, Meta(ge=0)] | None = None
    schedule: Shape = "constant"
    warmup: Share = 0.0
    clip_norm: Positive | None = None
    patience: Annotated[int, Meta(ge=0)] = 20
    min_delta: Annotated[float, Meta(ge=0)] = 0.0
    stats_every: Count = 10
    seed: Annotated[int, Meta(ge=0)] = 0


class Output(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """`[output]`: where the files go and what the manifest says."""

    folder: Annotated[str, Meta(min_length=1)] | None = None
    name: Annotated[str, Meta(min_length=1, max_length=256)] | None = None
    model_id: Annotated[str, Meta(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$(?!\n)")] | None = None
    description: Annotated[str, Meta(max_length=65536)] = ""


class Config(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """The whole file."""

    data: Data
    network: Net = msgspec.field(default_factory=Net)
    training: Training = msgspec.field(default_factory=Training)
    output: Output = msgspec.field(default_factory=Output)


def read(path: Path) -> Config:
    """Read a file; `data.file` becomes a path as it is seen from here. Raises `PlanInvalid`."""
    try:
        members = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise PlanInvalid(f"{path}: {error.strerror or error}") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise PlanInvalid(f"{path} is not TOML: {error}") from None
    config = convert(members, name=str(path))
    file = str(path.parent / config.data.file)
    return msgspec.structs.replace(config, data=msgspec.structs.replace(config.data, file=file))


def convert(members: Mapping[str, Any], *, name: str) -> Config:
    """Check plain members. Raises `PlanInvalid` naming the member."""
    try:
        return msgspec.convert(members, Config)
    except msgspec.ValidationError as error:
        raise PlanInvalid(f"{name}: {error}") from None


def layers(config: Config, table: Table) -> list[AnyLayer]:
    """The network's layers: batch-norm stands between a dense layer and its activation."""
    net, made = config.network, list[AnyLayer]()
    for width in net.hidden:
        if net.batch_norm:
            made += [Dense(width, initializer=net.initializer or "he"), BatchNorm(), Activate(net.activation)]
        else:
            made.append(Dense(width, net.activation, initializer=net.initializer))
        if net.dropout:
            made.append(Dropout(net.dropout))
    single = config.training.loss == "binary_cross_entropy"
    return [*made, Dense(1 if single else len(table.classes) or 1)]


def loss(config: Config, table: Table, targets: Array) -> Loss:
    """The loss that fits the target, or the one that is asked for. Raises `PlanInvalid`."""
    asked, balanced = config.training.loss, config.training.class_weight == "balanced"
    if table.task == "classification":
        count = len(table.classes)
        weights = _balanced(targets, count) if balanced else None
        if asked in {None, "cross_entropy"}:
            return CrossEntropy(weights)
        if asked != "binary_cross_entropy":
            raise PlanInvalid(
                f"loss {asked!r} is for numbers; {table.target!r} has classes: leave `loss` out"
            )
        if count != 2:
            raise PlanInvalid(
                f"binary_cross_entropy is for two classes; {table.target!r} has {count}: leave `loss` out"
            )
        return BinaryCrossEntropy(None if weights is None else (weights[0], weights[1]))
    if asked in {"cross_entropy", "binary_cross_entropy"} or balanced:
        what = "class_weight" if balanced else asked
        raise PlanInvalid(
            f"{what} is for classes; {table.target!r} is a number (or say task = 'classification')"
        )
    return Huber() if asked == "huber" else MeanSquaredError()


def settings(config: Config, *, checkpoint: Path | None, validated: bool) -> Settings:
    """The trainer's settings. Without validation rows there is no early stopping."""
    asked = config.training
    return Settings(
        epochs=asked.epochs,
        batch=asked.batch,
        optimizer=optimizer(asked),
        schedule=Schedule(asked.schedule, warmup=asked.warmup),
        clip_norm=asked.clip_norm,
        patience=asked.patience or None if validated else None,
        min_delta=asked.min_delta,
        stats_every=asked.stats_every,
        seed=asked.seed,
        checkpoint=checkpoint,
    )


def optimizer(asked: Training) -> Optimizer:
    """The optimizer with what was said of it; the rest is its own. Raises `PlanInvalid`."""
    given = {
        name: value
        for name in ("rate", "momentum", "weight_decay")
        if (value := getattr(asked, name)) is not None
    }
    if "momentum" in given and asked.optimizer != "sgd":
        raise PlanInvalid(f"momentum is for sgd; {asked.optimizer} has its own: leave it out")
    kinds: dict[str, type[Optimizer]] = {"sgd": Sgd, "adam": Adam, "adamw": AdamW, "rmsprop": RmsProp}
    return kinds[asked.optimizer](**given)


def _balanced(targets: Array, classes: int) -> tuple[float, ...]:
    """Weights that make every class count alike, their mean over the rows 1."""
    counts = [int((targets == label).sum()) for label in range(classes)]
    return tuple(len(targets) / (classes * count) for count in counts)
