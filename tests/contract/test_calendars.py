"""
When customers' periods begin, as operators say it and SQL keeps it.
"""

from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest
from fixtures.records import AT
from sqlalchemy import update

from relay_middleware.core.identifiers import CustomerId
from relay_middleware.core.periods import UTC_CALENDAR, Calendar, Period, window_of
from relay_middleware.errors import StoreUnavailableError
from relay_middleware.ledger.calendars import (
    CalendarBusyError,
    UnknownZoneError,
    set_calendar,
    zone_named,
    zone_names,
)
from relay_middleware.ledger.database import Database, ValueRefusedError
from relay_middleware.ledger.directory import SqlDirectory
from relay_middleware.ledger.operations import CustomerChange, Operation, set_tier
from relay_middleware.ledger.reports import list_customers
from relay_middleware.ledger.tables import CUSTOMER_CALENDAR

pytestmark = pytest.mark.anyio

BOB = CustomerChange(customer_id=CustomerId("bob"), tier="free")
BERLIN = ZoneInfo("Europe/Berlin")
IN_BERLIN = Calendar(zone=BERLIN, anchor_day=31, previous=UTC_CALENDAR, changed_at=AT)
"""Of a customer that was moved there at `AT`."""


def named(operation_id: str, at: datetime = AT) -> Operation:
    return Operation(operation_id=operation_id, at=at)


@pytest.fixture(name="directory")
async def _directory(database: Database) -> AsyncIterator[SqlDirectory]:
    directory = SqlDirectory(database)
    await directory.start()
    yield directory
    await directory.aclose()


async def set_zone(database: Database, name: str) -> None:
    """Write what no operation would."""
    async with database.begin() as connection:
        await connection.execute(update(CUSTOMER_CALENDAR).values(zone=name))


async def test_a_customer_without_a_calendar(database: Database, directory: SqlDirectory) -> None:
    """
    Its periods are UTC's, and months begin on the first.
    """
    await set_tier(database, named("1"), BOB)

    bob = await directory.customer(BOB.customer_id)

    assert bob is not None
    assert bob.calendar == UTC_CALENDAR


async def test_a_calendar_is_read_as_it_was_set(
    database: Database, directory: SqlDirectory
) -> None:
    """
    Zone, day and what they replaced come back from SQL, to the directory and to the reports.
    """
    was_set = await set_calendar(database, named("1"), BOB, zone=BERLIN, anchor_day=31)
    await directory.refresh()

    bob = await directory.customer(BOB.customer_id)

    assert bob is not None
    assert was_set == bob.calendar == IN_BERLIN
    assert [each.calendar for each in await list_customers(database)] == [IN_BERLIN]


async def test_what_is_not_given_stays(database: Database) -> None:
    """
    A zone alone leaves the day, a day alone the zone.
    """
    only_day = await set_calendar(database, named("1"), BOB, anchor_day=15)
    both = await set_calendar(database, named("2"), BOB, zone=BERLIN)

    assert (only_day.zone_name, only_day.anchor_day) == ("UTC", 15)
    assert (both.zone_name, both.anchor_day) == ("Europe/Berlin", 15)


async def test_a_change_that_is_taken_back_leaves_nothing(database: Database) -> None:
    """
    On the day it was made, the calendar of before can be had again; it has no row.
    """
    await set_calendar(database, named("1"), BOB, zone=BERLIN)

    again = await set_calendar(database, named("2"), BOB, zone=UTC)

    async with database.connect() as connection:
        assert (await connection.execute(CUSTOMER_CALENDAR.select())).all() == []
    assert again == UTC_CALENDAR


async def test_a_settled_calendar_that_is_taken_back(database: Database) -> None:
    """
    The same where the calendar of before was Berlin's, whose own past is forgotten by then.
    """
    later = AT + timedelta(days=100)
    await set_calendar(database, named("1"), BOB, zone=BERLIN)
    await set_calendar(database, named("2", later), BOB, anchor_day=15)

    again = await set_calendar(database, named("3", later), BOB, anchor_day=1)

    assert again == Calendar(zone=BERLIN)
    assert (await list_customers(database))[0].calendar == again


