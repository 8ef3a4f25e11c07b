"""
Charging: a hold is never below the charge it stands for.
"""

from dataclasses import replace
from datetime import UTC, datetime
from decimal import Decimal

import pytest
from fixtures.holds import balance, facts
from hypothesis import given
from hypothesis import strategies as st

from relay_middleware.core.bounds import InputBound
from relay_middleware.core.charging import (
    Candidate,
    Demand,
    bill,
    bound_tokens,
    hold_amount,
    largest_cap_tokens,
    largest_cap_within_tokens,
    most_used,
    refuse_money,
    require_countable,
    spend_remaining,
)
from relay_middleware.core.holds import (
    Account,
    Hold,
    NotReserved,
    Reserved,
    Shortage,
)
from relay_middleware.core.identifiers import CustomerId, DeploymentId, HoldId
from relay_middleware.core.money import MAX_REQUEST_NANO_USD, NanoUsd
from relay_middleware.core.periods import windows_of
from relay_middleware.core.pricing import ModelPrice, RateCard, Rates
from relay_middleware.core.refusals import RefusedError
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


def test_what_has_no_price_is_held_for_nothing() -> None:
    """
    A deployment without a price adds nothing to what another is held for.
    """
    unpriced = Candidate(price=None, input_bound=InputBound(tokens=100, is_exact=False))
    asked = demand(price("1", "10"))

    assert hold_amount(replace(asked, candidates=[unpriced]), 50) == 0
    assert hold_amount(replace(asked, candidates=[unpriced, *asked.candidates]), 50) == 600_000


@pytest.mark.parametrize(
    ("choices", "cap", "expected"),
    [
        # 100 + 1 x 50.
        (1, 50, 150),
        (3, 50, 250),
        # Embeddings give none.
        (0, 50, 100),
        # The model's own.
        (1, 900, 500),
        (1, None, 500),
    ],
)
def test_most_tokens(choices: int, cap: int | None, expected: int) -> None:
    """
    100 input tokens, and as many answers as are asked for, each as long as its cap or its model
    lets it be.
    """
    asked = demand(price("1", "1", max_output_tokens=400), choices=choices)

    assert bound_tokens(asked, cap) == expected


def test_most_tokens_of_any_deployment() -> None:
    """
    The deployment that can take the most counts: there reasoning is beyond the cap, so that its
    model's 400 tokens may come; nowhere, none.
    """
    asked = demand(price("1", "1"), price("0", "0", max_output_tokens=400))
    first, second = asked.candidates
    endless = replace(second, is_output_capped=False)

    assert bound_tokens(asked, 50) == 150
    assert bound_tokens(replace(asked, candidates=[first, endless]), 50) == 500
    assert bound_tokens(replace(asked, candidates=[]), 50) == 0


def test_counted_tokens_lower_what_is_held() -> None:
    """
    Of 100 bytes 10 tokens were counted: with 3 percent and 5 for what is around them 16, at the one
    deployment that counts so.
    """
    asked = replace(demand(price("1", "0"), price("1", "0")), framing_tokens=5)
    known, unknown = asked.candidates
    asked = replace(asked, candidates=[replace(known, encoding="o200k_base"), unknown])

    counted = asked.with_input_tokens(10)

    assert counted.encodings == asked.encodings == {"o200k_base"}
    assert [each.input_bound for each in counted.candidates] == [
        InputBound(tokens=16, is_exact=False),
        InputBound(tokens=100, is_exact=True),
    ]
    assert hold_amount(counted, 1) == 100_000
    assert hold_amount(replace(counted, candidates=counted.candidates[:1]), 1) == 16_000
    assert (asked.is_exact, counted.is_exact) == (True, False)


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


def test_the_most_that_was_used() -> None:
    """
    100 tokens at $1 and 2 x 50 at $10 a million are what the hold is for, with 20 percent; at the
    cheaper of two deployments less than the hold.
    """
    margin = Margin(percent=Decimal(20))
    asked = demand(price("1", "10"), price("1", "2"), choices=2, margin=margin)
    dear, cheap = asked.candidates

    usage, billed = most_used(asked, dear, 50)

    assert usage == Usage(input_tokens=100, output_tokens=100)
    assert (billed.cost_nano_usd, billed.charge_nano_usd) == (1_100_000, 1_320_000)
    assert billed.charge_nano_usd == hold_amount(asked, 50)
    assert most_used(asked, cheap, 50)[1].charge_nano_usd == 360_000


def test_the_most_of_what_has_no_price() -> None:
    """
    Without a price the tokens are told, and the margin's fixed part is charged.
    """
    asked = demand(margin=Margin(per_request_nano_usd=NanoUsd(7)))
    unpriced = Candidate(price=None, input_bound=InputBound(tokens=100, is_exact=False))

    usage, billed = most_used(asked, unpriced, 50)

    assert usage == Usage(input_tokens=100, output_tokens=50)
    assert (billed.cost_nano_usd, billed.charge_nano_usd) == (0, 7)


PARTS = st.tuples(st.integers(0, 100), st.integers(0, 100), st.integers(0, 50), st.integers(0, 50))


