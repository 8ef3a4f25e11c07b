"""
Tiers: what a customer bought, and what that allows.
"""

from collections.abc import Mapping
from dataclasses import field
from decimal import Decimal
from enum import Enum

from relay_middleware.core.identifiers import CustomerId
from relay_middleware.core.money import EXACT, NANO_USD_PER_USD, NO_MONEY, NanoUsd
from relay_middleware.core.periods import UTC_CALENDAR, Calendar, Period
from relay_middleware.core.rates import TokenLimit
from relay_middleware.core.values import dataclass

DEFAULT_OUTPUT_TOKENS = 4096
"""Output cap of a request that names none, on a tier that names none."""


@dataclass(frozen=True, slots=True)
class Margin:
    """
    What is added to a provider's cost to make the customer's charge.

    Attributes:
        percent: Of the cost; 20 makes 1.00 USD a charge of 1.20 USD.
        per_request_nano_usd: Added once to every charged request.
    """

    percent: Decimal = Decimal(0)
    per_request_nano_usd: NanoUsd = NO_MONEY
    _factor: Decimal = field(init=False, compare=False, repr=False)
    _fixed_usd: Decimal = field(init=False, compare=False, repr=False)

    def __post_init__(self) -> None:
        factor = EXACT.add(Decimal(1), self.percent.scaleb(-2))
        fixed_usd = EXACT.divide(Decimal(self.per_request_nano_usd), Decimal(NANO_USD_PER_USD))
        object.__setattr__(self, "_factor", factor)
        object.__setattr__(self, "_fixed_usd", fixed_usd)

    def charge_usd(self, cost_usd: Decimal) -> Decimal:
        """Return the exact charge for an exact *cost_usd*, both in US dollars."""
        return EXACT.fma(cost_usd, self._factor, self._fixed_usd)


MIN_OUTPUT_TOKENS = 256
"""Shortest answer that is worth its price, on a tier that names none."""


class OnInsufficient(Enum):
    """What becomes of a request whose bound does not fit what is left."""

    REJECT = "reject"
    SHRINK = "shrink"
    """Its output cap is lowered until it fits, where that leaves a useful answer."""


class OnDisconnect(Enum):
    """What becomes of an answer whose client has gone."""

    DRAIN = "drain"
    """It is read to its end, and charged as the provider reports it."""
    CANCEL = "cancel"
    """The provider is hung up on at once, and what had come is charged."""


class OnOutage(Enum):
    """What becomes of a request while limits cannot be checked."""

    CLOSED = "closed"
    """It is refused."""
    OPEN = "open"
    """It is served, and counted when the store is back."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Tier:
    """
    One tier as the operator wrote it.

    Attributes:
        models: Names a client may ask for; None allows every configured one.
        default_model: Used when the request names none.
        rate_limits: In the notation of `limits` (`20/minute`), shortest window first.
        token_limits: Input and output together; no two over the same window, shortest first.
        max_concurrency: The most requests of one customer at the same time; None: no limit.
        spend_limits: Ceiling by period; a period that is absent has none.
        default_output_tokens: Output cap of a request that names none; None: see `output_cap`.
        max_output_tokens: Highest output cap of one answer; None: only the model's own.
        min_output_tokens: Lowest output cap that `SHRINK` may write.
        on_outage: None: see `outage_policy`.
        margin: What is added to the provider's cost.
    """

    name: str
    models: frozenset[str] | None
    default_model: str | None = None
    rate_limits: tuple[str, ...] = ()
    token_limits: tuple[TokenLimit, ...] = ()
    max_concurrency: int | None = None
    spend_limits: Mapping[Period, NanoUsd] = field(default_factory=dict)
    default_output_tokens: int | None = None
    max_output_tokens: int | None = None
    min_output_tokens: int = MIN_OUTPUT_TOKENS
    on_insufficient: OnInsufficient = OnInsufficient.REJECT
    on_disconnect: OnDisconnect = OnDisconnect.DRAIN
    on_outage: OnOutage | None = None
    margin: Margin = Margin()

    def allows(self, model: str) -> bool:
        """Say whether a client of this tier may ask for *model*."""
        return self.models is None or model in self.models


class CustomerStatus(Enum):
    """Whether a customer may be served."""

    ACTIVE = "active"
    BLOCKED = "blocked"


@dataclass(frozen=True, slots=True, kw_only=True)
class Customer:
    """
    Who pays, as SQL knows them.

    Attributes:
        tier: Name of the tier.
        spend_limits: The customer's own ceilings, which override the tier's period by period; None
            as a value lifts the tier's.
        calendar: When the customer's periods begin.
        is_new: Not in SQL yet: its row is still to be written.
    """

    customer_id: CustomerId
    tier: str
    status: CustomerStatus = CustomerStatus.ACTIVE
    spend_limits: Mapping[Period, NanoUsd | None] = field(default_factory=dict)
    calendar: Calendar = UTC_CALENDAR
    is_new: bool = False


def spend_limits_of(customer: Customer, tier: Tier) -> dict[Period, NanoUsd]:
    """
    Return the ceilings that apply to *customer*: its own where it has one, else its tier's.
    """
    merged: dict[Period, NanoUsd | None] = {**tier.spend_limits, **customer.spend_limits}
    return {period: limit for period, limit in merged.items() if limit is not None}


def outage_policy(tier: Tier, *, has_spend_limit: bool) -> OnOutage:
    """
    Return what becomes of a customer's requests while limits cannot be checked.

    Where the tier does not say: a limit of money holds always, a limit of pace gives way.

    Args:
        has_spend_limit: Whether one applies to the customer, its own or its tier's.
    """
    if tier.on_outage is not None:
        return tier.on_outage
    return OnOutage.CLOSED if has_spend_limit else OnOutage.OPEN


def output_cap(tier: Tier, *, asked: int | None, is_limited: bool) -> int | None:
    """
    Return the output cap of one answer, before the model's own is applied.

    A customer without a spend limit on a tier that names no cap keeps what it asked for, or none at
    all: a metered customer's answers are not cut short to make a bound that nobody needs.

    Args:
        asked: What the client named, positive, or None.
        is_limited: Whether any spend limit applies, so that the bound must hold.
    """
    cap = asked if asked is not None else tier.default_output_tokens
    if cap is None and is_limited:
        cap = DEFAULT_OUTPUT_TOKENS
    if cap is None:
        return tier.max_output_tokens
    return cap if tier.max_output_tokens is None else min(cap, tier.max_output_tokens)
