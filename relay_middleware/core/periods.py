"""
Spend periods: calendar days, weeks from Monday, months from some day on, and a lifetime.

All begin at midnight of the customer's zone. There is no reset job: a period's start is part of its
account's key, so a new period begins with an empty account by itself.

Rules for editors. The windows of one period partition time: whatever zone, day of the month or
change of them, each instant lies in exactly one. A month is reckoned from its anchor day, not from
the month before: 31 January leads to 28 February, and that to 31 March. A window that has begun is
never moved: what was spent in it is found by its start. Hence a change of calendar waits, period by
period, for the end of the window in which it was made.
"""

from bisect import bisect_left
from calendar import monthrange
from collections.abc import Mapping
from dataclasses import field, replace
from datetime import UTC, date, datetime, timedelta, tzinfo
from enum import Enum

from relay_middleware.core.instants import to_us
from relay_middleware.core.values import dataclass

LAST_ANCHOR_DAY = 31
"""A month that has no such day begins on its last one."""

_ONE_DAY, _ONE_WEEK, _ONE_SECOND = timedelta(days=1), timedelta(days=7), timedelta(seconds=1)
_LONGEST_MONTH = timedelta(days=31)


class Period(Enum):
    """How often a spend limit begins anew."""

    DAY = "day"
    WEEK = "week"
    MONTH = "month"
    LIFETIME = "lifetime"


CALENDAR_PERIODS = (Period.DAY, Period.WEEK, Period.MONTH)
"""Those that end."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Calendar:
    """
    When a customer's periods begin.

    Attributes:
        zone: Whose midnight it is that they begin at.
        anchor_day: Day of the month on which months begin, 1 to 31.
        previous: The calendar that this one replaced; None: it was never another.
        changed_at: When it was replaced; aware, UTC; None exactly where *previous* is.
    """

    zone: tzinfo = UTC
    anchor_day: int = 1
    previous: "Calendar | None" = None
    changed_at: datetime | None = None

    def __post_init__(self) -> None:
        if not 1 <= self.anchor_day <= LAST_ANCHOR_DAY:
            raise ValueError(f"months begin on day 1 to {LAST_ANCHOR_DAY}, not {self.anchor_day}")

    @property
    def zone_name(self) -> str:
        """Such as `Europe/Berlin`, or `UTC`."""
        return str(self.zone)

    def is_as(self, other: "Calendar") -> bool:
        """Say whether both have the same rules, whatever they replaced."""
        return (self.zone_name, self.anchor_day) == (other.zone_name, other.anchor_day)


MAX_CALENDARS = 1000
"""Of which windows are remembered at once."""

UTC_CALENDAR = Calendar()
"""Of a customer that was given no other."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PeriodWindow:
    """
    One concrete period, such as November 2026.

    Attributes:
        period: Which kind it is.
        starts_at: First instant inside, UTC; None for a lifetime.
        ends_at: First instant after, UTC; None for a lifetime.
        key: Name of the account's period in keys: `month:1793491200`, or `lifetime`.
        starts_at_us: *starts_at* as it is written down; as *ends_at_us*.
    """

    period: Period
    starts_at: datetime | None
    ends_at: datetime | None
    key: str = field(init=False, compare=False, repr=False)
    starts_at_us: int | None = field(init=False, compare=False, repr=False)
    ends_at_us: int | None = field(init=False, compare=False, repr=False)

    def __post_init__(self) -> None:
        key = self.period.value
        if self.starts_at is not None:
            key = f"{key}:{int(self.starts_at.timestamp())}"
        starts_at_us = None if self.starts_at is None else to_us(self.starts_at)
        ends_at_us = None if self.ends_at is None else to_us(self.ends_at)
        # Once, because windows are kept, and each request needs them all.
        object.__setattr__(self, "key", key)
        object.__setattr__(self, "starts_at_us", starts_at_us)
        object.__setattr__(self, "ends_at_us", ends_at_us)

    def contains(self, at: datetime) -> bool:
        """Say whether the aware instant *at* lies inside."""
        if self.starts_at is None or self.ends_at is None:
            return True
        return self.starts_at <= at < self.ends_at


def window_of(period: Period, at: datetime, calendar: Calendar = UTC_CALENDAR) -> PeriodWindow:
    """
    Return the window of *period* that contains the aware instant *at*.

    Windows of one period partition time: start inclusive, end exclusive.
    """
    if period is Period.LIFETIME:
        return PeriodWindow(period=period, starts_at=None, ends_at=None)
    starts_at, ends_at = _bounds(period, at, calendar)
    return PeriodWindow(period=period, starts_at=starts_at, ends_at=ends_at)


def windows_of(at: datetime, calendar: Calendar = UTC_CALENDAR) -> tuple[PeriodWindow, ...]:
    """
    Return the windows that contain *at*, one per period, in the order of `Period`.
    """
    return tuple(window_of(period, at, calendar) for period in Period)


class Windows:
    """
    `windows_of`, which remembers what it has found: it changes once a day, and is asked for with
    every request.
    """

    def __init__(self) -> None:
        self._found: dict[Calendar, tuple[PeriodWindow, ...]] = {}

    def at(self, at: datetime, calendar: Calendar) -> tuple[PeriodWindow, ...]:
        """Return `windows_of` the same."""
        found = self._found.get(calendar)
        if found is None or not all(window.contains(at) for window in found):
            if len(self._found) >= MAX_CALENDARS:
                self._found.clear()
            found = self._found[calendar] = windows_of(at, calendar)
        return found


