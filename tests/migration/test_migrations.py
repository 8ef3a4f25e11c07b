"""
Migrations: they lead to the tables that the code knows, however many run them.
"""

import asyncio
import subprocess
import sys
from pathlib import Path

import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from sqlalchemy import Connection, select

from relay_middleware.errors import StoreUnavailableError
from relay_middleware.ledger.database import Database
from relay_middleware.ledger.migrations import migrate
from relay_middleware.ledger.tables import METADATA, REVISION

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


async def test_a_database_away_is_an_error_in_words() -> None:
    """
    A server that is not there is told, not waited for.
    """
    with pytest.raises(StoreUnavailableError, match="failed"):
        await migrate(Database("postgresql://127.0.0.1:1/books"))
