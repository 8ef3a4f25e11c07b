"""
Charging: a hold is never below the charge it stands for.
"""

from dataclasses import replace
from datetime import UTC, datetime
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from relay_middleware.core.bounds import InputBound
from relay_middleware.core.charging import (
    Candidate,
    Demand,
    bill,
    hold_amount,
    largest_cap_tokens,
    refuse_money,
    shrunk_cap_tokens,
    spend_remaining,
)
from relay_middleware.core.holds import (
    Account,
    Balance,
    Hold,
    NotReserved,
    Reserved,
    Shortage,
)
from relay_middleware.core.identifiers import CustomerId, HoldId
from relay_middleware.core.money import NanoUsd
from relay_middleware.core.periods import windows_of
from relay_middleware.core.pricing import ModelPrice, RateCard, Rates
from relay_middleware.core.tiers import Margin
from relay_middleware.core.usage import Usage

AT = datetime(2026, 11, 23, tzinfo=UTC)


def price(input_usd: str, output_usd: str, max_output_tokens: int | None = None) -> ModelPrice:
    """Prices in US dollars per million tokens."""
    rates = Rates(
        input_usd=Decimal(input_usd).scaleb(-6), output_usd=Decimal(output_usd).scaleb(-6)
    )
    return ModelPrice(standard=RateCard(base=rates), max_output_tokens=max_output_tokens)


def demand(*prices: ModelPrice, choices: int = 1, margin: Margin | None = None) -> Demand:
    bound = InputBound(tokens=100, is_exact=True)
    return Demand(
        candidates=[Candidate(price=each, input_bound=bound) for each in prices],
        choices=choices,
        service_tier=None,
        margin=margin or Margin(),
    )


def test_hold_of_one_deployment() -> None:
    """
    100 input tokens at $1 and 2 x 50 output tokens at $10 a million are 0.0011 USD.
    """
    assert hold_amount(demand(price("1", "10"), choices=2), 50) == 1_100_000


def test_hold_is_for_the_dearest() -> None:
    """
    Of $0.0001 and $0.0006 the hold is the larger one, wherever it stands.
    """
    cheap, dear = price("1", "0"), price("1", "10")

    assert hold_amount(demand(cheap, dear), 50) == 600_000
    assert hold_amount(demand(dear, cheap), 50) == 600_000


def test_model_lowers_the_cap() -> None:
    """
    A model that writes at most 10 tokens is held for 10, whatever cap was asked for, or none.
    """
    model = price("0", "10", max_output_tokens=10)

    assert hold_amount(demand(model), 50) == 100_000
    assert hold_amount(demand(model), None) == 100_000


def test_cap_that_does_not_bound_is_not_believed() -> None:
    """
    Where reasoning is not counted against the cap, the model's own limit is held for.
    """
    model = price("0", "10", max_output_tokens=1000)
    candidate = Candidate(
        price=model, input_bound=InputBound(tokens=0, is_exact=True), is_output_capped=False
    )
    asked = Demand(candidates=[candidate], choices=1, service_tier=None, margin=Margin())

    assert hold_amount(asked, 50) == 10_000_000


def test_nothing_priced_holds_nothing() -> None:
    """
    Without a priced deployment there is no amount to hold.
    """
    assert hold_amount(demand(), 50) == 0


def test_margin_is_held_too() -> None:
    """
    0.0001 USD with 20 percent and a fixed 50 nano-dollars are 120,050.
    """
    margin = Margin(percent=Decimal(20), per_request_nano_usd=NanoUsd(50))

    assert hold_amount(demand(price("1", "0"), margin=margin), 1) == 120_050


@pytest.mark.parametrize(("exact", "expected"), [(True, True), (False, False)])
def test_bound_is_exact_if_all_are(*, exact: bool, expected: bool) -> None:
    """
    One estimated deployment makes the bound an estimate.
    """
    asked = Demand(
        candidates=[
            Candidate(price=price("1", "1"), input_bound=InputBound(tokens=1, is_exact=True)),
            Candidate(price=price("1", "1"), input_bound=InputBound(tokens=1, is_exact=exact)),
        ],
        choices=1,
        service_tier=None,
        margin=Margin(),
    )

    assert asked.is_exact is expected


