"""
Periods: calendar windows that partition time, in every zone and across every change.
"""

from dataclasses import replace
from datetime import UTC, date, datetime, timedelta, timezone
from zoneinfo import ZoneInfo

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from relay_middleware.core import periods
from relay_middleware.core.periods import (
    CALENDAR_PERIODS,
    UTC_CALENDAR,
    Calendar,
    CalendarChangeError,
    Period,
    PeriodWindow,
    Windows,
    changed,
    followed_from,
    window_of,
    windows_of,
)

BERLIN = ZoneInfo("Europe/Berlin")
NEW_YORK = ZoneInfo("America/New_York")

ZONES = [
    UTC,
    BERLIN,
    NEW_YORK,
    ZoneInfo("Africa/Casablanca"),  # summer time is suspended for Ramadan
    ZoneInfo("America/Havana"),  # 1:00 goes back to midnight, which comes twice
    ZoneInfo("America/Santiago"),  # midnight is left out in spring
    ZoneInfo("America/Sao_Paulo"),  # the same, until 2018
    ZoneInfo("America/St_Johns"),  # 0:01 went back to 23:01 of the day before
    ZoneInfo("Antarctica/Troll"),  # summer time of two hours
    ZoneInfo("Asia/Gaza"),  # 1:00 went back to midnight, at various dates
    ZoneInfo("Asia/Kathmandu"),  # 5:45 ahead
    ZoneInfo("Australia/Lord_Howe"),  # summer time of half an hour
    ZoneInfo("Pacific/Apia"),  # had no 30 December 2011
    ZoneInfo("Pacific/Chatham"),  # 12:45 ahead, and summer time
    ZoneInfo("Pacific/Kiritimati"),  # had no 1 January 1995
    ZoneInfo("Pacific/Kwajalein"),  # had no 21 August 1993
]

INSTANTS = st.datetimes(
    # The strategy wants its bounds naive, and gives them the zone.
    min_value=datetime(1970, 1, 1),  # noqa: DTZ001
    max_value=datetime(2100, 1, 1),  # noqa: DTZ001
    timezones=st.just(UTC),
)
LEAPS = st.sampled_from(
    [
        datetime(1990, 10, 28, 2, 30, tzinfo=UTC),  # St. John's
        datetime(1993, 8, 21, 12, tzinfo=UTC),  # Kwajalein
        datetime(1995, 1, 1, 10, tzinfo=UTC),  # Kiritimati
        datetime(2011, 12, 30, 10, tzinfo=UTC),  # Apia
        datetime(2018, 11, 4, 3, tzinfo=UTC),  # São Paulo
        datetime(2015, 4, 4, 15, tzinfo=UTC),  # Lord Howe
        datetime(2015, 10, 25, 1, tzinfo=UTC),  # Berlin
        datetime(2028, 2, 29, 0, tzinfo=UTC),
    ]
)
NEAR_LEAPS = st.builds(
    lambda leap, minutes: leap + timedelta(minutes=minutes), LEAPS, st.integers(-4320, 4320)
)
PERIODS = st.sampled_from(CALENDAR_PERIODS)
ANCHOR_DAYS = st.integers(1, 31)
CALENDARS = st.builds(Calendar, zone=st.sampled_from(ZONES), anchor_day=ANCHOR_DAYS)


def utc(*fields: int) -> datetime:
    return datetime(*fields, tzinfo=UTC)


def bounds(window: PeriodWindow) -> tuple[datetime, datetime]:
    assert window.starts_at is not None
    assert window.ends_at is not None
    return window.starts_at, window.ends_at


@pytest.mark.parametrize(
    ("period", "starts_at", "ends_at"),
    [
        (Period.DAY, utc(2026, 11, 25), utc(2026, 11, 26)),
        (Period.WEEK, utc(2026, 11, 23), utc(2026, 11, 30)),
        (Period.MONTH, utc(2026, 11, 1), utc(2026, 12, 1)),
        (Period.LIFETIME, None, None),
    ],
)
def test_windows_of_a_wednesday(
    period: Period, starts_at: datetime | None, ends_at: datetime | None
) -> None:
    """
    Wednesday 25 November 2026 lies in its day, the week from Monday the 23rd, and November.
    """
    window = window_of(period, utc(2026, 11, 25, 17, 30))

    assert (window.starts_at, window.ends_at) == (starts_at, ends_at)


