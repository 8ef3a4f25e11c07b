"""
Usage reports: what each customer used, spent and has left.
"""

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import func, select
from sqlalchemy.ext.asyncio import AsyncConnection

from relay_middleware.core.identifiers import CustomerId
from relay_middleware.core.money import NanoUsd
from relay_middleware.core.periods import Period, PeriodWindow, windows_of
from relay_middleware.core.tiers import Customer
from relay_middleware.ledger.adjustments import list_adjustments
from relay_middleware.ledger.database import SUMS_TIMEOUT_S, Database, among
from relay_middleware.ledger.reports import list_customers
from relay_middleware.ledger.sums import in_batches, spends_of
from relay_middleware.ledger.usage_hours import is_in, usage_in


@dataclass(frozen=True, slots=True, kw_only=True)
class AccountReport:
    """
    What one customer spent in one period, and may spend on top of its limit.

    Attributes:
        posted_nano_usd: Settled, expired and corrected amounts.
        credit_nano_usd: Raised on top of the limit.
    """

    window: PeriodWindow
    posted_nano_usd: NanoUsd
    credit_nano_usd: NanoUsd

    def left_nano_usd(self, limit_nano_usd: NanoUsd) -> NanoUsd:
        """
        Return what is left of *limit_nano_usd*; below 0 where a charge was above its hold.

        What requests under way hold is not taken off: it is given back or settled soon.
        """
        return NanoUsd(limit_nano_usd + self.credit_nano_usd - self.posted_nano_usd)


@dataclass(frozen=True, slots=True, kw_only=True)
class UsageReport:
    """
    What one customer used in its running month, and spent in each of its running periods.

    Attributes:
        requests: Those that were settled.
        input_tokens: Cached and other parts included; as *output_tokens*.
        charge_nano_usd: Of settled requests, before refunds.
        refunded_nano_usd: Taken back of charges of this month.
        expired_nano_usd: What was set aside for requests that nobody knows the end of: it counts
            against the limits, and is not charged.
        accounts: One per period, in the order of `Period`.
    """

    customer: Customer
    requests: int
    input_tokens: int
    output_tokens: int
    charge_nano_usd: NanoUsd
    cost_nano_usd: NanoUsd
    refunded_nano_usd: NanoUsd
    expired_nano_usd: NanoUsd
    accounts: Sequence[AccountReport]


async def usage_report(
    database: Database, at: datetime, *, only: CustomerId | None = None
) -> list[UsageReport]:
    """
    Return what each customer used in its month, and spent in its periods, that contain *at*.

    Args:
        only: One customer instead of all.

    Returns:
        By name; empty where there is none.

    Raises:
        UnknownZoneError: Nobody can say which a customer's periods are.
    """
    customers = await list_customers(database, only=only)
    # Most have the same one.
    windows = {calendar: windows_of(at, calendar) for calendar in {c.calendar for c in customers}}
    by_windows = defaultdict(list)
    for each in customers:
        by_windows[windows[each.calendar]].append(each.customer_id)
    used: dict[CustomerId, Mapping[str, Any]] = {}
    posted: Counter[_Account] = Counter()
    for shared, customer_ids in in_batches(by_windows):
        async with database.connect(timeout_s=SUMS_TIMEOUT_S) as connection:
            used |= await _used(connection, customer_ids, shared)
            for spend in await spends_of(connection, customer_ids, shared, at):
                posted[spend.customer_id, spend.window.period] = spend.total_nano_usd
    credits_, refunded = await _adjusted(database, at, only)
    return [
        _report(
            each,
            used.get(each.customer_id, {}),
            refunded[each.customer_id, Period.MONTH],
            [
                AccountReport(
                    window=window,
                    posted_nano_usd=NanoUsd(posted[each.customer_id, window.period]),
                    credit_nano_usd=NanoUsd(credits_[each.customer_id, window.period]),
                )
                for window in windows[each.calendar]
            ],
        )
        for each in customers
    ]


_Account = tuple[CustomerId, Period]


async def _adjusted(
    database: Database, at: datetime, only: CustomerId | None
) -> tuple[Counter[_Account], Counter[_Account]]:
    """Sum the credits and the refunds of each account."""
    credits_: Counter[_Account] = Counter()
    refunded: Counter[_Account] = Counter()
    for each in await list_adjustments(database, at, only=only):
        account = each.customer_id, each.window.period
        credits_[account] += each.adjustment.credit_nano_usd
        refunded[account] -= each.adjustment.posted_nano_usd
    return credits_, refunded


async def _used(
    connection: AsyncConnection,
    customer_ids: Sequence[CustomerId],
    windows: Sequence[PeriodWindow],
) -> dict[CustomerId, Mapping[str, Any]]:
    """Sum what was used in the month among *windows*, by customer."""
    (month,) = (window for window in windows if window.period is Period.MONTH)
    usage = usage_in([month], lambda customer: among(connection, customer, customer_ids))
    query = (
        select(
            usage.c.customer_id,
            func.sum(usage.c.requests).label("requests"),
            func.sum(usage.c.input_tokens).label("input_tokens"),
            func.sum(usage.c.output_tokens).label("output_tokens"),
            func.sum(usage.c.charge_nano_usd).label("charge"),
            func.sum(usage.c.cost_nano_usd).label("cost"),
            func.sum(usage.c.expired_nano_usd).label("expired"),
        )
        .where(is_in(usage, month))
        .group_by(usage.c.customer_id)
    )
    rows = await connection.execute(query)
    return {CustomerId(row.customer_id): row._asdict() for row in rows}


def _report(
    customer: Customer,
    used: Mapping[str, Any],
    refunded_nano_usd: int,
    accounts: Sequence[AccountReport],
) -> UsageReport:
    # PostgreSQL's sums are decimals.
    return UsageReport(
        customer=customer,
        requests=int(used.get("requests", 0)),
        input_tokens=int(used.get("input_tokens", 0)),
        output_tokens=int(used.get("output_tokens", 0)),
        charge_nano_usd=NanoUsd(int(used.get("charge", 0))),
        cost_nano_usd=NanoUsd(int(used.get("cost", 0))),
        refunded_nano_usd=NanoUsd(refunded_nano_usd),
        expired_nano_usd=NanoUsd(int(used.get("expired", 0))),
        accounts=accounts,
    )
