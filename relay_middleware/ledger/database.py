"""
The SQL database: SQLite in a file, or PostgreSQL; its errors in our own words.
"""

import asyncio
import hashlib
import json
import sqlite3
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Protocol

from sqlalchemy import (
    ARRAY,
    ColumnElement,
    String,
    Table,
    any_,
    event,
    func,
    literal,
    make_url,
    select,
)
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.engine import URL, ExceptionContext
from sqlalchemy.exc import ArgumentError, DBAPIError, IntegrityError, SQLAlchemyError
from sqlalchemy.ext.asyncio import AsyncConnection, create_async_engine

from relay_middleware.errors import ConfigurationError, RecordRefusedError, StoreUnavailableError

_DRIVERS = {"sqlite": "sqlite+aiosqlite", "postgresql": "postgresql+asyncpg"}

DEFAULT_PORT = 5432
"""PostgreSQL's, where the URL names none."""

BUSY_TIMEOUT_S = 5.0
"""Longest wait for another process's write to SQLite, and for a connection to PostgreSQL."""

ANSWER_TIMEOUT_S = 30.0
"""Longest that work on a connection may take: one whose other end is gone, or hangs, would keep
silent for as long as TCP believes in it, a quarter of an hour and more."""

SUMS_TIMEOUT_S = 600.0
"""The same for sums over years of requests, which fill a cold store. The connection has answered
just before."""

MIGRATION_TIMEOUT_S = 86_400.0
"""The same for migrations, which may write every row anew, and wait for each other."""

_REFUSING_SQLSTATES = ("22", "23")
"""
Classes "data exception" and "integrity constraint violation".

Source: PostgreSQL documentation, appendix A, "PostgreSQL Error Codes", read 2026-11-23.
"""


class ValueRefusedError(RecordRefusedError):
    """The database is there and never takes these values: repeating them is of no use."""


class _Cursor(Protocol):
    def execute(self, statement: str, /) -> object: ...
    def close(self) -> object: ...


class _Driver(Protocol):
    """The part of a database driver's connection that is used here."""

    def cursor(self) -> _Cursor: ...


