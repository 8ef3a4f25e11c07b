"""
Terms: what the scripts are told of a customer's limits, made once for as long as they are the same.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from relay_middleware.core.holds import Account, Hold
from relay_middleware.core.identifiers import CustomerId, HoldId
from relay_middleware.core.periods import PeriodWindow
from relay_middleware.core.rates import RequestLimit, TokenLimit
from relay_middleware.stores.keys import Keys, bucket_of
from relay_middleware.stores.rate_limits import limit_of
from relay_middleware.stores.retention import KEPT_AFTER_WINDOW_S

MAX_REMEMBERED = 1000
"""Customers whose terms are remembered, 3 MB. Of others they are made for each request, which takes
15 µs (measured, as the size)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Terms:
    """
    What goes with every hold of one customer.

    Attributes:
        bucket: The customer's.
        hold_prefix: What the key of a hold begins with; then comes its id.
        names: Keys of a script that opens a hold, after the hold's own.
        args: Of the same script: what is limited, by how much.
        ending_names: Keys of a script that ends a hold, after the hold's own.
        ending_args: When each account may be forgotten.
        rates: The request rates.
    """

    accounts: tuple[Account, ...]
    token_limits: tuple[TokenLimit, ...]
    max_concurrency: int | None
    rate_limits: Sequence[str]
    bucket: int
    hold_prefix: str
    names: Sequence[str]
    args: Sequence[str]
    ending_names: Sequence[str]
    ending_args: Sequence[str]
    rates: Sequence[RequestLimit]

    def are_of(self, hold: Hold) -> bool:
        """Say whether these are the terms of *hold*: whoever keeps its accounts keeps these."""
        return (
            self.accounts is hold.accounts
            and self.token_limits is hold.token_limits
            and self.max_concurrency == hold.max_concurrency
        )


class KnownTerms:
    """The terms of the customers whose holds came last."""

    def __init__(self, keys: Keys) -> None:
        self._keys = keys
        self._known: dict[CustomerId, Terms] = {}

    def of(self, hold: Hold, rate_limits: Sequence[str]) -> Terms:
        """Return the terms on which *hold* is opened."""
        known = self._known.get(hold.customer_id)
        if known is None or known.rate_limits is not rate_limits or not known.are_of(hold):
            known = self._known[hold.customer_id] = self._made(hold, rate_limits)
            if len(self._known) > MAX_REMEMBERED:
                del self._known[next(iter(self._known))]
        return known

    def of_ending(self, hold: Hold) -> Terms:
        """Return the terms on which *hold* is ended, which knows no rates."""
        known = self._known.get(hold.customer_id)
        return known if known is not None and known.are_of(hold) else self._made(hold, ())

    def _made(self, hold: Hold, rate_limits: Sequence[str]) -> Terms:
        rates = [limit_of(rate) for rate in rate_limits]
        most = hold.max_concurrency
        args = ["" if most is None else str(most), str(len(hold.token_limits))]
        for account in hold.accounts:
            limit = account.limit_nano_usd
            args += ["" if limit is None else str(limit), forgotten_at(account.window)]
        for token_limit in hold.token_limits:
            args += [str(token_limit.limit_tokens), str(token_limit.window_s * 1000)]
        for rate in rates:
            args += [str(rate.limit_requests), str(rate.window_s * 1000)]
        bucket = bucket_of(hold.customer_id)
        return Terms(
            accounts=hold.accounts,
            token_limits=hold.token_limits,
            max_concurrency=most,
            rate_limits=rate_limits,
            bucket=bucket,
            hold_prefix=self._keys.hold(bucket, HoldId("")),
            names=self._keys.beside_hold(hold, rates),
            args=args,
            ending_names=self._keys.beside_hold(hold),
            ending_args=[forgotten_at(account.window) for account in hold.accounts],
            rates=rates,
        )


def forgotten_at(window: PeriodWindow) -> str:
    """Return the second at which an account of *window* may be forgotten; `""` is never."""
    if window.ends_at_us is None:
        return ""
    return str(window.ends_at_us // 1_000_000 + KEPT_AFTER_WINDOW_S)
