"""
Sums of spend: what customers have spent in their periods that contain one instant.

Spent is what settled requests were charged and what expired ones had set aside; apart from that,
what operators added or took back.
"""

import asyncio
from collections import defaultdict
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from datetime import datetime
from typing import Any

import structlog
from sqlalchemy import ColumnElement, Row, RowMapping, Select, case, func, select
from sqlalchemy.ext.asyncio import AsyncConnection

from relay_middleware.core.identifiers import CustomerId
from relay_middleware.core.money import NanoUsd
from relay_middleware.core.periods import PeriodWindow, windows_of
from relay_middleware.ledger.adjustments import contains
from relay_middleware.ledger.calendars import UnknownZoneError, calendar_from, own_calendars
from relay_middleware.ledger.database import SUMS_TIMEOUT_S, Database, among
from relay_middleware.ledger.tables import ADJUSTMENT, CUSTOMER
from relay_middleware.ledger.usage_hours import OfWhom, is_in, usage_in
from relay_middleware.ports.stores import Spend

log = structlog.get_logger("relay")

BATCH_CUSTOMERS = 500
"""Customers in one query: some 2,000 sums."""

_PAUSE_AFTER = 200
"""Customers whose periods are computed in one go: some milliseconds, in which nobody is served."""

Windows = tuple[PeriodWindow, ...]


async def spends(database: Database, at: datetime) -> AsyncIterator[Sequence[Spend]]:
    """
    Yield what each customer has spent in its periods that contain *at*, in batches; what is zero
    is left out.

    A customer in a zone that this machine does not know is left out too, and logged: nobody can say
    which its periods are.
    """
    async with database.connect(timeout_s=SUMS_TIMEOUT_S) as connection:
        own = await own_calendars(connection)
    found, last = await _of_everyone(database, at, after=None)
    while last is not None:
        if batch := [spend for spend in found if spend.customer_id not in own]:
            yield batch
        found, last = await _of_everyone(database, at, after=last)
    for windows, customer_ids in in_batches(await _by_windows(own, at)):
        async with database.connect(timeout_s=SUMS_TIMEOUT_S) as connection:
            batch = await spends_of(connection, customer_ids, windows, at)
        if batch:
            yield batch


async def open_spends(database: Database, at: datetime) -> AsyncIterator[Sequence[Spend]]:
    """
    Yield what `spends` yields but for lifetimes.

    Customer by customer, whose requests of the running periods stand side by side in the index: all
    others, years of them, are not read.
    """
    async with database.connect() as connection:
        own = await own_calendars(connection)
    everyone, windows, last = (
        select(CUSTOMER.c.id).order_by(CUSTOMER.c.id),
        _open(windows_of(at)),
        "",
    )
    while True:
        async with database.connect(timeout_s=SUMS_TIMEOUT_S) as connection:
            page = everyone.where(CUSTOMER.c.id > last).limit(BATCH_CUSTOMERS)
            customer_ids = [CustomerId(each) for each in await connection.scalars(page)]
            if not customer_ids:
                break
            last = customer_ids[-1]
            common = [each for each in customer_ids if each not in own]
            batch = await spends_of(connection, common, windows, at)
        if batch:
            yield batch
    for its_windows, those in in_batches(await _by_windows(own, at)):
        async with database.connect(timeout_s=SUMS_TIMEOUT_S) as connection:
            batch = await spends_of(connection, those, _open(its_windows), at)
        if batch:
            yield batch


def _open(windows: Windows) -> Windows:
    """Those of *windows* that have a start."""
    return tuple(window for window in windows if window.starts_at is not None)


def in_batches(
    customers_by_windows: Mapping[Windows, Sequence[CustomerId]],
) -> Iterator[tuple[Windows, Sequence[CustomerId]]]:
    """Yield customers who have the same periods, as many as one query may ask for."""
    for windows, customer_ids in customers_by_windows.items():
        for start in range(0, len(customer_ids), BATCH_CUSTOMERS):
            yield windows, customer_ids[start : start + BATCH_CUSTOMERS]