@pytest.mark.parametrize(("at", "days"), [(utc(2028, 2, 10), 29), (utc(2027, 2, 10), 28)])
def test_february(at: datetime, days: int) -> None:
    """
    A leap year's February has 29 days, another's 28.
    """
    starts_at, ends_at = bounds(window_of(Period.MONTH, at))

    assert (ends_at - starts_at).days == days


def test_another_zones_instant_is_the_same_instant() -> None:
    """
    23:30 of 30 November five hours behind is 4:30 of 1 December in UTC, so December.
    """
    behind = timezone(timedelta(hours=-5))

    window = window_of(Period.MONTH, datetime(2026, 11, 30, 23, 30, tzinfo=behind))

    assert window.starts_at == utc(2026, 12, 1)


def test_keys() -> None:
    """
    A window's key is its period and its start in epoch seconds; a lifetime has no start.
    """
    keys = [window.key for window in windows_of(utc(2026, 11, 25))]

    assert keys == ["day:1795564800", "week:1795392000", "month:1793491200", "lifetime"]


@pytest.mark.parametrize(
    ("year", "anchor_day", "starts_on"),
    [
        (2027, 31, ["01-31", "02-28", "03-31", "04-30", "05-31"]),
        (2028, 31, ["01-31", "02-29", "03-31", "04-30", "05-31"]),
        (2027, 30, ["01-30", "02-28", "03-30", "04-30", "05-30"]),
        (2028, 29, ["01-29", "02-29", "03-29", "04-29", "05-29"]),
        (2027, 15, ["01-15", "02-15", "03-15", "04-15", "05-15"]),
    ],
)
def test_months_are_reckoned_from_their_anchor(
    year: int, anchor_day: int, starts_on: list[str]
) -> None:
    """
    A month without the anchor day begins on its last one, and the next is back on the anchor.
    """
    calendar = Calendar(anchor_day=anchor_day)

    begun = [bounds(window_of(Period.MONTH, utc(year, 1, 31), calendar))[0]]
    while len(begun) < len(starts_on):
        begun.append(bounds(window_of(Period.MONTH, begun[-1], calendar))[1])

    assert [f"{at:%m-%d}" for at in begun] == starts_on


@pytest.mark.parametrize(
    ("zone", "on", "starts_at", "hours"),
    [
        ("Europe/Berlin", date(2015, 3, 29), utc(2015, 3, 28, 23), 23),
        ("Europe/Berlin", date(2015, 10, 25), utc(2015, 10, 24, 22), 25),
        ("Australia/Lord_Howe", date(2015, 10, 4), utc(2015, 10, 3, 13, 30), 23.5),
        ("Australia/Lord_Howe", date(2015, 4, 5), utc(2015, 4, 4, 13), 24.5),
        ("Asia/Kathmandu", date(2015, 11, 25), utc(2015, 11, 24, 18, 15), 24),
        # Midnight is left out: clocks go from 23:59:59 to 1:00, which is 3:00 in UTC.
        ("America/Sao_Paulo", date(2018, 11, 4), utc(2018, 11, 4, 3), 23),
        # Clocks went from 23:30 to 0:30: the day began in the middle of what was left out.
        ("America/Toronto", date(1919, 3, 31), utc(1919, 3, 31, 4, 30), 23.5),
        # Midnight came twice; the day began with the first.
        ("America/Havana", date(2015, 11, 1), utc(2015, 11, 1, 4), 25),
    ],
    ids=str,
)
def test_days_of_another_length(zone: str, on: date, starts_at: datetime, hours: float) -> None:
    """
    A day begins at its zone's first midnight, or right after one that is left out, and is as long
    as clocks make it.
    """
    at = datetime(on.year, on.month, on.day, 12, tzinfo=ZoneInfo(zone))

    window = window_of(Period.DAY, at, Calendar(zone=ZoneInfo(zone)))

    assert bounds(window) == (starts_at, starts_at + timedelta(hours=hours))


