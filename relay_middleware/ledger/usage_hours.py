"""
Usage by hour: what requests came to, in as few rows as tell it of given periods.
"""

from collections.abc import Callable, Sequence
from typing import Any

from sqlalchemy import ColumnElement, Select, Subquery, and_, case, select, true, union_all

from relay_middleware.core.holds import HoldState
from relay_middleware.core.periods import PeriodWindow
from relay_middleware.ledger.tables import REQUEST, USAGE_HOUR

_US_PER_HOUR = 3_600_000_000

OfWhom = Callable[[ColumnElement[str]], ColumnElement[bool]]
"""The condition that says whose requests are meant, made of the column of their customer."""


def usage_in(windows: Sequence[PeriodWindow], of_whom: OfWhom) -> Subquery:
    """
    Select what requests came to, in rows that lie each as a whole in or outside of each of
    *windows*: the sums of hours, but single requests in hours in which one of them begins or ends.

    Columns: `customer_id`; `at_us`, when, for `is_in`; `requests`, `input_tokens`, `output_tokens`,
    `cost_nano_usd`, `charge_nano_usd` of settled ones; `expired_nano_usd`, what expired ones had
    set aside. What lies before all of *windows* is left out.
    """
    edges = _edges(windows)
    hours = select(
        USAGE_HOUR.c.customer_id,
        (USAGE_HOUR.c.hour * _US_PER_HOUR).label("at_us"),
        *(column for column in USAGE_HOUR.c if column.name not in {"customer_id", "hour"}),
    ).where(of_whom(USAGE_HOUR.c.customer_id))
    starts = [window.starts_at_us for window in windows if window.starts_at_us is not None]
    if len(starts) == len(windows):
        hours = hours.where(USAGE_HOUR.c.hour >= min(starts) // _US_PER_HOUR)
    if not edges:
        return hours.subquery("usage")
    hours = hours.where(*(USAGE_HOUR.c.hour != hour for hour in edges))
    # Each by itself: of several together SQLite would search by the customer alone.
    return union_all(hours, *(_requests(of_whom, hour) for hour in edges)).subquery("usage")


def is_in(usage: Subquery, window: PeriodWindow) -> ColumnElement[bool]:
    """Return the condition that a row of *usage* lies in *window*: start inclusive, end not."""
    if window.starts_at_us is None or window.ends_at_us is None:
        return true()
    at_us = usage.c.at_us
    return and_(at_us >= window.starts_at_us, at_us < window.ends_at_us)


def _edges(windows: Sequence[PeriodWindow]) -> list[int]:
    """Hours in which one of *windows* begins or ends, but not with them: as in India."""
    ends = [us for window in windows for us in (window.starts_at_us, window.ends_at_us)]
    return sorted({us // _US_PER_HOUR for us in ends if us is not None and us % _US_PER_HOUR})


def _requests(of_whom: OfWhom, hour: int) -> Select[Any]:
    """Select single requests of *hour*, by the columns of `USAGE_HOUR`."""
    is_settled = REQUEST.c.state == HoldState.SETTLED.value
    is_expired = REQUEST.c.state == HoldState.EXPIRED.value
    at_us = REQUEST.c.reserved_at_us
    return select(
        REQUEST.c.customer_id,
        at_us,
        case((is_settled, 1), else_=0),
        *(
            case((is_settled, column), else_=0)
            for column in (
                REQUEST.c.input_tokens,
                REQUEST.c.output_tokens,
                REQUEST.c.cost_nano_usd,
                REQUEST.c.charge_nano_usd,
            )
        ),
        case((is_expired, REQUEST.c.hold_nano_usd), else_=0),
    ).where(
        of_whom(REQUEST.c.customer_id),
        at_us >= hour * _US_PER_HOUR,
        at_us < (hour + 1) * _US_PER_HOUR,
    )
