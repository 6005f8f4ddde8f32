"""What anybody may ask of the models here, and what a caller may ask of their own license."""

from __future__ import annotations

from dataclasses import dataclass

import msgspec

from node.chain.licenses import Licenses
from node.chain.registry import Registry
from node.flows.load_model import Resident
from node.flows.sync_catalogue import SyncCatalogue
from node.models.catalogue import Catalogue
from node.models.slots import Slots
from node.types import Address, CatalogueEntry, License, Offer


class Page(msgspec.Struct, frozen=True):
    items: list[CatalogueEntry]
    total: int


class ModelDetail(msgspec.Struct, frozen=True):
    """One model with the terms of its licenses; `inputs` are known while it is resident."""

    entry: CatalogueEntry
    offers: list[Offer]
    resident: bool
    inputs: list[dict[str, object]] | None


class ModelFormats(msgspec.Struct, frozen=True):
    """The inputs that one model takes, as its manifest and its graph say."""

    model_id: str
    key: str
    inputs: list[dict[str, object]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Browse:
    """Parameters are the parts it uses."""

    catalogue: Catalogue
    models_known: SyncCatalogue
    registry: Registry
    licenses: Licenses
    slots: Slots[Resident]

    async def models(self, *, search: str | None, owner: Address | None, offset: int, limit: int) -> Page:
        """Served models in the order of their tokens."""
        return Page(*self.catalogue.page(search=search, owner=owner, offset=offset, limit=limit))

    async def model(self, name: str) -> ModelDetail:
        """Raises `ModelNotFound`, `ModelAmbiguous`, `ChainUnavailable`."""
        entry = await self.models_known.find(name)
        offers = await self.registry.offers(entry.key.token_id)
        slot = next((slot for slot in self.slots.resident() if slot.key == entry.key), None)
        return ModelDetail(
            entry, offers, slot is not None, slot.resident.worker.report.inputs if slot else None
        )

    async def license(self, name: str, licensee: Address) -> License:
        """Raises `LicenseMissing`, `LicenseExpired`, `ChainUnavailable` and as `model` does."""
        entry = await self.models_known.find(name)
        return await self.licenses.require(licensee, entry.key.token_id)

    def resident_formats(self) -> list[ModelFormats]:
        return [
            ModelFormats(slot.resident.entry.model_id, str(slot.key), slot.resident.worker.report.inputs)
            for slot in self.slots.resident()
        ]