def test_a_date_that_was_left_out() -> None:
    """
    Samoa went from 29 December 2011, 24:00, to 31 December: 30 December is no window.
    """
    calendar = Calendar(zone=ZoneInfo("Pacific/Apia"))

    before = window_of(Period.DAY, utc(2011, 12, 30, 9), calendar)
    after = window_of(Period.DAY, utc(2011, 12, 30, 10), calendar)

    assert bounds(before) == (utc(2011, 12, 29, 10), utc(2011, 12, 30, 10))
    assert bounds(after) == (utc(2011, 12, 30, 10), utc(2011, 12, 31, 10))


def test_a_day_that_has_begun_goes_on() -> None:
    """
    In St. John's 28 October 1990 began at 2:30 UTC, and 0:01 of it went back to 23:01 of the 27th:
    what came then belongs to the 28th all the same.
    """
    zone = ZoneInfo("America/St_Johns")
    at = utc(1990, 10, 28, 3)

    window = window_of(Period.DAY, at, Calendar(zone=zone))

    assert f"{at.astimezone(zone):%d %H:%M}" == "27 23:30"
    assert bounds(window) == (utc(1990, 10, 28, 2, 30), utc(1990, 10, 29, 3, 30))


@given(INSTANTS | NEAR_LEAPS, PERIODS, CALENDARS)
def test_windows_partition_time(at: datetime, period: Period, calendar: Calendar) -> None:
    """
    Every instant lies in its window; the window's last instant too; its end begins the next.
    """
    window = window_of(period, at, calendar)
    starts_at, ends_at = bounds(window)

    assert starts_at <= at < ends_at
    assert window_of(period, starts_at, calendar) == window
    assert window_of(period, ends_at - timedelta(microseconds=1), calendar) == window
    assert bounds(window_of(period, ends_at, calendar))[0] == ends_at


@given(st.dates(date(1970, 1, 1), date(2100, 1, 1)), CALENDARS)
def test_no_period_begins_late(on: date, calendar: Calendar) -> None:
    """
    At midnight of any date a day begins, on a Monday a week, on the anchor day a month: then, and
    not at any midnight that is none of them.
    """
    midnight = datetime(on.year, on.month, on.day, tzinfo=calendar.zone)
    at = midnight.astimezone(UTC)
    assume(at.astimezone(calendar.zone).replace(tzinfo=None) == midnight.replace(tzinfo=None))
    is_last_of_month = (on + timedelta(days=1)).month != on.month
    is_anchor = on.day == calendar.anchor_day or (is_last_of_month and on.day < calendar.anchor_day)

    begun = {
        period for period in CALENDAR_PERIODS if window_of(period, at, calendar).starts_at == at
    }

    # A date right after one that was left out begins what that one would have begun.
    assume(window_of(Period.DAY, at - timedelta(hours=1), calendar).ends_at == at)
    assume((at - timedelta(hours=1)).astimezone(calendar.zone).date() == on - timedelta(days=1))
    assert Period.DAY in begun
    assert (Period.WEEK in begun) == (on.weekday() == 0)
    assert (Period.MONTH in begun) == is_anchor


# A change of calendar.

NOON = utc(2026, 11, 24, 12)
"""A Tuesday."""

TO_BERLIN = changed(UTC_CALENDAR, zone=BERLIN, anchor_day=31, at=NOON)


