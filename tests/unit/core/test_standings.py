"""
Standings: the same object while nothing changes, and never that of before.
"""

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from relay_middleware.core import standings
from relay_middleware.core.identifiers import CustomerId
from relay_middleware.core.money import NanoUsd
from relay_middleware.core.periods import Period
from relay_middleware.core.standings import Standings
from relay_middleware.core.tiers import Customer, OnOutage, Tier

AT = datetime(2026, 11, 23, 12, tzinfo=UTC)
TOMORROW = datetime(2026, 11, 24, tzinfo=UTC)
FREE = Tier(name="free", models=None, spend_limits={Period.DAY: NanoUsd(7)})
PRO = Tier(name="pro", models=None)
ALICE = Customer(customer_id=CustomerId("alice"), tier="free")


def test_what_stays_the_same_is_the_same_object() -> None:
    """
    All through a day a customer has one set of accounts; with midnight come others.
    """
    known = Standings()
    first = known.of(ALICE, FREE, AT)

    assert known.of(ALICE, FREE, TOMORROW - timedelta(microseconds=1)) is first
    assert (first.starts_at, first.ends_at) == (TOMORROW - timedelta(days=1), TOMORROW)

    second = known.of(ALICE, FREE, TOMORROW)

    assert [each.window.period for each in first.accounts] == list(Period)
    assert [
        old.window.period
        for old, new in zip(first.accounts, second.accounts, strict=True)
        if old != new
    ] == [Period.DAY]
    # A clock that is set back finds the day before again.
    assert known.of(ALICE, FREE, AT).accounts == first.accounts


def test_limits_are_those_of_now() -> None:
    """
    The tier limits a day to 7; an own limit of 3, no limit, and another tier are in force at once.
    """
    known = Standings()

    def limit(customer: Customer, tier: Tier) -> tuple[NanoUsd | None, bool, OnOutage]:
        found = known.of(customer, tier, AT)
        (day,) = [each for each in found.accounts if each.window.period is Period.DAY]
        return day.limit_nano_usd, found.is_limited, found.on_outage

    own = replace(ALICE, spend_limits={Period.DAY: NanoUsd(3)})
    lifted = replace(ALICE, spend_limits={Period.DAY: None})

    assert limit(ALICE, FREE) == (7, True, OnOutage.CLOSED)
    assert limit(own, FREE) == (3, True, OnOutage.CLOSED)
    assert limit(lifted, FREE) == (None, False, OnOutage.OPEN)
    assert limit(ALICE, PRO) == (None, False, OnOutage.OPEN)
    assert limit(ALICE, FREE) == (7, True, OnOutage.CLOSED)


def test_only_some_are_remembered(monkeypatch: pytest.MonkeyPatch) -> None:
    """
    With room for two, the first of three is worked out again, to the same.
    """
    monkeypatch.setattr(standings, "MAX_REMEMBERED", 2)
    known = Standings()
    names = [replace(ALICE, customer_id=CustomerId(name)) for name in "abc"]
    first = [known.of(each, FREE, AT) for each in names]

    second = [known.of(each, FREE, AT) for each in reversed(names)]

    assert second == first[::-1]
    assert [one is other for one, other in zip(second, reversed(first), strict=True)] == [
        True,
        True,
        False,
    ]
