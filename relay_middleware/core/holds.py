"""
Holds: what a request may use at most, set aside before a call, and ended exactly once.

A hold takes money, tokens per time and a place among the requests at the same time: all of them or
none.

Rules for editors. The life of a hold is the table `TRANSITIONS` and nothing else; every store
(`stores/local.py` calls `next_state`, `stores/lua/*.lua` repeat the table) must agree with it, and
the contract suite in `tests/contract/test_spend_store.py` tries every pair of state and event over
each of them. An operation on a hold that has already ended the same way is answered as a duplicate,
not as an error: callers repeat what they are not sure of.
"""

from collections.abc import Mapping
from datetime import datetime
from enum import Enum
from typing import NamedTuple

from relay_middleware.core.identifiers import ApiKeyId, CustomerId, HoldId
from relay_middleware.core.money import NanoUsd
from relay_middleware.core.periods import PeriodWindow
from relay_middleware.core.rates import RateStatus, TokenLimit, TokenStatus
from relay_middleware.core.values import dataclass


class HoldState(Enum):
    """Where a hold stands. All but `OPEN` are final, `EXPIRED` until it is resolved."""

    OPEN = "open"
    SETTLED = "settled"
    RELEASED = "released"
    EXPIRED = "expired"


class HoldEvent(Enum):
    """What can happen to a hold."""

    SETTLE = "settle"
    RELEASE = "release"
    EXPIRE = "expire"


TRANSITIONS: Mapping[tuple[HoldState, HoldEvent], HoldState] = {
    (HoldState.OPEN, HoldEvent.SETTLE): HoldState.SETTLED,
    (HoldState.OPEN, HoldEvent.RELEASE): HoldState.RELEASED,
    (HoldState.OPEN, HoldEvent.EXPIRE): HoldState.EXPIRED,
    # A stream can outlive its hold. The tokens were used, so they are charged.
    (HoldState.EXPIRED, HoldEvent.SETTLE): HoldState.SETTLED,
    # It turned out later that nothing was dispatched.
    (HoldState.EXPIRED, HoldEvent.RELEASE): HoldState.RELEASED,
}


class HoldStateError(Exception):
    """A hold was asked to do what its state does not allow: a bug of ours."""


def next_state(state: HoldState, event: HoldEvent) -> HoldState:
    """
    Apply *event* to a hold in *state*.

    Raises:
        HoldStateError: The table has no such transition.
    """
    try:
        return TRANSITIONS[state, event]
    except KeyError:
        raise HoldStateError(f"cannot {event.value} a hold that is {state.value}") from None


@dataclass(frozen=True, slots=True, kw_only=True)
class Account:
    """
    One customer's spend in one period, with the limit that applies to it now.

    Attributes:
        window: The period.
        limit_nano_usd: The most that may be settled and held together; None: no limit.
    """

    window: PeriodWindow
    limit_nano_usd: NanoUsd | None


@dataclass(frozen=True, slots=True, kw_only=True)
class HoldFacts:
    """
    What the ledger must know of a request that nobody can tell it about any more.

    Attributes:
        reserved_at: Instant that decides the periods; aware, UTC.
        is_bound_exact: Whether the hold is a proven upper bound.
    """

    api_key_id: ApiKeyId
    tier: str
    endpoint: str
    model: str
    is_stream: bool
    is_bound_exact: bool
    reserved_at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class Hold:
    """
    What to set aside for one request.

    Attributes:
        hold_id: The request's own identifier; what makes every operation idempotent.
        customer_id: Who pays.
        amount_nano_usd: Upper bound of the charge.
        accounts: All four periods, limited or not, in the order of `Period`: each settle posts to
            all of them, so that a limit that is set later meets the truth.
        ttl_s: Seconds until a sweep may expire it, unless it is touched.
        tokens: Upper bound of input and output together; counted only where there are
            *token_limits*.
        max_concurrency: The most requests of the customer at the same time, this one included;
            None: no limit.
    """

    hold_id: HoldId
    customer_id: CustomerId
    amount_nano_usd: NanoUsd
    accounts: tuple[Account, ...]
    ttl_s: float
    facts: HoldFacts
    tokens: int = 0
    token_limits: tuple[TokenLimit, ...] = ()
    max_concurrency: int | None = None


