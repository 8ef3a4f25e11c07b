"""
Standings: what applies to a customer, worked out once for as long as it stays the same.
"""

from datetime import datetime

from relay_middleware.core.holds import Account
from relay_middleware.core.identifiers import CustomerId
from relay_middleware.core.periods import Windows
from relay_middleware.core.tiers import Customer, OnOutage, Tier, outage_policy, spend_limits_of
from relay_middleware.core.values import dataclass

MAX_REMEMBERED = 1000
"""Customers whose standing is remembered, 0.4 MB. Of others it is worked out for each request,
which takes 7 µs (measured, as the size)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Standing:
    """
    What applies to the requests of one customer from *starts_at* on, before *ends_at*.

    Attributes:
        accounts: As a hold has them; the same object as long as they are the same.
        is_limited: Whether a spend limit applies.
        on_outage: What becomes of a request while limits cannot be checked.
    """

    customer: Customer
    tier: Tier
    accounts: tuple[Account, ...]
    is_limited: bool
    on_outage: OnOutage
    starts_at: datetime
    ends_at: datetime


class Standings:
    """The standings of the customers that were asked for last."""

    def __init__(self) -> None:
        self._windows = Windows()
        self._known: dict[CustomerId, Standing] = {}

    def of(self, customer: Customer, tier: Tier, at: datetime) -> Standing:
        """Return what applies to *customer*, who is of *tier*, at *at*."""
        known = self._known.get(customer.customer_id)
        if (
            known is None
            or known.customer is not customer
            or known.tier is not tier
            or not known.starts_at <= at < known.ends_at
        ):
            known = self._found(customer, tier, at)
            self._known[customer.customer_id] = known
            if len(self._known) > MAX_REMEMBERED:
                del self._known[next(iter(self._known))]
        return known

    def _found(self, customer: Customer, tier: Tier, at: datetime) -> Standing:
        windows = self._windows.at(at, customer.calendar)
        limits = spend_limits_of(customer, tier)
        return Standing(
            customer=customer,
            tier=tier,
            accounts=tuple(
                Account(window=window, limit_nano_usd=limits.get(window.period))
                for window in windows
            ),
            is_limited=bool(limits),
            on_outage=outage_policy(tier, has_spend_limit=bool(limits)),
            starts_at=max(each.starts_at for each in windows if each.starts_at is not None),
            ends_at=min(each.ends_at for each in windows if each.ends_at is not None),
        )
