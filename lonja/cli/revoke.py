"""`lonja revoke`."""

from __future__ import annotations

import click

from lonja.cli.options import Setup, common, print_json


@click.command(short_help="Take a license of your own model back.")
@click.argument("token_id", type=click.IntRange(min=1))
@click.argument("address")
@common(role="publisher")
def command(setup: Setup, *, token_id: int, address: str) -> None:
    """Take the license of ADDRESS for your model with this TOKEN_ID back.

    What was paid for the time that is left goes back to who paid it.

    \b
    Example:
      lonja revoke 1 0x3C44CdDdB6a900fa2b585dd299e03d12FA4293BC --devnet devnet/devnet.json
    """
    sent = setup.run(lambda client: client.revoke(token_id, address))
    if setup.as_json:
        print_json({"tokenId": str(token_id), "licensee": address, "tx": sent})
        return
    click.echo(f"{address} may no longer use model {token_id}; transaction {sent}")
