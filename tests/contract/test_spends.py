"""
What the ledger says that customers have spent, each in its own periods.
"""

import dataclasses
from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest
from fixtures.records import AT, ended
from sqlalchemy import update
from structlog.testing import capture_logs

from relay_middleware.core.holds import HoldState
from relay_middleware.core.identifiers import CustomerId, HoldId
from relay_middleware.core.money import NanoUsd
from relay_middleware.core.periods import Period, windows_of
from relay_middleware.ledger import sums
from relay_middleware.ledger.calendars import set_calendar
from relay_middleware.ledger.corrections import refund
from relay_middleware.ledger.database import Database
from relay_middleware.ledger.operations import CustomerChange, Operation
from relay_middleware.ledger.sql import SqlLedger
from relay_middleware.ledger.tables import CUSTOMER_CALENDAR
from relay_middleware.ports.stores import Spend

pytestmark = pytest.mark.anyio

AUCKLAND = ZoneInfo("Pacific/Auckland")
LONG_AGO = AT - timedelta(days=400)


@pytest.fixture(name="ledger")
def _ledger(database: Database) -> SqlLedger:
    return SqlLedger(database)


async def batches(ledger: SqlLedger, at: datetime = AT) -> list[list[Spend]]:
    return [list(batch) async for batch in ledger.spends(at)]


async def spent(ledger: SqlLedger, at: datetime = AT) -> dict[str, list[int]]:
    """Return what each customer spent in its day, week, month and lifetime."""
    found = {
        (spend.customer_id, spend.window.period): spend.total_nano_usd
        for batch in await batches(ledger, at)
        for spend in batch
    }
    return {
        customer: [found.get((customer, period), 0) for period in Period]
        for customer in sorted({customer for customer, _ in found})
    }


async def move(
    database: Database, customer: str, *, anchor_day: int | None = None, at: datetime = LONG_AGO
) -> None:
    """Give a customer the calendar of Auckland."""
    change = CustomerChange(customer_id=CustomerId(customer), tier="free")
    operation = Operation(operation_id=f"move {customer} {at}", at=at)
    await set_calendar(database, operation, change, zone=AUCKLAND, anchor_day=anchor_day)


async def test_each_in_its_own_periods(ledger: SqlLedger, database: Database) -> None:
    """
    At 12:00 UTC of 23 November it is 1:00 of the 24th in Auckland, 13 hours ahead: a request at
    10:59:59 UTC is yesterday's there and today's in UTC; one of 14 November, 11:00 UTC, is of the
    month from the 15th; carol's one of 31 October, 11:00 UTC, is of her November.
    """
    await move(database, "bob", anchor_day=15)
    await move(database, "carol")
    for customer in ("alice", "bob", "carol"):
        await ledger.append(
            [
                ended(f"{customer} 1", 1, customer=customer),
                ended(f"{customer} 2", 2, customer=customer, at=utc(23, 10, 59, 59)),
                ended(f"{customer} 4", 4, customer=customer, at=utc(14, 11)),
                ended(f"{customer} 8", 8, customer=customer, at=utc(31, 11, month=10)),
            ]
        )

    assert await spent(ledger) == {
        "alice": [3, 3, 7, 15],
        "bob": [1, 3, 7, 15],
        "carol": [1, 3, 15, 15],
    }


def utc(day: int, hour: int, minute: int = 0, second: int = 0, *, month: int = 11) -> datetime:
    return datetime(2026, month, day, hour, minute, second, tzinfo=UTC)


async def test_open_periods_are_summed_alone(ledger: SqlLedger, database: Database) -> None:
    """
    Of 602 customers, bob in periods of his own, each has without lifetimes what it has with them:
    500 are read at once, one of whom is bob, then 102, then he.
    """
    await move(database, "bob", anchor_day=15)
    for at in (AT, utc(23, 10, 59, 59), utc(14, 11), utc(31, 11, month=10)):
        await ledger.append([ended(f"{c} {at}", 3, customer=c, at=at) for c in ("alice", "bob")])
    await ledger.append([ended(f"r{i}", 1, customer=f"c{i}") for i in range(600)])

    found = [list(batch) async for batch in ledger.open_spends(AT)]

    whole = [spend for batch in await batches(ledger) for spend in batch]
    expected = {spend for spend in whole if spend.window.period is not Period.LIFETIME}
    assert {spend for batch in found for spend in batch} == expected
    assert len(expected) == sum(map(len, found)) == 3 * 602
    assert [len({spend.customer_id for spend in batch}) for batch in found] == [499, 102, 1]


async def test_the_windows_are_the_customers(ledger: SqlLedger, database: Database) -> None:
    """
    A sum names the window it is of: bob's month began on 15 November in Auckland.
    """
    await move(database, "bob", anchor_day=15)
    await ledger.append([ended(customer="bob")])

    (batch,) = await batches(ledger)

    starts_at = {spend.window.period: spend.window.starts_at for spend in batch}
    assert starts_at[Period.MONTH] == datetime(2026, 11, 15, tzinfo=AUCKLAND).astimezone(UTC)
    assert starts_at[Period.DAY] == datetime(2026, 11, 24, tzinfo=AUCKLAND).astimezone(UTC)


async def test_spend_of_the_running_period_stays_after_a_change(
    ledger: SqlLedger, database: Database
) -> None:
    """
    A change of calendar today leaves today's, this week's and this month's spend what it was.
    """
    await ledger.append([ended("r1", 1, customer="bob")])
    before = await batches(ledger)

    await move(database, "bob", anchor_day=15, at=AT)

    assert [spend for batch in await batches(ledger) for spend in batch] == [
        spend for batch in before for spend in batch
    ]


