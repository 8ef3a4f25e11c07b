"""
What is remembered of a request: the rows that the ledger keeps and a bill is made from.
"""

from datetime import datetime
from decimal import Decimal
from enum import Enum

from relay_middleware.core.holds import Hold, HoldState
from relay_middleware.core.identifiers import ApiKeyId, CustomerId, DeploymentId, HoldId
from relay_middleware.core.money import NO_MONEY, NanoUsd
from relay_middleware.core.usage import Usage, UsageSource
from relay_middleware.core.values import dataclass


class AttemptOutcome(Enum):
    """How one try at one deployment ended."""

    SERVED = "served"
    """It gave the answer, whole or cut."""
    REFUSED = "refused"
    """It refused the request as wrong (400, 413, 422); another would too."""
    FAILED = "failed"
    """It failed in a way that another deployment could cure."""
    TIMED_OUT = "timed_out"
    CANCELLED = "cancelled"
    """It was given up before it answered: the client had gone, or the process was told to end."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Attempt:
    """
    One try at one deployment.

    Attributes:
        status_code: HTTP status of the provider, or None where no answer came.
        started_at: Aware, UTC; as is *ended_at*.
    """

    deployment_id: DeploymentId
    provider: str
    deployment_model: str
    outcome: AttemptOutcome
    status_code: int | None
    started_at: datetime
    ended_at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class CustomerCreated:
    """A customer was seen for the first time."""

    customer_id: CustomerId
    tier: str
    created_at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class RequestEnded:
    """
    A request whose hold has ended.

    Attributes:
        hold_id: The request's identifier; appending the same one twice keeps one row.
        state: `SETTLED`; `RELEASED` after a dispatch that cost nothing; or `EXPIRED`: nobody knows
            what it came to, so *hold_nano_usd* counts against the limits, and nothing is charged,
            until a later record of the same request says better.
        status_code: What the client got.
        usage: None where nothing was used.
        cost_usd: Exact cost at the provider; `cost_nano_usd` is the same, rounded half to even.
        charge_nano_usd: What the customer pays.
        hold_nano_usd: What was set aside.
        reserved_at: Instant that decides the period; aware, UTC; as is *ended_at*.
        is_bound_exact: Whether the hold was a proven upper bound.
        attempts: Oldest first. A released request without any, or whose only one was cancelled, was
            never sent to a provider.
    """

    hold_id: HoldId
    customer_id: CustomerId
    api_key_id: ApiKeyId
    tier: str
    endpoint: str
    model: str
    state: HoldState
    status_code: int
    is_stream: bool
    provider: str | None
    deployment_model: str | None
    usage: Usage | None
    usage_source: UsageSource | None
    cost_usd: Decimal
    cost_nano_usd: NanoUsd
    charge_nano_usd: NanoUsd
    hold_nano_usd: NanoUsd
    is_bound_exact: bool
    reserved_at: datetime
    ended_at: datetime
    attempts: tuple[Attempt, ...]

    @property
    def tokens(self) -> int:
        """What counts against token limits."""
        return 0 if self.usage is None else self.usage.input_tokens + self.usage.output_tokens


NO_ANSWER = 499
"""Status of a request whose client got none: nginx's number."""


def expired(hold: Hold, at: datetime) -> RequestEnded:
    """Return the record of a hold whose time ran out at *at*: nobody knows what it came to."""
    return _uncharged(hold, HoldState.EXPIRED, at, NO_ANSWER, ())


def released(
    hold: Hold, at: datetime, *, status_code: int = NO_ANSWER, attempts: tuple[Attempt, ...] = ()
) -> RequestEnded:
    """
    Return the record of a hold that was given back at *at*, because no provider gave an answer.

    Args:
        status_code: What the client got.
        attempts: The tries that were made; none where no provider was called.
    """
    return _uncharged(hold, HoldState.RELEASED, at, status_code, attempts)


def _uncharged(
    hold: Hold, state: HoldState, at: datetime, status_code: int, attempts: tuple[Attempt, ...]
) -> RequestEnded:
    facts = hold.facts
    return RequestEnded(
        hold_id=hold.hold_id,
        customer_id=hold.customer_id,
        api_key_id=facts.api_key_id,
        tier=facts.tier,
        endpoint=facts.endpoint,
        model=facts.model,
        state=state,
        status_code=status_code,
        is_stream=facts.is_stream,
        provider=None,
        deployment_model=None,
        usage=None,
        usage_source=None,
        cost_usd=Decimal(0),
        cost_nano_usd=NO_MONEY,
        charge_nano_usd=NO_MONEY,
        hold_nano_usd=hold.amount_nano_usd,
        is_bound_exact=facts.is_bound_exact,
        reserved_at=facts.reserved_at,
        ended_at=at,
        attempts=attempts,
    )


LedgerRecord = CustomerCreated | RequestEnded
