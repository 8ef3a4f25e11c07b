"""
What operators give customers and take back from the books.
"""

import asyncio
import itertools
from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest
from fixtures.records import AT, ended
from sqlalchemy import select

from relay_middleware.core.holds import Adjustment, HoldState
from relay_middleware.core.identifiers import CustomerId, HoldId
from relay_middleware.core.money import MAX_NANO_USD, NanoUsd
from relay_middleware.core.periods import Period, PeriodWindow, window_of, windows_of
from relay_middleware.ledger.calendars import set_calendar
from relay_middleware.ledger.corrections import CorrectionRefusedError, credit, refund, resolve
from relay_middleware.ledger.database import Database
from relay_middleware.ledger.operations import CustomerChange, Operation
from relay_middleware.ledger.reports import list_customers
from relay_middleware.ledger.sql import LedgerConflictError, SqlLedger
from relay_middleware.ledger.tables import ADJUSTMENT, REVISION
from relay_middleware.ports.books import LedgerAdjustment

pytestmark = pytest.mark.anyio

ALICE = CustomerChange(customer_id=CustomerId("alice"), tier="free")
TOMORROW = AT + timedelta(days=1)


@pytest.fixture(name="ledger")
def _ledger(database: Database) -> SqlLedger:
    return SqlLedger(database)


def named(operation_id: str, at: datetime = AT) -> Operation:
    return Operation(operation_id=operation_id, at=at)


async def give(
    database: Database, name: str, amount: int, period: Period = Period.MONTH
) -> PeriodWindow:
    return await credit(
        database, named(name), ALICE, period=period, amount_nano_usd=NanoUsd(amount)
    )


async def take_back(
    database: Database, name: str, amount: int, *, request: str = "r1", customer: str = "alice"
) -> int:
    return await refund(
        database,
        named(name),
        customer_id=CustomerId(customer),
        request_id=HoldId(request),
        amount_nano_usd=NanoUsd(amount),
    )


async def spent(ledger: SqlLedger, at: datetime = AT) -> list[int]:
    """Return alice's spend by day, week, month and lifetime."""
    found = {
        spend.window.period: int(spend.total_nano_usd)
        async for batch in ledger.spends(at)
        for spend in batch
    }
    return [found.get(period, 0) for period in Period]


async def revision(database: Database) -> int:
    async with database.connect() as connection:
        number: int = (await connection.execute(select(REVISION.c.number))).scalar_one()
        return number


async def test_a_credit_is_for_one_account(ledger: SqlLedger, database: Database) -> None:
    """
    A credit for the month is there once, whatever is repeated, and raises the revision once; it
    makes the customer where there is none.
    """
    window = await give(database, "op", 500)
    again = await give(database, "op", 500)

    assert window == again == window_of(Period.MONTH, AT)
    assert await ledger.adjustments(AT) == [
        LedgerAdjustment(
            customer_id=ALICE.customer_id,
            window=window,
            adjustment=Adjustment(
                operation_id="op", posted_nano_usd=NanoUsd(0), credit_nano_usd=NanoUsd(500)
            ),
        )
    ]
    assert await revision(database) == 1
    assert [each.customer_id for each in await list_customers(database)] == ["alice"]


@pytest.mark.parametrize(
    ("at", "periods"),
    [
        (AT, "day week month lifetime"),
        (TOMORROW, "week month lifetime"),
        (datetime(2026, 11, 30, tzinfo=UTC), "month lifetime"),
        (datetime(2026, 12, 1, tzinfo=UTC), "lifetime"),
        (AT - timedelta(days=40), "lifetime"),
    ],
)
async def test_a_credit_ends_with_its_period(
    ledger: SqlLedger, database: Database, at: datetime, periods: str
) -> None:
    """
    Given on Monday 23 November: gone the next day, the next Monday, in December, and never.
    """
    for period in Period:
        await give(database, period.value, 1, period)

    found = await ledger.adjustments(at)

    assert {each.window.period.value for each in found} == set(periods.split())


async def test_a_credit_is_for_the_customers_own_period(database: Database) -> None:
    """
    In Auckland it is the 24th already, a day that ends at 11:00 UTC.
    """
    auckland = ZoneInfo("Pacific/Auckland")
    await set_calendar(database, named("1", AT - timedelta(days=400)), ALICE, zone=auckland)

    window = await give(database, "op", 500, Period.DAY)

    assert window.ends_at == datetime(2026, 11, 24, 11, tzinfo=UTC)


