"""
What is remembered of a request: the rows that the ledger keeps and a bill is made from.
"""

from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from enum import Enum

from relay_middleware.core.holds import HoldState
from relay_middleware.core.identifiers import ApiKeyId, CustomerId, DeploymentId, HoldId
from relay_middleware.core.money import NanoUsd
from relay_middleware.core.usage import Usage, UsageSource


class AttemptOutcome(Enum):
    """How one try at one deployment ended."""

    SERVED = "served"
    """It gave the answer, whole or cut."""
    REFUSED = "refused"
    """It refused the request as wrong (400, 413, 422); another would too."""
    FAILED = "failed"
    """It failed in a way that another deployment could cure."""
    TIMED_OUT = "timed_out"


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
        state: `SETTLED`, or `RELEASED` after a dispatch that cost nothing.
        status_code: What the client got.
        usage: None where nothing was used.
        cost_usd: Exact cost at the provider; `cost_nano_usd` is the same, rounded half to even.
        charge_nano_usd: What the customer pays.
        hold_nano_usd: What was set aside.
        reserved_at: Instant that decides the period; aware, UTC; as is *ended_at*.
        is_bound_exact: Whether the hold was a proven upper bound.
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


LedgerRecord = CustomerCreated | RequestEnded
