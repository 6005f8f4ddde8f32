"""The command line: help, failures in one line, exit codes, JSON, and the page that describes it."""

from __future__ import annotations

import importlib.machinery
import importlib.util
import json
import os
import subprocess
import sys
from importlib import import_module
from pathlib import Path
from types import ModuleType

import click
import pytest

from lonja.cli import main as program
from lonja.cli.failures import describe
from lonja.cli.main import COMMANDS
from lonja.errors import ChainFailed, LicenseMissing, NodeUnreachable
from node.errors import SettingsInvalid

ROOT = Path(__file__).resolve().parents[3]


@pytest.fixture(autouse=True)
def plain_environment(monkeypatch: pytest.MonkeyPatch):
    for name in [name for name in os.environ if name.startswith("LONJA_")]:
        monkeypatch.delenv(name)


def run(monkeypatch: pytest.MonkeyPatch, *arguments: str) -> int:
    """Run the program in this process; its exit code."""
    monkeypatch.setattr(sys, "argv", ["lonja", *arguments])
    with pytest.raises(SystemExit) as ended:
        program.main()
    return int(ended.value.code or 0)


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_is_what_the_overview_says(name):
    command: click.Command = import_module(f"lonja.cli.{name}").command
    assert command.short_help == COMMANDS[name]


@pytest.mark.parametrize("name", [name for name in COMMANDS if name != "keys"])
def test_every_command_shows_an_example(name):
    assert "Example" in (import_module(f"lonja.cli.{name}").command.help or "")


def test_the_overview_imports_no_command():
    code = (
        "import sys; sys.argv=['lonja','--help']\nfrom lonja.cli.main import main\n"
        "try: main()\nexcept SystemExit: pass\n"
        "heavy = ('lonja.', 'node', 'aiohttp', 'rich', 'msgspec')\n"
        "print([name for name in sys.modules if name.startswith(heavy)])"
    )
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert ran.stdout.splitlines()[-1] == "['lonja.cli', 'lonja.cli.main']"


def test_the_page_is_the_one_that_the_commands_give():
    page = load_script("cli_page")
    assert (ROOT / "docs/cli.md").read_text() == page.render()


def load_script(name: str) -> ModuleType:
    loader = importlib.machinery.SourceFileLoader(name.replace("-", "_"), str(ROOT / "scripts" / name))
    spec = importlib.util.spec_from_loader(loader.name, loader)
    assert spec is not None
    module = importlib.util.module_from_spec(spec)
    loader.exec_module(module)
    return module


def test_a_mistyped_command_is_answered_with_the_right_one(monkeypatch, capsys):
    assert run(monkeypatch, "infr") == 2
    assert "Did you mean 'infer'?" in capsys.readouterr().err


def test_help_and_version_end_with_0(monkeypatch, capsys):
    assert run(monkeypatch, "--help") == 0
    assert run(monkeypatch, "buy", "--help") == 0
    assert run(monkeypatch, "--version") == 0
    assert capsys.readouterr().out.splitlines()[-1].startswith("lonja 0.")


def test_a_failure_is_one_line_on_standard_error(monkeypatch, capsys, unused_tcp_port):
    assert run(monkeypatch, "models", "--node", f"http://127.0.0.1:{unused_tcp_port}") == 1
    told = capsys.readouterr()
    assert (told.out, told.err.count("\n")) == ("", 1)
    assert told.err.startswith(f"error: http://127.0.0.1:{unused_tcp_port} cannot be reached")


def test_a_failure_is_json_where_json_was_asked_for(monkeypatch, capsys):
    assert run(monkeypatch, "buy", "1", "--json") == 1
    assert json.loads(capsys.readouterr().err)["code"] == "signer_required"


def test_a_question_that_is_not_understood_is_json_too(monkeypatch, capsys):
    assert run(monkeypatch, "buy", "none", "--json") == 2
    told = json.loads(capsys.readouterr().err)
    assert told["code"] == "usage_invalid"
    assert "'none' is not a valid integer" in told["message"]


