"""
What the command line does with keys and customers: it writes SQL, and the servers follow.
"""

import asyncio
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from decimal import Decimal, InvalidOperation
from pathlib import Path

import click

from proxy_app.reports import (
    CUSTOMER_COLUMNS,
    KEY_COLUMNS,
    LIMIT_COLUMNS,
    USAGE_COLUMNS,
    customer_rows,
    key_rows,
    limit_rows,
    usage_rows,
)
from proxy_app.tables import Row, to_json, to_table
from relay_middleware.config import Config, load_config
from relay_middleware.core.identifiers import ApiKeyId, CustomerId, is_customer_id
from relay_middleware.core.keys import KeyRight
from relay_middleware.core.money import MAX_NANO_USD, NanoUsd, cents_to_nano_usd, format_cents
from relay_middleware.core.periods import Period, window_of, windows_of
from relay_middleware.core.tiers import CustomerStatus
from relay_middleware.ledger import operations, reports
from relay_middleware.ledger.database import Database
from relay_middleware.ledger.migrations import migrate
from relay_middleware.ledger.operations import CustomerChange, Operation
from relay_middleware.ledger.reports import UsageReport


def create_key(
    config_path: Path, *, customer_id: str | None, is_management: bool, is_json: bool
) -> None:
    """Create a key and print it; one that may name customers where neither option is given."""
    owner = None if customer_id is None else _customer_id(customer_id)
    right = KeyRight.MANAGEMENT if is_management else KeyRight.NAME_CUSTOMERS
    if owner is not None:
        right = KeyRight.CUSTOMER

    async def work(database: Database) -> None:
        key, secret = await operations.create_key(
            database, new_operation(), right=right, customer_id=owner
        )
        if is_json:
            facts = {"api_key_id": key.api_key_id, "right": right.value, "customer_id": owner}
            click.echo(to_json({**facts, "api_key": secret}))
        else:
            click.echo(secret)
            click.echo(f"This is {key.api_key_id}. It is not shown again.", err=True)

    _with_database(_config(config_path), work)


def list_keys(config_path: Path, *, is_json: bool) -> None:
    """Print all keys, revoked ones too."""

    async def work(database: Database) -> None:
        _print(key_rows(await reports.list_keys(database)), KEY_COLUMNS, is_json=is_json)

    _with_database(_config(config_path), work)


def revoke_key(config_path: Path, api_key_id: str) -> None:
    """Revoke a key."""

    async def work(database: Database) -> None:
        await operations.revoke_key(database, new_operation(), ApiKeyId(api_key_id))
        click.echo(f"{api_key_id} is revoked.")

    _with_database(_config(config_path), work)


def list_customers(config_path: Path, *, is_json: bool) -> None:
    """Print all customers."""

    async def work(database: Database) -> None:
        rows = customer_rows(await reports.list_customers(database))
        _print(rows, CUSTOMER_COLUMNS, is_json=is_json)

    _with_database(_config(config_path), work)


def show_customer(config_path: Path, customer_id: str, *, is_json: bool) -> None:
    """Print a customer, and per period its limit and what is left of it."""
    config = _config(config_path)

    async def work(database: Database) -> None:
        report = (await _usage(database, customer_id))[0]
        facts = customer_rows([report.customer])[0]
        limits = limit_rows(report, config.tiers)
        if is_json:
            click.echo(to_json({**facts, "limits": limits}))
        else:
            click.echo(to_table([facts], CUSTOMER_COLUMNS) + "\n")
            click.echo(to_table(limits, LIMIT_COLUMNS))

    _with_database(config, work)


def set_tier(config_path: Path, customer_id: str, tier: str) -> None:
    """Put a customer into *tier*, which must be configured; create it where there is none."""
    config = _config(config_path)
    if tier not in config.tiers:
        raise click.UsageError(f"There is no tier {tier!r}; there is {', '.join(config.tiers)}.")
    change = CustomerChange(customer_id=_customer_id(customer_id), tier=tier)

    async def work(database: Database) -> None:
        await operations.set_tier(database, new_operation(), change)
        click.echo(f"{customer_id} is in the tier {tier}.")

    _with_database(config, work)


