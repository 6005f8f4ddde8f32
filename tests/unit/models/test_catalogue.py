from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Iterator
from pathlib import Path

import msgspec
import pytest

from node.cid import RAW, Cid
from node.errors import ModelAmbiguous, ModelNotFound, SettingsInvalid, StartupError
from node.models.catalogue import Catalogue, KnownModel
from node.models.policy import ServePolicy
from node.types import Address, CatalogueEntry, ContractRef, TokenId

CONTRACT = ContractRef(43113, Address("0x" + "Ab" * 20))
OWNER = Address("0x" + "Cd" * 20)
ALL = ServePolicy(everything=True)


def cid(text: str) -> Cid:
    return Cid.of(text.encode(), codec=RAW)


def entry(catalogue: Catalogue, token: int, model_id: str, **changes: object) -> CatalogueEntry:
    plain = CatalogueEntry(
        key=catalogue.key(TokenId(token)),
        model_id=model_id,
        revision=1,
        manifest_cid=cid(f"manifest {token}"),
        owner=OWNER,
        name=model_id.upper(),
        description="sees things",
        model_type="image_classification",
        weights_cid=cid(f"weights {token}"),
        weights_bytes=10,
    )
    return msgspec.structs.replace(plain, **changes)


@pytest.fixture
def catalogue() -> Iterator[Catalogue]:
    catalogue = Catalogue(":memory:", contract=CONTRACT, policy=ALL)
    yield catalogue
    catalogue.close()


def test_a_model_is_found_by_its_id_and_by_its_canonical_name(catalogue: Catalogue) -> None:
    wanted = entry(catalogue, 7, "resnet18")
    catalogue.put(KnownModel(wanted))
    assert catalogue.resolve("resnet18") == wanted
    assert catalogue.resolve(f"43113:{CONTRACT.address.lower()}:7") == wanted


def test_an_unknown_name_suggests_a_near_one(catalogue: Catalogue) -> None:
    catalogue.put(KnownModel(entry(catalogue, 7, "resnet18")))
    with pytest.raises(ModelNotFound) as caught:
        catalogue.resolve("resnet")
    assert caught.value.suggestion == "Did you mean resnet18?"


def test_two_tokens_with_one_id_are_ambiguous_until_one_changes_its_name(catalogue: Catalogue) -> None:
    catalogue.put(KnownModel(entry(catalogue, 1, "resnet18")))
    catalogue.put(KnownModel(entry(catalogue, 2, "resnet18")))
    with pytest.raises(ModelAmbiguous, match=f"{CONTRACT.address}:1, 43113"):
        catalogue.resolve("resnet18")
    catalogue.put(KnownModel(entry(catalogue, 2, "resnet18-b", revision=2)))
    assert catalogue.resolve("resnet18").key.token_id == 1
    assert catalogue.resolve("resnet18-b").revision == 2


def test_a_name_of_another_contract_is_not_found_here(catalogue: Catalogue) -> None:
    with pytest.raises(ModelNotFound, match="another contract"):
        catalogue.resolve(f"1:{CONTRACT.address}:7")


@pytest.mark.parametrize(
    "name",
    [
        f"43113:{CONTRACT.address}:{2**256}",
        f"43113:{CONTRACT.address}:{'9' * 5000}",
        f"{'9' * 5000}:{CONTRACT.address}:1",
        f"43113:{CONTRACT.address}:\u0661",
        f"43113:{CONTRACT.address}:\u00b2",
    ],
    ids=["uint256 and one", "5000 digits", "chain of 5000 digits", "other digits", "superscript"],
)
def test_a_name_that_only_looks_canonical_is_not_found(catalogue: Catalogue, name: str) -> None:
    catalogue.put(KnownModel(entry(catalogue, 1, "resnet18")))
    assert catalogue.parse_canonical(name) is None
    with pytest.raises(ModelNotFound):
        catalogue.resolve(name)


def test_entries_survive_a_restart_even_with_a_256_bit_token(tmp_path: Path) -> None:
    first = Catalogue(tmp_path / "c.sqlite", contract=CONTRACT, policy=ALL)
    wanted = entry(first, 2**255, "big")
    first.put(KnownModel(wanted, (cid("labels"),)))
    first.close()
    second = Catalogue(tmp_path / "c.sqlite", contract=CONTRACT, policy=ALL)
    assert second.resolve("big") == wanted
    assert second.is_public(cid("labels"))
    second.close()
    other = Catalogue(tmp_path / "c.sqlite", contract=ContractRef(1, CONTRACT.address), policy=ALL)
    assert other.page(search=None, owner=None, offset=0, limit=9) == ([], 0)
    other.close()


def test_pages_are_in_token_order_and_searched_without_case(catalogue: Catalogue) -> None:
    for token, name in ((10, "vgg16"), (2, "resnet18"), (3, "mobilenet")):
        catalogue.put(KnownModel(entry(catalogue, token, name)))
    items, total = catalogue.page(search=None, owner=None, offset=1, limit=1)
    assert ([item.model_id for item in items], total) == (["mobilenet"], 3)
    items, total = catalogue.page(search="RESNET", owner=Address(OWNER.upper()), offset=0, limit=9)
    assert ([item.model_id for item in items], total) == (["resnet18"], 1)


