"""
Fitting: what a request that did not fit is tried with once more.
"""

from dataclasses import replace
from datetime import UTC, datetime
from decimal import Decimal

import pytest
from fixtures.holds import balance, facts

from relay_middleware.core.bounds import InputBound
from relay_middleware.core.charging import Candidate, Demand
from relay_middleware.core.fitting import (
    MAX_COUNTED_BYTES,
    Room,
    fitting,
    least_cap_tokens,
    may_tokenise,
    room_of,
)
from relay_middleware.core.holds import (
    Account,
    Hold,
    NotReserved,
    Shortage,
    TooManyTokens,
)
from relay_middleware.core.identifiers import CustomerId, HoldId
from relay_middleware.core.money import NanoUsd
from relay_middleware.core.periods import windows_of
from relay_middleware.core.pricing import ModelPrice, RateCard, Rates
from relay_middleware.core.rates import TokenLimit, TokenWindow
from relay_middleware.core.tiers import Margin, OnInsufficient, Tier

AT = datetime(2026, 11, 24, tzinfo=UTC)
NANO_USD = Decimal("0.000000001")
RATES = Rates(input_usd=NANO_USD, output_usd=NANO_USD)
BYTES = 8000

# Input and output at one nano-dollar a token; 8,000 bytes, and 100 tokens around them.
COUNTABLE = Candidate(
    price=ModelPrice(standard=RateCard(base=RATES)),
    input_bound=InputBound(tokens=8100, is_exact=True),
    encoding="o200k_base",
)
DEMAND = Demand(
    candidates=[COUNTABLE], choices=1, service_tier=None, margin=Margin(), framing_tokens=100
)
HOLD = Hold(
    hold_id=HoldId("h"),
    customer_id=CustomerId("c"),
    amount_nano_usd=NanoUsd(9100),
    accounts=tuple(Account(window=window, limit_nano_usd=None) for window in windows_of(AT)),
    ttl_s=60,
    facts=facts(),
    tokens=9100,
)


def refused(*, limit: int = 10_000, spent: int = 0) -> tuple[Hold, NotReserved]:
    """The hold under a limit of the second account, of which *spent* is gone."""
    accounts = tuple(
        replace(account, limit_nano_usd=NanoUsd(limit) if i == 1 else None)
        for i, account in enumerate(HOLD.accounts)
    )
    answer = NotReserved(
        account=accounts[1],
        balances=(balance(0), balance(spent), balance(0), balance(0)),
        shortage=Shortage.EXHAUSTED,
    )
    return replace(HOLD, accounts=accounts), answer


def too_many(*left: int) -> tuple[Hold, TooManyTokens]:
    """The hold under token limits of which these are left."""
    limits = tuple(TokenLimit(f"{9000 + i}/minute", 9000 + i, 60) for i in range(len(left)))
    status = tuple(
        TokenWindow(
            previous_tokens=0, current_tokens=limit.limit_tokens - tokens, elapsed_ms=0
        ).status(limit)
        for limit, tokens in zip(limits, left, strict=True)
    )
    answer = TooManyTokens(status=status[0], balances=(balance(0),) * 4, tokens=status)
    return replace(HOLD, token_limits=limits), answer


def test_room_is_what_the_tightest_limits_leave() -> None:
    """
    10,000 less 7,000 leave 3,000 nano-dollars; of 5,000 and 4,000 tokens the latter are left.
    """
    assert room_of(*refused(spent=7000)) == Room(nano_usd=NanoUsd(3000), tokens=None)
    assert room_of(*too_many(5000, 4000)) == Room(nano_usd=None, tokens=4000)


@pytest.mark.parametrize(
    ("nano_usd", "cap", "expected"),
    [
        # 8,000 / 8 x 1.03 + 100 tokens of input, and the output's cap.
        (1130 + 50, 50, True),
        (1130 + 49, 50, False),
        (1130, None, True),
        (1129, None, False),
        (0, 50, False),
        (-5, 50, False),
    ],
)
def test_who_may_have_tokens_counted(nano_usd: int, cap: int | None, *, expected: bool) -> None:
    """
    Only who could pay for a token of every eight bytes, and for the shortest answer.
    """
    room = Room(nano_usd=NanoUsd(nano_usd), tokens=None)

    assert may_tokenise(DEMAND, room, body_bytes=BYTES, cap_tokens=cap) is expected


