"""
The SQL database: SQLite in a file, or PostgreSQL; its errors in our own words.
"""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Protocol

from sqlalchemy import event, make_url
from sqlalchemy.engine import URL
from sqlalchemy.exc import ArgumentError, SQLAlchemyError
from sqlalchemy.ext.asyncio import AsyncConnection, create_async_engine

from relay_middleware.errors import ConfigurationError, StoreUnavailableError

_DRIVERS = {"sqlite": "sqlite+aiosqlite", "postgresql": "postgresql+asyncpg"}

BUSY_TIMEOUT_S = 5.0
"""Longest wait for another process's write to SQLite."""


class _Cursor(Protocol):
    def execute(self, statement: str, /) -> object: ...
    def close(self) -> object: ...


class _Driver(Protocol):
    """The part of a database driver's connection that is used here."""

    def cursor(self) -> _Cursor: ...


class Database:
    """Connections to one database, made when they are needed."""

    def __init__(self, database_url: str) -> None:
        """
        Args:
            database_url: `sqlite:///FILE` or `postgresql://USER:PASSWORD@HOST/NAME`.

        Raises:
            ConfigurationError: It is neither.
        """  # fmt: skip
        self.url = _with_driver(database_url)
        is_sqlite = self.url.get_backend_name() == "sqlite"
        self.engine = create_async_engine(
            self.url,
            pool_pre_ping=not is_sqlite,
            connect_args={"timeout": BUSY_TIMEOUT_S},
        )
        if is_sqlite:
            event.listen(self.engine.sync_engine, "connect", _prepare_sqlite)

    @property
    def is_sqlite(self) -> bool:
        """Whether it is SQLite."""
        return self.url.get_backend_name() == "sqlite"

    @asynccontextmanager
    async def connect(self) -> AsyncIterator[AsyncConnection]:
        """
        Give a connection to read with.

        Raises:
            StoreUnavailableError: The database did not answer.
        """
        try:
            async with self.engine.connect() as connection:
                yield connection
        except (SQLAlchemyError, OSError) as error:
            raise self._unavailable(error) from error

    @asynccontextmanager
    async def begin(self) -> AsyncIterator[AsyncConnection]:
        """
        Give a connection in a transaction, committed at the end, or undone by an exception.

        Raises:
            StoreUnavailableError: The database did not answer; nothing was written, unless the
                answer to the commit was lost.
        """
        try:
            async with self.engine.begin() as connection:
                yield connection
        except (SQLAlchemyError, OSError) as error:
            raise self._unavailable(error) from error

    async def aclose(self) -> None:
        """Close all connections."""
        await self.engine.dispose()

    def _unavailable(self, error: Exception) -> StoreUnavailableError:
        # The vendor's text may hold statements with their values, and the URL a password.
        where = self.url.database if self.is_sqlite else f"{self.url.host}/{self.url.database}"
        return StoreUnavailableError(
            f"the database {where} failed ({type(error).__name__}). Is it there, and is"
            " database_url right?"
        )


def _with_driver(database_url: str) -> URL:
    try:
        url = make_url(database_url)
    except ArgumentError:
        url = None
    # A driver in the URL would be another one than is installed.
    driver = None if url is None else _DRIVERS.get(url.drivername.partition("+")[0])
    if url is None or driver is None:
        raise ConfigurationError(
            "database_url must begin with sqlite:/// or postgresql://, such as sqlite:///relay.db"
        )
    return url.set(drivername=driver)


def _prepare_sqlite(connection: _Driver, _record: object) -> None:
    cursor = connection.cursor()
    # Readers and one writer at once; a commit survives the process, not a power cut (DESIGN 5.6).
    cursor.execute("PRAGMA journal_mode=WAL")
    cursor.execute("PRAGMA synchronous=NORMAL")
    cursor.execute("PRAGMA foreign_keys=ON")
    cursor.close()
