"""`lonja`: one group, its commands imported only when they run.

A command's module defines `command`. Every failure ends here, in one line on standard error and an exit code:
1 what was wanted did not happen, 2 it was asked wrongly, 130 Ctrl-C. `--debug` shows the traceback instead.
"""

from __future__ import annotations

import sys
from importlib import import_module
from typing import Any, Final, NoReturn

import click

COMMANDS: Final[dict[str, str]] = {
    "demo": "The whole story in a minute, on a chain and a node of its own.",
    "devnet": "A chain, the contract and a node, left running for development.",
    "serve": "Run a node, with settings from the environment and .env.",
    "publish": "Publish a model: content to IPFS, token on chain.",
    "convert": "Convert a dense network between ONNX and the bare format.",
    "buy": "Buy a license.",
    "grant": "Give a license of your own model.",
    "revoke": "Take a license of your own model back.",
    "models": "List the models that a node serves.",
    "infer": "Run a model on a picture, JSON or a URL.",
    "train": "Train a network on a table, with a health verdict.",
    "keys": "Key files.",
    "store": "The node's content store.",
}
"""Name and short help, so that `lonja --help` imports none of them; a test compares with the commands."""


class Lazy(click.Group):
    """A group that imports `lonja.cli.NAME` for the command NAME."""

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002 - click's own signature
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:  # noqa: ARG002 - click's own signature
        if cmd_name not in COMMANDS:
            return None
        command: click.Command = import_module(f"lonja.cli.{cmd_name}").command
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:  # noqa: ARG002 - click's own signature
        with formatter.section("Commands"):
            formatter.write_dl(list(COMMANDS.items()))

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        try:
            return super().resolve_command(ctx, args)
        except click.UsageError as error:
            from difflib import get_close_matches  # 4 ms, needed only to word an error

            near = get_close_matches(args[0], COMMANDS, n=1)
            raise click.UsageError(
                error.message + (f" Did you mean {near[0]!r}?" if near else ""), ctx
            ) from None


def _version(ctx: click.Context, _parameter: click.Parameter, wanted: bool) -> None:
    if wanted:
        from importlib.metadata import version

        click.echo(f"lonja {version('lonja')}")
        ctx.exit()


@click.command(cls=Lazy, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.option(
    "--version", is_flag=True, is_eager=True, expose_value=False, callback=_version, help="Show the version."
)
def cli() -> None:
    """Lonja: inference for licensed models. License on chain, model by CID, prediction.

    \b
    Begin with:
      lonja demo                       see all of it work
      lonja devnet                     a world to develop against
      lonja infer --help               how to call a model
    """


def main() -> NoReturn:
    """The program. Exits with the command's code."""
    arguments = sys.argv[1:]
    try:
        code = cli.main(args=arguments, prog_name="lonja", standalone_mode=False)
    except Exception as error:
        if "--debug" in arguments:
            raise
        sys.exit(_report(error, as_json=_wants_json(arguments)))
    except KeyboardInterrupt:
        click.echo(err=True)
        sys.exit(130)
    sys.exit(code if isinstance(code, int) else 0)


def _wants_json(arguments: list[str]) -> bool:
    """Whether `--json` asks for JSON. `infer --json FILE` does not: there it is the input."""
    if "--json" not in arguments or arguments[0] != "infer":
        return "--json" in arguments
    return any(
        each == "--json" and following.startswith("-")
        for each, following in zip(arguments, [*arguments[1:], "-"], strict=True)
    )


def _report(error: Exception, *, as_json: bool) -> int:
    """Say what went wrong in one line; returns the exit code."""
    if isinstance(error, click.exceptions.Abort):
        click.echo(err=True)
        return 130
    if isinstance(error, click.ClickException) and not as_json:
        error.show()
        return error.exit_code
    if isinstance(error, BrokenPipeError):
        sys.stderr.close()  # nobody reads on; Python would complain at its end
        return 1
    from lonja.cli.failures import describe

    failure = describe(error)
    if as_json:
        import json

        click.echo(json.dumps(failure), err=True)
    else:
        click.echo(click.style("error: ", fg="red", bold=True) + _sentence(failure), err=True)
    return error.exit_code if isinstance(error, click.ClickException) else 1


def _sentence(failure: dict[str, Any]) -> str:
    suggestion = failure.get("suggestion")
    return str(failure["message"]) + (f" ({suggestion})" if suggestion else "")
