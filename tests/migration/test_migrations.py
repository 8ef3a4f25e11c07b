"""
Migrations: they lead to the tables that the code knows, however many run them.
"""

import asyncio
import sqlite3
import subprocess
import sys
from collections.abc import Mapping
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from fixtures.records import AT, attempt, ended
from sqlalchemy import Connection, select
from sqlalchemy.dialects import sqlite

from relay_middleware.core.identifiers import CustomerId
from relay_middleware.core.periods import UTC_CALENDAR, Period
from relay_middleware.core.records import AttemptOutcome
from relay_middleware.core.usage import UsageSource
from relay_middleware.errors import StoreUnavailableError
from relay_middleware.ledger import migrations
from relay_middleware.ledger.database import Database, ValueRefusedError
from relay_middleware.ledger.migrations import migrate, newest
from relay_middleware.ledger.reports import list_customers
from relay_middleware.ledger.rows import attempt_rows, customer_row, request_row
from relay_middleware.ledger.sql import SqlLedger
from relay_middleware.ledger.tables import ATTEMPT, CUSTOMER, METADATA, REQUEST, REVISION

pytestmark = pytest.mark.anyio


def differences(connection: Connection) -> list[object]:
    return list(compare_metadata(MigrationContext.configure(connection), METADATA))


async def test_migrated_tables_are_the_codes(database: Database) -> None:
    """
    Nothing is left to migrate: columns, types, indexes are those of `tables.py`.
    """
    async with database.begin() as connection:
        assert await connection.run_sync(differences) == []


async def test_many_migrate_at_once(database_url: str) -> None:
    """
    Five at once, and one more later: one revision row, no error.
    """
    databases = [Database(database_url) for _ in range(5)]

    await asyncio.gather(*(migrate(each) for each in databases))
    await migrate(databases[0])

    async with databases[0].connect() as connection:
        rows = await connection.execute(select(REVISION.c.id, REVISION.c.number))
        assert [tuple(row) for row in rows] == [(1, 0)]
    for each in databases:
        await each.aclose()


async def test_what_was_there_before_periods(database_url: str) -> None:
    """
    A database of the version before keeps its requests: its customers have UTC's calendar, and the
    100 that were charged are spent in the month.
    """
    database = Database(database_url)
    await migrate(database, to="0002")
    record = ended("r1", 100, attempts=(attempt(AttemptOutcome.SERVED, 200),))
    async with database.begin() as connection:
        await connection.execute(CUSTOMER.insert(), customer_row(record))
        await connection.execute(REQUEST.insert(), request_row(record))
        await connection.execute(ATTEMPT.insert(), attempt_rows(record))

    await migrate(database)

    (alice,) = await list_customers(database)
    assert (alice.customer_id, alice.calendar) == (CustomerId("alice"), UTC_CALENDAR)
    spends = [spend async for batch in SqlLedger(database).spends(AT) for spend in batch]
    assert {spend.window.period: spend.posted_nano_usd for spend in spends}[Period.MONTH] == 100
    async with database.begin() as connection:
        assert await connection.run_sync(differences) == []
    await database.aclose()


async def test_words_that_came_later(database_url: str) -> None:
    """
    A database of the version before keeps its rows, and takes the two words that are new; others it
    refuses as ever, on connections of before the change too.
    """
    database = Database(database_url)
    await migrate(database, to="0003")
    old = ended("r1", 100, attempts=(attempt(AttemptOutcome.SERVED, 200),))
    cancelled = attempt(AttemptOutcome.CANCELLED, None)
    new = replace(ended("r2", 7, attempts=(cancelled,)), usage_source=UsageSource.BOUND)
    async with database.begin() as connection:
        await connection.execute(CUSTOMER.insert(), customer_row(old))
        await connection.execute(REQUEST.insert(), request_row(old))
        await connection.execute(ATTEMPT.insert(), attempt_rows(old))
    with pytest.raises(ValueRefusedError):
        await insert(database, request_row(new))

    other = Database(database_url)
    await migrate(other)

    await insert(database, request_row(new), *attempt_rows(new))
    with pytest.raises(ValueRefusedError):
        await insert(database, {**request_row(new), "id": "r3", "usage_source": "guessed"})
    with pytest.raises(ValueRefusedError):
        await insert(other, {**request_row(new), "id": "r3", "usage_source": "guessed"})
    async with database.connect() as connection:
        rows = await connection.execute(select(REQUEST.c.id, REQUEST.c.usage_source))
        assert sorted(tuple(row) for row in rows) == [("r1", "provider"), ("r2", "bound")]
        outcomes = await connection.execute(
            select(ATTEMPT.c.outcome).order_by(ATTEMPT.c.request_id)
        )
        assert list(outcomes.scalars()) == ["served", "cancelled"]
    await database.aclose()
    await other.aclose()


