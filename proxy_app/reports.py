"""
What the books say, line by line: the rows of the command line's tables, which are its JSON too.
"""

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime

from proxy_app.tables import Row
from relay_middleware.core.money import NO_MONEY, NanoUsd, format_usd
from relay_middleware.core.periods import CALENDAR_PERIODS, Calendar, Period, followed_from
from relay_middleware.core.tiers import Customer, Tier, outage_policy, spend_limits_of
from relay_middleware.ledger.dead_letters import DeadLetter
from relay_middleware.ledger.reports import ExpiredReport, KeyReport
from relay_middleware.ledger.usage_reports import AccountReport, UsageReport

KEY_COLUMNS = {
    "api_key_id": "ID",
    "right": "RIGHT",
    "customer_id": "CUSTOMER",
    "hint": "ENDS IN",
    "created_at": "CREATED",
    "revoked_at": "REVOKED",
}
CUSTOMER_COLUMNS = {
    "customer_id": "CUSTOMER",
    "tier": "TIER",
    "status": "STATUS",
    "own_limits": "OWN LIMITS",
    "zone": "ZONE",
    "anchor_day": "MONTHS FROM",
}
EXPIRED_COLUMNS = {
    "request_id": "EXPIRED REQUEST",
    "model": "MODEL",
    "hold_usd": "SET ASIDE $",
    "reserved_at": "AT",
}
PACE_COLUMNS = {
    "rate_limits": "RATE LIMITS",
    "token_limits": "TOKENS",
    "max_concurrency": "CONCURRENT",
    "on_disconnect": "ON DISCONNECT",
    "on_outage": "ON OUTAGE",
}
DEAD_LETTER_COLUMNS = {
    "id": "ID",
    "source": "SOURCE",
    "first_seen_at": "FIRST SEEN",
    "reason": "REASON",
}

UNLIMITED = "unlimited"
NO_LIMIT = "none"


def key_rows(keys: Iterable[KeyReport]) -> list[Row]:
    """Return one row per key."""
    return [
        {
            "api_key_id": key.api_key_id,
            "right": key.right.value,
            "customer_id": key.customer_id,
            "hint": key.hint,
            "created_at": iso(key.created_at),
            "revoked_at": None if key.revoked_at is None else iso(key.revoked_at),
        }
        for key in keys
    ]


def customer_rows(customers: Iterable[Customer]) -> list[Row]:
    """Return one row per customer."""
    return [
        {
            "customer_id": customer.customer_id,
            "tier": customer.tier,
            "status": customer.status.value,
            "own_limits": _own_limits(customer) or None,
            "zone": customer.calendar.zone_name,
            "anchor_day": customer.calendar.anchor_day,
        }
        for customer in customers
    ]


def calendar_change(calendar: Calendar) -> Row:
    """Return what a calendar replaced, and from when on each period follows it, as JSON has it."""
    previous, from_ = calendar.previous, followed_from(calendar)
    return {
        "previous_zone": None if previous is None else previous.zone_name,
        "previous_anchor_day": None if previous is None else previous.anchor_day,
        **{
            f"{period.value}s_follow_from": iso(from_[period]) if period in from_ else None
            for period in CALENDAR_PERIODS
        },
    }


def still_to_come(calendar: Calendar, now: datetime) -> str:
    """Say which periods do not follow *calendar* yet, and when they will; empty where all do."""
    coming = [
        f"{period.value}s from {iso(at)}"
        for period, at in followed_from(calendar).items()
        if at > now
    ]
    return f"Not yet followed by all periods: {', '.join(coming)} on." if coming else ""


def limit_rows(report: UsageReport, tiers: Mapping[str, Tier]) -> list[Row]:
    """Return one row per period: the limit that applies, whose it is, and what is left of it."""
    customer = report.customer
    limits = _limits(customer, tiers)
    return [
        _limit_row(account, limits.get(account.window.period), customer)
        for account in report.accounts
    ]


def pace_row(tier: Tier, *, has_spend_limit: bool) -> Row:
    """
    Return how fast a customer of *tier* may ask, and what becomes of its requests when it leaves or
    its limits cannot be checked.
    """
    token_limits = (limit.notation for limit in tier.token_limits)
    return {
        "rate_limits": ", ".join(tier.rate_limits) or NO_LIMIT,
        "token_limits": ", ".join(token_limits) or NO_LIMIT,
        "max_concurrency": tier.max_concurrency,
        "on_disconnect": tier.on_disconnect.value,
        "on_outage": outage_policy(tier, has_spend_limit=has_spend_limit).value,
    }


def customer_pace_row(customer: Customer, tiers: Mapping[str, Tier]) -> Row:
    """Return the same for *customer*, whose own limits count; *tiers* are the configured ones."""
    has_spend_limit = bool(_limits(customer, tiers))
    return pace_row(_tier(customer, tiers), has_spend_limit=has_spend_limit)