@pytest.mark.parametrize(
    ("period", "turns_at", "then_until"),
    [
        (Period.DAY, utc(2026, 11, 25), utc(2026, 11, 25, 23)),
        (Period.WEEK, utc(2026, 11, 30), utc(2026, 12, 6, 23)),
        (Period.MONTH, utc(2026, 12, 1), utc(2026, 12, 30, 23)),
    ],
)
def test_a_change_waits_for_the_periods_end(
    period: Period, turns_at: datetime, then_until: datetime
) -> None:
    """
    The window in which it was made ends as it would have; the next begins there and ends with
    Berlin's midnight, at 23:00 UTC: of a day, of Sunday, of 30 December.
    """
    assert window_of(period, NOON, TO_BERLIN) == window_of(period, NOON)
    assert window_of(period, turns_at - timedelta(microseconds=1), TO_BERLIN).ends_at == turns_at
    assert bounds(window_of(period, turns_at, TO_BERLIN)) == (turns_at, then_until)
    assert followed_from(TO_BERLIN)[period] == turns_at


def test_a_calendar_that_replaced_none_is_followed_since_ever() -> None:
    """
    There is no instant from which on it is in force.
    """
    assert followed_from(UTC_CALENDAR) == {}


def test_no_change_is_no_change() -> None:
    """
    The rules that are in force already, under whatever name of UTC, leave the calendar as it is.
    """
    assert changed(UTC_CALENDAR, zone=ZoneInfo("UTC"), anchor_day=1, at=NOON) is UTC_CALENDAR


def test_a_change_can_be_replaced_on_its_day() -> None:
    """
    Until midnight no period follows it: another takes its place, or the calendar is as it was.
    """
    evening = utc(2026, 11, 24, 23, 59, 59)

    other = changed(TO_BERLIN, zone=NEW_YORK, anchor_day=15, at=evening)

    assert other == changed(UTC_CALENDAR, zone=NEW_YORK, anchor_day=15, at=NOON)
    assert changed(TO_BERLIN, zone=UTC, anchor_day=1, at=evening) == UTC_CALENDAR


@pytest.mark.parametrize("at", [utc(2026, 11, 25), utc(2026, 12, 30, 22, 59, 59)])
def test_a_second_change_waits_for_the_first(at: datetime) -> None:
    """
    As long as a window shows that there was a change, there cannot be another; the error says until
    when: here the month's, which is cut off at its start and ends on 30 December, 23:00 UTC.
    """
    with pytest.raises(CalendarChangeError, match="2026-12-30T23:00:00") as raised:
        changed(TO_BERLIN, zone=NEW_YORK, anchor_day=15, at=at)

    assert raised.value.possible_at == utc(2026, 12, 30, 23)


def test_a_second_change_after_the_first() -> None:
    """
    From then on it is made like the first, and what the first replaced is forgotten.
    """
    at = utc(2026, 12, 30, 23)

    second = changed(TO_BERLIN, zone=NEW_YORK, anchor_day=15, at=at)

    assert second.previous == Calendar(zone=BERLIN, anchor_day=31)
    assert second.changed_at == at
    assert windows_of(at, second) == windows_of(at, TO_BERLIN)


@given(
    asked=st.lists(
        st.tuples(st.one_of(INSTANTS, LEAPS), st.sampled_from(ZONES), st.integers(1, 31)),
        max_size=20,
    ),
    after=st.timedeltas(timedelta(0), timedelta(days=40)),
)
def test_remembered_windows_are_the_same(
    asked: list[tuple[datetime, ZoneInfo, int]], after: timedelta
) -> None:
    """
    In whatever order instants and calendars are asked for, what is remembered is `windows_of`.
    """
    windows = Windows()
    for at, zone, anchor_day in asked:
        calendar = Calendar(zone=zone, anchor_day=anchor_day)
        for instant in (at, at + after, at):
            assert windows.at(instant, calendar) == windows_of(instant, calendar)


