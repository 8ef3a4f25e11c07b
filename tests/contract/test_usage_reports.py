"""
What an operator reads of usage, spend and what is left.
"""

from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest
from fixtures.records import AT, ended
from sqlalchemy import update

from relay_middleware.core.holds import HoldState
from relay_middleware.core.identifiers import CustomerId, HoldId
from relay_middleware.core.money import NanoUsd
from relay_middleware.core.periods import Period
from relay_middleware.ledger.calendars import UnknownZoneError, set_calendar
from relay_middleware.ledger.corrections import credit, refund
from relay_middleware.ledger.database import Database
from relay_middleware.ledger.operations import CustomerChange, Operation, set_tier
from relay_middleware.ledger.reports import StateReport, count_requests, list_expired
from relay_middleware.ledger.sql import SqlLedger
from relay_middleware.ledger.tables import CUSTOMER_CALENDAR
from relay_middleware.ledger.usage_reports import UsageReport, usage_report

pytestmark = pytest.mark.anyio

BOB = CustomerChange(customer_id=CustomerId("bob"), tier="free")


def named(operation_id: str, at: datetime = AT) -> Operation:
    return Operation(operation_id=operation_id, at=at)


def posted(report: UsageReport) -> list[int]:
    return [account.posted_nano_usd for account in report.accounts]


async def test_usage_report(database: Database) -> None:
    """
    Two of alice's requests this month (3 + 4), one last month (5): counted by hand.
    """
    await SqlLedger(database).append(
        [
            ended("a", 3),
            ended("b", 4, at=AT - timedelta(days=2)),
            ended("c", 5, at=AT - timedelta(days=40)),
            ended("d", 6, customer="bob"),
        ]
    )

    alice, bob = await usage_report(database, AT)
    (only,) = await usage_report(database, AT, only=CustomerId("alice"))

    assert (alice.requests, alice.input_tokens, alice.output_tokens) == (2, 20, 10)
    assert (alice.charge_nano_usd, alice.cost_nano_usd) == (7, 7)
    assert [account.window.period for account in alice.accounts] == list(Period)
    assert posted(alice) == [3, 3, 7, 12]
    assert bob.charge_nano_usd == 6
    assert only == alice


async def test_usage_report_of_a_new_customer(database: Database) -> None:
    """
    Who has used nothing stands there with zeros; who is not there does not.
    """
    await set_tier(database, named("1"), BOB)

    (bob,) = await usage_report(database, AT)

    assert (bob.requests, bob.charge_nano_usd, bob.expired_nano_usd) == (0, 0, 0)
    assert posted(bob) == [0, 0, 0, 0]
    assert await usage_report(database, AT, only=CustomerId("nobody")) == []


async def test_expired_requests_stand_apart(database: Database) -> None:
    """
    1,000 set aside for a request of which nobody knows the end: no request, no charge, but spent.
    """
    await SqlLedger(database).append(
        [ended("a", 3), ended("b", 0, state=HoldState.EXPIRED), ended("c", 7, customer="bob")]
    )

    alice, _ = await usage_report(database, AT)

    assert (alice.requests, alice.charge_nano_usd, alice.expired_nano_usd) == (1, 3, 1000)
    assert posted(alice) == [1003] * 4
    (expired,) = await list_expired(database, CustomerId("alice"))
    assert (expired.request_id, expired.hold_nano_usd, expired.reserved_at) == ("b", 1000, AT)
    assert await list_expired(database, CustomerId("bob")) == []


async def test_credits_and_refunds(database: Database) -> None:
    """
    Of a limit of 100, with 50 on top for the month, 30 charged and 10 of them taken back:
    100 + 50 - 20 = 130 are left in the month, 100 - 20 = 80 in the others.
    """
    await SqlLedger(database).append([ended("a", 30, customer="bob")])
    month = Period.MONTH
    await credit(database, named("1"), BOB, period=month, amount_nano_usd=NanoUsd(50))
    await refund(
        database,
        named("2"),
        customer_id=BOB.customer_id,
        request_id=HoldId("a"),
        amount_nano_usd=NanoUsd(10),
    )

    (bob,) = await usage_report(database, AT)

    assert (bob.charge_nano_usd, bob.refunded_nano_usd) == (30, 10)
    assert [each.left_nano_usd(NanoUsd(100)) for each in bob.accounts] == [80, 80, 130, 80]


async def test_usage_in_the_customers_own_month(database: Database) -> None:
    """
    Bob's month began on the 15th, so his request of the 14th is not in it; alice's is.
    """
    long_ago = AT - timedelta(days=400)
    zone = ZoneInfo("Europe/Berlin")
    await set_calendar(database, named("1", long_ago), BOB, zone=zone, anchor_day=15)
    for name in ("alice", "bob"):
        await SqlLedger(database).append(
            [
                ended(f"{name} 1", 1, customer=name),
                ended(f"{name} 2", 2, customer=name, at=datetime(2026, 11, 14, 12, tzinfo=UTC)),
            ]
        )

    alice, bob = await usage_report(database, AT)

    assert (alice.requests, alice.charge_nano_usd, posted(alice)) == (2, 3, [1, 1, 3, 3])
    assert (bob.requests, bob.charge_nano_usd, posted(bob)) == (1, 1, [1, 1, 1, 3])


async def test_no_report_without_the_zone(database: Database) -> None:
    """
    A report that left a customer out, or took its periods for UTC's, would be wrong: it is refused,
    with the customer's name.
    """
    await set_calendar(database, named("1"), BOB, zone=ZoneInfo("Europe/Berlin"))
    async with database.begin() as connection:
        await connection.execute(update(CUSTOMER_CALENDAR).values(zone="Mars/Olympus"))

    with pytest.raises(UnknownZoneError, match="customer bob"):
        await usage_report(database, AT)


async def test_requests_are_counted_by_how_they_ended(database: Database) -> None:
    """
    Two settled for 3 and 4, one expired, none released; those of others do not count.
    """
    await SqlLedger(database).append(
        [
            ended("a", 3),
            ended("b", 4, at=AT - timedelta(days=400)),
            ended("c", 0, state=HoldState.EXPIRED),
            ended("d", 6, customer="bob"),
        ]
    )

    counted = await count_requests(database, CustomerId("alice"))

    hold = ended("a", 3).hold_nano_usd
    assert counted == {
        HoldState.OPEN: nothing(),
        HoldState.SETTLED: report(2, 7, 2 * hold),
        HoldState.RELEASED: nothing(),
        HoldState.EXPIRED: report(1, 0, hold),
    }


def report(requests: int, charge: int, hold: int) -> StateReport:
    return StateReport(
        requests=requests, charge_nano_usd=NanoUsd(charge), hold_nano_usd=NanoUsd(hold)
    )


def nothing() -> StateReport:
    return report(0, 0, 0)
