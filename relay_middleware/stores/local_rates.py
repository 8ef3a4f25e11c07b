"""
What the embedded store counts beside money: tokens and requests per time, and requests at the same
time.

The same rules as in `lua/`, in the memory of one process.
"""

from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from relay_middleware.core.identifiers import CustomerId, HoldId
from relay_middleware.core.rates import (
    RateStatus,
    RequestLimit,
    RequestWindow,
    TokenLimit,
    TokenStatus,
    TokenWindow,
)

CAPACITY = 100_000
"""Windows that are remembered, the latest used ones."""


@dataclass(slots=True)
class _Buckets:
    bucket: int
    current: int = 0
    previous: int = 0


class TokenCounter:
    """Tokens of each customer, in windows of two buckets."""

    def __init__(self) -> None:
        self._known: OrderedDict[tuple[CustomerId, int], _Buckets] = OrderedDict()

    def window(self, customer_id: CustomerId, limit: TokenLimit, now: datetime) -> TokenWindow:
        """Return what counts of *limit* at *now*."""
        length_ms = limit.window_s * 1000
        buckets = self._running(customer_id, limit, now)
        return TokenWindow(
            previous_tokens=buckets.previous,
            current_tokens=buckets.current,
            elapsed_ms=max(0, _ms(now) - buckets.bucket * length_ms),
        )

    def refusing(
        self, customer_id: CustomerId, limits: Sequence[TokenLimit], tokens: int, now: datetime
    ) -> TokenStatus | None:
        """Return how it stands with the first of *limits* that *tokens* do not fit; else None."""
        for limit in limits:
            window = self.window(customer_id, limit, now)
            if window.used_tokens(limit) + tokens > limit.limit_tokens:
                return window.status(limit, wanted_tokens=tokens)
        return None

    def take(
        self, customer_id: CustomerId, limits: Sequence[TokenLimit], tokens: int, now: datetime
    ) -> tuple[int, ...]:
        """Count *tokens*; return the buckets that they were taken from."""
        taken = []
        for limit in limits:
            buckets = self._running(customer_id, limit, now)
            buckets.current += tokens
            taken.append(buckets.bucket)
        return tuple(taken)

    def correct(
        self,
        customer_id: CustomerId,
        limits: Sequence[TokenLimit],
        buckets: Sequence[int],
        delta: int,
    ) -> None:
        """Add *delta* to what was taken from *buckets*, as far as they still count."""
        for limit, taken_in in zip(limits, buckets, strict=False):
            known = self._known.get((customer_id, limit.window_s))
            if known is not None and known.bucket == taken_in:
                known.current += delta
            elif known is not None and known.bucket == taken_in + 1:
                known.previous += delta

    def _running(self, customer_id: CustomerId, limit: TokenLimit, now: datetime) -> _Buckets:
        """The buckets of *limit*, moved on to *now*."""
        key = (customer_id, limit.window_s)
        bucket = _ms(now) // (limit.window_s * 1000)
        known = self._known.get(key)
        if known is None:
            known = self._known[key] = _Buckets(bucket)
            if len(self._known) > CAPACITY:
                self._known.popitem(last=False)
        elif known.bucket < bucket:
            # A clock that was set back finds a bucket of the future: it runs on.
            known.previous = known.current if known.bucket == bucket - 1 else 0
            known.bucket, known.current = bucket, 0
        self._known.move_to_end(key)
        return known


@dataclass(slots=True)
class _Requests:
    ends_ms: int
    current: int = 0
    previous: int = 0


class RequestCounter:
    """
    Requests of each customer, in sliding windows. Not those of `limits`, whose methods are
    asynchronous: another request could be let in between what is asked of money and of rates.
    """

    def __init__(self) -> None:
        self._known: OrderedDict[tuple[CustomerId, int], _Requests] = OrderedDict()

    def window(self, customer_id: CustomerId, limit: RequestLimit, now: datetime) -> RequestWindow:
        """Return what counts of *limit* at *now*."""
        requests = self._running(customer_id, limit.window_s, now)
        return RequestWindow(
            previous_requests=requests.previous,
            current_requests=requests.current,
            # Not more than a window, where the clock was set back.
            left_ms=min(requests.ends_ms - _ms(now), limit.window_s * 1000),
        )

    def refusing(
        self, customer_id: CustomerId, limits: Sequence[RequestLimit], now: datetime
    ) -> RateStatus | None:
        """Return how it stands with the first of *limits* that has no room; else None."""
        for limit in limits:
            window = self.window(customer_id, limit, now)
            if not window.has_room(limit):
                return window.status(limit)
        return None

    def count(self, customer_id: CustomerId, limits: Sequence[RequestLimit], now: datetime) -> None:
        """Count a request, once in each window."""
        for window_s in {limit.window_s for limit in limits}:
            key = (customer_id, window_s)
            self._known[key] = requests = self._running(customer_id, window_s, now)
            requests.current += 1
            self._known.move_to_end(key)
            if len(self._known) > CAPACITY:
                self._known.popitem(last=False)

    def _running(self, customer_id: CustomerId, window_s: int, now: datetime) -> _Requests:
        """The window that runs at *now*; a new one is kept by nobody yet."""
        now_ms, window_ms = _ms(now), window_s * 1000
        known = self._known.get((customer_id, window_s))
        if known is None or now_ms >= known.ends_ms + window_ms:
            return _Requests(now_ms + window_ms)
        if now_ms >= known.ends_ms:
            return _Requests(known.ends_ms + window_ms, previous=known.current)
        return known


class Places:
    """The requests under way of each customer that may have only so many."""

    def __init__(self) -> None:
        self._expiries: dict[CustomerId, dict[HoldId, datetime]] = {}

    def taken(self, customer_id: CustomerId, now: datetime) -> int:
        """Return how many places are taken at *now*."""
        places = self._expiries.get(customer_id, {})
        for hold_id in [hold_id for hold_id, expiry in places.items() if expiry <= now]:
            del places[hold_id]
        return len(places)

    def take(self, customer_id: CustomerId, hold_id: HoldId, expiry: datetime) -> None:
        """Take a place, until *expiry*."""
        self._expiries.setdefault(customer_id, {})[hold_id] = expiry

    def touch(self, customer_id: CustomerId, hold_id: HoldId, expiry: datetime) -> None:
        """Keep a place that is taken until *expiry*."""
        places = self._expiries.get(customer_id, {})
        if hold_id in places:
            places[hold_id] = expiry

    def vacate(self, customer_id: CustomerId, hold_id: HoldId) -> None:
        """Give a place back, if it is taken."""
        places = self._expiries.get(customer_id, {})
        places.pop(hold_id, None)
        if not places:
            self._expiries.pop(customer_id, None)


def _ms(at: datetime) -> int:
    return int(at.timestamp() * 1000)
