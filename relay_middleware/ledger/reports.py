"""
Reports: what an operator asks of the books.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import func, select

from relay_middleware.core.holds import HoldState
from relay_middleware.core.identifiers import ApiKeyId, CustomerId, HoldId
from relay_middleware.core.instants import from_us
from relay_middleware.core.keys import KeyRight
from relay_middleware.core.money import NanoUsd
from relay_middleware.core.periods import UTC_CALENDAR, Period
from relay_middleware.core.tiers import Customer, CustomerStatus
from relay_middleware.ledger.calendars import calendar_from, own_calendars
from relay_middleware.ledger.database import SUMS_TIMEOUT_S, Database
from relay_middleware.ledger.tables import API_KEY, CUSTOMER, CUSTOMER_OVERRIDE, REQUEST


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
class ExpiredReport:
    """A request that nobody knows the end of."""

    request_id: HoldId
    model: str
    hold_nano_usd: NanoUsd
    reserved_at: datetime


async def list_keys(database: Database) -> list[KeyReport]:
    """Return all keys, the oldest first, revoked ones too."""
    query = select(API_KEY).order_by(API_KEY.c.created_at_us, API_KEY.c.id)
    async with database.connect(timeout_s=SUMS_TIMEOUT_S) as connection:
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
    async with database.connect(timeout_s=SUMS_TIMEOUT_S) as connection:
        own = await own_calendars(connection, only=only)
        for row in await connection.execute(overrides):
            limits.setdefault(row.customer_id, {})[Period(row.period)] = row.limit_nano_usd
        return [
            Customer(
                customer_id=CustomerId(row.id),
                tier=row.tier,
                status=CustomerStatus(row.status),
                spend_limits=limits.get(row.id, {}),
                calendar=calendar_from(own[row.id]) if row.id in own else UTC_CALENDAR,
            )
            for row in await connection.execute(customers)
        ]


async def list_expired(database: Database, customer_id: CustomerId) -> list[ExpiredReport]:
    """Return a customer's expired requests, the oldest first."""
    query = (
        select(REQUEST)
        .where(REQUEST.c.customer_id == customer_id, REQUEST.c.state == HoldState.EXPIRED.value)
        .order_by(REQUEST.c.reserved_at_us)
    )
    async with database.connect(timeout_s=SUMS_TIMEOUT_S) as connection:
        return [
            ExpiredReport(
                request_id=HoldId(row.id),
                model=row.model,
                hold_nano_usd=NanoUsd(row.hold_nano_usd),
                reserved_at=from_us(row.reserved_at_us),
            )
            for row in await connection.execute(query)
        ]


@dataclass(frozen=True, slots=True, kw_only=True)
class StateReport:
    """
    Requests that ended alike.

    Attributes:
        hold_nano_usd: What was set aside for them.
    """

    requests: int
    charge_nano_usd: NanoUsd
    hold_nano_usd: NanoUsd


async def count_requests(
    database: Database, customer_id: CustomerId
) -> Mapping[HoldState, StateReport]:
    """Return how many of a customer's requests ended in each way; what there is none of is 0."""
    query = (
        select(
            REQUEST.c.state,
            func.count().label("requests"),
            func.sum(REQUEST.c.charge_nano_usd).label("charge"),
            func.sum(REQUEST.c.hold_nano_usd).label("hold"),
        )
        .where(REQUEST.c.customer_id == customer_id)
        .group_by(REQUEST.c.state)
    )
    async with database.connect(timeout_s=SUMS_TIMEOUT_S) as connection:
        rows = {HoldState(row.state): row for row in await connection.execute(query)}
    # PostgreSQL's sums are decimals.
    return {
        state: StateReport(
            requests=rows[state].requests if state in rows else 0,
            charge_nano_usd=NanoUsd(int(rows[state].charge) if state in rows else 0),
            hold_nano_usd=NanoUsd(int(rows[state].hold) if state in rows else 0),
        )
        for state in HoldState
    }
