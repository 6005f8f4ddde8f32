"""`lonja models`."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from lonja.cli.options import Setup, common, print_json
from lonja.cli.plain import plain

if TYPE_CHECKING:
    from lonja.answers import Model, ModelPage
    from lonja.client import AsyncClient


@click.command(short_help="List the models that a node serves.")
@click.argument("name", required=False)
@click.option("--search", metavar="TEXT", help="Only models in whose name or description this stands.")
@click.option("--owner", metavar="ADDRESS", help="Only models of this owner.")
@click.option("--limit", type=click.IntRange(1, 200), default=50, show_default=True, help="At most so many.")
@click.option("--offset", type=click.IntRange(min=0), default=0, help="Leave out so many first.")
@common(role=None)
def command(
    setup: Setup, *, name: str | None, search: str | None, owner: str | None, limit: int, offset: int
) -> None:
    """List the models that a node serves; with NAME, tell of that one and what its licenses cost.

    \b
    Examples:
      lonja models --node http://127.0.0.1:3000
      lonja models --search digits --json
      lonja models digits --devnet devnet/devnet.json
    """
    if name is not None:
        model = setup.run(lambda client: client.model(name))
        print_json(model) if setup.as_json else _show_one(model)
        return

    async def ask(client: AsyncClient) -> ModelPage:
        return await client.models(search=search, owner=owner, offset=offset, limit=limit)

    page = setup.run(ask)
    print_json(page) if setup.as_json else _show_page(page)


def _show_page(page: ModelPage) -> None:
    if not page.models:
        click.echo("This node serves no such model.")
        return
    rows = [("TOKEN", "MODEL_ID", "REV", "SIZE", "OWNER", "NAME")]
    for model in page.models:
        size = "" if model.weights is None else _size(model.weights.bytes)
        rows.append(
            (model.token_id, model.model_id, str(model.revision), size, model.owner, plain(model.name))
        )
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        cells = (cell.ljust(width) for cell, width in zip(row, widths, strict=True))
        click.echo("  ".join(cells).rstrip())
    if page.total > page.offset + len(page.models):
        click.echo(
            f"{len(page.models)} of {page.total}; --offset {page.offset + len(page.models)} shows more"
        )


def _show_one(model: Model) -> None:
    from lonja.terms import NATIVE, coins, period

    click.echo(f"{plain(model.name)}  ({model.model_id}, token {model.token_id}, revision {model.revision})")
    if model.description:
        click.echo(plain(model.description, lines=True))
    click.echo(f"id        {model.id}\nmanifest  {model.manifest_cid}\nowner     {model.owner}")
    for offer in model.offers or []:
        native = offer.currency.lower() == NATIVE
        price = f"{coins(offer.price)} coins" if native else f"{offer.price} units of {offer.currency}"
        click.echo(f"offer {offer.offer_id:<3} {price}, {period(offer.duration)}")


def _size(count: float) -> str:
    for unit in ("B", "kB", "MB", "GB"):
        if count < 1000:
            return f"{count:.3g} {unit}"
        count /= 1000
    return f"{count:.3g} TB"