def test_an_unknown_name_is_compared_with_a_bounded_number_of_names(
    catalogue: Catalogue, monkeypatch: pytest.MonkeyPatch
) -> None:
    compared: list[str] = []

    def near(word: str, possibilities: Iterable[str], **options: object) -> list[str]:
        compared.extend(possibilities)
        return []

    monkeypatch.setattr("node.models.catalogue.difflib.get_close_matches", near)
    for token in range(1, 302):
        catalogue.put(KnownModel(entry(catalogue, token, f"model-{token}")))
    with pytest.raises(ModelNotFound):
        catalogue.resolve("model")
    assert len(compared) == 200


def test_a_description_is_folded_once_for_all_searches_and_never_for_a_plain_list(
    catalogue: Catalogue,
) -> None:
    catalogue.put(KnownModel(entry(catalogue, 1, "m", description="Sees Things" + "x" * 65_000)))
    catalogue.page(search=None, owner=None, offset=0, limit=9)
    assert catalogue._texts == {}
    assert catalogue.page(search="sees", owner=None, offset=0, limit=9)[1] == 1
    (folded,) = catalogue._texts.values()
    assert len(folded) < 3_000
    catalogue.page(search="other", owner=None, offset=0, limit=9)
    assert catalogue._texts[catalogue.key(TokenId(1))] is folded


def test_weights_are_never_public_even_when_another_token_calls_them_labels(catalogue: Catalogue) -> None:
    sold = entry(catalogue, 1, "sold")
    thief = KnownModel(entry(catalogue, 2, "thief"), (sold.weights_cid, cid("labels")))
    catalogue.put(KnownModel(sold))
    catalogue.put(thief)
    assert not catalogue.is_public(sold.weights_cid)
    assert catalogue.is_public(cid("labels"))
    assert catalogue.is_public(sold.manifest_cid)


def test_sellers_of_weights_stand_in_the_order_of_registration(catalogue: Catalogue) -> None:
    for token in (5, 1, 3):
        catalogue.put(KnownModel(entry(catalogue, token, f"m{token}", weights_cid=cid("same"))))
    assert [seller.key.token_id for seller in catalogue.sellers_of(cid("same"))] == [1, 3, 5]
    assert catalogue.referenced(cid("same"))
    assert not catalogue.referenced(cid("stray"))


def test_a_staged_revision_is_loadable_but_not_current(catalogue: Catalogue) -> None:
    old = entry(catalogue, 1, "m")
    new = msgspec.structs.replace(old, revision=2)
    catalogue.put(KnownModel(old))
    catalogue.stage(KnownModel(new))
    assert catalogue.revision(old.key, 2) == new
    assert catalogue.resolve("m") == old
    catalogue.unstage(old.key, 2)
    with pytest.raises(ModelNotFound, match="revision 2"):
        catalogue.revision(old.key, 2)


def test_models_outside_the_policy_are_neither_listed_nor_resolved() -> None:
    policy = ServePolicy.parse(("7", OWNER), production=True)
    assert policy.serves(TokenId(7), Address("0x" + "0" * 40))
    assert policy.serves(TokenId(8), Address(OWNER.upper().replace("0X", "0x")))
    assert not policy.serves(TokenId(8), Address("0x" + "0" * 40))
    only_seven = ServePolicy.parse(("7",), production=False)
    catalogue = Catalogue(":memory:", contract=CONTRACT, policy=only_seven)
    catalogue.put(KnownModel(entry(catalogue, 8, "resnet18")))
    with pytest.raises(ModelNotFound):
        catalogue.resolve("resnet18")
    assert catalogue.page(search=None, owner=None, offset=0, limit=9) == ([], 0)
    catalogue.close()


def test_production_serves_nothing_until_told() -> None:
    assert ServePolicy.parse(None, production=True).nothing
    assert "SERVE_MODELS" in str(ServePolicy.parse(None, production=True))
    assert ServePolicy.parse(None, production=False).everything
    with pytest.raises(SettingsInvalid, match="'resnet'"):
        ServePolicy.parse(("resnet",), production=False)


def test_a_damaged_file_stops_the_start_and_says_what_to_do(tmp_path: Path) -> None:
    (tmp_path / "catalogue.sqlite").write_bytes(b"x" * 8192)
    with pytest.raises(
        StartupError,
        match=r"catalogue\.sqlite in DATA_DIR .* backup, or move it away: .* but not who had weights first",
    ):
        Catalogue(tmp_path / "catalogue.sqlite", contract=CONTRACT, policy=ALL)


def test_an_entry_that_another_version_wrote_is_passed_over(tmp_path: Path) -> None:
    path = tmp_path / "c.sqlite"
    first = Catalogue(path, contract=CONTRACT, policy=ALL)
    first.put(KnownModel(entry(first, 1, "kept")))
    first.put(KnownModel(entry(first, 2, "foreign")))
    first.close()
    with sqlite3.connect(path) as database:
        database.execute("UPDATE entries SET entry = ? WHERE token_id = '2'", (b'{"entry": {"old": 1}}',))
    database.close()
    second = Catalogue(path, contract=CONTRACT, policy=ALL)
    assert [item.model_id for item in second.page(search=None, owner=None, offset=0, limit=9)[0]] == ["kept"]
    second.close()
