"""
`relay customers`: what can be said of customers, and nothing of how it is done.
"""

from pathlib import Path

import click

from proxy_app.cli_options import with_config, with_json

PERIODS = ("day", "week", "month", "lifetime")

with_note = click.option("--note", metavar="TEXT", help="Why, for the books.")


@click.group()
def customers() -> None:
    """Customers: tier, limits, periods, corrections. Servers apply a change within 2 seconds."""


@customers.command("list")
@with_config
@with_json
def list_customers(config_path: Path, *, is_json: bool) -> None:
    """List all customers."""
    from proxy_app import administration

    administration.list_customers(config_path, is_json=is_json)


@customers.command("show")
@with_config
@with_json
@click.argument("customer_id", metavar="ID")
def show_customer(config_path: Path, customer_id: str, *, is_json: bool) -> None:
    """Show a customer and the limits that apply to it."""
    from proxy_app import administration

    administration.show_customer(config_path, customer_id, is_json=is_json)


@customers.command("set-tier")
@with_config
@click.argument("customer_id", metavar="ID")
@click.argument("tier")
def set_tier(config_path: Path, customer_id: str, tier: str) -> None:
    """Put a customer into a tier; creates the customer where there is none."""
    from proxy_app import administration

    administration.set_tier(config_path, customer_id, tier)


@customers.command("set-limit")
@with_config
@click.argument("customer_id", metavar="ID")
@click.option("--cents", metavar="N", help="The limit; up to 7 decimals.")
@click.option("--unlimited", is_flag=True, help="No limit, whatever the tier says.")
@click.option("--reset", is_flag=True, help="The tier's limit again.")
@click.option("--per", "period", type=click.Choice(PERIODS), required=True, help="Which period.")
def set_limit(
    config_path: Path,
    customer_id: str,
    *,
    cents: str | None,
    unlimited: bool,
    reset: bool,
    period: str,
) -> None:
    """Give a customer a spend limit of its own, over its tier's."""
    if [cents is not None, unlimited, reset].count(True) != 1:
        raise click.UsageError("Give one of --cents N, --unlimited and --reset.")
    from proxy_app import administration

    if reset:
        administration.reset_limit(config_path, customer_id, period)
    else:
        administration.set_limit(config_path, customer_id, period, cents=cents)


@customers.command("block")
@with_config
@click.argument("customer_id", metavar="ID")
def block_customer(config_path: Path, customer_id: str) -> None:
    """Refuse all requests of a customer."""
    from proxy_app import administration

    administration.set_blocked(config_path, customer_id, is_blocked=True)


@customers.command("unblock")
@with_config
@click.argument("customer_id", metavar="ID")
def unblock_customer(config_path: Path, customer_id: str) -> None:
    """Serve a blocked customer again."""
    from proxy_app import administration

    administration.set_blocked(config_path, customer_id, is_blocked=False)


@customers.command("set-period")
@with_config
@click.argument("customer_id", metavar="ID")
@click.option("--zone", metavar="NAME", help="Time zone, such as Europe/Berlin.")
@click.option(
    "--anchor-day",
    type=click.IntRange(1, 31),
    help="Day on which months begin; the last one of a month that has no such day.",
)
def set_period(
    config_path: Path, customer_id: str, *, zone: str | None, anchor_day: int | None
) -> None:
    """
    Say when a customer's periods begin: at midnight of which zone, months on which day.

    Each period follows when the running one ends; what is not given stays as it is.
    """
    if zone is None and anchor_day is None:
        raise click.UsageError("Give --zone NAME, --anchor-day N or both.")
    from proxy_app import administration

    administration.set_period(config_path, customer_id, zone=zone, anchor_day=anchor_day)


@customers.command("credit")
@with_config
@click.argument("customer_id", metavar="ID")
@click.option("--cents", metavar="N", required=True, help="Below 0 takes back what was given.")
@click.option("--per", "period", type=click.Choice(PERIODS), required=True, help="Which period.")
@with_note
def credit(
    config_path: Path, customer_id: str, *, cents: str, period: str, note: str | None
) -> None:
    """Let a customer spend more than its limit, in the running period alone."""
    from proxy_app import corrections

    corrections.credit(config_path, customer_id, cents=cents, period=period, note=note)


@customers.command("refund")
@with_config
@click.argument("customer_id", metavar="ID")
@click.argument("request_id", metavar="REQUEST")
@click.option("--cents", metavar="N", required=True, help="At most what the request was charged.")
@with_note
def refund(
    config_path: Path, customer_id: str, request_id: str, *, cents: str, note: str | None
) -> None:
    """Take back a part of what a request was charged, or all of it."""
    from proxy_app import corrections

    corrections.refund(config_path, customer_id, request_id, cents=cents, note=note)


@customers.command("resolve")
@with_config
@click.argument("request_id", metavar="REQUEST")
@click.option("--charge", "is_charged", is_flag=True, help="All that was set aside for it.")
@click.option("--release", "is_released", is_flag=True, help="Nothing.")
def resolve(config_path: Path, request_id: str, *, is_charged: bool, is_released: bool) -> None:
    """
    Decide what an expired request came to, which 'relay customers show' lists.

    Until then it counts against the limits and is not charged.
    """
    if is_charged == is_released:
        raise click.UsageError("Give one of --charge and --release.")
    from proxy_app import corrections

    corrections.resolve(config_path, request_id, is_charged=is_charged)
