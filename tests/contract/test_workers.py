"""
What the workers say of the deployments: each database, and one that is away.
"""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime

import pytest
from fixtures.clock import FakeClock
from sqlalchemy import select
from structlog.testing import capture_logs

from relay_middleware.core.deployments import DeploymentStatus
from relay_middleware.core.identifiers import DeploymentId
from relay_middleware.core.records import AttemptOutcome
from relay_middleware.ledger.database import Database
from relay_middleware.ledger.tables import WORKER
from relay_middleware.ledger.workers import WorkerJournal, list_workers

pytestmark = pytest.mark.anyio

AT = datetime(2026, 11, 23, 11, 59, 58, tzinfo=UTC)

FAILED = DeploymentStatus(
    deployment_id=DeploymentId("smart#1"),
    model="smart",
    provider="openai",
    deployment_model="gpt-4o-mini",
    last_outcome=AttemptOutcome.FAILED,
    last_status_code=503,
    last_at=AT,
    cooling_s=4.0,
)
UNUSED = DeploymentStatus(
    deployment_id=DeploymentId("smart#2"),
    model="smart",
    provider="anthropic",
    deployment_model="claude-haiku-4-5",
    last_outcome=None,
    last_status_code=None,
    last_at=None,
    cooling_s=0.0,
)


class Rounds:
    """Stands for sleeping: ends when the test wants the next round."""

    def __init__(self) -> None:
        self._written = asyncio.Event()
        self._wanted = asyncio.Event()

    async def sleep(self, _: float) -> None:
        self._written.set()
        await self._wanted.wait()
        self._wanted.clear()

    async def written(self) -> None:
        await self._written.wait()
        self._written.clear()

    async def next(self) -> None:
        self._wanted.set()
        await self.written()


@asynccontextmanager
async def writing(
    database: Database, worker_id: str, clock: FakeClock, *seen: DeploymentStatus
) -> AsyncIterator[Rounds]:
    """A worker that has said once what it sees."""
    rounds = Rounds()
    journal = WorkerJournal(
        database, worker_id=worker_id, status=lambda: seen, clock=clock, sleep=rounds.sleep
    )
    await journal.start()
    await journal.start()
    await rounds.written()
    try:
        yield rounds
    finally:
        await journal.aclose()


async def test_what_a_worker_saw_is_read_as_it_was(database: Database) -> None:
    """
    Every field comes back; of 4 s of being left out, 1 is left after 3.
    """
    clock = FakeClock()
    async with writing(database, "web:1", clock, FAILED, UNUSED):
        (at_once,) = await list_workers(database, clock.now())
        clock.advance(seconds=3)
        (later,) = await list_workers(database, clock.now())

    assert (at_once.worker_id, at_once.deployments) == ("web:1", (FAILED, UNUSED))
    assert at_once.seen_at == datetime(2026, 11, 23, 12, 0, tzinfo=UTC)
    assert [each.cooling_s for each in later.deployments] == [1.0, 0.0]


async def test_each_round_replaces_the_last(database: Database) -> None:
    """
    A worker has one row, whose time moves on with every round.
    """
    clock = FakeClock()
    async with writing(database, "web:1", clock, FAILED) as rounds:
        clock.advance(seconds=1)
        await rounds.next()
        (only,) = await list_workers(database, clock.now())

    assert only.seen_at == clock.now()


async def test_workers_are_told_apart(database: Database) -> None:
    """
    Two workers are two reports; one that ends takes its own back, and no other's.
    """
    clock = FakeClock()
    async with writing(database, "web:2", clock, UNUSED):
        async with writing(database, "web:1", clock, FAILED):
            both = await list_workers(database, clock.now())
        one = await list_workers(database, clock.now())

    assert [report.worker_id for report in both] == ["web:1", "web:2"]
    assert [report.worker_id for report in one] == ["web:2"]
    assert await list_workers(database, clock.now()) == []


async def test_a_worker_that_was_killed_is_not_shown(database: Database) -> None:
    """
    After 10 s of silence a worker is gone; after an hour the next one removes its row.
    """
    clock = FakeClock()
    async with writing(database, "web:1", clock, FAILED):
        clock.advance(seconds=10)
        still = await list_workers(database, clock.now())
        clock.advance(microseconds=1)
        gone = await list_workers(database, clock.now())
        clock.advance(hours=1)
        async with writing(database, "web:2", clock, FAILED), database.connect() as connection:
            rows = list(await connection.execute(select(WORKER.c.id)))

    assert ([each.worker_id for each in still], gone) == (["web:1"], [])
    assert [row.id for row in rows] == ["web:2"]


async def test_a_database_away_stops_nobody() -> None:
    """
    A server that is not there is logged once, not each second, and the worker goes on.
    """
    database = Database("postgresql://127.0.0.1:1/books")
    with capture_logs() as logs:
        async with writing(database, "web:1", FakeClock(), FAILED) as rounds:
            await rounds.next()
            await rounds.next()
    await database.aclose()

    assert [entry["event"] for entry in logs] == ["worker_status_not_written"]
