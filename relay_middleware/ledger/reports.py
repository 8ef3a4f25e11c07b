"""
Reports: what an operator asks of the books.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime

from sqlalchemy import Row, func, select
from sqlalchemy.ext.asyncio import AsyncConnection

from relay_middleware.core.holds import HoldState
from relay_middleware.core.identifiers import ApiKeyId, CustomerId
from relay_middleware.core.keys import KeyRight
from relay_middleware.core.money import NO_MONEY, NanoUsd
from relay_middleware.core.periods import Period, PeriodWindow
from relay_middleware.core.tiers import Customer, CustomerStatus
from relay_middleware.ledger.database import Database
from relay_middleware.ledger.sql import in_window
from relay_middleware.ledger.tables import (
    API_KEY,
    CUSTOMER,
    CUSTOMER_OVERRIDE,
    REQUEST,
    from_us,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class KeyReport:
    """
    One key.

    Attributes:
        hint: Last four characters of its secret.
        revoked_at: None while it is in force.
    """

    api_key_id: ApiKeyId
    right: KeyRight
    customer_id: CustomerId | None
    hint: str
    created_at: datetime
    revoked_at: datetime | None


@dataclass(frozen=True, slots=True, kw_only=True)
class UsageReport:
    """
    What one customer used in one window, and spent in several.

    Attributes:
        requests: Those that were settled.
        input_tokens: Cached and other parts included; as *output_tokens*.
        posted_by_period: Settled charges, by period; what is absent is 0.
    """

    customer: Customer
    requests: int = 0
    input_tokens: int = 0
    output_tokens: int = 0
    charge_nano_usd: NanoUsd = NO_MONEY
    cost_nano_usd: NanoUsd = NO_MONEY
    posted_by_period: Mapping[Period, NanoUsd] = field(default_factory=dict)


async def list_keys(database: Database) -> list[KeyReport]:
    """Return all keys, the oldest first, revoked ones too."""
    query = select(API_KEY).order_by(API_KEY.c.created_at_us, API_KEY.c.id)
    async with database.connect() as connection:
        rows = list(await connection.execute(query))
    return [
        KeyReport(
            api_key_id=ApiKeyId(row.id),
            right=KeyRight(row.key_right),
            customer_id=row.customer_id,
            hint=row.hint,
            created_at=from_us(row.created_at_us),
            revoked_at=None if row.revoked_at_us is None else from_us(row.revoked_at_us),
        )
        for row in rows
    ]


async def list_customers(database: Database, *, only: CustomerId | None = None) -> list[Customer]:
    """Return all customers by name, or the one that is asked for; empty if there is none."""
    customers = select(CUSTOMER).order_by(CUSTOMER.c.id)
    overrides = select(CUSTOMER_OVERRIDE)
    if only is not None:
        customers = customers.where(CUSTOMER.c.id == only)
        overrides = overrides.where(CUSTOMER_OVERRIDE.c.customer_id == only)
    limits: dict[str, dict[Period, NanoUsd | None]] = {}
    async with database.connect() as connection:
        for row in await connection.execute(overrides):
            limits.setdefault(row.customer_id, {})[Period(row.period)] = row.limit_nano_usd
        return [
            Customer(
                customer_id=CustomerId(row.id),
                tier=row.tier,
                status=CustomerStatus(row.status),
                spend_limits=limits.get(row.id, {}),
            )
            for row in await connection.execute(customers)
        ]


async def usage_report(
    database: Database,
    *,
    month: PeriodWindow,
    windows: Sequence[PeriodWindow],
    only: CustomerId | None = None,
) -> list[UsageReport]:
    """
    Return what each customer used in *month* and spent in each of *windows*, by name.

    Args:
        only: One customer instead of all.
    """
    customers = await list_customers(database, only=only)
    async with database.connect() as connection:
        used = {row.customer_id: row for row in await _sums(connection, month, only)}
        posted: dict[str, dict[Period, NanoUsd]] = {}
        for window in windows:
            for row in await _sums(connection, window, only):
                posted.setdefault(row.customer_id, {})[window.period] = NanoUsd(int(row.charge))
    return [
        _report(customer, used.get(customer.customer_id), posted.get(customer.customer_id, {}))
        for customer in customers
    ]


async def _sums(
    connection: AsyncConnection, window: PeriodWindow, only: CustomerId | None
) -> Sequence[Row[tuple[str, int, int, int, int, int]]]:
    query = (
        select(
            REQUEST.c.customer_id,
            func.count().label("requests"),
            func.sum(REQUEST.c.input_tokens).label("input_tokens"),
            func.sum(REQUEST.c.output_tokens).label("output_tokens"),
            func.sum(REQUEST.c.charge_nano_usd).label("charge"),
            func.sum(REQUEST.c.cost_nano_usd).label("cost"),
        )
        .where(REQUEST.c.state == HoldState.SETTLED.value, *in_window(window))
        .group_by(REQUEST.c.customer_id)
    )
    if only is not None:
        query = query.where(REQUEST.c.customer_id == only)
    return (await connection.execute(query)).all()


def _report(
    customer: Customer,
    used: Row[tuple[str, int, int, int, int, int]] | None,
    posted: Mapping[Period, NanoUsd],
) -> UsageReport:
    if used is None:
        return UsageReport(customer=customer, posted_by_period=posted)
    return UsageReport(
        customer=customer,
        requests=used.requests,
        input_tokens=int(used.input_tokens),
        output_tokens=int(used.output_tokens),
        charge_nano_usd=NanoUsd(int(used.charge)),
        cost_nano_usd=NanoUsd(int(used.cost)),
        posted_by_period=posted,
    )
