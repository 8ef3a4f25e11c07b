"""
Spend periods: calendar days, weeks from Monday, months, and a lifetime; all in UTC.

There is no reset job. A period's start is part of its account's key, so a new period begins with an
empty account by itself.
"""

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from enum import Enum


class Period(Enum):
    """How often a spend limit begins anew."""

    DAY = "day"
    WEEK = "week"
    MONTH = "month"
    LIFETIME = "lifetime"


@dataclass(frozen=True, slots=True, kw_only=True)
class PeriodWindow:
    """
    One concrete period, such as November 2026.

    Attributes:
        period: Which kind it is.
        starts_at: First instant inside, UTC; None for a lifetime.
        ends_at: First instant after, UTC; None for a lifetime.
    """

    period: Period
    starts_at: datetime | None
    ends_at: datetime | None

    @property
    def key(self) -> str:
        """Name of the account's period in keys: `month:1793491200`, or `lifetime`."""
        if self.starts_at is None:
            return self.period.value
        return f"{self.period.value}:{int(self.starts_at.timestamp())}"


def window_of(period: Period, at: datetime) -> PeriodWindow:
    """
    Return the window of *period* that contains the aware instant *at*.

    Windows of one period partition time: start inclusive, end exclusive.
    """
    at = at.astimezone(UTC)
    midnight = at.replace(hour=0, minute=0, second=0, microsecond=0)
    match period:
        case Period.DAY:
            return _window(period, midnight, midnight + timedelta(days=1))
        case Period.WEEK:
            monday = midnight - timedelta(days=midnight.weekday())
            return _window(period, monday, monday + timedelta(days=7))
        case Period.MONTH:
            first = midnight.replace(day=1)
            return _window(period, first, (first + timedelta(days=31)).replace(day=1))
    return _window(period, None, None)


def windows_of(at: datetime) -> tuple[PeriodWindow, ...]:
    """
    Return the windows that contain *at*, one per period, in the order of `Period`.
    """
    return tuple(window_of(period, at) for period in Period)


def _window(period: Period, starts_at: datetime | None, ends_at: datetime | None) -> PeriodWindow:
    return PeriodWindow(period=period, starts_at=starts_at, ends_at=ends_at)
