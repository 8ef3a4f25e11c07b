"""
Calendars of customers, as SQL has them.
"""

from collections.abc import Mapping
from datetime import UTC, tzinfo
from typing import Any
from zoneinfo import ZoneInfo, available_timezones

from sqlalchemy import Row, delete, select
from sqlalchemy.ext.asyncio import AsyncConnection

from relay_middleware.core.identifiers import CustomerId
from relay_middleware.core.instants import from_us, to_us
from relay_middleware.core.periods import UTC_CALENDAR, Calendar, CalendarChangeError, changed
from relay_middleware.errors import RelayError, StoreUnavailableError
from relay_middleware.ledger.database import SUMS_TIMEOUT_S, Database
from relay_middleware.ledger.operations import (
    CustomerChange,
    Operation,
    OperationEntry,
    change_customer,
)
from relay_middleware.ledger.tables import CUSTOMER_CALENDAR

_OF_THE_MACHINE = {"localtime"}
"""What some machines call their own zone, which is another on each."""


class UnknownZoneError(StoreUnavailableError):
    """
    This machine does not know a customer's zone, so nobody can tell when the periods begin.

    The customer is not served: another zone's periods would be other accounts, empty ones.
    """


class CalendarBusyError(RelayError):
    """A customer's calendar was changed, and the change is still coming into force."""


async def set_calendar(
    database: Database,
    operation: Operation,
    change: CustomerChange,
    *,
    zone: tzinfo | None = None,
    anchor_day: int | None = None,
) -> Calendar:
    """
    Let the customer's periods begin at midnight of *zone*, its months on *anchor_day*; None keeps
    what is.

    Returns:
        The calendar, which each period follows from its end on: see `followed_from`.

    Raises:
        CalendarBusyError: The last change is still coming into force. Nothing was changed.
        UnknownZoneError: See there.
    """

    async def work(connection: AsyncConnection) -> None:
        calendar = _changed(
            await calendar_of(connection, change.customer_id), zone, anchor_day, operation, change
        )
        own = CUSTOMER_CALENDAR.c.customer_id == change.customer_id
        await connection.execute(delete(CUSTOMER_CALENDAR).where(own))
        if calendar != UTC_CALENDAR:
            row = {"customer_id": change.customer_id, **_values(calendar)}
            await connection.execute(CUSTOMER_CALENDAR.insert().values(row))

    details = {"zone": None if zone is None else str(zone), "anchor_day": anchor_day}
    entry = OperationEntry(kind="set_calendar", subject=change.customer_id, details=details)
    await change_customer(database, operation, change, entry, work)
    async with database.connect(timeout_s=SUMS_TIMEOUT_S) as connection:
        return await calendar_of(connection, change.customer_id)


def _changed(
    calendar: Calendar,
    zone: tzinfo | None,
    anchor_day: int | None,
    operation: Operation,
    change: CustomerChange,
) -> Calendar:
    try:
        return changed(
            calendar,
            zone=calendar.zone if zone is None else zone,
            anchor_day=calendar.anchor_day if anchor_day is None else anchor_day,
            at=operation.at,
        )
    except CalendarChangeError as error:
        raise CalendarBusyError(
            f"the periods of customer {change.customer_id} were changed to {calendar.zone_name},"
            f" months from day {calendar.anchor_day}, and do not all follow that yet: change them"
            f" again from {error.possible_at:%Y-%m-%dT%H:%M:%SZ} on"
        ) from error


async def calendar_of(connection: AsyncConnection, customer_id: CustomerId) -> Calendar:
    """
    Return the calendar of one customer.

    Raises:
        UnknownZoneError: See there.
    """
    own = await own_calendars(connection, only=customer_id)
    return calendar_from(own[customer_id]) if own else UTC_CALENDAR


async def own_calendars(
    connection: AsyncConnection, *, only: CustomerId | None = None
) -> Mapping[CustomerId, Row[Any]]:
    """
    Return the rows of customers that were given a calendar, for `calendar_from`.

    Args:
        only: One customer instead of all.
    """
    query = select(CUSTOMER_CALENDAR)
    if only is not None:
        query = query.where(CUSTOMER_CALENDAR.c.customer_id == only)
    return {CustomerId(row.customer_id): row for row in await connection.execute(query)}


def calendar_from(row: Row[Any]) -> Calendar:
    """
    Return the calendar of a row of `CUSTOMER_CALENDAR`.

    Raises:
        UnknownZoneError: See there.
    """
    zone = _zone(row.customer_id, row.zone)
    if row.changed_at_us is None:
        return Calendar(zone=zone, anchor_day=row.anchor_day)
    return Calendar(
        zone=zone,
        anchor_day=row.anchor_day,
        previous=Calendar(
            zone=_zone(row.customer_id, row.previous_zone), anchor_day=row.previous_anchor_day
        ),
        changed_at=from_us(row.changed_at_us),
    )


def _values(calendar: Calendar) -> dict[str, object]:
    previous, changed_at = calendar.previous, calendar.changed_at
    return {
        "zone": calendar.zone_name,
        "anchor_day": calendar.anchor_day,
        "previous_zone": None if previous is None else previous.zone_name,
        "previous_anchor_day": None if previous is None else previous.anchor_day,
        "changed_at_us": None if changed_at is None else to_us(changed_at),
    }


def zone_names() -> frozenset[str]:
    """Return the names of all zones of the time zone database."""
    return frozenset(available_timezones() - _OF_THE_MACHINE)


def zone_named(name: str) -> tzinfo:
    """
    Return the zone of the time zone database that is called *name*.

    Raises:
        LookupError: There is none on this machine.
    """
    if name == UTC_CALENDAR.zone_name:
        return UTC
    if name in _OF_THE_MACHINE:
        raise LookupError(name)
    try:
        return ZoneInfo(name)
    except (ValueError, OSError) as error:
        # A name that is no file name, a folder, or a file that is no zone.
        raise LookupError(name) from error


def _zone(customer_id: str, name: str) -> tzinfo:
    try:
        return zone_named(name)
    except LookupError as error:
        raise UnknownZoneError(
            f"this machine knows no time zone {name!r}, which customer {customer_id} has: install a"
            " newer version of the package tzdata"
        ) from error
