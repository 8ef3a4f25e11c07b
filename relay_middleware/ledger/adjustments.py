"""
Adjustments: what operators added to accounts or took back, each for one account.
"""

from collections.abc import Sequence
from datetime import datetime
from typing import Any

from sqlalchemy import ColumnElement, Row, and_, or_, select

from relay_middleware.core.holds import Adjustment
from relay_middleware.core.identifiers import CustomerId, HoldId
from relay_middleware.core.instants import from_us, to_us
from relay_middleware.core.money import NanoUsd
from relay_middleware.core.periods import Period, PeriodWindow
from relay_middleware.ledger.database import Database
from relay_middleware.ledger.tables import ADJUSTMENT
from relay_middleware.ports.books import LedgerAdjustment

_AT_ONCE = 1000
"""Rows that are read in one go: some milliseconds of work."""


async def list_adjustments(
    database: Database, at: datetime, *, only: CustomerId | None = None
) -> Sequence[LedgerAdjustment]:
    """
    Return the adjustments of accounts whose period contains *at*, the oldest first.

    Args:
        only: Those of one customer.
    """
    query = (
        select(ADJUSTMENT).where(contains(at)).order_by(ADJUSTMENT.c.created_at_us, ADJUSTMENT.c.id)
    )
    if only is not None:
        query = query.where(ADJUSTMENT.c.customer_id == only)
    found: list[LedgerAdjustment] = []
    async with database.connect() as connection:
        # Of a lifetime there may be many thousands, and meanwhile others want to be served.
        async for rows in (await connection.stream(query)).partitions(_AT_ONCE):
            found += map(_from_row, rows)
    return found


def contains(at: datetime) -> ColumnElement[bool]:
    """Return the condition that an adjustment is for a period that contains *at*."""
    at_us = to_us(at)
    starts_at_us, ends_at_us = ADJUSTMENT.c.starts_at_us, ADJUSTMENT.c.ends_at_us
    return or_(ends_at_us.is_(None), and_(starts_at_us <= at_us, ends_at_us > at_us))


def adjustment_row(
    made: LedgerAdjustment, at: datetime, *, request_id: HoldId | None, note: str | None
) -> dict[str, object]:
    """
    Return the row of an adjustment that was made at *at*.

    Args:
        request_id: Of whose charge it takes back a part.
    """
    window = made.window
    return {
        "id": made.adjustment.operation_id,
        "customer_id": made.customer_id,
        "period": window.period.value,
        "starts_at_us": None if window.starts_at is None else to_us(window.starts_at),
        "ends_at_us": None if window.ends_at is None else to_us(window.ends_at),
        "posted_nano_usd": made.adjustment.posted_nano_usd,
        "credit_nano_usd": made.adjustment.credit_nano_usd,
        "request_id": request_id,
        "note": note,
        "created_at_us": to_us(at),
    }


def _from_row(row: Row[Any]) -> LedgerAdjustment:
    return LedgerAdjustment(
        customer_id=CustomerId(row.customer_id),
        window=PeriodWindow(
            period=Period(row.period),
            starts_at=None if row.starts_at_us is None else from_us(row.starts_at_us),
            ends_at=None if row.ends_at_us is None else from_us(row.ends_at_us),
        ),
        adjustment=Adjustment(
            operation_id=row.id,
            posted_nano_usd=NanoUsd(row.posted_nano_usd),
            credit_nano_usd=NanoUsd(row.credit_nano_usd),
        ),
    )
