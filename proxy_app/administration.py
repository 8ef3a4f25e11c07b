"""
What the command line does with keys and customers: it writes SQL, and the servers follow.
"""

import asyncio
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from datetime import UTC, datetime, tzinfo
from decimal import Decimal, InvalidOperation
from difflib import get_close_matches
from pathlib import Path

import click

from proxy_app.reports import (
    CUSTOMER_COLUMNS,
    EXPIRED_COLUMNS,
    KEY_COLUMNS,
    PACE_COLUMNS,
    calendar_change,
    customer_pace_row,
    customer_rows,
    expired_rows,
    key_rows,
    limit_columns,
    limit_rows,
    still_to_come,
    usage_columns,
    usage_rows,
)
from proxy_app.tables import Row, to_json, to_table
from relay_middleware.config import Config, load_config
from relay_middleware.core.identifiers import ApiKeyId, CustomerId, is_customer_id
from relay_middleware.core.keys import KeyRight
from relay_middleware.core.money import (
    MAX_NANO_USD,
    NO_MONEY,
    NanoUsd,
    cents_to_nano_usd,
    format_cents,
)
from relay_middleware.core.periods import Period
from relay_middleware.core.tiers import CustomerStatus
from relay_middleware.ledger import operations, reports
from relay_middleware.ledger.calendars import set_calendar, zone_named, zone_names
from relay_middleware.ledger.database import Database
from relay_middleware.ledger.migrations import migrate
from relay_middleware.ledger.operations import CustomerChange, Operation
from relay_middleware.ledger.usage_reports import UsageReport, usage_report


def create_key(
    config_path: Path, *, customer_id: str | None, is_management: bool, is_json: bool
) -> None:
    """Create a key and print it; one that may name customers where neither option is given."""
    owner = None if customer_id is None else to_customer_id(customer_id)
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

    with_database(read_config(config_path), work)


def list_keys(config_path: Path, *, is_json: bool) -> None:
    """Print all keys, revoked ones too."""

    async def work(database: Database) -> None:
        print_rows(key_rows(await reports.list_keys(database)), KEY_COLUMNS, is_json=is_json)

    with_database(read_config(config_path), work)


def revoke_key(config_path: Path, api_key_id: str) -> None:
    """Revoke a key."""

    async def work(database: Database) -> None:
        await operations.revoke_key(database, new_operation(), ApiKeyId(api_key_id))
        click.echo(f"{api_key_id} is revoked.")

    with_database(read_config(config_path), work)


def list_customers(config_path: Path, *, is_json: bool) -> None:
    """Print all customers."""

    async def work(database: Database) -> None:
        rows = customer_rows(await reports.list_customers(database))
        print_rows(rows, CUSTOMER_COLUMNS, is_json=is_json)

    with_database(read_config(config_path), work)


def show_customer(config_path: Path, customer_id: str, *, is_json: bool) -> None:
    """Print a customer, how fast it may ask, and per period its limit and what is left of it."""
    config = read_config(config_path)

    async def work(database: Database) -> None:
        now = datetime.now(UTC)
        report = (await _usage(database, now, customer_id))[0]
        facts = customer_rows([report.customer])[0]
        limits = limit_rows(report, config.tiers)
        pace = customer_pace_row(report.customer, config.tiers)
        expired = expired_rows(await reports.list_expired(database, report.customer.customer_id))
        if is_json:
            change = calendar_change(report.customer.calendar)
            lists = {"limits": limits, "expired": expired}
            click.echo(to_json({**facts, **pace, **change, **lists}))
            return
        click.echo(to_table([facts], CUSTOMER_COLUMNS))
        if coming := still_to_come(report.customer.calendar, now):
            click.echo(coming)
        click.echo("\n" + to_table([pace], PACE_COLUMNS))
        click.echo("\n" + to_table(limits, limit_columns(limits)))
        if expired:
            click.echo("\n" + to_table(expired, EXPIRED_COLUMNS))

    with_database(config, work)


def set_tier(config_path: Path, customer_id: str, tier: str) -> None:
    """Put a customer into *tier*, which must be configured; create it where there is none."""
    config = read_config(config_path)
    if tier not in config.tiers:
        raise click.UsageError(f"There is no tier {tier!r}; there is {', '.join(config.tiers)}.")
    change = CustomerChange(customer_id=to_customer_id(customer_id), tier=tier)

    async def work(database: Database) -> None:
        await operations.set_tier(database, new_operation(), change)
        click.echo(f"{customer_id} is in the tier {tier}.")

    with_database(config, work)


def set_limit(config_path: Path, customer_id: str, period: str, *, cents: str | None) -> None:
    """Give a customer a limit of its own; None for *cents* lifts its tier's."""
    limit = None if cents is None else to_nano_usd(cents)

    async def work(database: Database, change: CustomerChange) -> None:
        await operations.set_spend_limit(
            database, new_operation(), change, period=Period(period), limit_nano_usd=limit
        )
        shown = "no limit" if limit is None else f"a limit of {format_cents(limit)} cents"
        click.echo(f"{customer_id} has {shown} per {period}.")

    with_customer(read_config(config_path), customer_id, work)


