"""
Tiers: margins, models, limits and output caps.
"""

from decimal import Decimal
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from relay_middleware.core.identifiers import CustomerId
from relay_middleware.core.money import NanoUsd
from relay_middleware.core.periods import Period
from relay_middleware.core.tiers import (
    DEFAULT_OUTPUT_TOKENS,
    Customer,
    Margin,
    OnOutage,
    Tier,
    outage_policy,
    output_cap,
    spend_limits_of,
)


def tier_with(*, default: int | None = None, ceiling: int | None = None) -> Tier:
    """A tier with these output caps."""
    return Tier(name="free", models=None, default_output_tokens=default, max_output_tokens=ceiling)


def test_margin_is_added_to_the_exact_cost() -> None:
    """
    20 percent and 0.25 cents on a cost of 0.0000000001 USD are charged to the last digit.
    """
    margin = Margin(percent=Decimal(20), per_request_nano_usd=NanoUsd(2_500_000))

    assert margin.charge_usd(Decimal("0.0000000001")) == Decimal("0.00250000012")


def test_no_margin_charges_the_cost() -> None:
    """
    Without a margin the charge is the cost.
    """
    assert Margin().charge_usd(Decimal("0.00001155")) == Decimal("0.00001155")


@given(
    percent=st.decimals(min_value=0, max_value=1000, places=6),
    fixed=st.integers(min_value=0, max_value=2**53),
    cost_usd=st.decimals(min_value=0, max_value=10**6, places=20),
)
def test_charge_is_exact(percent: Decimal, fixed: int, cost_usd: Decimal) -> None:
    """
    The charge is what fractions compute, for every margin and cost.
    """
    expected = Fraction(cost_usd) * (1 + Fraction(percent) / 100) + Fraction(fixed, 10**9)

    charge = Margin(percent=percent, per_request_nano_usd=NanoUsd(fixed)).charge_usd(cost_usd)

    assert Fraction(charge) == expected


def test_models_of_a_tier() -> None:
    """
    A tier allows the models it names, and one that names none allows all.
    """
    free = Tier(name="free", models=frozenset({"smart"}))

    assert free.allows("smart")
    assert not free.allows("smart-backup")
    assert Tier(name="pro", models=None).allows("anything")


def test_a_customers_own_limit_wins() -> None:
    """
    Of two limits for a period the customer's applies; None lifts the tier's; others stay.
    """
    tier = Tier(
        name="free",
        models=None,
        spend_limits={
            Period.DAY: NanoUsd(1),
            Period.WEEK: NanoUsd(2),
            Period.MONTH: NanoUsd(3),
        },
    )
    customer = Customer(
        customer_id=CustomerId("cust_1"),
        tier="free",
        spend_limits={Period.DAY: NanoUsd(10), Period.WEEK: None, Period.LIFETIME: NanoUsd(40)},
    )

    assert spend_limits_of(customer, tier) == {
        Period.DAY: 10,
        Period.MONTH: 3,
        Period.LIFETIME: 40,
    }


@pytest.mark.parametrize(
    ("configured", "has_spend_limit", "expected"),
    [
        (None, True, OnOutage.CLOSED),
        (None, False, OnOutage.OPEN),
        (OnOutage.CLOSED, False, OnOutage.CLOSED),
        (OnOutage.OPEN, True, OnOutage.OPEN),
    ],
)
def test_what_an_outage_does(
    *, configured: OnOutage | None, has_spend_limit: bool, expected: OnOutage
) -> None:
    """
    The tier's word counts; without one, who has a spend limit is refused and who has none served.
    """
    tier = Tier(name="free", models=None, on_outage=configured)

    assert outage_policy(tier, has_spend_limit=has_spend_limit) is expected


@pytest.mark.parametrize(
    ("asked", "default", "ceiling", "is_limited", "cap"),
    [
        (100, None, None, True, 100),
        (100, 50, None, True, 100),
        (100, None, 60, False, 60),
        (None, 50, None, False, 50),
        (None, 50, 40, True, 40),
        (None, None, None, True, DEFAULT_OUTPUT_TOKENS),
        (None, None, 30, True, 30),
        (None, None, 30, False, 30),
        (None, None, None, False, None),
    ],
)
def test_output_cap(
    *,
    asked: int | None,
    default: int | None,
    ceiling: int | None,
    is_limited: bool,
    cap: int | None,
) -> None:
    """
    The cap is what was asked for, else the tier's default, else 4096 under a limit; never above
    the ceiling; and none at all for an unlimited customer of a tier without one.
    """
    tier = tier_with(default=default, ceiling=ceiling)

    assert output_cap(tier, asked=asked, is_limited=is_limited) == cap