class Database:
    """Connections to one database, made when they are needed."""

    def __init__(self, database_url: str, *, answer_timeout_s: float = ANSWER_TIMEOUT_S) -> None:
        """
        Args:
            database_url: `sqlite:///FILE` or `postgresql://USER:PASSWORD@HOST/NAME`.
            answer_timeout_s: How long work on a connection to PostgreSQL may take, where it does
                not say so itself. SQLite waits for nobody but those who write: `BUSY_TIMEOUT_S`.

        Raises:
            ConfigurationError: It is neither.
        """  # fmt: skip
        self.url = _with_driver(database_url)
        self._answer_timeout_s = answer_timeout_s
        is_sqlite = self.url.get_backend_name() == "sqlite"
        self.engine = create_async_engine(
            self.url,
            pool_pre_ping=not is_sqlite,
            # A connection of SQLite's is a thread: one that is used all the time is cheaper than
            # five that take turns.
            pool_use_lifo=True,
            connect_args={"timeout": BUSY_TIMEOUT_S},
        )
        if is_sqlite:
            event.listen(self.engine.sync_engine, "connect", _prepare_sqlite)
            event.listen(self.engine.sync_engine, "handle_error", _leave_sqlite)

    @property
    def is_sqlite(self) -> bool:
        """Whether it is SQLite."""
        return self.url.get_backend_name() == "sqlite"

    def insert_into(self, table: Table) -> sqlite.Insert | postgresql.Insert:
        """Return an insert that can say what becomes of a row that is there, in its own dialect."""
        return sqlite.insert(table) if self.is_sqlite else postgresql.insert(table)

    @asynccontextmanager
    async def connect(self, *, timeout_s: float | None = None) -> AsyncIterator[AsyncConnection]:
        """
        Give a connection to read with.

        Args:
            timeout_s: As `begin`'s.

        Raises:
            StoreUnavailableError: The database did not answer.
        """
        try:
            async with self._timeout() as timeout, self.engine.connect() as connection:
                self._extend(timeout, timeout_s)
                yield connection
        except (SQLAlchemyError, OSError) as error:
            raise self.unavailable(error) from error

    @asynccontextmanager
    async def begin(self, *, timeout_s: float | None = None) -> AsyncIterator[AsyncConnection]:
        """
        Give a connection in a transaction, committed at the end, or undone by an exception.

        Args:
            timeout_s: How long the whole may take; None: `answer_timeout_s`.

        Raises:
            StoreUnavailableError: The database did not answer; nothing was written, unless the
                answer to the commit was lost.
            ValueRefusedError: A value breaks a constraint or fits no column. Nothing was written.
        """
        try:
            async with self._timeout() as timeout, self.engine.begin() as connection:
                self._extend(timeout, timeout_s)
                yield connection
        # The last two are how SQLite's driver refuses a number or a text, in no class of its own.
        except (SQLAlchemyError, OSError, OverflowError, UnicodeError) as error:
            if _is_refusal(error):
                raise ValueRefusedError(
                    f"the database {self.place} refused a value ({type(error).__name__})"
                ) from error
            raise self.unavailable(error) from error

    def _timeout(self) -> asyncio.Timeout:
        # Of the connection, which is asked whether it is still there: never longer than that.
        return asyncio.timeout(
            None if self.is_sqlite else min(BUSY_TIMEOUT_S, self._answer_timeout_s)
        )

    def _extend(self, timeout: asyncio.Timeout, timeout_s: float | None) -> None:
        if not self.is_sqlite:
            timeout_s = self._answer_timeout_s if timeout_s is None else timeout_s
            timeout.reschedule(asyncio.get_running_loop().time() + timeout_s)

    async def aclose(self) -> None:
        """Close all connections."""
        await self.engine.dispose()

    @property
    def place(self) -> str:
        """Where it is, for people; never the whole URL, which may hold a password."""
        name = str(self.url.database)
        return name if self.is_sqlite else f"{self.url.host}/{name}"

    @property
    def fingerprint(self) -> str:
        """What tells it from any other database that this machine can reach; no secret in it."""
        url = self.url
        if self.is_sqlite:
            where = [str(Path(url.database or "").resolve())]
        else:
            # A socket's folder stands in the query.
            hosts = [str(url.query.get(name, "")) for name in ("host", "port")]
            where = [url.host or "", str(url.port or DEFAULT_PORT), *hosts, url.database or ""]
        return hashlib.sha256("\n".join(where).encode()).hexdigest()[:16]

    def unavailable(self, error: Exception) -> StoreUnavailableError:
        """Return in our own words that the database failed with *error*."""
        # Never the vendor's text: it may hold statements with their values.
        return StoreUnavailableError(
            f"the database {self.place} failed ({type(error).__name__}). Is it there, and is"
            " database_url right?"
        )


def among(
    connection: AsyncConnection, column: ColumnElement[str], values: Iterable[str]
) -> ColumnElement[bool]:
    """
    Return that *column* is one of *values*: one parameter for all of them.

    With a parameter for each, every number of them is a statement of its own, and each connection
    keeps the last hundred that it has prepared. They were what a worker's memory grew by, 18 MiB
    in 100,000 requests (measured, SQLite); PostgreSQL has them at the other end.
    """
    listed = list(values)
    if connection.dialect.name == "sqlite":
        each = func.json_each(json.dumps(listed)).table_valued("value")
        return column.in_(select(each.c.value))
    return column == any_(literal(listed, ARRAY(String)))


def _is_refusal(error: Exception) -> bool:
    if isinstance(error, IntegrityError | OverflowError | UnicodeError):
        return True
    # What asyncpg refuses before sending has no class of its own in SQLAlchemy, but its state.
    sqlstate = getattr(error.orig, "sqlstate", None) if isinstance(error, DBAPIError) else None
    return isinstance(sqlstate, str) and sqlstate.startswith(_REFUSING_SQLSTATES)


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


def _leave_sqlite(context: ExceptionContext) -> None:
    # A file that is moved away is made anew by whoever connects, empty; a connection to that one
    # must not be used again when the other is back.
    if isinstance(context.original_exception, sqlite3.OperationalError):
        context.is_disconnect = True


def _prepare_sqlite(connection: _Driver, _record: object) -> None:
    cursor = connection.cursor()
    # Readers and one writer at once; a commit survives the process, not a power cut (DESIGN 5.6).
    cursor.execute("PRAGMA journal_mode=WAL")
    cursor.execute("PRAGMA synchronous=NORMAL")
    cursor.execute("PRAGMA foreign_keys=ON")
    cursor.close()
