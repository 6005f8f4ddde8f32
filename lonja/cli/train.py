"""`lonja train`."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from shlex import quote
from typing import TYPE_CHECKING, Any

import click

from lonja.cli.options import debug_option, json_option, print_json
from lonja.errors import LonjaError, UsageInvalid

if TYPE_CHECKING:
    from training.config import Config
    from training.diagnosis import Verdict
    from training.run import Outcome, Run

_PATH = click.Path(path_type=Path)
_TINTS = {"healthy": "green", "warning": "yellow", "ill": "red"}


@click.command(short_help="Train a network on a table, with a health verdict.")
@click.argument("config", required=False, type=_PATH, metavar="[CONFIG.toml]")
@click.option("--data", type=_PATH, metavar="FILE", help="Table: .csv, .npz or .parquet.")
@click.option("--target", metavar="COL", help="Column that shall be told from the others.")
@click.option(
    "--task", type=click.Choice(["classification", "regression"]), help="[default: from the target]"
)
@click.option("--out", type=_PATH, metavar="FOLDER", help="Where the files go [default: NAME-model].")
@click.option("--hidden", metavar="N,N", help="Units of the hidden layers [default: 64,32].")
@click.option("--activation", help="Of the hidden layers [default: relu].")
@click.option("--loss", help="cross_entropy, binary_cross_entropy, mse or huber [default: from the target]")
@click.option("--optimizer", help="sgd, adam, adamw or rmsprop [default: adam].")
@click.option("--rate", type=float, help="Learning rate [default: the optimizer's].")
@click.option("--epochs", type=int, help="[default: 100]")
@click.option("--seed", type=int, help="[default: 0]")
@click.option("--resume", is_flag=True, help="Go on from the checkpoint in the folder.")
@click.option("--strict", is_flag=True, help="Fail where the verdict is ill.")
@json_option
@debug_option
def command(
    *,
    config: Path | None,
    out: Path | None,
    resume: bool,
    strict: bool,
    as_json: bool,
    debug: bool,  # noqa: ARG001 - `main` reads --debug
    **asked: Any,
) -> int:
    """Train a dense network on a table, say whether it is healthy and why, and write it as files that
    `lonja publish` takes.

    Everything that is not said has a default; a configuration file says more (docs/training.md), and
    options win over it. Ctrl-C keeps the last checkpoint, which is at most moments old.

    \b
    Examples:
      lonja train --data iris.csv --target species
      lonja train digits.toml --epochs 40 --out digits-model
      lonja train digits.toml --out digits-model --resume
      lonja publish iris-model/model.safetensors --manifest iris-model/metadata.json --offer price=0.1,days=9
    """
    from training.errors import TrainingError

    try:
        plan = _config(config, **asked)
        folder = out or Path(plan.output.folder or f"{Path(plan.data.file).stem}-model")
        run, outcome = _trained(plan, folder, resume=resume, quiet=as_json)
    except TrainingError as error:
        raise UsageInvalid(str(error)) from None
    if outcome is None:
        kept = run.trainer.kept_epoch
        again = "the same command with --resume goes on"
        click.echo(f"stopped: the checkpoint is of epoch {kept}; {again}" if kept else "stopped", err=True)
        return 130
    if as_json:
        print_json(_told(outcome))
    else:
        _show(run, outcome)
    if outcome.exported is None:
        raise LonjaError(f"the network is of no use and was not exported: {outcome.verdict.sentence()}")
    return 1 if strict and outcome.verdict.health == "ill" else 0


def _config(path: Path | None, *, data: Path | None, target: str | None, **asked: Any) -> Config:
    """The configuration with the options over it. Raises `UsageInvalid` and `PlanInvalid`."""
    import msgspec

    from training import config as configs

    if path is None and (data is None or target is None):
        raise UsageInvalid("say what to learn: a CONFIG.toml, or --data FILE with --target COL")
    members: dict[str, Any] = {} if path is None else msgspec.to_builtins(configs.read(path))
    parts = {
        "data": {"file": None if data is None else str(data), "target": target, "task": asked["task"]},
        "network": {"hidden": _widths(asked["hidden"]), "activation": asked["activation"]},
        "training": {name: asked[name] for name in ("loss", "optimizer", "rate", "epochs", "seed")},
    }
    for part, given in parts.items():
        members.setdefault(part, {}).update(
            {name: value for name, value in given.items() if value is not None}
        )
    return configs.convert(members, name="the options" if path is None else str(path))


def _widths(text: str | None) -> list[int] | None:
    if text is None:
        return None
    try:
        return [int(part) for part in text.split(",") if part.strip()]
    except ValueError:
        raise UsageInvalid(f"--hidden {text!r}: say the units of each layer, as in 64,32") from None


def _trained(plan: Config, folder: Path, *, resume: bool, quiet: bool) -> tuple[Run, Outcome | None]:
    """Train; None where Ctrl-C came first."""
    from training.run import Run

    run = Run(plan, folder)
    if resume:
        run.resume()
    with _progress(quiet=quiet) as told:
        try:
            return run, run.train(told)
        except KeyboardInterrupt:
            return run, None


@contextmanager
def _progress(*, quiet: bool) -> Iterator[Any]:
    """Where progress is shown: live on a terminal, else a line for each tenth, or nowhere."""
    if quiet:
        yield None
    elif sys.stderr.isatty():
        from lonja.cli.train_progress import live

        with live() as told:
            yield told
    else:
        from lonja.cli.train_progress import Lines

        yield Lines(lambda line: click.echo(line, err=True))


def _show(run: Run, outcome: Outcome) -> None:
    verdict = outcome.verdict
    final = outcome.stats.final
    if final is not None:
        measure = "R squared" if outcome.stats.task == "regression" else "accuracy"
        judged = final.score if final.validation_score is None else final.validation_score
        rows = "training" if final.validation_score is None else "validation"
        click.echo(f"{measure} {judged:.4f} on {rows} rows, {run.network.parameter_count} parameters")
    click.echo(click.style(verdict.sentence(), fg=_TINTS[verdict.health], bold=True))
    _show_findings(verdict)
    click.echo(f"report   {outcome.page}")
    if outcome.exported is not None:
        click.echo(f"model    {outcome.exported.safetensors}, weights.bin, {outcome.exported.onnx.name}")
        model, manifest = (
            quote(str(path)) for path in (outcome.exported.safetensors, outcome.exported.manifest)
        )
        click.echo(f"publish  lonja publish {model} --manifest {manifest} --offer price=0.01,days=30")


def _show_findings(verdict: Verdict) -> None:
    for finding in verdict.findings:
        click.echo(f"\n  {click.style(finding.rule, fg=_TINTS[finding.severity])} in {finding.where}")
        click.echo(f"    evidence  {finding.evidence}")
        click.echo(f"    limit     {finding.threshold} ({finding.source})")
        click.echo(f"    advice    {finding.advice}")
    if verdict.findings:
        click.echo()


def _told(outcome: Outcome) -> dict[str, Any]:
    import msgspec

    final = outcome.stats.final
    return {
        "health": outcome.verdict.health,
        "findings": msgspec.to_builtins(outcome.verdict.findings),
        "epochs": len(outcome.stats.epochs),
        "final": None if final is None else msgspec.to_builtins(final),
        "report": str(outcome.page),
        "model": None if outcome.exported is None else str(outcome.exported.safetensors),
        "manifest": None if outcome.exported is None else str(outcome.exported.manifest),
    }
