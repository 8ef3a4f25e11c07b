"""
Rates: how many requests or tokens per time, and how much of that is left.

Both are counted when a hold is taken. Tokens are part of the hold, because what was held too much
is given back; a request that was let in stays counted, however it ends. Rules for editors:
`stores/lua/reserve.lua` repeats what `TokenWindow` does, `stores/lua/shared.lua` what
`RequestWindow` does, and `limits` is the model of the latter: the contract suites compare them.
"""

from relay_middleware.core.values import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class RateStatus:
    """
    How much of one request rate is left.

    Attributes:
        limit: The rate as configured, such as `20/minute`.
        limit_requests: Requests per window.
        remaining_requests: Requests left in it.
        reset_after_s: Seconds until one more of them is left.
    """

    limit: str
    limit_requests: int
    remaining_requests: int
    reset_after_s: float


@dataclass(frozen=True, slots=True)
class RequestLimit:
    """
    The most requests within any window of some length.

    Attributes:
        notation: As configured, such as `20/minute`.
        limit_requests: Requests per window.
        window_s: Its length.
    """

    notation: str
    limit_requests: int
    window_s: int


@dataclass(frozen=True, slots=True, kw_only=True)
class RequestWindow:
    """
    A sliding window as `limits` counts it: one begins with its first request, and while it runs,
    those of the one before count less and less.

    Attributes:
        previous_requests: Counted in the window before.
        current_requests: Counted in the one that runs.
        left_ms: Time until that ends; a whole window at most.
    """

    previous_requests: int
    current_requests: int
    left_ms: int

    def has_room(self, limit: RequestLimit) -> bool:
        """Say whether one more request may be counted under *limit*."""
        return self._used_requests(limit) < limit.limit_requests

    def status(self, limit: RequestLimit) -> RateStatus:
        """
        Report what is left of *limit*.

        Not by the `get_window_stats` of `limits`, which says 0 s instead of a whole window at a
        window's start.
        """
        # Where the one before counts, it counts one less whenever another of its requests fades.
        wait_ms: float = self.left_ms if self.current_requests else 0
        if fading := self.previous_requests * self.left_ms:
            wait_ms = fading % (limit.window_s * 1000) / self.previous_requests
        return RateStatus(
            limit=limit.notation,
            limit_requests=limit.limit_requests,
            remaining_requests=max(0, limit.limit_requests - self._used_requests(limit)),
            reset_after_s=wait_ms / 1000,
        )

    def _used_requests(self, limit: RequestLimit) -> int:
        """What counts against *limit* now, rounded down."""
        fading = self.previous_requests * self.left_ms // (limit.window_s * 1000)
        return fading + self.current_requests


@dataclass(frozen=True, slots=True)
class RateCount:
    """
    What came of counting one request against several rates.

    Attributes:
        counted: What is left of those that have counted it, in their order.
        refusing: The first that has refused it; None: all have counted it.
    """

    counted: tuple[RateStatus, ...]
    refusing: RateStatus | None = None


@dataclass(frozen=True, slots=True)
class TokenLimit:
    """
    The most tokens, input and output together, within any window of some length.

    Attributes:
        notation: As configured, such as `40000/minute`.
        limit_tokens: Tokens per window.
        window_s: Its length.
    """

    notation: str
    limit_tokens: int
    window_s: int


@dataclass(frozen=True, slots=True, kw_only=True)
class TokenWindow:
    """
    A sliding window in two buckets: the one that runs, and the one before, of which as much counts
    as the window still reaches back into it.

    Attributes:
        previous_tokens: Taken in the bucket before.
        current_tokens: Taken in the one that runs.
        elapsed_ms: Time since that began; may be longer than the window.
    """

    previous_tokens: int
    current_tokens: int
    elapsed_ms: int

    def used_tokens(self, limit: TokenLimit) -> int:
        """Return what counts against *limit* now, rounded up."""
        return _used_tokens(self._rolled(limit), limit)

    def status(self, limit: TokenLimit, *, wanted_tokens: int = 1) -> "TokenStatus":
        """
        Report what is left of *limit*.

        Args:
            wanted_tokens: How many are waited for. For more than the limit nobody can wait: then
                until nothing is used.
        """
        now, most = self._rolled(limit), limit.limit_tokens
        used, room = _used_tokens(now, limit), max(0, most - wanted_tokens)
        return TokenStatus(
            limit=limit,
            remaining_tokens=max(0, most - used),
            retry_after_s=0.0 if used <= room else _until_left_s(now, limit, room),
            reset_after_s=_until_left_s(now, limit, 0) if used else 0.0,
        )

    def _rolled(self, limit: TokenLimit) -> "TokenWindow":
        """Return it with the bucket that runs by now, which nobody may have begun yet."""
        buckets, elapsed_ms = divmod(self.elapsed_ms, limit.window_s * 1000)
        if buckets == 0:
            return self
        return TokenWindow(
            previous_tokens=self.current_tokens if buckets == 1 else 0,
            current_tokens=0,
            elapsed_ms=elapsed_ms,
        )


def _used_tokens(now: TokenWindow, limit: TokenLimit) -> int:
    window_ms = limit.window_s * 1000
    reach_ms = window_ms - now.elapsed_ms
    return -(-now.previous_tokens * reach_ms // window_ms) + now.current_tokens


def _until_left_s(now: TokenWindow, limit: TokenLimit, room: int) -> float:
    """Seconds until no more than *room* of what counts now does, if nobody takes any before."""
    window_ms = limit.window_s * 1000
    left_ms = window_ms - now.elapsed_ms
    if now.current_tokens <= room:
        # The bucket before fades until what counts of it leaves room.
        counting_ms = (room - now.current_tokens) * window_ms // now.previous_tokens
        return (left_ms - counting_ms) / 1000
    # Only when the running bucket is the one before does it begin to fade.
    counting_ms = room * window_ms // now.current_tokens
    return (left_ms + window_ms - counting_ms) / 1000


@dataclass(frozen=True, slots=True, kw_only=True)
class TokenStatus:
    """
    How much of one token limit is left.

    Attributes:
        remaining_tokens: Free now.
        retry_after_s: Seconds until as many as were wanted are free; 0 where they are.
        reset_after_s: Seconds until all are, if nobody takes any before.
    """

    limit: TokenLimit
    remaining_tokens: int
    retry_after_s: float
    reset_after_s: float