def test_a_dead_rpc_is_named_without_its_secrets(monkeypatch, capsys, tmp_path, unused_tcp_port):
    (tmp_path / "me.key").write_text("0x" + "2a" * 32)
    host = f"127.0.0.1:{unused_tcp_port}"
    wanted = [
        "buy", "1", "--key-file", str(tmp_path / "me.key"), "--rpc", f"http://me:hidden@{host}/v2/hidden",
        "--contract", "0x5FbDB2315678afecb367f032d93F642f64180aa3",
    ]  # fmt: skip
    assert run(monkeypatch, *wanted) == 1
    told = capsys.readouterr().err
    assert f"the chain cannot be asked at http://{host}/... (nobody answers there)" in told
    assert "hidden" not in told


def test_an_rpc_that_is_no_url_is_told_in_the_words_of_the_option(monkeypatch, capsys, tmp_path):
    (tmp_path / "me.key").write_text("0x" + "2a" * 32)
    wanted = [
        "buy", "1", "--key-file", str(tmp_path / "me.key"), "--rpc", "127.0.0.1:8545",
        "--contract", "0x5FbDB2315678afecb367f032d93F642f64180aa3",
    ]  # fmt: skip
    assert run(monkeypatch, *wanted) == 1
    assert capsys.readouterr().err == (
        "error: the chain's RPC is an http or https URL: http(s)://host[:port]\n"
    )


@pytest.mark.parametrize("days", ["nan", "inf", "0", "-1"])
def test_days_that_are_no_time_are_refused(monkeypatch, capsys, days: str):
    assert run(monkeypatch, "grant", "1", "0x" + "11" * 20, "--days", days) == 2
    assert "--days" in capsys.readouterr().err


def test_debug_shows_where(monkeypatch):
    from lonja.errors import SignerRequired

    monkeypatch.setattr(sys, "argv", ["lonja", "buy", "1", "--debug"])
    with pytest.raises(SignerRequired):
        program.main()


