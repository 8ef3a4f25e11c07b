"""
Holds: their life is a table, and whether one fits is arithmetic.
"""

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from relay_middleware.core.holds import (
    TRANSITIONS,
    Balance,
    HoldEvent,
    HoldState,
    HoldStateError,
    Shortage,
    next_state,
    shortage,
)
from relay_middleware.core.money import NanoUsd

ILLEGAL = sorted(set(itertools.product(HoldState, HoldEvent)) - TRANSITIONS.keys(), key=str)


@pytest.mark.parametrize(("state", "event"), ILLEGAL)
def test_illegal_transition(state: HoldState, event: HoldEvent) -> None:
    """
    Whatever the table does not allow is an error that names event and state.
    """
    with pytest.raises(HoldStateError, match=f"cannot {event.value} .* {state.value}"):
        next_state(state, event)


def test_an_expired_hold_may_still_end() -> None:
    """
    A stream can outlive its hold: expired may be settled or released; settled and released stay.
    """
    assert next_state(HoldState.EXPIRED, HoldEvent.SETTLE) is HoldState.SETTLED
    assert next_state(HoldState.EXPIRED, HoldEvent.RELEASE) is HoldState.RELEASED
    assert {state for state, _ in TRANSITIONS} == {HoldState.OPEN, HoldState.EXPIRED}


def balance(posted: int, held: int, credit: int = 0) -> Balance:
    return Balance(
        posted_nano_usd=NanoUsd(posted),
        held_nano_usd=NanoUsd(held),
        credit_nano_usd=NanoUsd(credit),
        expired_nano_usd=NanoUsd(0),
    )


@pytest.mark.parametrize(
    ("posted", "held", "credit", "limit", "amount", "expected"),
    [
        (0, 0, 0, 100, 100, None),
        (0, 0, 0, 100, 101, Shortage.EXHAUSTED),
        (40, 0, 0, 100, 60, None),
        (40, 1, 0, 100, 60, Shortage.IN_FLIGHT),
        (41, 0, 0, 100, 60, Shortage.EXHAUSTED),
        (100, 0, 20, 100, 20, None),
        (100, 0, 20, 100, 21, Shortage.EXHAUSTED),
        (500, 500, 0, 100, 0, None),
        (500, 500, 0, None, 10**15, None),
        (0, 0, 0, 0, 1, Shortage.EXHAUSTED),
    ],
)
def test_what_fits(  # noqa: PLR0917 - a row of the table
    posted: int,
    held: int,
    credit: int,
    limit: int | None,
    amount: int,
    expected: Shortage | None,
) -> None:
    """
    posted + held + amount <= limit + credit; nothing always fits, and no limit never refuses.
    """
    nano_limit = None if limit is None else NanoUsd(limit)

    assert shortage(balance(posted, held, credit), nano_limit, NanoUsd(amount)) is expected


@given(st.tuples(*[st.integers(0, 200)] * 4))
def test_what_fits_leaves_no_debt(numbers: tuple[int, ...]) -> None:
    """
    A hold that fits leaves the remainder at or above zero.
    """
    posted, held, limit, amount = numbers
    before = balance(posted, held)
    if amount and shortage(before, NanoUsd(limit), NanoUsd(amount)) is None:
        assert balance(posted, held + amount).remaining_nano_usd(NanoUsd(limit)) >= 0