@pytest.mark.parametrize("amount", [-501, MAX_NANO_USD - 499])
async def test_a_credit_that_cannot_be(ledger: SqlLedger, database: Database, amount: int) -> None:
    """
    Of 500 given at most 500 can be taken back, and no more given than can be counted; what is
    refused leaves nothing, and its operation can be made with another amount.
    """
    await give(database, "1", 500)

    with pytest.raises(CorrectionRefusedError, match=r"has a credit of 0\.00005 cents per month"):
        await give(database, "2", amount)

    assert len(await ledger.adjustments(AT)) == 1
    await give(database, "2", -500)
    assert sum(each.adjustment.credit_nano_usd for each in await ledger.adjustments(AT)) == 0


async def test_a_refund_counts_in_all_periods(ledger: SqlLedger, database: Database) -> None:
    """
    Of 100 charged 30 are taken back, once: 70 are spent in each of the request's four periods.
    """
    await ledger.append([ended("r1", 100)])

    assert await take_back(database, "op", 30) == 70
    assert await take_back(database, "op", 30) == 70

    assert await spent(ledger) == [70, 70, 70, 70]
    assert {each.adjustment.operation_id for each in await ledger.adjustments(AT)} == {
        "op:day",
        "op:week",
        "op:month",
        "op:lifetime",
    }
    assert await revision(database) == 1


async def test_a_refund_is_of_the_periods_of_its_request(
    ledger: SqlLedger, database: Database
) -> None:
    """
    What was charged yesterday, and is refunded today, leaves today's spend alone.
    """
    yesterday = AT - timedelta(days=1)
    await ledger.append([ended("r1", 100, at=yesterday), ended("r2", 5)])

    await take_back(database, "op", 100)

    assert await spent(ledger) == [5, 5, 5, 5]
    assert [each.window for each in await ledger.adjustments(yesterday)] == sorted(
        windows_of(yesterday), key=lambda window: f"op:{window.period.value}"
    )


async def test_a_refund_larger_than_the_charge(ledger: SqlLedger, database: Database) -> None:
    """
    Of 100 cents charged 60 are refunded, so 41 more are refused with all three numbers, and 40 are
    not; the books are never below nothing.
    """
    cent = 10_000_000
    await ledger.append([ended("r1", 100 * cent)])
    await take_back(database, "1", 60 * cent)

    with pytest.raises(
        CorrectionRefusedError, match="charged 100 cents, of which 60 are refunded: 41 cannot"
    ):
        await take_back(database, "2", 41 * cent)

    assert await spent(ledger) == [40 * cent] * 4
    assert await take_back(database, "2", 40 * cent) == 0
    assert await spent(ledger) == [0, 0, 0, 0]


async def test_refunds_at_once(ledger: SqlLedger, database: Database) -> None:
    """
    Of ten refunds of 30 at the same time, out of 100, exactly three are made.
    """
    await ledger.append([ended("r1", 100)])

    made = await asyncio.gather(
        *(take_back(database, f"op{i}", 30) for i in range(10)), return_exceptions=True
    )

    refused = [each for each in made if isinstance(each, BaseException)]
    assert [type(each) for each in refused] == [CorrectionRefusedError] * 7
    assert await spent(ledger) == [10, 10, 10, 10]


@pytest.mark.parametrize(
    ("request_id", "customer", "told"),
    [
        ("nope", "alice", "the ledger has no request nope"),
        ("r1", "bob", "request r1 is of customer alice, not of bob"),
        ("released", "alice", r"charged 0 cents: 0\.0000001 cannot"),
        ("expired", "alice", "nothing is charged for it yet: 'relay customers resolve'"),
    ],
)
async def test_what_cannot_be_refunded(
    ledger: SqlLedger, database: Database, request_id: str, customer: str, told: str
) -> None:
    """
    A request that is not there, another's, or one that nothing was charged for.
    """
    await ledger.append(
        [
            ended("r1", 100),
            ended("released", 0, state=HoldState.RELEASED),
            ended("expired", 0, state=HoldState.EXPIRED),
        ]
    )

    with pytest.raises(CorrectionRefusedError, match=told):
        await take_back(database, "op", 1, request=request_id, customer=customer)

    assert await revision(database) == 0


