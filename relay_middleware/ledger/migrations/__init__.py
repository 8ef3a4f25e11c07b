"""
Migrations: bring a database to the tables of this version.
"""

import asyncio
import fcntl
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from alembic.migration import MigrationContext
from alembic.operations import Operations
from alembic.script import ScriptDirectory
from sqlalchemy import Connection, text

from relay_middleware.ledger.database import MIGRATION_TIMEOUT_S, Database

_LOCK_ID = 0x72656C6179
"""Of PostgreSQL's advisory lock: "relay" in ASCII."""


async def migrate(database: Database, *, to: str = "head") -> None:
    """
    Apply the migrations that *database* lacks. Any number of processes may do it at once.

    Args:
        to: Number of the last one to apply.

    Raises:
        StoreUnavailableError: The database did not answer; nothing was changed.
    """
    lock_path = database.url.database if database.is_sqlite else None
    async with (
        _file_lock(lock_path),
        database.begin(timeout_s=MIGRATION_TIMEOUT_S) as connection,
    ):
        if not database.is_sqlite:
            await connection.execute(text(f"SELECT pg_advisory_xact_lock({_LOCK_ID})"))
        await connection.run_sync(_upgrade, to)


@asynccontextmanager
async def _file_lock(database_path: str | None) -> AsyncIterator[None]:
    """Keep other processes out: SQLite's own lock begins with the first write, too late."""
    if database_path in {None, "", ":memory:"}:
        yield
        return
    lock_path = Path(f"{database_path}.lock")
    lock_path.parent.mkdir(parents=True, exist_ok=True)
    lock = os.open(lock_path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        # In a thread: whoever has it may need this event loop to give it back.
        await asyncio.to_thread(fcntl.flock, lock, fcntl.LOCK_EX)
        yield
    finally:
        os.close(lock)


def _upgrade(connection: Connection, to: str) -> None:
    scripts = ScriptDirectory(str(Path(__file__).parent))

    def missing(revision: str, _: MigrationContext) -> list[object]:
        # As Alembic's own `upgrade` command does it: there is no public name for the steps.
        return list(scripts._upgrade_revs(to, revision))  # noqa: SLF001

    context = MigrationContext.configure(connection, opts={"fn": missing})
    with Operations.context(context):
        context.run_migrations()
