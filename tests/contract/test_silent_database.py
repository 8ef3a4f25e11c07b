"""
A PostgreSQL that falls silent without ending its connections: nobody waits for it for ever.
"""

import asyncio
from collections.abc import AsyncIterator

import pytest
from fixtures.records import AT, ended
from fixtures.silence import Silence, silence
from sqlalchemy import text

from relay_middleware.core.identifiers import HoldId
from relay_middleware.errors import StoreUnavailableError
from relay_middleware.ledger import migrations
from relay_middleware.ledger.database import Database
from relay_middleware.ledger.journal import QueueJournal
from relay_middleware.ledger.migrations import migrate
from relay_middleware.ledger.sql import SqlLedger

pytestmark = [pytest.mark.anyio, pytest.mark.slow]

LONGEST_WAIT_S = 30.0
"""What a test is ended after: a quarter of an hour is how long TCP would wait."""


@pytest.fixture(name="way")
async def _way(postgres_url: str) -> AsyncIterator[Silence]:
    """A way to an empty database."""
    async with silence(postgres_url) as way:
        yield way


@pytest.fixture(name="database")
async def _database(way: Silence) -> AsyncIterator[Database]:
    """Its tables, and a connection that has been used; whoever asks waits for half a second."""
    database = Database(way.url, answer_timeout_s=0.5)
    await migrate(database)
    yield database
    way.talks.set()
    await database.aclose()


async def test_a_connection_that_fell_silent_is_left(database: Database, way: Silence) -> None:
    """
    Readers and writers are told that the database is away; when it talks again, it is there.
    """
    ledger = SqlLedger(database)
    async with asyncio.timeout(LONGEST_WAIT_S):
        way.talks.clear()
        with pytest.raises(StoreUnavailableError):
            await ledger.states([HoldId("r1")])
        with pytest.raises(StoreUnavailableError):
            await ledger.append([ended("r1")])
        way.talks.set()
        await ledger.append([ended("r1")])

    assert len(await ledger.states([HoldId("r1")])) == 1


async def test_silence_in_a_transaction_undoes_it(database: Database, way: Silence) -> None:
    """
    What was written before the silence is not there afterwards: it was never committed.
    """

    async def write() -> None:
        async with database.begin() as connection:
            await connection.execute(text("INSERT INTO dead_letter VALUES ('a', 'b', 'c', 'd', 1)"))
            way.talks.clear()
            await connection.execute(text("SELECT 1"))

    async with asyncio.timeout(LONGEST_WAIT_S):
        with pytest.raises(StoreUnavailableError):
            await write()
        way.talks.set()
        async with database.begin() as connection:
            count = await connection.scalar(text("SELECT count(*) FROM dead_letter"))

    assert count == 0


async def test_the_journal_goes_on_after_silence(database: Database, way: Silence) -> None:
    """
    A record that comes while the database is silent is in the ledger when it talks again.
    """

    async def appended(_: object) -> None:
        pass

    tries = asyncio.Event()

    async def sleep(_: float) -> None:
        tries.set()
        await way.talks.wait()

    journal = QueueJournal(SqlLedger(database), on_appended=appended, sleep=sleep)
    await journal.start()
    record = ended("r1", 7)
    async with asyncio.timeout(LONGEST_WAIT_S):
        way.talks.clear()
        journal.put(record)
        await tries.wait()
        way.talks.set()
        assert await journal.drain(LONGEST_WAIT_S) == 0
    await journal.aclose()

    spends = [spend async for batch in SqlLedger(database).spends(AT) for spend in batch]
    assert {spend.posted_nano_usd for spend in spends} == {7}


async def test_a_migration_waits_for_another_one(postgres_url: str) -> None:
    """
    It waits for as long as the other takes, three times as long as an answer may.
    """
    patient, other = Database(postgres_url, answer_timeout_s=0.2), Database(postgres_url)
    lock = migrations._LOCK_ID  # noqa: SLF001 - what the other one holds
    async with other.begin() as connection:
        await connection.execute(text(f"SELECT pg_advisory_xact_lock({lock})"))
        task = asyncio.create_task(migrate(patient))
        done, _ = await asyncio.wait([task], timeout=0.6)
        assert not done

    await asyncio.wait_for(task, LONGEST_WAIT_S)

    assert await SqlLedger(patient).states([HoldId("r1")]) == {}
    for database in (patient, other):
        await database.aclose()