async def test_a_second_change_is_refused_in_words(database: Database) -> None:
    """
    While the first comes into force the second is refused, says from when on it is possible, and
    leaves the calendar as it is. From then on it is made.
    """
    await set_calendar(database, named("1"), BOB, zone=BERLIN, anchor_day=31)

    with pytest.raises(CalendarBusyError, match=r"again from 2026-12-30T23:00:00Z on"):
        await set_calendar(database, named("2", AT + timedelta(days=1)), BOB, anchor_day=5)

    assert (await list_customers(database))[0].calendar == IN_BERLIN
    at = datetime(2026, 12, 30, 23, tzinfo=UTC)
    made = await set_calendar(database, named("2", at), BOB, anchor_day=5)
    assert made == Calendar(
        zone=BERLIN,
        anchor_day=5,
        previous=Calendar(zone=BERLIN, anchor_day=31),
        changed_at=at,
    )


async def test_a_calendar_is_set_once(database: Database) -> None:
    """
    The same operation again, days later, changes nothing and is no error.
    """
    await set_calendar(database, named("1"), BOB, zone=BERLIN, anchor_day=31)

    again = await set_calendar(database, named("1", AT + timedelta(days=9)), BOB, anchor_day=5)

    assert again == IN_BERLIN


async def test_a_day_that_no_month_has(database: Database) -> None:
    """
    SQL keeps no day of the month but 1 to 31.
    """
    await set_calendar(database, named("1"), BOB, zone=BERLIN)

    with pytest.raises(ValueRefusedError):
        async with database.begin() as connection:
            await connection.execute(update(CUSTOMER_CALENDAR).values(anchor_day=32))


async def test_a_zone_that_this_machine_does_not_know(
    database: Database, directory: SqlDirectory
) -> None:
    """
    Its customer is not served rather than in the wrong periods, in which nothing is spent yet; the
    error names customer, zone and remedy. All others are served.
    """
    await set_calendar(database, named("1"), BOB, zone=BERLIN)
    await set_tier(database, named("2"), CustomerChange(customer_id=CustomerId("al"), tier="pro"))
    await set_zone(database, "Mars/Olympus")
    await directory.refresh()

    with pytest.raises(UnknownZoneError, match=r"'Mars/Olympus', which customer bob has.* tzdata"):
        await directory.customer(BOB.customer_id)

    assert issubclass(UnknownZoneError, StoreUnavailableError)
    assert await directory.customer(CustomerId("al")) is not None


async def test_a_zone_that_is_known_again(database: Database, directory: SqlDirectory) -> None:
    """
    Once the zone is there, the customer is served without a restart.
    """
    await set_calendar(database, named("1"), BOB, zone=BERLIN)
    await set_zone(database, "Mars/Olympus")
    await directory.refresh()
    with pytest.raises(UnknownZoneError):
        await directory.customer(BOB.customer_id)

    await set_zone(database, "Europe/Berlin")

    assert await directory.customer(BOB.customer_id) is not None


async def test_the_running_period_does_not_move(database: Database) -> None:
    """
    At the moment of the change the customer's month is what it was: to the end of November in UTC.
    """
    calendar = await set_calendar(database, named("1"), BOB, zone=BERLIN, anchor_day=31)

    assert window_of(Period.MONTH, AT, calendar) == window_of(Period.MONTH, AT)


@pytest.mark.parametrize(
    "name", ["Mars/Olympus", "Europe", "localtime", "../zone", "", "a\0b", "x" * 5000]
)
def test_no_zone(name: str) -> None:
    """
    A folder, the machine's own, a path out of the database, and what no file can be called are no
    zones either.
    """
    assert name not in zone_names()
    with pytest.raises(LookupError):
        zone_named(name)


def test_utc_is_utc() -> None:
    """
    By its name it is the same value as the default, and it is in the database too.
    """
    assert {"UTC", "Europe/Berlin"} <= zone_names()
    assert zone_named("UTC") is UTC