def set_limit(config_path: Path, customer_id: str, period: str, *, cents: str | None) -> None:
    """Give a customer a limit of its own; None for *cents* lifts its tier's."""
    limit = None if cents is None else _nano_usd(cents)

    async def work(database: Database, change: CustomerChange) -> None:
        await operations.set_spend_limit(
            database, new_operation(), change, period=Period(period), limit_nano_usd=limit
        )
        shown = "no limit" if limit is None else f"a limit of {format_cents(limit)} cents"
        click.echo(f"{customer_id} has {shown} per {period}.")

    _with_customer(_config(config_path), customer_id, work)


def reset_limit(config_path: Path, customer_id: str, period: str) -> None:
    """Let a customer have its tier's limit again."""

    async def work(database: Database, change: CustomerChange) -> None:
        await operations.reset_spend_limit(database, new_operation(), change, period=Period(period))
        click.echo(f"{customer_id} has the limit of the tier {change.tier} per {period}.")

    _with_customer(_config(config_path), customer_id, work)


def set_blocked(config_path: Path, customer_id: str, *, is_blocked: bool) -> None:
    """Refuse all requests of a customer, or none for that reason."""
    status = CustomerStatus.BLOCKED if is_blocked else CustomerStatus.ACTIVE

    async def work(database: Database, change: CustomerChange) -> None:
        await operations.set_status(database, new_operation(), change, status)
        click.echo(f"{customer_id} is {status.value}.")

    _with_customer(_config(config_path), customer_id, work)


def show_usage(config_path: Path, customer_id: str | None, *, is_json: bool) -> None:
    """Print what each customer, or one, used this month and has left."""
    config = _config(config_path)

    async def work(database: Database) -> None:
        rows = usage_rows(await _usage(database, customer_id), config.tiers)
        _print(rows, USAGE_COLUMNS, is_json=is_json)

    _with_database(config, work)


@asynccontextmanager
async def opened(database_url: str) -> AsyncIterator[Database]:
    """
    Give the database with the tables of this version, and close it.

    Raises:
        StoreUnavailableError: It did not answer.
    """
    database = Database(database_url)
    try:
        await migrate(database)
        yield database
    finally:
        await database.aclose()


def new_operation() -> Operation:
    """Return an operation that was never made before, now."""
    return Operation(operation_id=str(uuid.uuid4()), at=datetime.now(UTC))


def _config(path: Path) -> Config:
    # No provider is called: their keys may be missing here.
    return load_config(path, is_serving=False)


def _with_database(config: Config, work: Callable[[Database], Awaitable[None]]) -> None:
    async def run() -> None:
        async with opened(config.database_url) as database:
            await work(database)

    asyncio.run(run())


def _with_customer(
    config: Config, customer_id: str, work: Callable[[Database, CustomerChange], Awaitable[None]]
) -> None:
    """Do *work* on a customer, which is created in the default tier where there is none."""
    named = _customer_id(customer_id)

    async def run(database: Database) -> None:
        known = await reports.list_customers(database, only=named)
        tier = known[0].tier if known else config.customers.default_tier
        if tier is None:
            raise _no_customer(customer_id)
        await work(database, CustomerChange(customer_id=named, tier=tier))

    _with_database(config, run)


async def _usage(database: Database, customer_id: str | None) -> Sequence[UsageReport]:
    now = datetime.now(UTC)
    found = await reports.usage_report(
        database,
        month=window_of(Period.MONTH, now),
        windows=windows_of(now),
        only=None if customer_id is None else _customer_id(customer_id),
    )
    if customer_id is not None and not found:
        raise _no_customer(customer_id)
    return found


def _no_customer(customer_id: str) -> click.ClickException:
    return click.ClickException(
        f"There is no customer {customer_id}. 'relay customers set-tier' creates it."
    )


def _customer_id(text: str) -> CustomerId:
    if not is_customer_id(text):
        raise click.UsageError(
            f"{text!r} is no customer id: 1 to 255 characters of A-Z a-z 0-9 . _ : @ | + = / -"
        )
    return CustomerId(text)


def _nano_usd(cents: str) -> NanoUsd:
    try:
        amount = cents_to_nano_usd(Decimal(cents))
    except (InvalidOperation, ValueError):
        raise click.UsageError(
            f"--cents {cents} is no amount: a number, 0 or more, with at most 7 decimals."
        ) from None
    if not 0 <= amount <= MAX_NANO_USD:
        raise click.UsageError(f"--cents {cents} must be from 0 to {format_cents(MAX_NANO_USD)}.")
    return amount


def _print(rows: Sequence[Row], columns: Mapping[str, str], *, is_json: bool) -> None:
    click.echo(to_json(rows) if is_json else to_table(rows, columns))
