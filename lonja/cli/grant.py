"""`lonja grant`."""

from __future__ import annotations

from math import isfinite

import click

from lonja.cli.options import Setup, common, print_json


@click.command(short_help="Give a license of your own model.")
@click.argument("token_id", type=click.IntRange(min=1))
@click.argument("address")
@click.option("--days", type=click.FloatRange(min=0, min_open=True), help="For how long [default: for good].")
@common(role="publisher")
def command(setup: Setup, *, token_id: int, address: str, days: float | None) -> None:
    """Give ADDRESS a license of your model with this TOKEN_ID, without payment.

    \b
    Examples:
      lonja grant 1 0x3C44CdDdB6a900fa2b585dd299e03d12FA4293BC --days 7 --devnet devnet/devnet.json
      lonja grant 1 0x3C44CdDdB6a900fa2b585dd299e03d12FA4293BC --key-file me.json --rpc ... --contract ...
    """
    if days is not None and not isfinite(days):
        raise click.BadParameter(f"{days} is not a number of days.", param_hint="'--days'")
    seconds = 0 if days is None else max(1, round(days * 86_400))
    sent = setup.run(lambda client: client.grant(token_id, address, seconds=seconds))
    if setup.as_json:
        print_json({"tokenId": str(token_id), "licensee": address, "duration": seconds, "tx": sent})
        return
    length = "for good" if days is None else f"for {days:g} more days"
    click.echo(f"{address} may use model {token_id} {length}; transaction {sent}")