def test_ctrl_c_ends_with_130_and_without_a_traceback(monkeypatch, capsys):
    def interrupted(*_args: object, **_options: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(program.cli, "main", interrupted)
    assert run(monkeypatch, "models") == 130
    assert "Traceback" not in capsys.readouterr().err


@pytest.mark.parametrize(
    ("error", "told"),
    [
        (
            LicenseMissing("no license", suggestion="buy one", request_id="r"),
            {"code": "license_missing", "message": "no license", "suggestion": "buy one", "request_id": "r"},
        ),
        (ChainFailed("refused", reason="Lonja_X"), {"code": "Lonja_X", "message": "refused"}),
        (ChainFailed("gone"), {"code": "chain_failed", "message": "gone"}),
        (NodeUnreachable("two\nlines"), {"code": "node_unreachable", "message": "two lines"}),
        (SettingsInvalid("PORT"), {"code": "settings_invalid", "message": "PORT"}),
        (FileNotFoundError(2, "No such file", "x"), {"code": "os_error", "message": "x: No such file"}),
    ],
)
def test_errors_of_every_layer_are_told_in_one_line(error, told):
    assert describe(error) == told


def test_an_unexpected_error_says_how_to_see_more():
    assert "--debug" in str(describe(ZeroDivisionError("x"))["message"])


@pytest.mark.parametrize(
    ("arguments", "wanted"),
    [
        (["buy", "1", "--json"], True),
        (["buy", "1"], False),
        (["infer", "m", "--image", "x", "--json"], True),
        (["infer", "m", "--json", "in.json"], False),
        (["infer", "m", "--json", "--image", "x"], True),
    ],
)
def test_json_for_infer_is_an_input_when_a_file_follows(arguments, wanted):
    assert program._wants_json(arguments) is wanted


def test_a_key_is_made_encrypted_and_never_overwritten(monkeypatch, capsys, tmp_path):
    from lonja import keys

    monkeypatch.setenv("LONJA_KEY_PASSWORD", "secret words")
    path = tmp_path / "me.json"
    assert run(monkeypatch, "keys", "new", str(path), "--json") == 0
    address = json.loads(capsys.readouterr().out)["address"]
    assert keys.load(path).address == address
    assert run(monkeypatch, "keys", "new", str(path)) == 1
    assert "never overwritten" in capsys.readouterr().err
    assert run(monkeypatch, "keys", "address", str(path)) == 0
    assert capsys.readouterr().out.strip() == address


def test_without_a_terminal_a_missing_password_is_an_error_and_no_prompt(monkeypatch, capsys, tmp_path):
    assert run(monkeypatch, "keys", "new", str(tmp_path / "me.json")) == 1
    assert "LONJA_KEY_PASSWORD" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


def test_publishing_without_an_offer_is_refused_before_anything_happens(monkeypatch, capsys, tmp_path):
    (tmp_path / "m.onnx").write_bytes(b"")
    (tmp_path / "m.json").write_text("{}")
    given = ["publish", str(tmp_path / "m.onnx"), "--manifest", str(tmp_path / "m.json")]
    assert run(monkeypatch, *given) == 2
    assert "--offer" in capsys.readouterr().err
    assert run(monkeypatch, *given, "--offer", "price=1") == 1
    assert "for example price=0.01,days=30" in capsys.readouterr().err


def test_a_file_that_no_node_could_load_is_not_published(monkeypatch, capsys, tmp_path):
    (tmp_path / "m.onnx").write_bytes(b"this is no graph")
    model = {
        "schema": 1, "model_id": "m", "model_type": "t", "format": "onnx",
        "input": {"name": "x", "kind": "tensor", "dtype": "float32", "shape": [4]},
        "output": {"task": "raw"},
    }  # fmt: skip
    (tmp_path / "m.json").write_text(json.dumps({"name": "M", "model": model}))
    wanted = ["publish", str(tmp_path / "m.onnx"), "--manifest", str(tmp_path / "m.json")]
    assert run(monkeypatch, *wanted, "--to", str(tmp_path / "m.car")) == 1
    assert "m.onnx: not an ONNX file" in capsys.readouterr().err
    assert not (tmp_path / "m.car").exists()


def test_a_broken_devnet_file_is_named(monkeypatch, capsys, tmp_path):
    (tmp_path / "devnet.json").write_text("{}")
    assert run(monkeypatch, "models", "--devnet", str(tmp_path / "devnet.json")) == 1
    assert "is not a devnet.json" in capsys.readouterr().err


def test_the_store_of_a_node_that_never_ran_is_named(monkeypatch, capsys, tmp_path):
    monkeypatch.setenv("MODEL_DIR", str(tmp_path / "none"))
    assert run(monkeypatch, "store", "list", "--env-file", str(tmp_path / ".env")) == 1
    assert "MODEL_DIR" in capsys.readouterr().err


def test_the_store_is_listed_verified_and_pruned(monkeypatch, capsys, tmp_path):
    import asyncio

    from node.ipfs.store import BlockStore

    monkeypatch.setenv("MODEL_DIR", str(tmp_path / "models"))
    monkeypatch.setenv("DATA_DIR", str(tmp_path / "data"))
    store = BlockStore(tmp_path / "models", max_bytes=10**6)
    imported = asyncio.run(store.import_bytes(b"some content"))
    store.close()
    where = ("--env-file", str(tmp_path / ".env"), "--json")
    assert run(monkeypatch, "store", "list", *where) == 0
    assert [item["cid"] for item in json.loads(capsys.readouterr().out)] == [str(imported.root)]
    assert run(monkeypatch, "store", "verify", *where) == 0
    capsys.readouterr()
    content = next(path for path in (tmp_path / "models" / "items").rglob("content"))
    content.chmod(0o600)
    content.write_bytes(b"SOME content")
    assert run(monkeypatch, "store", "verify", *where) == 1
    assert json.loads(capsys.readouterr().out)["corrupt"] == [str(imported.root)]
    assert run(monkeypatch, "store", "prune", "--target", "0", *where) == 0
    assert json.loads(capsys.readouterr().out)["totalBytes"] == 0


def test_what_strangers_wrote_does_nothing_to_the_terminal(capsys: pytest.CaptureFixture[str]):
    from lonja.answers import Model, ModelPage
    from lonja.cli.models import _show_one, _show_page

    model = Model(
        id="1:0x0:1", model_id="m", token_id="1", revision=1, manifest_cid="b", owner="0x0",
        name="Nice\x1b[2J\nfake line", description="first\nsecond\x9b31m\u202e", model_type="t",
    )  # fmt: skip
    _show_one(model)
    _show_page(ModelPage(models=[model], total=1, offset=0, limit=9))
    shown = capsys.readouterr().out
    assert not {"\x1b", "\x9b", "\u202e"} & set(shown)
    assert "first\nsecond" in shown
    assert "Nice·[2J·fake line" in shown
    assert "\x1b" not in str(describe(NodeUnreachable("no\x1b[2J"))["message"])
