"""
Comparing while Relay runs: what it reads does not grow with the age of the ledger.
"""

import json
from collections.abc import Iterator, Mapping
from datetime import timedelta
from typing import Any

import pytest
from fixtures.records import AT, ended
from sqlalchemy import event

from relay_middleware.core.instants import to_us
from relay_middleware.core.periods import Period
from relay_middleware.ledger.database import Database
from relay_middleware.ledger.sql import SqlLedger
from relay_middleware.ledger.tables import REQUEST
from relay_middleware.ports.stores import Spend

pytestmark = [pytest.mark.anyio, pytest.mark.slow]

OLD = 100_000
"""Requests of last year."""


async def add_old(database: Database, name: str) -> None:
    """Copy the request *name* into the year before, `OLD` times, one a minute."""
    values = {column.name: column.name for column in REQUEST.columns}
    values |= {
        "id": "'old' || i",
        "reserved_at_us": f"{to_us(AT - timedelta(days=365))} + CAST(i AS BIGINT) * 60000000",
    }
    statement = (
        f"INSERT INTO request ({', '.join(values)})"  # noqa: S608 - names of ours
        f" WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < {OLD})"
        f" SELECT {', '.join(values.values())} FROM n, request WHERE id = '{name}'"
    )
    async with database.begin() as connection:
        await connection.exec_driver_sql(statement)


def scans(plan: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
    """Yield the parts of a *plan* of PostgreSQL that read hours."""
    if plan.get("Relation Name") == "usage_hour":
        yield plan
    for each in plan.get("Plans", ()):
        yield from scans(each)


async def hours_read(database: Database, statement: str, parameters: Any) -> int | str:
    """Return how many hours PostgreSQL reads for *statement*, or how SQLite searches them."""
    async with database.connect() as connection:
        if database.is_sqlite:
            explain = f"EXPLAIN QUERY PLAN {statement}"
            steps = [row.detail for row in await connection.exec_driver_sql(explain, parameters)]
            (search,) = [step for step in steps if "usage_hour" in step]
            return str(search)
        explain = f"EXPLAIN (ANALYZE, FORMAT JSON) {statement}"
        found = (await connection.exec_driver_sql(explain, parameters)).scalar_one()
    (whole,) = json.loads(found) if isinstance(found, str) else found
    return sum(
        round((part["Actual Rows"] + part.get("Rows Removed by Filter", 0)) * part["Actual Loops"])
        for part in scans(whole["Plan"])
    )


async def test_old_requests_are_not_read(database: Database) -> None:
    """
    Of 100,002 requests in 1,668 hours two were reserved in periods that run, 1 by each customer:
    their day, week and month are summed from the hour of each, read by an index; lifetimes are left
    to `spends`.
    """
    ledger = SqlLedger(database)
    await ledger.append([ended(f"{name} 1", 1, customer=name) for name in ("alice", "bob")])
    await add_old(database, "alice 1")
    asked: list[tuple[str, Any]] = []

    def note(*args: Any) -> None:
        _, _, statement, parameters, _, _ = args
        if "FROM usage_hour" in statement:
            asked.append((statement, parameters))

    event.listen(database.engine.sync_engine, "before_cursor_execute", note)
    spends = [spend async for batch in ledger.open_spends(AT) for spend in batch]
    event.remove(database.engine.sync_engine, "before_cursor_execute", note)

    read = [await hours_read(database, *each) for each in asked]
    assert read == [
        "SEARCH usage_hour USING INDEX sqlite_autoindex_usage_hour_1 (customer_id=? AND hour>?)"
        if database.is_sqlite
        else 2
    ]
    found = {(each.customer_id, each.window.period): each.posted_nano_usd for each in spends}
    assert found == {
        (name, period): 1
        for name in ("alice", "bob")
        for period in (Period.DAY, Period.WEEK, Period.MONTH)
    }
    whole: list[Spend] = [spend async for batch in ledger.spends(AT) for spend in batch]
    assert max(each.posted_nano_usd for each in whole) == OLD + 1
