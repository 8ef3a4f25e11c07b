"""
Request rates: how many requests per time, and how much of that is left.
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
