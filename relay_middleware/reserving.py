"""
Reserving: the hold of a request, for as much as fits, while the store is there to say so. Its
request rates are counted in the same step.
"""

import asyncio
from collections.abc import Callable
from dataclasses import replace
from typing import assert_never

from relay_middleware.core import limit_refusals
from relay_middleware.core.charging import (
    Demand,
    largest_cap_within_tokens,
    refuse_money,
    resized,
)
from relay_middleware.core.fitting import Room, fitting, least_cap_tokens, may_tokenise, room_of
from relay_middleware.core.holds import (
    Hold,
    NotReserved,
    Refused,
    Reserved,
    TooManyAtOnce,
    TooManyRequests,
    TooManyTokens,
)
from relay_middleware.core.refusals import Refusal, RefusedError
from relay_middleware.core.tiers import OnOutage, Tier
from relay_middleware.core.values import dataclass
from relay_middleware.ending import give_back
from relay_middleware.errors import NothingChangedError, StoreUnavailableError
from relay_middleware.services import Services


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """
    A hold, and what it was made from.

    Attributes:
        cap_tokens: The output cap that it is for, or None.
        body_bytes: Length of the request's body.
        input_text: Gives the text whose tokens could be counted.
    """

    hold: Hold
    demand: Demand
    cap_tokens: int | None
    body_bytes: int
    input_text: Callable[[], str]


class Reserving:
    """Opens holds under the rules of one tier."""

    def __init__(self, services: Services, tier: Tier, policy: OnOutage) -> None:
        self._services = services
        self._tier = tier
        self._policy = policy

    async def reserve(self, wanted: Wanted) -> tuple[Wanted, Reserved | None]:
        """
        Open the hold: if it does not fit, once more for the input's tokens instead of its bytes,
        and for a lower output cap, as far as that helps and the tier has it so.

        Returns:
            What it was opened for, and the store's answer: None where the store is away and the
            tier is served all the same.

        Raises:
            RefusedError: It does not fit.
            StoreUnavailableError: The store is away, and the tier is not served then.
        """
        first = await self._try(wanted.hold)
        if first is None or isinstance(first, Reserved):
            return wanted, first
        if isinstance(first, TooManyAtOnce | TooManyRequests):
            raise RefusedError(_refusal(wanted, first))
        room = room_of(wanted.hold, first)
        cap = wanted.cap_tokens
        least = least_cap_tokens(wanted.demand, self._tier, first, cap_tokens=cap)
        counted = await self._counted(wanted, room, cap if least is None else least)
        found = fitting(counted.demand, wanted.hold, room, cap_tokens=cap, least_tokens=least)
        if found is not None:
            # Once: who loses this race to other requests is refused like everyone else.
            second = await self._try(found.hold)
            if second is None or isinstance(second, Reserved):
                return replace(counted, hold=found.hold, cap_tokens=found.cap_tokens), second
            if isinstance(second, TooManyAtOnce | TooManyRequests):
                # Money and tokens were not what stood in its way in the end.
                raise RefusedError(_refusal(counted, second))
        raise RefusedError(_refusal(counted, first))

    async def _counted(self, wanted: Wanted, room: Room, least_tokens: int | None) -> Wanted:
        """
        The same with the input's tokens counted, where that could make it fit with an output cap of
        *least_tokens*.
        """
        demand = wanted.demand
        if not may_tokenise(demand, room, body_bytes=wanted.body_bytes, cap_tokens=least_tokens):
            return wanted
        tokens = await self._services.tokenizer.count(wanted.input_text(), demand.encodings)
        if tokens is None:
            return wanted
        demand = demand.with_input_tokens(tokens)
        hold = resized(wanted.hold, demand, wanted.cap_tokens)
        return replace(wanted, demand=demand, hold=hold)

    async def _try(self, hold: Hold) -> Reserved | Refused | None:
        try:
            return await self._services.spend.reserve(hold, self._tier.rate_limits)
        except StoreUnavailableError as error:
            if self._policy is OnOutage.OPEN:
                return None
            if not isinstance(error, NothingChangedError):
                # It is unknown whether the hold was taken; to give back what is not there is
                # harmless. Not for all who are refused during an outage: they would pile up.
                self._services.background.spawn(give_back(self._services, hold))
            raise
        except asyncio.CancelledError:
            # The process ends, and nobody knows of a hold that may have been taken.
            self._services.background.spawn(give_back(self._services, hold))
            raise


def _refusal(wanted: Wanted, refused: Refused) -> Refusal:
    hold, cap_tokens = wanted.hold, wanted.cap_tokens or 0
    match refused:
        case NotReserved():
            return refuse_money(wanted.demand, hold, refused, cap_tokens=cap_tokens)
        case TooManyTokens(status=status) if hold.tokens > status.limit.limit_tokens:
            largest = largest_cap_within_tokens(
                wanted.demand, status.limit.limit_tokens, below=cap_tokens
            )
            return limit_refusals.request_exceeds_token_limit(
                status.limit, hold.tokens, largest_cap_tokens=largest
            )
        case TooManyTokens(status=status):
            return limit_refusals.token_limit_exceeded(status, hold.tokens)
        case TooManyAtOnce(running=running):
            most = hold.max_concurrency or 0
            return limit_refusals.concurrency_limit_exceeded(most, running)
        case TooManyRequests(status=status):
            return limit_refusals.rate_limit_exceeded(status.limit, status.reset_after_s)
        case _:
            assert_never(refused)