def test_calendars_are_forgotten_when_they_are_too_many(monkeypatch: pytest.MonkeyPatch) -> None:
    """
    With room for two calendars, windows of the 31 that there are in one zone are right twice, and
    are found anew each time.
    """
    found = []

    def finding(at: datetime, calendar: Calendar) -> tuple[PeriodWindow, ...]:
        found.append(calendar)
        return windows_of(at, calendar)

    monkeypatch.setattr(periods, "MAX_CALENDARS", 2)
    monkeypatch.setattr(periods, "windows_of", finding)
    windows = Windows()
    at = datetime(2026, 11, 25, tzinfo=UTC)
    calendars = [Calendar(anchor_day=day) for day in range(1, 32)] * 2

    for calendar in calendars:
        assert windows.at(at, calendar) == windows_of(at, calendar)
        assert windows.at(at, calendar) == windows_of(at, calendar)
    assert found == calendars


def test_a_whole_window_after_a_change_needs_no_waiting() -> None:
    """
    From day 1 to day 15: November ends as it would, the month to 15 December is cut off, and that
    from 15 December is whole; from day 1 of UTC to day 1 of a zone without offset there is nothing
    to cut off, and from 1 December on it can be changed again.
    """
    greenwich = changed(UTC_CALENDAR, zone=ZoneInfo("Africa/Abidjan"), anchor_day=1, at=NOON)
    middle = changed(UTC_CALENDAR, zone=UTC, anchor_day=15, at=NOON)

    with pytest.raises(CalendarChangeError) as raised:
        changed(middle, zone=UTC, anchor_day=20, at=utc(2026, 12, 1))

    assert raised.value.possible_at == utc(2026, 12, 15)
    assert changed(greenwich, zone=UTC, anchor_day=20, at=utc(2026, 12, 1)).previous == Calendar(
        zone=ZoneInfo("Africa/Abidjan")
    )


CHANGES = st.lists(st.tuples(st.integers(0, 999), CALENDARS, st.integers(0, 2)), max_size=12)


@given(INSTANTS | NEAR_LEAPS, PERIODS, CALENDARS, CHANGES)
def test_changes_leave_no_gap(
    at: datetime,
    period: Period,
    calendar: Calendar,
    changes: list[tuple[int, Calendar, int]],
) -> None:
    """
    However often a calendar is changed, wherever in a window: no window that has begun moves, each
    begins where the last one ended and ends as one of the two calendars says, no key comes twice,
    and where a change is refused it is possible from the instant told on, not before.
    """
    window = window_of(period, at, calendar)
    keys = []
    for thousandths, wanted, windows_later in changes:
        for _ in range(windows_later):
            keys.append(window.key)
            at = bounds(window)[1]
            window = window_of(period, at, calendar)
            assert bounds(window)[0] == at
        at += (bounds(window)[1] - at) * thousandths // 1000
        new = try_to_change(calendar, wanted, at)
        assert windows_of(at, new) == windows_of(at, calendar)
        assert window_of(period, at, new) == window
        rules = [plain(new), plain(new.previous or new)]
        assert window.ends_at in {window_of(period, at, each).ends_at for each in rules}
        calendar = new
    assert len(set(keys)) == len(keys)


def try_to_change(calendar: Calendar, wanted: Calendar, at: datetime) -> Calendar:
    zone, anchor_day = wanted.zone, wanted.anchor_day
    try:
        return changed(calendar, zone=zone, anchor_day=anchor_day, at=at)
    except CalendarChangeError as error:
        possible_at = error.possible_at
    just_before = possible_at - timedelta(microseconds=1)
    with pytest.raises(CalendarChangeError):
        changed(calendar, zone=zone, anchor_day=anchor_day, at=just_before)
    later = changed(calendar, zone=zone, anchor_day=anchor_day, at=possible_at)
    assert (later.previous, later.changed_at) == (plain(calendar), possible_at)
    return calendar


def plain(calendar: Calendar) -> Calendar:
    return replace(calendar, previous=None, changed_at=None)


@pytest.mark.parametrize("anchor_day", [0, 32, -1])
def test_an_anchor_day_that_no_month_has(anchor_day: int) -> None:
    """
    Months begin on day 1 to 31.
    """
    with pytest.raises(ValueError, match=f"1 to 31, not {anchor_day}"):
        Calendar(anchor_day=anchor_day)