@pytest.mark.parametrize(("is_charged", "left"), [(True, 1000), (False, 0)])
async def test_an_expired_request_is_resolved(
    ledger: SqlLedger, database: Database, *, is_charged: bool, left: int
) -> None:
    """
    The 1,000 that were set aside are charged, or come back in every period; either is a final
    record, which is made once.
    """
    await ledger.append([ended("r1", 0, state=HoldState.EXPIRED)])
    assert await spent(ledger) == [1000] * 4

    for _ in range(2):
        resolved = await resolve(database, named("op"), HoldId("r1"), is_charged=is_charged)
        assert resolved == 1000

    assert await spent(ledger) == [left] * 4
    assert await ledger.states([HoldId("r1")]) == {"r1": HoldState.SETTLED}


async def test_counters_follow_what_is_resolved(ledger: SqlLedger, database: Database) -> None:
    """
    A store that has posted the 1,000 of an expired request comes to what the ledger says by the
    adjustments alone: nothing is left of them when it is released.
    """
    await ledger.append([ended("r1", 0, state=HoldState.EXPIRED)])
    before = await spent(ledger)

    await resolve(database, named("op"), HoldId("r1"), is_charged=False)

    change = {
        each.window.period: each.adjustment.posted_nano_usd for each in await ledger.adjustments(AT)
    }
    assert [was + change[period] for was, period in zip(before, Period, strict=True)] == [0] * 4
    assert await spent(ledger) == [0] * 4


@pytest.mark.parametrize("state", [HoldState.SETTLED, HoldState.RELEASED])
async def test_what_has_ended_is_not_resolved(
    ledger: SqlLedger, database: Database, state: HoldState
) -> None:
    """
    Only an expired request can be; the error says what it is, or that there is none.
    """
    await ledger.append([ended("r1", 0, state=state)])

    with pytest.raises(CorrectionRefusedError, match=f"r1 is {state.value}"):
        await resolve(database, named("1"), HoldId("r1"), is_charged=True)
    with pytest.raises(CorrectionRefusedError, match="the ledger has no request nope"):
        await resolve(database, named("2"), HoldId("nope"), is_charged=True)


async def test_what_comes_after_it_was_resolved(ledger: SqlLedger, database: Database) -> None:
    """
    A record with another charge than was decided is no silence, and changes nothing; that it
    expired, told once more, changes nothing either.
    """
    expired = ended("r1", 0, state=HoldState.EXPIRED)
    await ledger.append([expired])
    await resolve(database, named("op"), HoldId("r1"), is_charged=True)

    with pytest.raises(LedgerConflictError, match="a charge of 1000 nano-dollars, not 7"):
        await ledger.append([ended("r1", 7)])
    await ledger.append([expired])

    assert await spent(ledger) == [1000] * 4


async def test_why_is_kept(ledger: SqlLedger, database: Database) -> None:
    """
    The note of an operator stands in each row that it made, with the request it is about.
    """
    await ledger.append([ended("r1", 100)])
    await refund(
        database,
        named("op"),
        customer_id=ALICE.customer_id,
        request_id=HoldId("r1"),
        amount_nano_usd=NanoUsd(1),
        note="it was late",
    )

    async with database.connect() as connection:
        rows = list(await connection.execute(select(ADJUSTMENT)))
    assert [(row.note, row.request_id) for row in rows] == [("it was late", "r1")] * 4


async def test_adjustments_come_in_their_order(ledger: SqlLedger, database: Database) -> None:
    """
    The oldest first, so that what was given comes before what was taken back.
    """
    for second, amount in enumerate([5, -3, 4, -6]):
        await credit(
            database,
            named(f"op{9 - second}", AT + timedelta(seconds=second)),
            ALICE,
            period=Period.LIFETIME,
            amount_nano_usd=NanoUsd(amount),
        )

    amounts = [each.adjustment.credit_nano_usd for each in await ledger.adjustments(AT)]

    assert list(itertools.accumulate(amounts)) == [5, 2, 6, 0]
