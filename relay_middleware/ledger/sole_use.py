"""
The right to be the only one who counts for a database without Redis.

The embedded store keeps a second process out of its own folder. Two folders on one database would
have two stores, each of which lets customers spend the whole of their limits.
"""

import asyncio
import contextlib
import os
from pathlib import Path

from sqlalchemy import func, select
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.ext.asyncio import AsyncConnection

from relay_middleware.errors import ConfigurationError
from relay_middleware.ledger.database import BUSY_TIMEOUT_S, Database
from relay_middleware.stores.lock import locked

_LOCK_ID = 0x656D626564
"""Of PostgreSQL's advisory lock: "embed" in ASCII."""

_KEEPALIVES = {"idle": "10", "interval": "5", "count": "3"}
"""Seconds, seconds and times: PostgreSQL takes a machine that is gone for dead, and frees what it
had locked, after 25 s instead of two hours."""


class SoleUse:
    """
    One process's right to a database. Free again as soon as the process is gone; with PostgreSQL
    also when that ends the connection, which lasts as long as this.
    """

    def __init__(self, database: Database) -> None:
        self._database = database
        self._file: int | None = None
        self._connection: AsyncConnection | None = None

    async def start(self) -> None:
        """
        Take it. Calling it again does nothing.

        Raises:
            ConfigurationError: Another process has it.
            StoreUnavailableError: The database did not answer.
        """
        if self._file is not None or self._connection is not None:
            return
        if self._database.is_sqlite:
            self._lock_file()
        else:
            await self._lock_postgres()

    async def aclose(self) -> None:
        """Give it back."""
        file, self._file = self._file, None
        if file is not None:
            os.close(file)
        connection, self._connection = self._connection, None
        if connection is not None:
            await _end(connection)

    def _lock_file(self) -> None:
        path = Path(self._database.url.database or "").resolve()
        try:
            self._file = locked(path.with_name(f"{path.name}.embedded.lock"))
        except BlockingIOError:
            raise self._used_error() from None

    async def _lock_postgres(self) -> None:
        try:
            async with asyncio.timeout(BUSY_TIMEOUT_S):
                connection = await self._locked_connection()
        except (SQLAlchemyError, OSError) as error:
            raise self._database.unavailable(error) from error
        if connection is None:
            raise self._used_error()
        self._connection = connection

    async def _locked_connection(self) -> AsyncConnection | None:
        """Return a connection that has the lock; None where another one has it."""
        # Each statement for itself: a transaction would last as long as the process.
        engine = self._database.engine.execution_options(isolation_level="AUTOCOMMIT")
        connection = await engine.connect()
        is_ours = False
        try:
            settings = [
                func.set_config(f"tcp_keepalives_{name}", value, False)  # noqa: FBT003 - SQL's
                for name, value in _KEEPALIVES.items()
            ]
            await connection.execute(select(*settings))
            is_ours = await connection.scalar(select(func.pg_try_advisory_lock(_LOCK_ID))) is True
        finally:
            if not is_ours:
                await _end(connection)
        return connection if is_ours else None

    def _used_error(self) -> ConfigurationError:
        return ConfigurationError(
            f"another process uses the embedded store with the database {self._database.place}. It"
            " counts in one process only, and a second one would double every limit: run one"
            " worker, or set redis_url"
        )


async def _end(connection: AsyncConnection) -> None:
    """End *connection*, whether it is still there or not: in the pool it would keep the lock."""
    with contextlib.suppress(SQLAlchemyError, OSError):
        await connection.invalidate()
    await connection.close()
