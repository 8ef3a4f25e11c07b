"""
What the ledger promises, over each database.
"""

import asyncio
import dataclasses
import random
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest
from fixtures.records import AT, attempt, ended
from hypothesis import given, settings
from hypothesis import strategies as st
from sqlalchemy import event, select

from relay_middleware.core.holds import HoldState
from relay_middleware.core.identifiers import CustomerId, HoldId
from relay_middleware.core.instants import from_us, to_us
from relay_middleware.core.money import NanoUsd
from relay_middleware.core.periods import Period
from relay_middleware.core.records import AttemptOutcome, CustomerCreated, RequestEnded
from relay_middleware.core.usage import Usage
from relay_middleware.errors import ConfigurationError, StoreUnavailableError
from relay_middleware.ledger.database import Database, ValueRefusedError
from relay_middleware.ledger.migrations import migrate
from relay_middleware.ledger.sql import LedgerConflictError, SqlLedger
from relay_middleware.ledger.tables import ATTEMPT, CUSTOMER, REQUEST

pytestmark = pytest.mark.anyio


@pytest.fixture(name="ledger")
def _ledger(database: Database) -> SqlLedger:
    return SqlLedger(database)


async def spent(
    ledger: SqlLedger, period: Period = Period.LIFETIME, at: datetime = AT
) -> dict[str, int]:
    """Return what the ledger says that each customer has spent in one period."""
    return {
        spend.customer_id: spend.posted_nano_usd
        async for batch in ledger.spends(at)
        for spend in batch
        if spend.window.period is period
    }


async def test_a_record_is_kept_once(ledger: SqlLedger) -> None:
    """
    Appended again, and twice in one batch, a request is one row.
    """
    await ledger.append([ended("r1", 100), ended("r1", 100), ended("r2", 7)])
    await ledger.append([ended("r1", 100)])

    assert await spent(ledger) == {"alice": 107}


async def test_any_number_of_requests_is_the_same_statement(
    ledger: SqlLedger, database: Database
) -> None:
    """
    Batches of 2, 3 and 4 requests, and questions about 1, 2 and 3, prepare nothing that a batch and
    a question before them have not.
    """
    prepared: set[str] = set()

    def note(*arguments: Any) -> None:
        prepared.add(arguments[2])

    event.listen(database.engine.sync_engine, "before_cursor_execute", note)
    await ledger.append([ended("r1", 1)])
    await ledger.states([HoldId("r1")])
    known = set(prepared)

    for number in (2, 3, 4):
        await ledger.append([ended(f"r{number}{each}", 1) for each in range(number)])
        await ledger.states([HoldId(f"r{each}") for each in range(1, number)])

    assert prepared == known


async def test_a_customer_who_was_lost_is_written_again(
    ledger: SqlLedger, database: Database
) -> None:
    """
    A database that was put back to a copy from before alice came takes her next request of 7: her
    row comes with it again.
    """
    await ledger.append([ended("r1", 100)])
    async with database.begin() as connection:
        for table in (ATTEMPT, REQUEST, CUSTOMER):
            await connection.execute(table.delete())

    await ledger.append([ended("r2", 7)])

    assert await spent(ledger) == {"alice": 7}


async def test_nothing_is_appended_of_nothing(ledger: SqlLedger) -> None:
    """
    An empty batch is no work.
    """
    await ledger.append([])

    assert await spent(ledger) == {}


async def test_another_charge_for_the_same_request_is_no_silence(ledger: SqlLedger) -> None:
    """
    The same id with another charge is an error with both numbers, and nothing of its batch is kept.
    """
    await ledger.append([ended("r1", 100)])

    with pytest.raises(LedgerConflictError, match="charge of 100 nano-dollars, not 101"):
        await ledger.append([ended("r2", 7), ended("r1", 101)])

    assert await spent(ledger) == {"alice": 100}


REFUSED = {
    "breaks a constraint": dataclasses.replace(ended("bad"), charge_nano_usd=NanoUsd(-1)),
    "fits no column": dataclasses.replace(
        ended("bad"), usage=Usage(input_tokens=2**63, output_tokens=5)
    ),
    "is no text": dataclasses.replace(ended("bad"), model="secret\ud800"),
}


@pytest.mark.parametrize("record", REFUSED.values(), ids=REFUSED.keys())
async def test_what_is_never_taken_is_not_an_outage(
    ledger: SqlLedger, record: RequestEnded
) -> None:
    """
    A value that repeating does not help is told from a database that is away; its batch is not
    kept, its text not quoted, and the next batch is taken.
    """
    with pytest.raises(ValueRefusedError, match="refused a value") as raised:
        await ledger.append([ended("r1", 100), record])
    await ledger.append([ended("r2", 7)])

    assert "secret" not in str(raised.value)
    assert await spent(ledger) == {"alice": 7}


