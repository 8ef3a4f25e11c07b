"""
What the command line does to the books: credits, refunds, and what nobody knows the end of.
"""

from pathlib import Path

import click

from proxy_app.administration import (
    new_operation,
    print_rows,
    read_config,
    to_customer_id,
    to_nano_usd,
    with_customer,
    with_database,
)
from proxy_app.reports import DEAD_LETTER_COLUMNS, dead_letter_rows, iso
from relay_middleware.core.identifiers import HoldId
from relay_middleware.core.money import MAX_NANO_USD, NanoUsd, format_cents
from relay_middleware.core.periods import Period
from relay_middleware.ledger import corrections, dead_letters
from relay_middleware.ledger.database import Database
from relay_middleware.ledger.operations import CustomerChange

_LEAST_CREDIT = NanoUsd(-MAX_NANO_USD)
_LEAST_REFUND = NanoUsd(1)


def credit(
    config_path: Path, customer_id: str, *, cents: str, period: str, note: str | None
) -> None:
    """Raise a customer's limit in the running period; an amount below 0 lowers it again."""
    amount = to_nano_usd(cents, least=_LEAST_CREDIT)

    async def work(database: Database, change: CustomerChange) -> None:
        window = await corrections.credit(
            database,
            new_operation(),
            change,
            period=Period(period),
            amount_nano_usd=amount,
            note=note,
        )
        until = "" if window.ends_at is None else f", until {iso(window.ends_at)}"
        click.echo(
            f"{customer_id} is given {format_cents(amount)} cents on top of its limit per"
            f" {period}{until}."
        )

    with_customer(read_config(config_path), customer_id, work)


def refund(
    config_path: Path, customer_id: str, request_id: str, *, cents: str, note: str | None
) -> None:
    """Take back a part of what a request was charged."""
    amount = to_nano_usd(cents, least=_LEAST_REFUND)
    named = to_customer_id(customer_id)

    async def work(database: Database) -> None:
        left = await corrections.refund(
            database,
            new_operation(),
            customer_id=named,
            request_id=HoldId(request_id),
            amount_nano_usd=amount,
            note=note,
        )
        click.echo(
            f"{customer_id} is refunded {format_cents(amount)} cents of request {request_id};"
            f" {format_cents(left)} stay charged."
        )

    with_database(read_config(config_path), work)


def resolve(config_path: Path, request_id: str, *, is_charged: bool) -> None:
    """Decide what an expired request came to: all that was set aside for it, or nothing."""

    async def work(database: Database) -> None:
        amount = await corrections.resolve(
            database, new_operation(), HoldId(request_id), is_charged=is_charged
        )
        became = "charged" if is_charged else "free again"
        click.echo(f"{format_cents(amount)} cents of request {request_id} are {became}.")

    with_database(read_config(config_path), work)


def list_dead_letters(config_path: Path, *, is_json: bool) -> None:
    """Print what the ledger refused for good."""

    async def work(database: Database) -> None:
        rows = dead_letter_rows(await dead_letters.list_dead_letters(database))
        print_rows(rows, DEAD_LETTER_COLUMNS, is_json=is_json)

    with_database(read_config(config_path), work)