def test_bill() -> None:
    """
    3 tokens at $0.15 a million cost 450 nano-dollars; with 10 percent they are charged 495.
    """
    billed = bill(
        price("0.15", "1"), Usage(input_tokens=3, output_tokens=0), Margin(percent=Decimal(10))
    )

    assert (billed.cost_usd, billed.cost_nano_usd, billed.charge_nano_usd) == (
        Decimal("0.00000045"),
        450,
        495,
    )


def test_charge_is_rounded_once() -> None:
    """
    A cost of 0.5 nano-dollars is rounded to 0, but 1.5 times it (0.75) is charged as 1.
    """
    half = price("0.0005", "0")

    billed = bill(half, Usage(input_tokens=1, output_tokens=0), Margin(percent=Decimal(50)))

    assert (billed.cost_nano_usd, billed.charge_nano_usd) == (0, 1)


def test_unpriced_is_charged_the_fixed_part_only() -> None:
    """
    Without a price the cost is unknown, and 0 in the books.
    """
    margin = Margin(percent=Decimal(20), per_request_nano_usd=NanoUsd(7))

    billed = bill(None, Usage(input_tokens=3, output_tokens=3), margin)

    assert (billed.cost_nano_usd, billed.charge_nano_usd) == (0, 7)


@given(
    rates=st.tuples(st.integers(0, 10**6), st.integers(0, 10**6)),
    used=st.tuples(st.integers(0, 100), st.integers(0, 50)),
    percent=st.integers(0, 300),
    fixed=st.integers(0, 10**9),
)
def test_charge_never_passes_its_hold(
    rates: tuple[int, int], used: tuple[int, int], percent: int, fixed: int
) -> None:
    """
    For any prices, margin and any usage within the bound: charge <= hold.
    """
    model = price(f"0.{rates[0]:06d}", f"0.{rates[1]:06d}")
    margin = Margin(percent=Decimal(percent), per_request_nano_usd=NanoUsd(fixed))

    billed = bill(model, Usage(input_tokens=used[0], output_tokens=used[1]), margin)

    assert billed.charge_nano_usd <= hold_amount(demand(model, margin=margin), 50)


@pytest.mark.parametrize(
    ("available", "below", "expected"),
    [(1_100_000, 500, 100), (1_099_999, 500, 99), (100_000, 500, 0), (10**9, 500, 499)],
)
def test_largest_cap_that_fits(available: int, below: int, expected: int) -> None:
    """
    With 100 input tokens at $1 and output at $10 a million, $0.0011 buys 100 output tokens.
    """
    asked = demand(price("1", "10"))

    assert largest_cap_tokens(asked, NanoUsd(available), below=below) == expected


def hold_of(amount: int, limit: int | None) -> Hold:
    return Hold(
        hold_id=HoldId("h"),
        customer_id=CustomerId("c"),
        amount_nano_usd=NanoUsd(amount),
        accounts=tuple(
            Account(
                window=window,
                limit_nano_usd=NanoUsd(limit) if limit is not None and i == 0 else None,
            )
            for i, window in enumerate(windows_of(AT))
        ),
        ttl_s=1,
    )


def balance(posted: int, held: int) -> Balance:
    return Balance(
        posted_nano_usd=NanoUsd(posted), held_nano_usd=NanoUsd(held), credit_nano_usd=NanoUsd(0)
    )