async def test_postgresql_takes_no_zero_byte(postgres_url: str) -> None:
    """
    A provider's service tier with a zero byte in it, which SQLite takes, is refused for good.
    """
    database = Database(postgres_url)
    await migrate(database)
    usage = Usage(input_tokens=10, output_tokens=5, service_tier="flex\0")

    with pytest.raises(ValueRefusedError):
        await SqlLedger(database).append([dataclasses.replace(ended(), usage=usage)])

    await database.aclose()


async def test_customers_are_made_as_they_come(ledger: SqlLedger, database: Database) -> None:
    """
    A customer that only a request names has a row too, and one that is there is left as it is.
    """
    bob = CustomerCreated(customer_id=CustomerId("bob"), tier="pro", created_at=AT)
    await ledger.append([bob, ended("r1", customer="bob"), ended("r2", customer="carol")])

    async with database.connect() as connection:
        rows = await connection.execute(select(CUSTOMER.c.id, CUSTOMER.c.tier).order_by("id"))
        assert [tuple(row) for row in rows] == [("bob", "pro"), ("carol", "free")]


async def test_what_is_kept_of_a_request(ledger: SqlLedger, database: Database) -> None:
    """
    Exact cost as text, parts of the usage, and every attempt in its order.
    """
    tries = (attempt(AttemptOutcome.FAILED, 500), attempt(AttemptOutcome.SERVED, 200))
    await ledger.append([ended(attempts=tries, cost_usd=Decimal("1E-12"))])

    async with database.connect() as connection:
        request = (await connection.execute(select(REQUEST))).one()
        attempts = await connection.execute(select(ATTEMPT).order_by(ATTEMPT.c.number))
        assert (request.cost_usd, request.cached_input_tokens) == ("0.000000000001", 4)
        assert from_us(request.reserved_at_us) == AT
        assert [(row.number, row.outcome) for row in attempts] == [(1, "failed"), (2, "served")]


@pytest.mark.parametrize(
    ("offset", "counted"),
    [
        (timedelta(), True),
        (timedelta(microseconds=-1), False),
        (timedelta(days=30, microseconds=-1), True),
        (timedelta(days=30), False),
    ],
)
async def test_a_window_has_its_start_and_not_its_end(
    ledger: SqlLedger, offset: timedelta, *, counted: bool
) -> None:
    """
    The first instant of November is November's, the first of December is not, to the microsecond.
    """
    await ledger.append([ended(at=datetime(2026, 11, 1, tzinfo=UTC) + offset)])

    assert bool(await spent(ledger, Period.MONTH)) is counted


FINAL = [
    ended("r1", 100, attempts=(attempt(AttemptOutcome.SERVED, 200),)),
    ended("r1", 0, state=HoldState.RELEASED, attempts=(attempt(AttemptOutcome.FAILED, 500),)),
]
EXPIRED = ended("r1", 0, state=HoldState.EXPIRED)


@pytest.mark.parametrize("final", FINAL, ids=lambda final: final.state.value)
@pytest.mark.parametrize("is_together", [True, False], ids=["one batch", "two batches"])
@pytest.mark.parametrize("is_late", [True, False], ids=["expired first", "expired last"])
async def test_how_it_ended_replaces_that_it_expired(
    ledger: SqlLedger, database: Database, final: RequestEnded, *, is_together: bool, is_late: bool
) -> None:
    """
    A settled or released record takes the place of an expired one of the same request, all of it
    and its attempt, whichever comes first; the expired one never takes theirs.
    """
    records = [EXPIRED, final] if is_late else [final, EXPIRED]
    for batch in [records] if is_together else [[record] for record in records]:
        await ledger.append(batch)

    async with database.connect() as connection:
        request = (await connection.execute(select(REQUEST))).one()
        attempts = (await connection.execute(select(ATTEMPT.c.outcome))).scalars().all()
    assert (request.state, request.charge_nano_usd) == (final.state.value, final.charge_nano_usd)
    assert attempts == [each.outcome.value for each in final.attempts]


async def test_an_expired_request_is_kept_once(ledger: SqlLedger) -> None:
    """
    Until its end is known it counts for what was set aside, 1,000 nano-dollars, and is not charged.
    """
    await ledger.append([EXPIRED, ended("r2", 5)])
    await ledger.append([EXPIRED])

    assert await spent(ledger) == {"alice": 1005}


async def test_an_expired_request_has_no_attempts(ledger: SqlLedger, database: Database) -> None:
    """
    What was tried is known when its end is, and only then kept.
    """
    tried = attempt(AttemptOutcome.TIMED_OUT, None)
    await ledger.append([dataclasses.replace(EXPIRED, attempts=(tried, tried))])
    await ledger.append([FINAL[0]])

    async with database.connect() as connection:
        outcomes = (await connection.execute(select(ATTEMPT.c.outcome))).scalars().all()
    assert outcomes == ["served"]


async def test_how_requests_ended(ledger: SqlLedger) -> None:
    """
    Of each request that it has heard of the ledger says how it ended.
    """
    ends = {"settled": 5, "released": 0, "expired": 0}
    await ledger.append(
        [ended(name, charge, state=HoldState(name)) for name, charge in ends.items()]
    )
    asked = [HoldId(name) for name in (*ends, "unheard")]
    expected = {name: HoldState(name) for name in ends}

    assert await ledger.states(asked) == expected
    assert await ledger.states([]) == {}
    # More than one statement may name.
    assert await ledger.states([HoldId(f"no{i}") for i in range(2500)] + asked) == expected


