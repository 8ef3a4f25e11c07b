"""
What Relay needs of its counters, and what it may rely on.

Each Protocol has one contract suite in `tests/contract`, run over every implementation.
"""

from collections.abc import Awaitable, Callable, Collection, Sequence
from datetime import datetime
from typing import Protocol

from relay_middleware.core.holds import Adjustment, Balance, Ended, Hold, Refused, Reserved
from relay_middleware.core.identifiers import CustomerId, HoldId
from relay_middleware.core.money import NO_MONEY, NanoUsd
from relay_middleware.core.periods import PeriodWindow
from relay_middleware.core.rates import RateCount
from relay_middleware.core.records import RequestEnded
from relay_middleware.core.values import dataclass

EndedOf = Callable[[Sequence[HoldId]], Awaitable[Collection[HoldId]]]
"""Says which of some holds have ended."""


async def none_of(_: Sequence[HoldId]) -> Collection[HoldId]:
    """Say that none has ended."""
    return ()


class Clock(Protocol):
    """The time, as an argument."""

    def now(self) -> datetime:
        """Return the aware instant, in UTC."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Spend:
    """
    What one account has spent.

    Attributes:
        posted_nano_usd: Settled charges and expired holds.
        expired_nano_usd: The part of it that expired holds are good for.
        adjusted_nano_usd: Corrections of that, apart.
    """

    customer_id: CustomerId
    window: PeriodWindow
    posted_nano_usd: NanoUsd
    expired_nano_usd: NanoUsd = NO_MONEY
    adjusted_nano_usd: NanoUsd = NO_MONEY

    @property
    def total_nano_usd(self) -> NanoUsd:
        """What counts against the account's limit."""
        return NanoUsd(self.posted_nano_usd + self.adjusted_nano_usd)


@dataclass(frozen=True, slots=True, kw_only=True)
class Drift:
    """
    How far counters were off the ledger.

    Attributes:
        below_nano_usd: What they lacked, and were raised by.
        above_nano_usd: What they have more: spend that the ledger has not heard of yet.
    """

    below_nano_usd: NanoUsd = NO_MONEY
    above_nano_usd: NanoUsd = NO_MONEY