def followed_from(calendar: Calendar) -> Mapping[Period, datetime]:
    """
    Return from when on each period follows *calendar*; empty where it replaced no other.
    """
    if calendar.previous is None or calendar.changed_at is None:
        return {}
    return {
        period: _bounds(period, calendar.changed_at, calendar.previous)[1]
        for period in CALENDAR_PERIODS
    }


class CalendarChangeError(Exception):
    """
    A calendar may not be changed yet: the last change is still coming into force.

    Attributes:
        possible_at: From when on it may be.
    """

    def __init__(self, possible_at: datetime) -> None:
        super().__init__(f"the last change is in force from {possible_at.isoformat()} on")
        self.possible_at = possible_at


def changed(calendar: Calendar, *, zone: tzinfo, anchor_day: int, at: datetime) -> Calendar:
    """
    Return what follows *calendar* when it is changed at *at*.

    A change of which no period has taken notice yet, on the day it was made, is replaced.

    Raises:
        CalendarChangeError: The last change still decides where a window that contains *at* begins
            or ends, and only one change is remembered.
        ValueError: There is no such *anchor_day*.
    """
    wanted = Calendar(zone=zone, anchor_day=anchor_day)
    if wanted.is_as(calendar):
        return calendar
    if calendar.previous is not None and at < min(followed_from(calendar).values()):
        if wanted.is_as(calendar.previous):
            return calendar.previous
        return replace(calendar, zone=zone, anchor_day=anchor_day)
    settled = replace(calendar, previous=None, changed_at=None)
    settles_at = _settles_at(calendar, settled, at)
    if at < settles_at:
        raise CalendarChangeError(settles_at)
    return replace(wanted, previous=settled, changed_at=at)


def _settles_at(calendar: Calendar, settled: Calendar, at: datetime) -> datetime:
    """Return from when on, *at* or later, no window shows that *calendar* replaced another."""
    settles_at = at
    for period, turns_at in followed_from(calendar).items():
        # Both may agree all along, or from the turn on, or once the first window has ended.
        instants = (at, turns_at, _bounds(period, turns_at, calendar)[1])
        agreed = (
            each
            for each in instants
            if _bounds(period, each, calendar) == _bounds(period, each, settled)
        )
        settles_at = max(settles_at, next(agreed))
    return settles_at


def _bounds(period: Period, at: datetime, calendar: Calendar) -> tuple[datetime, datetime]:
    """Return start and end of the window of *period*, which ends, that contains *at*."""
    if calendar.previous is None or calendar.changed_at is None:
        return _whole(period, at, calendar)
    _, turns_at = _bounds(period, calendar.changed_at, calendar.previous)
    if at < turns_at:
        return _bounds(period, at, calendar.previous)
    starts_at, ends_at = _whole(period, at, calendar)
    # The first window is cut off: before the turn, time belongs to the previous calendar's.
    return max(starts_at, turns_at), ends_at


def _whole(period: Period, at: datetime, calendar: Calendar) -> tuple[datetime, datetime]:
    zone, anchor_day = calendar.zone, calendar.anchor_day
    first_day = _first_day(period, at.astimezone(zone).date(), anchor_day)
    starts_at = _begin(first_day, zone)
    while True:
        first_day = _next_first_day(period, first_day, anchor_day)
        ends_at = _begin(first_day, zone)
        # A clock that is put back over midnight shows the day before once more: still this day.
        if at < ends_at:
            return starts_at, ends_at
        starts_at = ends_at


def _first_day(period: Period, day: date, anchor_day: int) -> date:
    if period is Period.DAY:
        return day
    if period is Period.WEEK:
        return day - timedelta(days=day.weekday())
    first_day = _anchored(day, anchor_day)
    return first_day if first_day <= day else _anchored(day.replace(day=1) - _ONE_DAY, anchor_day)


def _next_first_day(period: Period, first_day: date, anchor_day: int) -> date:
    if period is Period.DAY:
        return first_day + _ONE_DAY
    if period is Period.WEEK:
        return first_day + _ONE_WEEK
    return _anchored(first_day.replace(day=1) + _LONGEST_MONTH, anchor_day)


def _anchored(day: date, anchor_day: int) -> date:
    """Return the day on which the month of *day* has its anchor."""
    _, days = monthrange(day.year, day.month)
    return day.replace(day=min(anchor_day, days))


def _begin(day: date, zone: tzinfo) -> datetime:
    """Return the first instant, UTC, at which clocks in *zone* show midnight of *day* or later."""
    midnight = datetime(day.year, day.month, day.day, tzinfo=zone)
    # Of a midnight that comes twice this is the first.
    at = midnight.astimezone(UTC)
    if _shown(at, zone) == midnight.replace(tzinfo=None):
        return at
    # Clocks leave it out. The offset before the leap names an instant after it, and the other way
    # round (PEP 495); between them lies the leap, at a full second.
    before = midnight.replace(fold=1).astimezone(UTC)
    leap = bisect_left(
        range((at - before) // _ONE_SECOND),
        midnight.replace(tzinfo=None),
        key=lambda seconds: _shown(before + timedelta(seconds=seconds), zone),
    )
    return before + timedelta(seconds=leap)


def _shown(at: datetime, zone: tzinfo) -> datetime:
    """Return what clocks in *zone* show at *at*: a naive date and time."""
    return at.astimezone(zone).replace(tzinfo=None)