async def spends_of(
    connection: AsyncConnection, customer_ids: Sequence[CustomerId], windows: Windows, at: datetime
) -> list[Spend]:
    """
    Return what each of *customer_ids* has spent in *windows*, which contain *at*.
    """
    query = _sums(windows, lambda customer: among(connection, customer, customer_ids))
    rows = (await connection.execute(query)).mappings().all()
    adjusted = await _adjusted(
        connection, at, among(connection, ADJUSTMENT.c.customer_id, customer_ids)
    )
    return _spends(rows, windows, adjusted)


async def _of_everyone(
    database: Database, at: datetime, *, after: CustomerId | None
) -> tuple[list[Spend], CustomerId | None]:
    """
    Return what some customers have spent, each taken for one of UTC's calendar, and the last of
    them; None where there was none after the customer *after*.
    """
    windows = windows_of(at)
    query = _sums(windows, lambda customer: customer > ("" if after is None else after))
    query = query.order_by(query.selected_columns.customer_id).limit(BATCH_CUSTOMERS)
    async with database.connect(timeout_s=SUMS_TIMEOUT_S) as connection:
        rows = (await connection.execute(query)).mappings().all()
        if not rows:
            return [], None
        first, last = rows[0]["customer_id"], rows[-1]["customer_id"]
        adjusted = await _adjusted(connection, at, ADJUSTMENT.c.customer_id.between(first, last))
    return _spends(rows, windows, adjusted), CustomerId(last)


async def _by_windows(
    own: Mapping[CustomerId, Row[Any]], at: datetime
) -> Mapping[Windows, Sequence[CustomerId]]:
    found = defaultdict(list)
    for number, (customer_id, row) in enumerate(own.items()):
        if number % _PAUSE_AFTER == 0:
            await asyncio.sleep(0)
        try:
            windows = windows_of(at, calendar_from(row))
        except UnknownZoneError as error:
            # Without a traceback: the zone is wrong, not the code.
            log.error("customer_left_out", customer_id=customer_id, reason=str(error))  # noqa: TRY400
        else:
            found[windows].append(customer_id)
    return found


def _sums(windows: Windows, of_whom: OfWhom) -> Select[Any]:
    """
    Select two columns per window, by the name of its period: what was spent, and the part of it
    that expired; and the customer.
    """
    usage = usage_in(windows, of_whom)
    expired = usage.c.expired_nano_usd
    columns = [
        func.sum(case((is_in(usage, window), counted), else_=0)).label(name)
        for window in windows
        for counted, name in (
            (usage.c.charge_nano_usd + expired, window.period.value),
            (expired, _expired_of(window)),
        )
    ]
    return select(usage.c.customer_id, *columns).group_by(usage.c.customer_id)


def _expired_of(window: PeriodWindow) -> str:
    return f"{window.period.value}_expired"


async def _adjusted(
    connection: AsyncConnection, at: datetime, condition: ColumnElement[bool]
) -> Mapping[tuple[str, str], int]:
    """Sum what was added to spend and taken back, by customer and period."""
    query = (
        select(
            ADJUSTMENT.c.customer_id, ADJUSTMENT.c.period, func.sum(ADJUSTMENT.c.posted_nano_usd)
        )
        .where(condition, contains(at))
        .group_by(ADJUSTMENT.c.customer_id, ADJUSTMENT.c.period)
    )
    rows = await connection.execute(query)
    return {(customer_id, period): int(posted) for customer_id, period, posted in rows}


def _spends(
    rows: Sequence[RowMapping], windows: Windows, adjusted: Mapping[tuple[str, str], int]
) -> list[Spend]:
    found = []
    for row in rows:
        customer_id = CustomerId(row["customer_id"])
        for window in windows:
            period = window.period.value
            spend = Spend(
                customer_id=customer_id,
                window=window,
                posted_nano_usd=NanoUsd(int(row[period])),
                expired_nano_usd=NanoUsd(int(row[_expired_of(window)])),
                adjusted_nano_usd=NanoUsd(adjusted.get((customer_id, period), 0)),
            )
            if spend.posted_nano_usd or spend.adjusted_nano_usd:
                found.append(spend)
    return found
