"""
Migrations: bring a database to the tables of this version.
"""

import asyncio
import fcntl
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from sqlalchemy import Connection, inspect, text

from relay_middleware.ledger.database import MIGRATION_TIMEOUT_S, Database

_LOCK_ID = 0x72656C6179
"""Of PostgreSQL's advisory lock: "relay" in ASCII."""

_APPLIED = "alembic_version"
"""The table in which Alembic writes down the last migration; its column is `version_num`."""

_HERE = Path(__file__).parent


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
        last = newest() if to == "head" else to
        if await connection.run_sync(_applied) != last:
            await connection.run_sync(_upgrade, last)


def newest() -> str:
    """Return the number of the last migration, with which its file's name begins."""
    return max(path.name.partition("_")[0] for path in (_HERE / "versions").glob("[0-9]*.py"))


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


def _applied(connection: Connection) -> str | None:
    """Return the number of the last migration that the database has had; None: it is new."""
    if not inspect(connection).has_table(_APPLIED):
        return None
    number: str | None = connection.scalar(text(f"SELECT version_num FROM {_APPLIED}"))  # noqa: S608 - a constant
    return number


def _upgrade(connection: Connection, to: str) -> None:
    # Not before something is missing: a server seldom needs it, and never twice, and would keep
    # 7 MiB of it for life (measured).
    from alembic.migration import MigrationContext  # noqa: PLC0415
    from alembic.operations import Operations  # noqa: PLC0415
    from alembic.script import ScriptDirectory  # noqa: PLC0415

    scripts = ScriptDirectory(str(_HERE))

    def missing(revision: str, _: MigrationContext) -> list[object]:
        # As Alembic's own `upgrade` command does it: there is no public name for the steps.
        return list(scripts._upgrade_revs(to, revision))  # noqa: SLF001

    context = MigrationContext.configure(connection, opts={"fn": missing})
    with Operations.context(context):
        context.run_migrations()
