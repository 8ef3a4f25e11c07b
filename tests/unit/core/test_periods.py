"""
Periods: calendar windows in UTC that partition time.
"""

from datetime import UTC, datetime, timedelta, timezone

import pytest
from hypothesis import given
from hypothesis import strategies as st

from relay_middleware.core.periods import Period, window_of, windows_of

INSTANTS = st.datetimes(
    # The strategy wants its bounds naive, and gives them the zone.
    min_value=datetime(2000, 1, 1),  # noqa: DTZ001
    max_value=datetime(2100, 1, 1),  # noqa: DTZ001
    timezones=st.just(UTC),
)


@pytest.mark.parametrize(
    ("period", "starts_at", "ends_at"),
    [
        (Period.DAY, datetime(2026, 11, 25, tzinfo=UTC), datetime(2026, 11, 26, tzinfo=UTC)),
        (Period.WEEK, datetime(2026, 11, 23, tzinfo=UTC), datetime(2026, 11, 30, tzinfo=UTC)),
        (Period.MONTH, datetime(2026, 11, 1, tzinfo=UTC), datetime(2026, 12, 1, tzinfo=UTC)),
        (Period.LIFETIME, None, None),
    ],
)
def test_windows_of_a_wednesday(
    period: Period, starts_at: datetime | None, ends_at: datetime | None
) -> None:
    """
    Wednesday 25 November 2026 lies in its day, the week from Monday the 23rd, and November.
    """
    window = window_of(period, datetime(2026, 11, 25, 17, 30, tzinfo=UTC))

    assert (window.starts_at, window.ends_at) == (starts_at, ends_at)


@pytest.mark.parametrize(
    ("at", "days"),
    [(datetime(2028, 2, 10, tzinfo=UTC), 29), (datetime(2027, 2, 10, tzinfo=UTC), 28)],
)
def test_february(at: datetime, days: int) -> None:
    """
    A leap year's February has 29 days, another's 28.
    """
    window = window_of(Period.MONTH, at)

    assert window.starts_at is not None
    assert window.ends_at is not None
    assert (window.ends_at - window.starts_at).days == days


def test_another_zones_instant_is_the_same_instant() -> None:
    """
    23:30 of 30 November in New York is 4:30 of 1 December in UTC, so December.
    """
    new_york = timezone(timedelta(hours=-5))

    window = window_of(Period.MONTH, datetime(2026, 11, 30, 23, 30, tzinfo=new_york))

    assert window.starts_at == datetime(2026, 12, 1, tzinfo=UTC)


def test_keys() -> None:
    """
    A window's key is its period and its start in epoch seconds; a lifetime has no start.
    """
    keys = [window.key for window in windows_of(datetime(2026, 11, 25, tzinfo=UTC))]

    assert keys == ["day:1795564800", "week:1795392000", "month:1793491200", "lifetime"]


@given(INSTANTS, st.sampled_from([Period.DAY, Period.WEEK, Period.MONTH]))
def test_windows_partition_time(at: datetime, period: Period) -> None:
    """
    Every instant lies in its window; the window's last instant too; its end begins the next.
    """
    window = window_of(period, at)

    assert window.starts_at is not None
    assert window.ends_at is not None
    assert window.starts_at <= at < window.ends_at
    assert window_of(period, window.ends_at - timedelta(microseconds=1)) == window
    assert window_of(period, window.ends_at).starts_at == window.ends_at
