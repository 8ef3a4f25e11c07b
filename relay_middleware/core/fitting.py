"""
Fitting: what a request that did not fit its limits may be tried with once more.

Two things make a hold smaller: counting the input's tokens instead of its bytes, and a lower output
cap. They share one second attempt.
"""

from relay_middleware.core.charging import (
    Demand,
    bound_tokens,
    hold_amount,
    largest_cap_tokens,
    resized,
    spend_remaining,
)
from relay_middleware.core.holds import Hold, NotReserved, TooManyTokens
from relay_middleware.core.money import NanoUsd
from relay_middleware.core.tiers import OnInsufficient, Tier
from relay_middleware.core.values import dataclass

MAX_COUNTED_BYTES = 1024 * 1024
"""Longest body whose tokens are counted: 0.03 to 0.15 s of one core, measured."""

_FEWEST_BYTES_PER_TOKEN = 8
"""Few texts have longer tokens. Who could not pay for that many may not buy the counting either."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Room:
    """
    What was free of a customer's limits when a hold was refused; None: no limit.
    """

    nano_usd: NanoUsd | None
    tokens: int | None

    def fits(self, demand: Demand, cap_tokens: int | None) -> bool:
        """Say whether *demand* with this output cap would have fitted."""
        amount = hold_amount(demand, cap_tokens)
        return (self.nano_usd is None or amount == 0 or amount <= self.nano_usd) and (
            self.tokens is None or bound_tokens(demand, cap_tokens) <= self.tokens
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Fitting:
    """
    A hold that fits, and the output cap that it is for.
    """

    hold: Hold
    cap_tokens: int | None


def room_of(hold: Hold, refused: NotReserved | TooManyTokens) -> Room:
    """Return what is free of the limits of *hold*."""
    return Room(
        nano_usd=spend_remaining(hold, refused),
        tokens=min((status.remaining_tokens for status in refused.tokens), default=None),
    )


def may_tokenise(demand: Demand, room: Room, *, body_bytes: int, cap_tokens: int | None) -> bool:
    """
    Say whether it is worth counting the tokens of a request's input.

    Args:
        body_bytes: Length of the body as it came.
        cap_tokens: The lowest output cap that will do.
    """
    if not demand.encodings or body_bytes > MAX_COUNTED_BYTES:
        return False
    return room.fits(demand.with_input_tokens(body_bytes // _FEWEST_BYTES_PER_TOKEN), cap_tokens)


def least_cap_tokens(
    demand: Demand, tier: Tier, refused: NotReserved | TooManyTokens, *, cap_tokens: int | None
) -> int | None:
    """
    Return the lowest output cap that a refused request may be given; None: its cap is not lowered.

    It is not for want of tokens, which come back by themselves, nor where a lower cap might leave
    no answer at all.

    Args:
        cap_tokens: The output cap that it had.
    """
    may_shrink = tier.on_insufficient is OnInsufficient.SHRINK and demand.is_shrinkable
    if cap_tokens is None or not may_shrink or isinstance(refused, TooManyTokens):
        return None
    return min(tier.min_output_tokens, cap_tokens)


def fitting(
    demand: Demand,
    hold: Hold,
    room: Room,
    *,
    cap_tokens: int | None,
    least_tokens: int | None,
) -> Fitting | None:
    """
    Return the largest hold for *demand* that fits *room*, or None.

    Args:
        hold: The one that was refused.
        cap_tokens: The output cap that it was made for; what is returned is not above it.
        least_tokens: As from `least_cap_tokens`.
    """
    cap = cap_tokens
    if not room.fits(demand, cap):
        if cap is None or least_tokens is None or room.nano_usd is None:
            return None
        cap = largest_cap_tokens(demand, room.nano_usd, below=cap)
        if cap < least_tokens:
            return None
    return Fitting(hold=resized(hold, demand, cap), cap_tokens=cap)
