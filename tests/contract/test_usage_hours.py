"""
Usage by hour: whatever happens to requests, the sums of hours are those of the requests.
"""

import random
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest
from fixtures.records import ended
from sqlalchemy import func, select, true

from relay_middleware.core.holds import HoldState
from relay_middleware.core.identifiers import CustomerId, HoldId
from relay_middleware.core.money import NanoUsd
from relay_middleware.core.periods import Calendar, PeriodWindow, windows_of
from relay_middleware.core.records import RequestEnded
from relay_middleware.ledger.database import Database
from relay_middleware.ledger.sql import SqlLedger
from relay_middleware.ledger.tables import ATTEMPT, REQUEST
from relay_middleware.ledger.usage_hours import is_in, usage_in

pytestmark = pytest.mark.anyio

AT = datetime(2026, 11, 23, 12, tzinfo=UTC)
# Whole hours, half an hour, and a quarter beside UTC's.
ZONES = ("UTC", "America/New_York", "Asia/Kolkata", "Asia/Kathmandu")
NAMES = ("requests", "input_tokens", "output_tokens", "cost_nano_usd", "charge_nano_usd")


def worth(record: RequestEnded) -> Counter[str]:
    """Return what one request adds to the sums."""
    if record.state is HoldState.EXPIRED:
        return Counter(expired_nano_usd=record.hold_nano_usd)
    if record.state is HoldState.RELEASED:
        return Counter()
    amounts = (1, 10, 5, record.cost_nano_usd, record.charge_nano_usd)
    return Counter(dict(zip(NAMES, amounts, strict=True)))


def sums(
    records: Sequence[RequestEnded], window: PeriodWindow
) -> dict[CustomerId, Mapping[str, int]]:
    """Add up *records* of *window*, one by one; customers without any sum are left out."""
    found: dict[CustomerId, Counter[str]] = {}
    for record in records:
        if window.contains(record.reserved_at):
            found.setdefault(record.customer_id, Counter()).update(worth(record))
    return {customer_id: dict(+each) for customer_id, each in found.items() if +each}


async def read(
    database: Database, windows: Sequence[PeriodWindow], window: PeriodWindow
) -> dict[CustomerId, Mapping[str, int]]:
    """Return the sums of *window* that the database has, asked for together with *windows*."""
    usage = usage_in(windows, lambda _: true())
    columns = [func.sum(usage.c[name]).label(name) for name in (*NAMES, "expired_nano_usd")]
    query = select(usage.c.customer_id, *columns).where(is_in(usage, window))
    async with database.connect() as connection:
        rows = await connection.execute(query.group_by(usage.c.customer_id))
        found = {
            CustomerId(row.customer_id): {
                name: int(value)
                for name, value in row._asdict().items()
                if name != "customer_id" and value
            }
            for row in rows
        }
    return {customer_id: each for customer_id, each in found.items() if each}


def drawn(source: random.Random, number: int, windows: Sequence[PeriodWindow]) -> RequestEnded:
    """Draw a request of the last two months, or one at an edge of a period."""
    edges = [at for each in windows for at in (each.starts_at, each.ends_at) if at is not None]
    at = AT - timedelta(microseconds=source.randrange(60 * 86_400 * 1_000_000))
    if source.random() < 0.3:
        at = source.choice(edges) + timedelta(microseconds=source.choice((-1, 0, 1)))
    state = source.choice((HoldState.SETTLED, HoldState.SETTLED, *HoldState))
    if state is HoldState.OPEN:
        state = HoldState.EXPIRED
    charge = source.randrange(1000) if state is HoldState.SETTLED else 0
    name, customer = f"r{number}", source.choice("abc")
    return ended(name, charge, customer=customer, at=at, state=state)


@pytest.mark.parametrize("zone", ZONES)
@pytest.mark.parametrize("seed", range(3))
async def test_hours_are_the_sums_of_their_requests(
    database: Database, zone: str, seed: int
) -> None:
    """
    200 requests in batches that overlap, half of the expired ones ended later: for each period of
    a calendar, asked for alone or with the others, the sums are those of the requests added up.
    """
    source = random.Random(seed)  # noqa: S311 - draws what a test does
    windows = windows_of(AT, Calendar(zone=ZoneInfo(zone)))
    ledger = SqlLedger(database)
    first = [drawn(source, number, windows) for number in range(200)]
    for start in range(0, 200, 30):
        await ledger.append(first[start : start + 50])
    late = [
        replace(each, state=HoldState.SETTLED, charge_nano_usd=NanoUsd(7))
        for each in first
        if each.state is HoldState.EXPIRED and source.random() < 0.5
    ]
    await ledger.append([*late, *first[:20]])
    final = {each.hold_id: each for each in [*first, *late]}

    for window in windows:
        expected = sums(list(final.values()), window)
        assert await read(database, [window], window) == expected
        assert await read(database, windows, window) == expected


async def test_whatever_changes_requests_changes_the_sums(database: Database) -> None:
    """
    By hand, past Relay: a request that is charged 5 more, one that moves to another hour and
    customer, and one that is deleted.
    """
    lifetime = windows_of(AT)[-1]
    records = [ended(f"r{number}", 10, at=AT) for number in range(4)]
    await SqlLedger(database).append([*records, ended("b", 1, customer="bob")])
    moved = replace(records[1], customer_id=CustomerId("bob"), reserved_at=AT - timedelta(days=1))
    async with database.begin() as connection:
        charge = REQUEST.c.charge_nano_usd
        first = REQUEST.c.id == "r0"
        await connection.execute(REQUEST.update().where(first).values(charge_nano_usd=charge + 5))
        await connection.execute(
            REQUEST.update()
            .where(REQUEST.c.id == "r1")
            .values(customer_id="bob", reserved_at_us=REQUEST.c.reserved_at_us - 86_400_000_000)
        )
        await connection.execute(ATTEMPT.delete())
        await connection.execute(REQUEST.delete().where(REQUEST.c.id == "r2"))

    left = [replace(records[0], charge_nano_usd=NanoUsd(15)), moved, records[3]]
    left.append(ended("b", 1, customer="bob"))
    assert await read(database, [lifetime], lifetime) == sums(left, lifetime)
    assert {each.hold_id for each in left} == {HoldId(name) for name in ("r0", "r1", "r3", "b")}