def _limit_row(account: AccountReport, limit: NanoUsd | None, customer: Customer) -> Row:
    window = account.window
    return {
        "period": window.period.value,
        "limit_usd": _usd_or_unlimited(limit),
        "from": "customer" if window.period in customer.spend_limits else customer.tier,
        "credit_usd": format_usd(account.credit_nano_usd),
        "spent_usd": format_usd(account.posted_nano_usd),
        "left_usd": _usd_or_unlimited(None if limit is None else account.left_nano_usd(limit)),
        "starts_at": None if window.starts_at is None else iso(window.starts_at),
        "ends_at": None if window.ends_at is None else iso(window.ends_at),
    }


def limit_columns(rows: Sequence[Row]) -> dict[str, str]:
    """Return the columns for `limit_rows`: credits where there are any."""
    return {
        "period": "PERIOD",
        "limit_usd": "LIMIT $",
        "from": "FROM",
        **_where_any(rows, {"credit_usd": "CREDIT $"}),
        "spent_usd": "SPENT $",
        "left_usd": "LEFT $",
        "ends_at": "UNTIL",
    }


def usage_rows(reports: Iterable[UsageReport], tiers: Mapping[str, Tier]) -> list[Row]:
    """Return one row per customer; *tiers* are the configured ones, by name."""
    return [_usage_row(report, tiers) for report in reports]


def usage_columns(rows: Sequence[Row]) -> dict[str, str]:
    """Return the columns for `usage_rows`: refunds and expired requests where there are any."""
    return {
        "customer_id": "CUSTOMER",
        "tier": "TIER",
        "requests": "REQUESTS",
        "input_tokens": "INPUT TOKENS",
        "output_tokens": "OUTPUT TOKENS",
        "charge_usd": "CHARGE $",
        **_where_any(rows, {"refunded_usd": "REFUNDED $", "expired_usd": "EXPIRED $"}),
        "provider_cost_usd": "COST $",
        "left_usd": "LEFT $",
        "left_of": "OF",
    }


def _usage_row(report: UsageReport, tiers: Mapping[str, Tier]) -> Row:
    limits = _limits(report.customer, tiers)
    left = {
        account.window.period: account.left_nano_usd(limits[account.window.period])
        for account in report.accounts
        if account.window.period in limits
    }
    tightest = min(left, key=lambda period: left[period], default=None)
    return {
        "customer_id": report.customer.customer_id,
        "tier": report.customer.tier,
        "requests": report.requests,
        "input_tokens": report.input_tokens,
        "output_tokens": report.output_tokens,
        "charge_usd": format_usd(report.charge_nano_usd),
        "refunded_usd": format_usd(report.refunded_nano_usd),
        "expired_usd": format_usd(report.expired_nano_usd),
        "provider_cost_usd": format_usd(report.cost_nano_usd),
        "left_usd": UNLIMITED if tightest is None else format_usd(left[tightest]),
        "left_of": None if tightest is None else tightest.value,
    }


def expired_rows(expired: Iterable[ExpiredReport]) -> list[Row]:
    """Return one row per request that nobody knows the end of."""
    return [
        {
            "request_id": each.request_id,
            "model": each.model,
            "hold_usd": format_usd(each.hold_nano_usd),
            "reserved_at": iso(each.reserved_at),
        }
        for each in expired
    ]


def dead_letter_rows(letters: Iterable[DeadLetter]) -> list[Row]:
    """Return one row per record that the ledger refused."""
    return [
        {
            "id": each.letter_id,
            "source": each.source,
            "first_seen_at": iso(each.first_seen_at),
            "reason": each.reason,
            "payload": each.payload,
        }
        for each in letters
    ]


def _where_any(rows: Sequence[Row], columns: Mapping[str, str]) -> dict[str, str]:
    """Return those of *columns* in which some amount is not nothing."""
    nothing = format_usd(NO_MONEY)
    return {
        key: heading for key, heading in columns.items() if any(row[key] != nothing for row in rows)
    }


def _limits(customer: Customer, tiers: Mapping[str, Tier]) -> dict[Period, NanoUsd]:
    return spend_limits_of(customer, _tier(customer, tiers))


def _tier(customer: Customer, tiers: Mapping[str, Tier]) -> Tier:
    # A tier that is configured no more has no limits to show; its customers are not served.
    return tiers.get(customer.tier, Tier(name=customer.tier, models=None))


def _own_limits(customer: Customer) -> str:
    return ", ".join(
        f"{UNLIMITED if limit is None else f'${format_usd(limit)}'}/{period.value}"
        for period, limit in customer.spend_limits.items()
    )


def _usd_or_unlimited(amount: NanoUsd | None) -> str:
    return UNLIMITED if amount is None else format_usd(amount)


def iso(at: datetime) -> str:
    """Return *at*, which is in UTC, to the second: `2026-11-23T12:00:00Z`."""
    return at.isoformat(timespec="seconds").replace("+00:00", "Z")
