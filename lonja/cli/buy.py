"""`lonja buy`."""

from __future__ import annotations

import click

from lonja.cli.options import Setup, common, print_json
from lonja.cli.plain import plain


@click.command(short_help="Buy a license.")
@click.argument("token_id", type=click.IntRange(min=1))
@click.option(
    "--offer", type=click.IntRange(min=0), metavar="N", help="Id of the offer [default: the first]."
)
@click.option("--for", "licensee", metavar="ADDRESS", help="Whose license it is [default: yours].")
@common(role="licensee")
def command(setup: Setup, *, token_id: int, offer: int | None, licensee: str | None) -> None:
    """Buy a license of the model with this TOKEN_ID, paid by the key's account.

    A license that runs already is extended. Where a node is named, waits up to 10 s until it honours
    a license of your own, and says so if it does not.

    \b
    Examples:
      lonja buy 1 --devnet devnet/devnet.json
      lonja buy 1 --offer 2 --for 0x3C44CdDdB6a900fa2b585dd299e03d12FA4293BC --devnet devnet/devnet.json
      lonja buy 7 --rpc https://api.avax.network/ext/bc/C/rpc --contract 0x... --key-file me.json
    """
    bought = setup.run(lambda client: client.buy(token_id, offer=offer, licensee=licensee))
    if setup.as_json:
        print_json(
            {
                "tokenId": str(token_id), "offerId": str(bought.offer_id), "licensee": bought.licensee,
                "price": str(bought.price), "expiresAt": bought.expires_at, "tx": bought.tx,
                "nodeAgrees": bought.node_agrees,
            }
        )  # fmt: skip
        return
    click.echo(f"{bought.licensee} holds a license of model {token_id} {until(bought.expires_at)}")
    click.echo(f"offer {bought.offer_id}, transaction {bought.tx}")
    if bought.node_agrees is None and bought.node_says:
        click.echo(f"the node does not serve this model: {plain(bought.node_says)}", err=True)
    elif bought.node_agrees is False:
        click.echo(
            f"the node does not honour it yet: {plain(bought.node_says or '')}; try again soon", err=True
        )


def until(expires_at: int | None) -> str:
    """`until 2026-12-24 12:00 UTC`, or `for good`."""
    if expires_at is None:
        return "for good"
    from datetime import UTC, datetime

    try:
        return f"until {datetime.fromtimestamp(expires_at, UTC):%Y-%m-%d %H:%M UTC}"
    except (ValueError, OverflowError):
        return "for longer than calendars go"
