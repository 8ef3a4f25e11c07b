"""
What the books say, line by line: the rows of the command line's tables, which are its JSON too.
"""

from collections.abc import Iterable, Mapping
from datetime import datetime

from proxy_app.tables import Row
from relay_middleware.core.money import NanoUsd, format_usd
from relay_middleware.core.periods import Period
from relay_middleware.core.tiers import Customer, Tier, spend_limits_of
from relay_middleware.ledger.reports import KeyReport, UsageReport

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
}
LIMIT_COLUMNS = {
    "period": "PERIOD",
    "limit_usd": "LIMIT $",
    "from": "FROM",
    "spent_usd": "SPENT $",
    "left_usd": "LEFT $",
}
USAGE_COLUMNS = {
    "customer_id": "CUSTOMER",
    "tier": "TIER",
    "requests": "REQUESTS",
    "input_tokens": "INPUT TOKENS",
    "output_tokens": "OUTPUT TOKENS",
    "charge_usd": "CHARGE $",
    "provider_cost_usd": "COST $",
    "left_usd": "LEFT $",
    "left_of": "OF",
}

UNLIMITED = "unlimited"


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
        }
        for customer in customers
    ]


def limit_rows(report: UsageReport, tiers: Mapping[str, Tier]) -> list[Row]:
    """Return one row per period: the limit that applies, whose it is, and what is left of it."""
    customer = report.customer
    limits = _limits(customer, tiers)
    return [
        {
            "period": period.value,
            "limit_usd": _usd_or_unlimited(limits.get(period)),
            "from": "customer" if period in customer.spend_limits else customer.tier,
            "spent_usd": format_usd(report.posted_by_period.get(period, NanoUsd(0))),
            "left_usd": _usd_or_unlimited(_left_by_period(report, tiers).get(period)),
        }
        for period in Period
    ]


def usage_rows(reports: Iterable[UsageReport], tiers: Mapping[str, Tier]) -> list[Row]:
    """Return one row per customer; *tiers* are the configured ones, by name."""
    return [_usage_row(report, tiers) for report in reports]


def _usage_row(report: UsageReport, tiers: Mapping[str, Tier]) -> Row:
    left = _left_by_period(report, tiers)
    tightest = min(left, key=lambda period: left[period], default=None)
    return {
        "customer_id": report.customer.customer_id,
        "tier": report.customer.tier,
        "requests": report.requests,
        "input_tokens": report.input_tokens,
        "output_tokens": report.output_tokens,
        "charge_usd": format_usd(report.charge_nano_usd),
        "provider_cost_usd": format_usd(report.cost_nano_usd),
        "left_usd": UNLIMITED if tightest is None else format_usd(left[tightest]),
        "left_of": None if tightest is None else tightest.value,
    }


def _left_by_period(report: UsageReport, tiers: Mapping[str, Tier]) -> dict[Period, NanoUsd]:
    # Settled spend only: what requests under way hold is given back or settled soon.
    return {
        period: NanoUsd(limit - report.posted_by_period.get(period, 0))
        for period, limit in _limits(report.customer, tiers).items()
    }


def _limits(customer: Customer, tiers: Mapping[str, Tier]) -> dict[Period, NanoUsd]:
    # A tier that is configured no more has no limits to show; its customers are not served.
    tier = tiers.get(customer.tier, Tier(name=customer.tier, models=None))
    return spend_limits_of(customer, tier)


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
