"""`lonja train` as a person types it."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from lonja.cli import main as program
from training.trainer import Trainer


@pytest.fixture
def flowers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A table of three kinds, easily told apart, in the current folder."""
    rng = np.random.default_rng(0)
    kinds = rng.integers(0, 3, 200)
    rows = [
        f"{2 * kind + rng.normal(0, 0.6):.4f},{rng.normal():.4f},{['rose', 'tulip', 'lily'][kind]}"
        for kind in kinds
    ]
    path = tmp_path / "flowers.csv"
    path.write_text("length,width,kind\n" + "\n".join(rows) + "\n")
    monkeypatch.chdir(tmp_path)
    return path


def run(monkeypatch: pytest.MonkeyPatch, *arguments: str) -> int:
    monkeypatch.setattr(sys, "argv", ["lonja", "train", *arguments])
    with pytest.raises(SystemExit) as ended:
        program.main()
    return int(ended.value.code or 0)


def test_a_table_and_a_target_are_enough(flowers: Path, monkeypatch: Any, capsys: Any) -> None:
    assert run(monkeypatch, "--data", "flowers.csv", "--target", "kind", "--rate", "0.01") == 0
    told = capsys.readouterr()
    assert "healthy, nothing found" in told.out
    files = "flowers-model/model.safetensors --manifest flowers-model/metadata.json"
    assert f"lonja publish {files} --offer price=0.01,days=30" in told.out
    assert told.err.count("epoch ") >= 3
    assert (flowers.parent / "flowers-model/report.html").exists()


def test_json_is_one_line_for_programs(flowers: Path, monkeypatch: Any, capsys: Any) -> None:
    assert run(monkeypatch, "--data", "flowers.csv", "--target", "kind", "--rate", "1e-7", "--json") == 0
    told = json.loads(capsys.readouterr().out)
    assert told["health"] == "ill"
    assert "rate-too-low" in [finding["rule"] for finding in told["findings"]]
    assert Path(told["model"]).exists()


def test_strict_fails_on_an_ill_network(flowers: Path, monkeypatch: Any, capsys: Any) -> None:
    assert run(monkeypatch, "--data", "flowers.csv", "--target", "kind", "--rate", "1e-7", "--strict") == 1
    assert "advice    raise the learning rate" in capsys.readouterr().out


def test_ctrl_c_keeps_the_checkpoint_and_resume_goes_on_to_the_same_bits(
    flowers: Path, monkeypatch: Any, capsys: Any
) -> None:
    common = ("--data", "flowers.csv", "--target", "kind", "--epochs", "12")
    assert run(monkeypatch, *common, "--out", "whole") == 0
    whole, real = Path("whole/weights.bin").read_bytes(), Trainer.fit

    def interrupted(self: Trainer, told: Any = None) -> Any:
        def stop(progress: Any) -> None:
            if progress.epoch == 5:
                raise KeyboardInterrupt

        return real(self, stop)

    monkeypatch.setattr(Trainer, "fit", interrupted)
    assert run(monkeypatch, *common, "--out", "half") == 130
    assert "the same command with --resume goes on" in capsys.readouterr().err
    assert not Path("half/weights.bin").exists()
    monkeypatch.setattr(Trainer, "fit", real)
    assert run(monkeypatch, *common, "--out", "half", "--resume") == 0
    assert Path("half/weights.bin").read_bytes() == whole


def test_a_configuration_is_read_and_options_win_over_it(
    flowers: Path, monkeypatch: Any, capsys: Any
) -> None:
    Path("plan.toml").write_text(
        '[data]\nfile = "flowers.csv"\ntarget = "kind"\n'
        '[training]\nepochs = 500\n[output]\nfolder = "garden"\n'
    )
    assert run(monkeypatch, "plan.toml", "--epochs", "3", "--hidden", "5", "--json") == 0
    told = json.loads(capsys.readouterr().out)
    assert (told["epochs"], told["report"]) == (3, "garden/report.html")


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ((), "say what to learn: a CONFIG.toml, or --data FILE with --target COL"),
        (("--data", "flowers.csv", "--target", "kimd"), "did you mean 'kind'?"),
        (("--data", "flowers.csv", "--target", "length"), "line 2, column 'kind'"),
        (
            ("--data", "flowers.csv", "--target", "kind", "--hidden", "a"),
            "--hidden 'a': say the units of each layer",
        ),
        (("--data", "flowers.csv", "--target", "kind", "--activation", "rleu"), "$.network.activation"),
        (("--data", "flowers.csv", "--target", "kind", "--resume"), "there is no checkpoint"),
        (("missing.toml",), "missing.toml: No such file or directory"),
    ],
)
def test_what_is_wrong_is_one_line(
    flowers: Path, monkeypatch: Any, capsys: Any, arguments: tuple[str, ...], words: str
) -> None:
    assert run(monkeypatch, *arguments) == 1
    told = capsys.readouterr().err
    assert words in told
    assert told.count("\n") == 1


@pytest.fixture
def interruptible() -> Iterator[None]:
    """A shell's background job ignores SIGINT, and so would all that it starts."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.usefixtures("interruptible")
def test_sigint_leaves_a_checkpoint_that_goes_on_to_the_same_bits(flowers: Path) -> None:
    plan = '[data]\nfile = "flowers.csv"\ntarget = "kind"\n[network]\nbatch_norm = true\ndropout = 0.2\n'
    Path("plan.toml").write_text(plan + '[training]\nepochs = 3000\npatience = 0\nschedule = "cosine"\n')
    command = [sys.executable, "-m", "lonja", "train", "plan.toml", "--out"]
    with subprocess.Popen([*command, "half"], stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr is not None
        first = process.stderr.readline()
        process.send_signal(signal.SIGINT)
        told = process.stderr.read()
    assert first.startswith("epoch 1 of 3000")
    assert (process.returncode, "Traceback" in told) == (130, False), told
    assert "the same command with --resume goes on" in told
    assert [path.name for path in Path("half").iterdir() if path.suffix != ".part"] == ["checkpoint.npz"]
    for arguments in (["half", "--resume"], ["whole"]):
        subprocess.run([*command, *arguments], check=True, capture_output=True)
    assert Path("half/weights.bin").read_bytes() == Path("whole/weights.bin").read_bytes()
