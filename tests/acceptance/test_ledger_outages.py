"""
A ledger that is away: whoever is known is served, the journal grows, and it catches up exactly.

Each test is a line of the fault matrix, over real sockets, with a real Redis and real databases.
"""

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from fixtures.outages import ALICE, BOB, CHARGE, Away, away, locked, until
from fixtures.own_postgres import OwnPostgres, own_postgres

pytestmark = [pytest.mark.anyio, pytest.mark.slow]


@pytest.fixture(name="store_url", params=["redis", "embedded"])
def _store_url(request: pytest.FixtureRequest) -> str | None:
    """Each kind of store, one at a time."""
    if request.param == "embedded":
        return None
    url: str = request.getfixturevalue("redis_url")
    return url


@pytest.fixture(name="relay")
async def _relay(tmp_path: Path, store_url: str | None) -> AsyncIterator[Away]:
    """One with SQLite."""
    async with away(tmp_path / "relay", store_url) as relay:
        yield relay


@pytest.fixture(scope="module", name="postgres")
def _postgres() -> Iterator[OwnPostgres]:
    with own_postgres() as server:
        yield server


@contextmanager
def moved(folder: Path) -> Iterator[None]:
    """Take the files of a SQLite database away, and bring them back."""
    elsewhere = folder / "elsewhere"
    elsewhere.mkdir()
    names = ["relay.db", "relay.db-wal", "relay.db-shm"]
    for name in names:
        (folder / name).rename(elsewhere / name)
    try:
        yield
    finally:
        for name in names:
            (elsewhere / name).replace(folder / name)


async def serves_on(relay: Away) -> None:
    """Five answers for Alice and two for Bob, whom Relay knows."""
    answers = [await relay.ask(customer) for customer in (*[ALICE] * 5, *[BOB] * 2)]
    assert [answer.status_code for answer in answers] == [200] * 7


async def entries(relay: Away) -> int:
    """How many entries wait for the ledger."""
    return await relay.metric("relay_journal_entries")


async def test_a_database_that_somebody_has_locked(relay: Away, tmp_path: Path) -> None:
    """
    Another program writes to SQLite and takes its time: 7 answers are given, 7 entries wait, and
    when it has ended they are in the ledger, each once.
    """
    with locked(tmp_path / "relay" / "relay.db"):
        await serves_on(relay)
        waiting = await entries(relay)

    assert waiting == 7
    await relay.assert_exact(alice=6, bob=3)
    assert (await relay.balance(ALICE)).posted_nano_usd == 6 * CHARGE


async def test_a_database_that_is_moved_away(redis_url: str, tmp_path: Path) -> None:
    """
    SQLite's files are gone for a while, in which strangers ask on all connections and find an empty
    database: when the files are back no connection stays with that one, and the 7 answers that were
    given are in the right one.
    """
    async with away(tmp_path / "relay", redis_url) as relay:
        with moved(tmp_path / "relay"):
            strangers = await asyncio.gather(*(relay.ask(f"c{i}") for i in range(20)))
            await serves_on(relay)

        assert 503 in {answer.status_code for answer in strangers}
        await until(relay.is_settled, timeout_s=20)
        again = await asyncio.gather(*(relay.ask(f"d{i}") for i in range(20)))
        assert {answer.status_code for answer in again} == {200}
        await relay.assert_exact(alice=6, bob=3)


async def test_a_database_that_is_stopped(
    store_url: str | None, postgres: OwnPostgres, tmp_path: Path
) -> None:
    """
    PostgreSQL is stopped: 7 answers are given, 7 entries wait, somebody unknown is refused without
    a call; when it is there again the ledger catches up, each once.
    """
    database = postgres.new_database()
    async with away(tmp_path / "relay", store_url, database_url=database) as relay:
        postgres.stop()
        await serves_on(relay)
        calls = relay.world.simulator.calls()
        stranger = await relay.ask("carol")
        waiting, called = await entries(relay), relay.world.simulator.calls() - calls
        postgres.start()

        assert (waiting, stranger.status_code, called) == (7, 503, 0)
        await relay.assert_exact(alice=6, bob=3)
        await until(lambda: _is_served(relay, "carol"))


async def _is_served(relay: Away, customer: str) -> bool:
    return (await relay.ask(customer)).status_code == 200