async def test_released_requests_cost_nothing(ledger: SqlLedger) -> None:
    """
    Only what was settled is spent.
    """
    await ledger.append([ended("r1", 0, state=HoldState.RELEASED), ended("r2", 5)])

    assert await spent(ledger) == {"alice": 5}


async def test_sums_by_window(ledger: SqlLedger) -> None:
    """
    A request of yesterday is in the month and the lifetime, not in the day.
    """
    await ledger.append([ended("old", 3, at=AT - timedelta(days=1)), ended("new", 4)])

    sums = {period: await spent(ledger, period) for period in Period}

    assert [sums[period]["alice"] for period in Period] == [4, 4, 7, 7]


async def test_two_processes_append_at_once(ledger: SqlLedger, database: Database) -> None:
    """
    Overlapping batches in different orders, at once: every request once, and nobody waits for ever.
    """
    records = [ended(f"r{i}", 1, customer=f"c{i % 5}") for i in range(40)]
    second = Database(database.url.render_as_string(hide_password=False))
    other = SqlLedger(second)

    await asyncio.gather(
        *(ledger.append(records[i::4]) for i in range(4)),
        *(other.append(list(reversed(records))[i::4]) for i in range(4)),
    )

    assert sum((await spent(ledger)).values()) == 40
    await second.aclose()


async def test_batches_that_share_records_wait_for_nobody_for_ever(database: Database) -> None:
    """
    Four processes append 200 of the same 400 requests at once, each in its own order, ten times:
    each of 4,000 requests is there once, and no batch failed.
    """
    url = database.url.render_as_string(hide_password=False)
    others = [Database(url) for _ in range(4)]
    draws = random.Random(7)  # noqa: S311 - draws what a test does
    for number in range(10):
        pool = [
            ended(f"{number}-{i}", 1, customer=f"c{i % 5}", at=AT + timedelta(milliseconds=i))
            for i in range(400)
        ]
        shares = [draws.sample(pool, 200) for _ in others]
        await asyncio.gather(
            *(SqlLedger(other).append(share) for other, share in zip(others, shares, strict=True))
        )
        await SqlLedger(database).append(pool)

    assert sum((await spent(SqlLedger(database))).values()) == 4000
    for other in others:
        await other.aclose()


RECORDS = [
    ended(f"r{i}", 2**i if state is HoldState.SETTLED else 0, customer="ab"[i % 2], state=state)
    for i in range(6)
    for state in (HoldState.SETTLED, HoldState.EXPIRED)
]


@settings(max_examples=15, deadline=None)
@given(st.lists(st.lists(st.sampled_from(RECORDS), max_size=8), max_size=5))
def test_batches_do_not_matter(batches: list[list[RequestEnded]]) -> None:
    """
    However records are cut into batches, and however often they are repeated, the sums are theirs:
    an expired request counts for the 1,000 set aside until its end comes, before or after it.
    """

    async def run() -> dict[str, int]:
        with TemporaryDirectory() as folder:
            database = Database(f"sqlite:///{Path(folder)}/relay.db")
            await migrate(database)
            ledger = SqlLedger(database)
            for batch in batches:
                await ledger.append(batch)
            sums = await spent(ledger)
            await database.aclose()
            return sums

    sums = asyncio.run(run())

    appended = {(record.hold_id, record.state): record for batch in batches for record in batch}
    for name in "ab":
        assert sums.get(name, 0) == sum(
            record.charge_nano_usd if state is HoldState.SETTLED else record.hold_nano_usd
            for (hold_id, state), record in appended.items()
            if record.customer_id == name
            and (state is HoldState.SETTLED or (hold_id, HoldState.SETTLED) not in appended)
        )


@given(st.datetimes(timezones=st.just(UTC)))
def test_times_are_exact(at: datetime) -> None:
    """
    Microseconds since 1970 and back are the same instant.
    """
    assert from_us(to_us(at)) == at


@pytest.mark.parametrize("url", ["mysql://x", "nonsense", "redis://x"])
def test_other_databases_are_refused(url: str) -> None:
    """
    The message says which there are.
    """
    with pytest.raises(ConfigurationError, match="sqlite:/// or postgresql://"):
        Database(url)


async def test_database_away_is_said_without_the_password() -> None:
    """
    Nobody listens: host and remedy are named, the password is not.
    """
    database = Database("postgresql://relay:hunter2@127.0.0.1:1/books")

    with pytest.raises(StoreUnavailableError, match=r"127\.0\.0\.1/books failed") as raised:
        await SqlLedger(database).append([ended()])
    with pytest.raises(StoreUnavailableError):
        await spent(SqlLedger(database))

    assert "hunter2" not in str(raised.value)
    await database.aclose()