@pytest.mark.parametrize(("tokens", "expected"), [(1180, True), (1179, False)])
def test_counting_for_a_token_limit(tokens: int, *, expected: bool) -> None:
    """
    The same holds of a token limit.
    """
    room = Room(nano_usd=None, tokens=tokens)

    assert may_tokenise(DEMAND, room, body_bytes=BYTES, cap_tokens=50) is expected


@pytest.mark.parametrize(("length", "expected"), [(1_048_576, True), (1_048_577, False)])
def test_the_longest_body_that_is_counted(length: int, *, expected: bool) -> None:
    """
    A mebibyte is counted, a byte more is not.
    """
    room = Room(nano_usd=NanoUsd(10**9), tokens=None)

    assert MAX_COUNTED_BYTES == 1_048_576
    assert may_tokenise(DEMAND, room, body_bytes=length, cap_tokens=1) is expected


def test_nothing_to_count_by() -> None:
    """
    A model whose vocabulary is not known cannot be counted for, whatever there is to pay with.
    """
    unknown = replace(DEMAND, candidates=[replace(COUNTABLE, encoding=None)])
    room = Room(nano_usd=NanoUsd(10**9), tokens=None)

    assert not may_tokenise(unknown, room, body_bytes=BYTES, cap_tokens=1)


def test_counting_that_would_not_help() -> None:
    """
    Where the dearest deployment keeps its bound of 8,100, counting for the other buys nothing.
    """
    both = replace(DEMAND, candidates=[COUNTABLE, replace(COUNTABLE, encoding=None)])
    room = Room(nano_usd=NanoUsd(8149), tokens=None)

    assert not may_tokenise(both, room, body_bytes=BYTES, cap_tokens=50)


def test_what_costs_nothing_needs_no_counting() -> None:
    """
    A free model always fits the money, even where none is left.
    """
    free = Rates(input_usd=Decimal(0), output_usd=Decimal(0))
    demand = replace(
        DEMAND,
        candidates=[replace(COUNTABLE, price=ModelPrice(standard=RateCard(base=free)))],
    )

    assert Room(nano_usd=NanoUsd(-1), tokens=None).fits(demand, 1000)


def test_counted_tokens_fit_with_the_same_cap() -> None:
    """
    2,000 tokens counted are bounded by 2,160; with 1,000 of output that fits 3,160, which the hold
    is for by then, as an estimate.
    """
    hold, answer = refused(spent=10_000 - 3160)

    found = fitting(
        DEMAND.with_input_tokens(2000),
        hold,
        room_of(hold, answer),
        cap_tokens=1000,
        least_tokens=256,
    )

    assert found is not None
    assert (found.hold.amount_nano_usd, found.hold.tokens, found.cap_tokens) == (3160, 3160, 1000)
    assert not found.hold.facts.is_bound_exact
    assert found.hold.accounts == hold.accounts


def test_counted_and_shrunk() -> None:
    """
    One nano-dollar less than that buys 999 tokens of output, in the same second attempt.
    """
    hold, answer = refused(spent=10_000 - 3159)

    found = fitting(
        DEMAND.with_input_tokens(2000),
        hold,
        room_of(hold, answer),
        cap_tokens=1000,
        least_tokens=256,
    )

    assert found is not None
    assert (found.hold.amount_nano_usd, found.cap_tokens) == (3159, 999)


