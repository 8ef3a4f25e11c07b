"""
Limits of pace as an operator writes them: the notation of `limits`, for requests and for tokens.
"""

from collections.abc import Sequence
from itertools import pairwise

import limits

from relay_middleware.core.rates import TokenLimit

MAX_NUMBER = 2**31 - 1
"""The largest number of tokens, bytes or requests that a key takes; OpenAI's own of an output
cap."""

_YEAR_S = 366 * 86_400
"""The longest window of requests: a store keeps two of them for each customer."""

_DAY_S = 86_400
"""The longest window of tokens: a store keeps two buckets of it for each customer."""


def rate_limit(text: str) -> str:
    """
    Check a limit of requests, such as `20/minute`.

    Raises:
        ValueError: It is none, or over a longer time than is counted.
    """
    found = _parsed(text, what="rate limit", form="write it as 20/minute or 500 per 2 hours")
    if found.get_expiry() > _YEAR_S:
        raise ValueError("has a window longer than a year")
    return text.strip()


def shortest_window_first(rate_limits: tuple[str, ...]) -> tuple[str, ...]:
    """
    Return *rate_limits* in the order in which they are asked.

    Raises:
        ValueError: Two are over the same time: a store counts requests once for each length.
    """
    # The first that refuses is the one that the client is told.
    ordered = tuple(sorted(rate_limits, key=lambda text: limits.parse(text).get_expiry()))
    _refuse_same(ordered, [limits.parse(text).get_expiry() for text in ordered])
    return ordered


def token_limit(text: object) -> TokenLimit:
    """
    Read a limit of tokens, such as `40000/minute`.

    Raises:
        ValueError: It is none, or one that is not counted.
    """
    form = "write it as 40000/minute or 100000 per 2 hours"
    if not isinstance(text, str):
        raise ValueError(f"is no token limit; {form}")  # noqa: TRY004 - pydantic's contract
    found = _parsed(text, what="token limit", form=form)
    if found.amount > MAX_NUMBER:
        raise ValueError(f"is more than the largest number of tokens that counts, {MAX_NUMBER}")
    if found.get_expiry() > _DAY_S:
        raise ValueError("has a window longer than a day; use spend_limits for longer periods")
    return TokenLimit(text.strip(), limit_tokens=found.amount, window_s=found.get_expiry())


def one_per_window(token_limits: tuple[TokenLimit, ...]) -> tuple[TokenLimit, ...]:
    """
    Return *token_limits*, shortest window first.

    Raises:
        ValueError: Two are over the same time: a store counts tokens once for each length.
    """
    ordered = tuple(sorted(token_limits, key=lambda limit: limit.window_s))
    _refuse_same([limit.notation for limit in ordered], [limit.window_s for limit in ordered])
    return ordered


def _refuse_same(notations: Sequence[str], windows_s: Sequence[int]) -> None:
    for (one, one_s), (other, other_s) in pairwise(zip(notations, windows_s, strict=True)):
        if one_s == other_s:
            raise ValueError(f"has {one} and {other}, over the same time; keep one")


def _parsed(text: str, *, what: str, form: str) -> limits.RateLimitItem:
    """Read one limit; *what* is it, and *form* says how it is written."""
    try:
        found = limits.parse_many(text)
    except ValueError:
        raise ValueError(f"is no {what}; {form}") from None
    if len(found) != 1:
        raise ValueError(f"holds several {what}s; make each an item of its own")
    if found[0].amount < 1 or found[0].get_expiry() < 1:
        raise ValueError(f"admits no request at all; {form}, or block the customer")
    return found[0]
