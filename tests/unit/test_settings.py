from __future__ import annotations

import importlib.machinery
import importlib.util
from pathlib import Path

import msgspec
import pytest

from node import settings
from node.errors import SettingsInvalid

ROOT = Path(__file__).resolve().parents[2]
EXAMPLE = (ROOT / ".env.example").read_text()


def test_the_example_names_every_setting_with_its_default(tmp_path: Path) -> None:
    env = tmp_path / ".env"
    env.write_text(EXAMPLE)
    names = {line.split("=")[0] for line in EXAMPLE.splitlines() if line and not line.startswith("#")}
    assert names == set(settings.FIELDS)
    assert settings.load({}, env_file=env) == settings.Settings()


def test_the_settings_page_is_the_one_that_the_example_gives() -> None:
    script = ROOT / "scripts/settings_page"
    loader = importlib.machinery.SourceFileLoader("settings_page", str(script))
    spec = importlib.util.spec_from_loader("settings_page", loader)
    assert spec is not None
    page = importlib.util.module_from_spec(spec)
    loader.exec_module(page)
    assert (ROOT / "docs/settings.md").read_text() == page.render(EXAMPLE)


def test_the_environment_wins_over_the_file(tmp_path: Path) -> None:
    env = tmp_path / ".env"
    env.write_text("PORT=1\nLOG_LEVEL=debug\n")
    found = settings.load({"PORT": "2", "HOME": "/x"}, env_file=env)
    assert (found.port, found.log_level) == (2, "debug")


def test_lists_are_split_at_commas_and_empty_texts_mean_the_default() -> None:
    found = settings.from_texts(
        {
            "AVALANCHE_RPC_URL": "http://a, http://b,",
            "SERVE_MODELS": "all",
            "PUBLISHERS": "any",
            "DATA_DIR": "",
            "CORS_ORIGINS": "",
        }
    )
    assert found.avalanche_rpc_url == ("http://a", "http://b")
    assert (found.serve_models, found.publishers) == (("all",), ("any",))
    assert found.data_dir == settings.Settings().data_dir


@pytest.mark.parametrize(
    ("texts", "says"),
    [
        ({"PORT": "x"}, "PORT='x'"),
        ({"PORT": "70000"}, "PORT='70000'"),
        ({"LOG_LEVEL": "loud"}, "LOG_LEVEL='loud'"),
        ({"CONTRACT_ADDRESS": "0x12"}, "CONTRACT_ADDRESS='0x12'"),
        ({"OPERATORS": "0x12"}, "OPERATORS='0x12'"),
        ({"PUBLISHERS": "anyone"}, "PUBLISHERS='anyone'"),
        ({"MAX_MODELS_IN_MEMORY": "0"}, "MAX_MODELS_IN_MEMORY='0'"),
        ({"SESSION_TTL": "901"}, "SESSION_TTL='901'"),
        ({"PROT": "1"}, "did you mean PORT"),
    ],
)
def test_a_malformed_value_is_named(texts: dict[str, str], says: str) -> None:
    with pytest.raises(SettingsInvalid, match=says):
        settings.from_texts(texts)


def test_a_misspelt_name_in_the_environment_is_named_and_foreign_names_are_left_alone() -> None:
    with pytest.raises(SettingsInvalid, match="MAX_MODEL_IN_MEMORY; did you mean MAX_MODELS_IN_MEMORY"):
        settings.load({"MAX_MODEL_IN_MEMORY": "3"}, env_file=None)
    assert settings.load({"NODE_OPTIONS": "x", "PATH": "/bin"}, env_file=None) == settings.Settings()


def test_a_misspelt_name_in_the_file_is_named(tmp_path: Path) -> None:
    (tmp_path / ".env").write_text("WHATEVER=1\n")
    with pytest.raises(SettingsInvalid, match=r"\.env: unknown setting WHATEVER"):
        settings.load({}, env_file=tmp_path / ".env")


def test_a_secret_never_stands_in_the_error(monkeypatch: pytest.MonkeyPatch) -> None:
    field = settings.FIELDS["NODE_KEY_PASSWORD"]
    narrow = msgspec.structs.FieldInfo("node_key_password", "NODE_KEY_PASSWORD", int, default=0)
    monkeypatch.setitem(settings.FIELDS, field.encode_name, narrow)
    with pytest.raises(SettingsInvalid) as caught:
        settings.from_texts({"NODE_KEY_PASSWORD": "hunter2"})
    assert "hunter2" not in caught.value.message


def test_a_file_that_is_no_text_is_named(tmp_path: Path) -> None:
    (tmp_path / ".env").write_bytes(b"\xff\xfe")
    with pytest.raises(SettingsInvalid, match=r"\.env cannot be read"):
        settings.load({}, env_file=tmp_path / ".env")