@pytest.mark.parametrize("state", list(HoldState)[1:], ids=lambda state: state.value)
async def test_what_counts(ledger: SqlLedger, state: HoldState) -> None:
    """
    A settled request counts for its charge of 7, an expired one for the 1,000 set aside, a released
    one for nothing.
    """
    charge = 7 if state is HoldState.SETTLED else 0
    await ledger.append([ended("r1", charge, state=state)])

    counted = {HoldState.SETTLED: 7, HoldState.EXPIRED: 1000, HoldState.RELEASED: 0}[state]
    assert await spent(ledger) == ({"alice": [counted] * 4} if counted else {})


async def test_the_part_that_expired(ledger: SqlLedger) -> None:
    """
    Of a charge of 7 and an expired hold of 1,000, 1,000 may yet become less.
    """
    await ledger.append([ended("r1", 7), ended("r2", 0, state=HoldState.EXPIRED)])

    (batch,) = await batches(ledger)

    assert [(each.posted_nano_usd, each.expired_nano_usd) for each in batch] == [(1007, 1000)] * 4


async def test_what_expired_is_known_as_the_hold_that_it_was(
    ledger: SqlLedger, database: Database
) -> None:
    """
    Of three requests two expired, bob's, whose periods are Auckland's, an hour later: each is a
    hold of its 1,000 in the four periods that its reserve was in.
    """
    await move(database, "bob")
    later = dataclasses.replace(
        ended("r2", 0, customer="bob", state=HoldState.EXPIRED), ended_at=AT + timedelta(hours=1)
    )
    await ledger.append([ended("r1", 0, state=HoldState.EXPIRED), later, ended("r3", 7)])

    found = {str(hold.hold_id): hold for hold in await ledger.expired()}

    assert sorted(found) == ["r1", "r2"]
    assert [each.hold_id for each in await ledger.expired(AT + timedelta(hours=1))] == ["r2"]
    assert [account.window for account in found["r1"].accounts] == list(windows_of(AT))
    day = found["r2"].accounts[0].window
    assert day.starts_at == datetime(2026, 11, 24, tzinfo=AUCKLAND).astimezone(UTC)
    assert (found["r2"].amount_nano_usd, found["r2"].facts.reserved_at) == (1000, AT)


async def test_refunds_count(ledger: SqlLedger, database: Database) -> None:
    """
    Of 10 charged today 4 are taken back, in every period; of 10 charged last month, in the lifetime
    alone; of what is refunded in full nothing is left.
    """
    await move(database, "bob")
    for customer in ("alice", "bob", "carol"):
        last_month = AT - timedelta(days=40)
        await ledger.append(
            [
                ended(f"{customer} new", 10, customer=customer),
                ended(f"{customer} old", 10, customer=customer, at=last_month),
            ]
        )
    for customer, age, amount in [
        ("alice", "new", 4),
        ("alice", "old", 1),
        ("bob", "new", 4),
        ("carol", "new", 10),
        ("carol", "old", 10),
    ]:
        await refund(
            database,
            Operation(operation_id=f"{customer} {age}", at=AT),
            customer_id=CustomerId(customer),
            request_id=HoldId(f"{customer} {age}"),
            amount_nano_usd=NanoUsd(amount),
        )

    assert await spent(ledger) == {
        "alice": [6, 6, 6, 15],
        "bob": [6, 6, 6, 16],
        "carol": [0, 0, 0, 0],
    }


async def test_batches_of_customers(
    ledger: SqlLedger, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    """
    With three customers in a query, eight of UTC's calendar and seven of Auckland's, of three
    different anchor days, each come exactly once.
    """
    monkeypatch.setattr(sums, "BATCH_CUSTOMERS", 3)
    names = [f"c{i:02}" for i in range(15)]
    await ledger.append([ended(name, 1, customer=name) for name in names])
    for i, name in enumerate(names[8:]):
        await move(database, name, anchor_day=1 + i % 3)

    found = await batches(ledger)

    of_lifetime = [
        [spend.customer_id for spend in batch if spend.window.period is Period.LIFETIME]
        for batch in found
    ]
    assert sorted(name for batch in of_lifetime for name in batch) == names
    assert max(map(len, of_lifetime)) == 3


async def test_nothing_spent(ledger: SqlLedger, database: Database) -> None:
    """
    An empty ledger says nothing, of customers with a calendar of their own too.
    """
    assert await spent(ledger) == {}

    await move(database, "bob")
    assert await spent(ledger) == {}


async def test_an_unknown_zone_keeps_nobody_else_out(ledger: SqlLedger, database: Database) -> None:
    """
    Whose periods nobody knows is left out, not taken for UTC's, and logged with the reason.
    """
    await move(database, "bob")
    await move(database, "carol")
    await ledger.append([ended(name, 1, customer=name) for name in ("alice", "bob", "carol")])
    lost = [
        ended(f"{name} x", 0, customer=name, state=HoldState.EXPIRED) for name in ("bob", "carol")
    ]
    await ledger.append(lost)
    async with database.begin() as connection:
        wrong = update(CUSTOMER_CALENDAR).where(CUSTOMER_CALENDAR.c.customer_id == "bob")
        await connection.execute(wrong.values(zone="Mars/Olympus"))

    with capture_logs() as logs:
        assert sorted(await spent(ledger)) == ["alice", "carol"]
        assert [each.customer_id for each in await ledger.expired()] == ["carol"]

    assert [(entry["event"], "Mars/Olympus" in entry["reason"]) for entry in logs] == [
        ("customer_left_out", True),
        ("hold_left_out", True),
    ]
    assert (logs[0]["customer_id"], logs[1]["hold_id"]) == ("bob", "bob x")