@given(
    rates=st.lists(st.tuples(*[st.integers(0, 10**6)] * 4), min_size=1, max_size=3, unique=True),
    parts=PARTS,
    percent=st.integers(0, 300),
    fixed=st.integers(0, 10**9),
)
def test_the_most_is_between_every_bill_and_the_hold(
    rates: list[tuple[int, int, int, int]],
    parts: tuple[int, int, int, int],
    percent: int,
    fixed: int,
) -> None:
    """
    Whatever the rates of all parts, and whatever of the bound was used: charge <= most <= hold, at
    each deployment that it may be; so nobody saves by leaving, nor pays more than was set aside.
    """
    margin = Margin(percent=Decimal(percent), per_request_nano_usd=NanoUsd(fixed))
    prices = [with_parts(*each) for each in rates]
    asked = demand(*prices, margin=margin)
    used_input, cached, used_output, reasoning = parts
    usage = Usage(
        input_tokens=used_input,
        cached_input_tokens=min(cached, used_input),
        output_tokens=used_output,
        reasoning_tokens=min(reasoning, used_output),
    )

    for candidate in asked.candidates:
        _, most = most_used(asked, candidate, 50)
        billed = bill(candidate.price, usage, margin)
        assert billed.charge_nano_usd <= most.charge_nano_usd <= hold_amount(asked, 50)
        assert billed.cost_usd <= most.cost_usd


def with_parts(given: int, cached: int, written: int, reasoned: int) -> ModelPrice:
    """A price in millionths of a dollar per million tokens: input, cached, output, reasoning."""
    rates = Rates(
        input_usd=Decimal(given).scaleb(-12),
        cached_input_usd=Decimal(cached).scaleb(-12),
        output_usd=Decimal(written).scaleb(-12),
        reasoning_usd=Decimal(reasoned).scaleb(-12),
    )
    return ModelPrice(standard=RateCard(base=rates))


def test_a_candidate_by_its_deployment() -> None:
    """
    The second of two is found by its deployment; one that is not there is an error.
    """
    asked = demand(price("1", "1"), price("2", "2"))
    first, second = asked.candidates
    named = replace(second, deployment_id=DeploymentId("smart#2"))
    asked = replace(asked, candidates=[first, named])

    assert asked.at(DeploymentId("smart#2")) is named
    with pytest.raises(KeyError, match="smart#3"):
        asked.at(DeploymentId("smart#3"))


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


@pytest.mark.parametrize(
    ("tokens", "choices", "expected"), [(150, 1, 50), (151, 2, 25), (100, 1, 0), (9999, 1, 499)]
)
def test_largest_cap_within_tokens(tokens: int, choices: int, expected: int) -> None:
    """
    What 100 input tokens leave of the tokens is shared by the answers, under a cap of 500.
    """
    asked = demand(price("1", "10"), choices=choices)

    assert largest_cap_within_tokens(asked, tokens, below=500) == expected


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
        facts=facts(),
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


@pytest.mark.parametrize(
    ("amount", "expected"),
    [
        # Now the other account is the one that it does not fit.
        (55, "in_flight_budget_exhausted"),
        # It fits by now, and lost to others: they hold what it was refused for.
        (5, "in_flight_budget_exhausted"),
        (150, "request_exceeds_limit"),
    ],
)
def test_which_refusal_of_less_than_was_refused(amount: int, expected: str) -> None:
    """
    A hold that was made smaller is measured anew: of limits of 100 with 50 held, and 30 spent.
    """
    hold = hold_of(amount, 100)
    accounts = tuple(
        replace(account, limit_nano_usd=NanoUsd(100) if i < 2 else None)
        for i, account in enumerate(hold.accounts)
    )
    hold = replace(hold, accounts=accounts)
    refused = NotReserved(
        account=accounts[1],
        balances=(balance(0, 50), balance(30, 0), balance(0, 0), balance(0, 0)),
        shortage=Shortage.EXHAUSTED,
    )

    assert refuse_money(demand(price("0", "1")), hold, refused, cap_tokens=50).code == expected


def test_remaining_is_the_smallest_of_the_limits() -> None:
    """
    Only accounts with a limit count: 100 - 30 - 5 leaves 65; without a limit there is no number.
    """
    balances = (balance(30, 5), balance(9999, 0), balance(9999, 0), balance(9999, 0))

    assert spend_remaining(hold_of(5, 100), Reserved(balances=balances)) == 65
    assert spend_remaining(hold_of(5, None), Reserved(balances=balances)) is None


def test_a_hold_that_could_not_be_added_up_is_refused_in_words() -> None:
    """
    At 1,000 USD per million tokens a million USD buys 10^9 of them, of which the input takes 100:
    one more than the rest is refused, with the largest cap that is not.
    """
    asked = demand(price("1000", "1000"))
    most = 10**9 - 100
    require_countable(asked, hold_amount(asked, most), most)

    with pytest.raises(RefusedError) as refused:
        require_countable(asked, hold_amount(asked, most + 1), most + 1)

    refusal = refused.value.refusal
    assert hold_amount(asked, most) == MAX_REQUEST_NANO_USD
    assert (refusal.status_code, refusal.code) == (400, "request_too_costly")
    assert refusal.message == (
        "This request may cost up to $1000000.001, which can never fit the $1000000.00 that a "
        "single one may cost. With max_completion_tokens of at most 999999900 it would."
    )


def test_input_alone_that_could_not_be_added_up() -> None:
    """
    At 20,000 USD a token 100 tokens of input are two millions, and no output cap helps.
    """
    asked = demand(price("20000000000", "1"))

    with pytest.raises(RefusedError, match="No output cap makes it fit"):
        require_countable(asked, hold_amount(asked, None), None)


def test_a_bill_is_never_more_than_can_be_added_up() -> None:
    """
    2^31 - 1 tokens, the most that are believed, at 1 USD each are charged as a million USD, of
    which 9,000 fit a 64-bit integer; the exact cost stays.
    """
    usage = Usage(input_tokens=0, output_tokens=2**31 - 1)

    billed = bill(price("0", "1000000"), usage, Margin())

    assert billed.cost_usd == Decimal(2**31 - 1)
    assert billed.cost_nano_usd == billed.charge_nano_usd == MAX_REQUEST_NANO_USD
    assert 9000 * MAX_REQUEST_NANO_USD < 2**63