def reset_limit(config_path: Path, customer_id: str, period: str) -> None:
    """Let a customer have its tier's limit again."""

    async def work(database: Database, change: CustomerChange) -> None:
        await operations.reset_spend_limit(database, new_operation(), change, period=Period(period))
        click.echo(f"{customer_id} has the limit of the tier {change.tier} per {period}.")

    with_customer(read_config(config_path), customer_id, work)


def set_period(
    config_path: Path, customer_id: str, *, zone: str | None, anchor_day: int | None
) -> None:
    """Say when a customer's periods begin; None keeps what is."""
    named = None if zone is None else _zone(zone)

    async def work(database: Database, change: CustomerChange) -> None:
        operation = new_operation()
        calendar = await set_calendar(
            database, operation, change, zone=named, anchor_day=anchor_day
        )
        click.echo(
            f"{customer_id} has the time zone {calendar.zone_name}, and months from day"
            f" {calendar.anchor_day}."
        )
        if coming := still_to_come(calendar, operation.at):
            click.echo(coming)

    with_customer(read_config(config_path), customer_id, work)


def set_blocked(config_path: Path, customer_id: str, *, is_blocked: bool) -> None:
    """Refuse all requests of a customer, or none for that reason."""
    status = CustomerStatus.BLOCKED if is_blocked else CustomerStatus.ACTIVE

    async def work(database: Database, change: CustomerChange) -> None:
        await operations.set_status(database, new_operation(), change, status)
        click.echo(f"{customer_id} is {status.value}.")

    with_customer(read_config(config_path), customer_id, work)


def show_usage(config_path: Path, customer_id: str | None, *, is_json: bool) -> None:
    """Print what each customer, or one, used this month and has left."""
    config = read_config(config_path)

    async def work(database: Database) -> None:
        found = await _usage(database, datetime.now(UTC), customer_id)
        rows = usage_rows(found, config.tiers)
        print_rows(rows, usage_columns(rows), is_json=is_json)

    with_database(config, work)


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


def read_config(path: Path) -> Config:
    """
    Return the configuration in *path*.

    Raises:
        ConfigurationError: It cannot be read, or is wrong.
    """
    # No provider is called: their keys may be missing here.
    return load_config(path, is_serving=False)


def with_database(config: Config, work: Callable[[Database], Awaitable[None]]) -> None:
    """Do *work* on the database, and wait for it."""

    async def run() -> None:
        async with opened(config.database_url) as database:
            await work(database)

    asyncio.run(run())


def with_customer(
    config: Config, customer_id: str, work: Callable[[Database, CustomerChange], Awaitable[None]]
) -> None:
    """Do *work* on a customer, which is created in the default tier where there is none."""
    named = to_customer_id(customer_id)

    async def run(database: Database) -> None:
        known = await reports.list_customers(database, only=named)
        tier = known[0].tier if known else config.customers.default_tier
        if tier is None:
            raise _no_customer(customer_id)
        await work(database, CustomerChange(customer_id=named, tier=tier))

    with_database(config, run)


async def _usage(
    database: Database, at: datetime, customer_id: str | None
) -> Sequence[UsageReport]:
    only = None if customer_id is None else to_customer_id(customer_id)
    found = await usage_report(database, at, only=only)
    if customer_id is not None and not found:
        raise _no_customer(customer_id)
    return found


def _no_customer(customer_id: str) -> click.ClickException:
    return click.ClickException(
        f"There is no customer {customer_id}. 'relay customers set-tier' creates it."
    )


def _zone(name: str) -> tzinfo:
    known = zone_names()
    if name not in known:
        near = get_close_matches(name, sorted(known), n=3)
        remedy = f"did you mean {' or '.join(near)}" if near else "such as Europe/Berlin, or UTC"
        raise click.UsageError(f"--zone {name} is not in the time zone database: {remedy}")
    return zone_named(name)


def to_customer_id(text: str) -> CustomerId:
    """
    Return *text* as a customer's id.

    Raises:
        click.UsageError: It is none.
    """
    if not is_customer_id(text):
        raise click.UsageError(
            f"{text!r} is no customer id: 1 to 255 characters of A-Z a-z 0-9 . _ : @ | + = / -"
        )
    return CustomerId(text)


def to_nano_usd(cents: str, *, least: NanoUsd = NO_MONEY) -> NanoUsd:
    """
    Return what `--cents` says.

    Raises:
        click.UsageError: It is no amount, or not from *least* to the highest that can be counted.
    """
    try:
        amount = cents_to_nano_usd(Decimal(cents))
    except (InvalidOperation, ValueError):
        raise click.UsageError(
            f"--cents {cents} is no amount: a number with at most 7 decimals."
        ) from None
    if not least <= amount <= MAX_NANO_USD:
        raise click.UsageError(
            f"--cents {cents} must be from {format_cents(least)} to {format_cents(MAX_NANO_USD)}."
        )
    return amount


def print_rows(rows: Sequence[Row], columns: Mapping[str, str], *, is_json: bool) -> None:
    """Print *rows* as a table of *columns*, or whole as JSON."""
    click.echo(to_json(rows) if is_json else to_table(rows, columns))