@pytest.mark.parametrize(
    ("room", "choices", "expected"),
    [(2760, 1, 600), (3161, 2, 500), (2416, 1, 256), (2415, 1, None)],
)
def test_a_cap_shrinks_to_what_is_free(room: int, choices: int, expected: int | None) -> None:
    """
    What 2,160 tokens of input leave is shared by the answers; for less than 256 each there is none.
    """
    hold, answer = refused(spent=10_000 - room)
    demand = replace(DEMAND, choices=choices).with_input_tokens(2000)

    found = fitting(demand, hold, room_of(hold, answer), cap_tokens=1000, least_tokens=256)

    assert (None if found is None else found.cap_tokens) == expected


SHRINKING = Tier(name="free", models=None, on_insufficient=OnInsufficient.SHRINK)


@pytest.mark.parametrize(("cap", "expected"), [(1000, 256), (100, 100)])
def test_how_far_a_cap_is_lowered(cap: int, expected: int) -> None:
    """
    To the tier's 256 tokens, and not at all where fewer were asked for.
    """
    _, answer = refused()

    assert least_cap_tokens(DEMAND, SHRINKING, answer, cap_tokens=cap) == expected


@pytest.mark.parametrize(
    "why", ["reasons", "is asked to reason", "is not bounded by its cap", "is not known"]
)
def test_what_is_not_shrunk(why: str) -> None:
    """
    A model that thinks first could spend a low cap on that alone: it keeps its cap, or is refused.
    """
    _, answer = refused()
    model = ModelPrice(standard=RateCard(base=RATES), may_reason=why == "reasons")
    candidate = replace(
        COUNTABLE,
        is_output_capped="bounded" not in why,
        price=None if "known" in why else model,
    )
    demand = replace(DEMAND, candidates=[candidate], asks_for_reasoning=why == "is asked to reason")

    assert least_cap_tokens(demand, SHRINKING, answer, cap_tokens=500) is None


def test_who_is_not_shrunk() -> None:
    """
    Nor is a cap lowered on a tier that does not say so, where there is none, or for want of tokens,
    which come back by themselves.
    """
    rejecting = replace(SHRINKING, on_insufficient=OnInsufficient.REJECT)
    (_, of_money), (_, of_tokens) = refused(), too_many(3159)

    assert least_cap_tokens(DEMAND, rejecting, of_money, cap_tokens=500) is None
    assert least_cap_tokens(DEMAND, SHRINKING, of_money, cap_tokens=None) is None
    assert least_cap_tokens(DEMAND, SHRINKING, of_tokens, cap_tokens=500) is None


@pytest.mark.parametrize(
    ("room", "least", "cap"),
    [
        # Not shrunk on this tier.
        (3159, None, 1000),
        # 2,160 of input leave 255, which is too short an answer.
        (2415, 256, 1000),
        # No output to shrink.
        (2159, 256, None),
    ],
)
def test_what_does_not_fit(room: int, least: int | None, cap: int | None) -> None:
    """
    What neither counting nor shrinking makes fit is refused.
    """
    hold, answer = refused(spent=10_000 - room)

    assert (
        fitting(
            DEMAND.with_input_tokens(2000),
            hold,
            room_of(hold, answer),
            cap_tokens=cap,
            least_tokens=least,
        )
        is None
    )


def test_embeddings_fit_without_a_cap() -> None:
    """
    Where there is no output, counting alone does it.
    """
    hold, answer = refused(spent=10_000 - 2160)
    demand = replace(DEMAND, choices=0).with_input_tokens(2000)

    found = fitting(demand, hold, room_of(hold, answer), cap_tokens=None, least_tokens=256)

    assert found is not None
    assert (found.hold.amount_nano_usd, found.cap_tokens) == (2160, None)


@pytest.mark.parametrize(("left", "expected"), [(3160, 1000), (3159, None)])
def test_what_token_limits_leave(left: int, expected: int | None) -> None:
    """
    3,160 tokens fit what the tightest limit leaves, or wait: no lower cap is looked for.
    """
    hold, answer = too_many(left, 9001)

    found = fitting(
        DEMAND.with_input_tokens(2000),
        hold,
        room_of(hold, answer),
        cap_tokens=1000,
        least_tokens=None,
    )

    assert (None if found is None else found.cap_tokens) == expected