@pytest.mark.parametrize(
    ("amount", "posted", "held", "expected"),
    [
        (60, 50, 0, "spend_limit_exceeded"),
        (60, 40, 30, "in_flight_budget_exhausted"),
        (101, 0, 0, "request_exceeds_limit"),
        (101, 100, 0, "spend_limit_exceeded"),
    ],
)
def test_which_refusal(amount: int, posted: int, held: int, expected: str) -> None:
    """
    Of a limit of 100: spent leaves too little, open holds do, the request alone is above it; and
    where nothing at all is left, that is what is said.
    """
    hold = hold_of(amount, 100)
    shortage = Shortage.EXHAUSTED if posted + amount > 100 else Shortage.IN_FLIGHT
    refused = NotReserved(
        account=hold.accounts[0], balances=(balance(posted, held),) * 4, shortage=shortage
    )

    refusal = refuse_money(demand(price("0", "1")), hold, refused, cap_tokens=50)

    assert refusal.code == expected


def refused_with(*spent: int) -> tuple[Hold, NotReserved]:
    """A hold under a limit of 100,000 nano-dollars, refused with these amounts posted."""
    hold = hold_of(500_000, 100_000)
    hold = replace(
        hold,
        accounts=tuple(
            replace(account, limit_nano_usd=NanoUsd(100_000)) for account in hold.accounts
        ),
    )
    posted = tuple(balance(amount, 0) for amount in spent)
    return hold, NotReserved(account=hold.accounts[0], balances=posted, shortage=Shortage.EXHAUSTED)


@pytest.mark.parametrize(
    ("spent", "choices", "expected"),
    [
        # 1 token of output costs 100 nano-dollars, the input nothing.
        ((0, 0, 0, 0), 1, 1000),
        ((40_000, 0, 0, 0), 1, 600),
        # The tightest account decides, wherever it stands.
        ((40_000, 0, 70_000, 0), 1, 300),
        ((0, 0, 0, 0), 2, 500),
        ((74_400, 0, 0, 0), 1, 256),
        ((74_500, 0, 0, 0), 1, None),
        ((100_000, 0, 0, 0), 1, None),
    ],
    ids=str,
)
def test_a_cap_shrinks_to_what_is_free(
    spent: tuple[int, ...], choices: int, expected: int | None
) -> None:
    """
    The cap is the money that is free, by the price of a token and the number of answers; under 256
    there is none.
    """
    hold, refused = refused_with(*spent)

    shrunk = shrunk_cap_tokens(
        demand(price("0", "0.1"), choices=choices),
        hold,
        refused,
        cap_tokens=5000,
        least_tokens=256,
    )

    assert shrunk == expected


def test_a_cap_never_grows() -> None:
    """
    Where the cap is not what keeps the request from fitting, it stays below what it was.
    """
    hold, refused = refused_with(0, 0, 0, 0)

    shrunk = shrunk_cap_tokens(
        demand(price("0", "0.1")), hold, refused, cap_tokens=300, least_tokens=256
    )

    assert shrunk == 299


@pytest.mark.parametrize("why", ["reasons", "is asked to reason", "is not bounded by its cap"])
def test_what_is_not_shrunk(why: str) -> None:
    """
    A model that thinks first could spend a low cap on that alone: it keeps its cap, or is refused.
    """
    hold, refused = refused_with(0, 0, 0, 0)
    model = replace(price("0", "0.1"), may_reason=why == "reasons")
    asked = demand(model)
    candidate = replace(asked.candidates[0], is_output_capped="bounded" not in why)
    asked = replace(asked, candidates=[candidate], asks_for_reasoning=why == "is asked to reason")

    assert not asked.is_shrinkable
    assert shrunk_cap_tokens(asked, hold, refused, cap_tokens=500, least_tokens=1) is None


def test_remaining_is_the_smallest_of_the_limits() -> None:
    """
    Only accounts with a limit count: 100 - 30 - 5 leaves 65; without a limit there is no number.
    """
    balances = (balance(30, 5), balance(9999, 0), balance(9999, 0), balance(9999, 0))

    assert spend_remaining(hold_of(5, 100), Reserved(balances=balances)) == 65
    assert spend_remaining(hold_of(5, None), Reserved(balances=balances)) is None