class Balance(NamedTuple):
    """
    What an account holds. A tuple, because of all values these are made most often.

    Attributes:
        posted_nano_usd: What counts as spent: settled, expired and corrected amounts.
        held_nano_usd: Sum of the open holds.
        credit_nano_usd: Raised on top of the limit.
        expired_nano_usd: The part of *posted_nano_usd* that expired holds are good for, until they
            are resolved.
    """

    posted_nano_usd: NanoUsd
    held_nano_usd: NanoUsd
    credit_nano_usd: NanoUsd
    expired_nano_usd: NanoUsd

    def remaining_nano_usd(self, limit_nano_usd: NanoUsd) -> NanoUsd:
        """Return what may still be held: `limit + credit - posted - held`; may be negative."""
        return NanoUsd(
            limit_nano_usd + self.credit_nano_usd - self.posted_nano_usd - self.held_nano_usd
        )


class Shortage(Enum):
    """Why a hold does not fit an account."""

    EXHAUSTED = "exhausted"
    """Settled spend alone leaves no room for it."""
    IN_FLIGHT = "in_flight"
    """It would fit once open holds have settled for nothing."""


def shortage(balance: Balance, limit: NanoUsd | None, amount: NanoUsd) -> Shortage | None:
    """
    Say why *amount* does not fit, or None when it does. An amount of 0 always fits.

    The rule of every store, the Lua script included.
    """
    if limit is None or amount == 0 or amount <= balance.remaining_nano_usd(limit):
        return None
    if balance.posted_nano_usd + amount > limit + balance.credit_nano_usd:
        return Shortage.EXHAUSTED
    return Shortage.IN_FLIGHT


@dataclass(frozen=True, slots=True, kw_only=True)
class Reserved:
    """
    The hold is open.

    Attributes:
        balances: Of each of the hold's accounts, this hold included.
        tokens: Of each of its token limits, this hold taken off.
        rates: Of each request rate, this request counted.
        is_duplicate: The hold was there already, in *state*; nothing was changed.
    """

    balances: tuple[Balance, ...]
    tokens: tuple[TokenStatus, ...] = ()
    rates: tuple[RateStatus, ...] = ()
    is_duplicate: bool = False
    state: HoldState = HoldState.OPEN


@dataclass(frozen=True, slots=True, kw_only=True)
class NotReserved:
    """
    There is not enough money; nothing was changed.

    Attributes:
        account: The first of the hold's accounts that it does not fit.
        balances: Of each of the hold's accounts.
        tokens: Of each of its token limits.
    """

    account: Account
    balances: tuple[Balance, ...]
    shortage: Shortage
    tokens: tuple[TokenStatus, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class TooManyTokens:
    """
    The money would do, the tokens do not; nothing was changed.

    Attributes:
        status: Of the first token limit that the hold does not fit, waiting for its tokens.
        balances: Of each of the hold's accounts.
        tokens: Of each of its token limits.
    """

    status: TokenStatus
    balances: tuple[Balance, ...]
    tokens: tuple[TokenStatus, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class TooManyAtOnce:
    """
    Money and tokens would do, but as many requests as may run are running; nothing was changed.
    """

    running: int


@dataclass(frozen=True, slots=True)
class TooManyRequests:
    """
    Money, tokens and a place would do, a request rate is used up; nothing was changed.

    Attributes:
        status: Of the first rate that refuses.
    """

    status: RateStatus


Refused = NotReserved | TooManyTokens | TooManyAtOnce | TooManyRequests


@dataclass(frozen=True, slots=True, kw_only=True)
class Ended:
    """
    Answer of `settle`, `release` and `expire`.

    Attributes:
        previous: State before; None where the store knew no such hold (a late settle is recorded
            all the same).
        is_duplicate: The hold had already ended this way; nothing was changed.
        balances: Of each of the hold's accounts, afterwards.
    """

    previous: HoldState | None
    balances: tuple[Balance, ...]
    is_duplicate: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Adjustment:
    """
    A correction by an operator: a top-up, a refund, a charge by hand.

    Attributes:
        operation_id: Makes it idempotent: the second of the same id changes nothing.
        posted_nano_usd: Added to what is spent; negative for a refund.
        credit_nano_usd: Added to what may be spent on top of the limit; negative takes back.
    """

    operation_id: str
    posted_nano_usd: NanoUsd
    credit_nano_usd: NanoUsd
