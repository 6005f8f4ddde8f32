"""What calls of the SDK return: the node's JSON as frozen values. Members that are new are ignored."""

from __future__ import annotations

from typing import Any

import msgspec

PERPETUAL = 2**64 - 1
"""`expires_at` of a license that never runs out, as the contract writes it."""


class Prediction(msgspec.Struct, frozen=True):
    """One class that a classifier thinks of."""

    label: str = msgspec.field(name="class")
    confidence: float = 0.0
    class_id: int = -1


class Metrics(msgspec.Struct, frozen=True):
    """Milliseconds that the node spent."""

    inference_time_ms: float = 0.0
    preprocessing_time_ms: float = 0.0
    postprocessing_time_ms: float = 0.0
    total_time_ms: float = 0.0


class Origin(msgspec.Struct, frozen=True):
    """Which model answered, exactly; `entropy` is in nats."""

    token_id: str = ""
    revision: int = 0
    manifest_cid: str = ""
    entropy: float | list[float] | None = None


class Inference(msgspec.Struct, frozen=True):
    """The answer to `infer`."""

    success: bool
    model_id: str
    predictions: Any
    """The node's JSON: for classification a list of {"class", "confidence", "class_id"}, best first."""
    metrics: Metrics = Metrics()
    metadata: Origin = Origin()

    @property
    def classes(self) -> list[Prediction]:
        """The predictions of a classifier, typed. Raises `TypeError` for another task's."""
        try:
            return msgspec.convert(self.predictions, list[Prediction])
        except msgspec.ValidationError as error:
            raise TypeError(f"these predictions are not one classification: {error}") from None

    @property
    def top(self) -> Prediction:
        """The likeliest class. Raises `TypeError` like `classes`, `IndexError` when there is none."""
        return self.classes[0]


class Offer(msgspec.Struct, frozen=True):
    """Terms of a license: price in the currency's smallest unit, duration in seconds (0 = perpetual)."""

    offer_id: int
    price: int
    currency: str
    duration: int


class Weights(msgspec.Struct, frozen=True):
    cid: str
    bytes: int


class Model(msgspec.Struct, frozen=True):
    """A model as the node's catalogue lists it; `offers` and `inputs` only where one model was asked for."""

    id: str
    model_id: str
    token_id: str
    revision: int
    manifest_cid: str
    owner: str
    name: str = ""
    description: str = ""
    model_type: str = ""
    weights: Weights | None = None
    offers: list[Offer] | None = None
    resident: bool | None = None
    inputs: Any = None


class ModelPage(msgspec.Struct, frozen=True):
    models: list[Model]
    total: int
    offset: int = 0
    limit: int = 0


class Slots(msgspec.Struct, frozen=True):
    """Models in memory, least recently used first."""

    current_size: int
    max_size: int
    models_in_cache: list[str]


class LoadedModel(msgspec.Struct, frozen=True):
    model_id: str
    message: str
    load_time_ms: float
    slots: Slots = msgspec.field(name="cacheStatus")


class LicenseStatus(msgspec.Struct, frozen=True):
    """A license as the contract has it. `expires_at` is Unix seconds, None when it is perpetual."""

    token_id: str
    licensee: str
    valid: bool
    perpetual: bool = False
    expires_at: int | None = None


class Purchase(msgspec.Struct, frozen=True):
    """A license that was bought: the transaction, and until when it runs.

    Attributes
    ----------
    node_agrees : whether the client's node honours it already; None where no node was named, the license is
        somebody else's, or the node does not serve the model.
    node_says : why not, in the node's words.
    """

    token_id: int
    offer_id: int
    licensee: str
    price: int
    expires_at: int | None
    tx: str
    node_agrees: bool | None = None
    node_says: str | None = None


class Published(msgspec.Struct, frozen=True, rename="camel"):
    """A model that was published. `tx` is None when nothing was registered on chain (`--to FILE.car`)."""

    token_id: int | None
    metadata_cid: str
    weights_cid: str
    tx: str | None