@pytest.mark.parametrize(
    ("column", "words"),
    [
        ("state", ["settled", "released", "expired"]),
        ("usage_source", ["provider", "counted", "bound", None]),
    ],
)
async def test_words_of_a_request(database: Database, column: str, words: list[str | None]) -> None:
    """
    A request takes each of the words that it may have, and no other.
    """
    record = ended("r1", 100)
    await insert_customer(database)
    for number, word in enumerate(words):
        await insert(database, {**request_row(record), "id": f"r{number}", column: word})

    with pytest.raises(ValueRefusedError):
        await insert(database, {**request_row(record), "id": "r9", column: "guessed"})


async def test_words_of_an_attempt(database: Database) -> None:
    """
    An attempt takes each of the five outcomes, and no other.
    """
    record = ended("r1", 100, attempts=(attempt(AttemptOutcome.SERVED, 200),))
    (row,) = attempt_rows(record)
    await insert_customer(database)
    every = [{**row, "number": i, "outcome": each.value} for i, each in enumerate(AttemptOutcome)]

    await insert(database, request_row(record), *every)

    assert len(every) == 5
    with pytest.raises(ValueRefusedError):
        await insert(database, {**request_row(record), "id": "r2"}, {**row, "outcome": "guessed"})


async def test_sqlite_checks_words_without_a_table(tmp_path: Path) -> None:
    """
    To insert a request and an attempt SQLite opens no table in memory, as it does for `IN` with
    three words or more: then it would make one for each row.
    """
    path = tmp_path / "relay.db"
    database = Database(f"sqlite:///{path}")
    await migrate(database)
    await database.aclose()
    with closing(sqlite3.connect(path)) as connection:
        for table in (REQUEST, ATTEMPT):
            insert = sqlite.insert(table).on_conflict_do_nothing()
            text = str(insert.compile(dialect=sqlite.dialect()))
            steps = connection.execute(f"EXPLAIN {text}", [None] * len(table.columns))
            assert "OpenEphemeral" not in {step[1] for step in steps}


async def insert_customer(database: Database) -> None:
    """Insert the row of the customer that records are of."""
    async with database.begin() as connection:
        await connection.execute(CUSTOMER.insert(), customer_row(ended("r1", 100)))


async def insert(
    database: Database, request: Mapping[str, object], *attempts: Mapping[str, object]
) -> None:
    """Insert the row of a request, and those of its attempts."""
    async with database.begin() as connection:
        await connection.execute(REQUEST.insert(), request)
        for each in attempts:
            await connection.execute(ATTEMPT.insert(), each)


MIGRATE = """
import asyncio, sys
from relay_middleware.ledger.database import Database
from relay_middleware.ledger.migrations import migrate
asyncio.run(migrate(Database(sys.argv[1])))
"""


def test_processes_migrate_at_once(tmp_path: Path) -> None:
    """
    Three processes that start together on one SQLite file all succeed.
    """
    url = f"sqlite:///{tmp_path}/relay.db"
    started = [subprocess.Popen([sys.executable, "-c", MIGRATE, url]) for _ in range(3)]  # noqa: S603 - our own code

    assert [process.wait(timeout=60) for process in started] == [0, 0, 0]


NEEDS_ALEMBIC = f"{MIGRATE}print('alembic' in sys.modules)"


def test_alembic_is_imported_for_what_is_missing(tmp_path: Path) -> None:
    """
    A new database is migrated with Alembic; who opens it then does not import it.
    """
    url = f"sqlite:///{tmp_path}/relay.db"
    said = [
        subprocess.run(  # noqa: S603 - our own code
            [sys.executable, "-c", NEEDS_ALEMBIC, url], stdout=subprocess.PIPE, check=True
        ).stdout
        for _ in range(2)
    ]

    assert said == [b"True\n", b"False\n"]


def test_the_newest_is_alembics_head() -> None:
    """
    The number of the last file is that of the migration which Alembic takes for the last.
    """
    assert newest() == ScriptDirectory(str(Path(migrations.__file__).parent)).get_current_head()


async def test_a_database_away_is_an_error_in_words() -> None:
    """
    A server that is not there is told, not waited for.
    """
    with pytest.raises(StoreUnavailableError, match="failed"):
        await migrate(Database("postgresql://127.0.0.1:1/books"))
