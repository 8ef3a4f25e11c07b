"""
The right to count for a database without Redis: one process has it at a time.
"""

import pytest
from sqlalchemy import text

from relay_middleware.errors import ConfigurationError, StoreUnavailableError
from relay_middleware.ledger.database import Database
from relay_middleware.ledger.sole_use import SoleUse

pytestmark = pytest.mark.anyio


async def test_a_second_one_is_refused(database_url: str) -> None:
    """
    While one has it another is refused in words, twice as well; when it was given back, the other
    has it.
    """
    databases = [Database(database_url) for _ in range(2)]
    first, second = map(SoleUse, databases)
    await first.start()
    await first.start()

    for _ in range(2):
        with pytest.raises(ConfigurationError, match="run one worker, or set redis_url"):
            await second.start()
    await first.aclose()
    await second.start()
    with pytest.raises(ConfigurationError, match="another process uses the embedded store"):
        await first.start()

    await second.aclose()
    await second.aclose()
    for database in databases:
        await database.aclose()


async def test_it_is_free_when_its_connection_has_ended(postgres_url: str) -> None:
    """
    PostgreSQL ends the connection of a process that was killed, and another one has the right.
    """
    dead, living = Database(postgres_url), Database(postgres_url)
    first, second = SoleUse(dead), SoleUse(living)
    await first.start()
    async with living.begin() as connection:
        await connection.execute(
            text(
                "SELECT pg_terminate_backend(pid, 5000) FROM pg_locks"
                " WHERE locktype = 'advisory' AND database ="
                " (SELECT oid FROM pg_database WHERE datname = current_database())"
            )
        )

    await second.start()

    for each in (first, second):
        await each.aclose()
    for database in (dead, living):
        await database.aclose()


async def test_a_database_that_is_away_is_no_refusal() -> None:
    """
    Where PostgreSQL does not answer nobody knows who has it: that is told as what it is.
    """
    database = Database("postgresql://127.0.0.1:1/books")

    with pytest.raises(StoreUnavailableError, match="Is it there"):
        await SoleUse(database).start()

    await database.aclose()
