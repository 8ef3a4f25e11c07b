"""
Rates: how many requests or tokens per time, and how much of that is left.

Requests are counted by `limits`. Tokens are part of a hold, because what was held too much is given
back. Rules for editors: `stores/lua/reserve.lua` repeats what `TokenWindow` does.
"""

from dataclasses import dataclass


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
        now = self._rolled(limit)
        window_ms = limit.window_s * 1000
        reach_ms = window_ms - now.elapsed_ms
        return -(-now.previous_tokens * reach_ms // window_ms) + now.current_tokens

    def status(self, limit: TokenLimit, *, wanted_tokens: int = 1) -> "TokenStatus":
        """
        Report what is left of *limit*.

        Args:
            wanted_tokens: How many are waited for. For more than the limit nobody can wait: then
                until nothing is used.
        """
        return TokenStatus(
            limit=limit,
            remaining_tokens=max(0, limit.limit_tokens - self.used_tokens(limit)),
            retry_after_s=self._until_free_s(limit, min(wanted_tokens, limit.limit_tokens)),
            reset_after_s=self._until_free_s(limit, limit.limit_tokens),
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

    def _until_free_s(self, limit: TokenLimit, wanted_tokens: int) -> float:
        """Seconds until *wanted_tokens* are free, if nobody else takes any before."""
        room = limit.limit_tokens - wanted_tokens
        if self.used_tokens(limit) <= room:
            return 0.0
        now = self._rolled(limit)
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