class SpendStore(Protocol):
    """
    Holds and settles spend, tokens per time and requests at the same time, and counts requests.

    Every method is atomic, over all that a hold takes or none of it, and idempotent by hold id or
    operation id. Every method may raise `StoreUnavailableError`: then it is unknown whether it took
    effect, and repeating it is safe.

    A store that has lost its data is *cold*: it would let every limit begin anew. While it is, the
    methods that move money raise `ColdStoreError`, until somebody has told it what the ledger has
    (`raise_to`), has opened it, and this process has adopted its new generation.
    """

    async def start(self) -> None:
        """
        Open the connection. Calling it again does nothing.

        Raises:
            ConfigurationError: This process may not use the store (the embedded one is another's),
                or the store may forget what it was told.
        """
        ...

    async def aclose(self) -> None:
        """Give back what `start` took."""
        ...

    async def reserve(self, hold: Hold, rate_limits: Sequence[str] = ()) -> Reserved | Refused:
        """
        Set aside what *hold* wants, if all of it fits: the money in all its accounts, its tokens in
        all windows, and one place among the customer's requests; and count the request in the
        window of each of *rate_limits*. Where one refuses, nothing is held and nothing counted.

        Afterwards `posted + held <= limit + credit` holds for each account that has a limit. An
        amount of 0 always fits. Money is asked first, then tokens, then the place, then the rates
        in their order. A hold that is known already is answered as a duplicate, whatever its
        state, and counted no second time.

        Args:
            rate_limits: The customer's, in the notation of `limits`. Those over the same time share
                one count. No part of the hold: what was counted is not given back when it ends.
        """
        ...

    async def touch(self, holds: Sequence[tuple[CustomerId, HoldId]], *, ttl_s: float) -> None:
        """Let those of *holds* that are open live for *ttl_s* from now, with their places."""
        ...

    async def vacate(self, hold: Hold) -> None:
        """Give the place of *hold* among the customer's requests back; the rest stays."""
        ...

    async def settle(self, hold: Hold, record: RequestEnded) -> Ended:
        """
        End *hold*: post `record.charge_nano_usd` to the accounts it names, above the limit if need
        be, give back what it held, and hand *record* to the journal, once.

        A hold that the store does not know is posted all the same: the money was spent. What was
        posted provisionally when it expired is taken back.

        Raises:
            HoldStateError: It was released, or settled for another amount. Nothing was changed.
        """
        ...

    async def release(self, hold: Hold, record: RequestEnded, *, is_dispatched: bool) -> Ended:
        """
        End *hold* and post nothing.

        Args:
            record: For the journal, where a provider was called or the hold had expired.
            is_dispatched: Whether a provider was called. If not, nobody will acknowledge the hold:
                it is forgotten after the time of `stores/retention.py`.

        Raises:
            HoldStateError: It was settled. Nothing was changed.
        """
        ...

    async def expire(self, hold: Hold) -> Ended:
        """
        End *hold*, of which nobody knows what it came to: its whole amount is posted,
        provisionally, and the journal gets a record of it. Its tokens stay taken.

        A hold that the store does not know is posted all the same.

        Raises:
            HoldStateError: It was settled or released. Nothing was changed.
        """
        ...

    async def sweep(self, ended_of: EndedOf = none_of) -> int:
        """
        `expire` some of the holds whose time has run out; return how many.

        Args:
            ended_of: Says which of them have ended, as the ledger knows. A store that was restored
                from a copy may have them open again: they are given back, and nothing is journaled.
        """
        ...

    async def adjust(
        self, customer_id: CustomerId, window: PeriodWindow, adjustment: Adjustment
    ) -> bool:
        """Apply *adjustment* to one account; return whether it was not there already."""
        ...

    async def raise_to(self, spends: Sequence[Spend]) -> Drift:
        """
        Raise settled spend to what *spends* say where it is lower; never lower it, never add.
        Corrections are counted apart from it.

        What expired is none of it: that may have been settled for less here, of which whoever says
        *spends* has not heard. `expire` counts it, hold by hold.
        """
        ...

    async def balances(
        self, customer_id: CustomerId, windows: Sequence[PeriodWindow]
    ) -> tuple[Balance, ...]:
        """Return what a customer's accounts hold, in the order of *windows*."""
        ...

    async def acknowledge(self, holds: Sequence[tuple[CustomerId, HoldId]]) -> None:
        """
        Note that the ledger has these ended holds: settled and released ones are forgotten after
        the time of `stores/retention.py`.
        """
        ...

    async def generation(self) -> str | None:
        """
        Return a text that changes when the store has lost its data and was filled again; None while
        it is cold.
        """
        ...

    def adopt(self, generation: str) -> None:
        """
        Mean the store as it was filled then with all commands from now on.

        Until then, and as soon as the store has another generation, it is cold for this process:
        what was sent before a loss of data must not arrive after it.
        """
        ...

    async def claim(self, work: str, worker_id: str) -> bool:
        """
        Say whether *worker_id* shall do *work*: one at a time, for 30 seconds, which it may claim
        again.
        """
        ...

    async def begin_filling(self) -> None:
        """Note that it is going to be told what the ledger has, from the beginning."""
        ...

    async def open(self) -> None:
        """
        Declare it filled. What has lost its data since `begin_filling` stays cold, so that it is
        filled once more.
        """
        ...


class RateLimiter(Protocol):
    """
    Counts requests per subject, which is any text, such as an API key's id, apart from any hold:
    what a customer's own rates count is part of `SpendStore.reserve`.
    """

    async def hit(self, subject: str, rate_limits: Sequence[str]) -> RateCount:
        """
        Count one request against *rate_limits*, in their order, up to the first that refuses it:
        that one and those after it have not counted it.

        Raises:
            StoreUnavailableError: It may or may not have been counted.
        """
        ...
