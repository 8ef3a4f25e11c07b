"""
What every request is served with: the ports, and the operator's rules.
"""

import asyncio
import contextlib
from collections import Counter
from collections.abc import Callable, Coroutine, Mapping
from dataclasses import dataclass, field
from typing import TypeVar, cast

from relay_middleware.core.identifiers import CustomerId
from relay_middleware.core.standings import Standings
from relay_middleware.core.tiers import Tier
from relay_middleware.open_holds import OpenHolds
from relay_middleware.ports.books import CustomerDirectory, Journal, Spool
from relay_middleware.ports.providers import Tokenizer, Upstream
from relay_middleware.ports.stores import Clock, RateLimiter, SpendStore
from relay_middleware.tasks import Patience, end

Result = TypeVar("Result")

READ_TIMEOUT_S = 30.0
"""Longest wait for the next piece of a body: a client that sends none must not keep its place."""

WRITE_TIMEOUT_S = 60.0
"""Longest wait for a client to take what was sent; past it the client counts as gone."""

SETTLE_WAIT_S = 0.25
"""Longest that an answer waits for its settle."""

LAST_WORDS_S = 1.0
"""Longest wait for what cancelled work has begun: to give a hold back, to settle it."""


class Waits:
    """What requests wait for, and no longer than so."""

    def __init__(
        self,
        *,
        reading_s: float = READ_TIMEOUT_S,
        writing_s: float = WRITE_TIMEOUT_S,
        settling_s: float = SETTLE_WAIT_S,
    ) -> None:
        self.reading = Patience(reading_s)
        self.writing = Patience(writing_s)
        self.settling = Patience(settling_s)


class Background:
    """
    Work that goes on after its request was answered, or was left by its client.
    """

    def __init__(self) -> None:
        self._tasks: set[asyncio.Task[object]] = set()

    def spawn(self, work: Coroutine[None, None, Result]) -> asyncio.Task[Result]:
        """Run *work* as a task of its own, which nothing but `drain` can cancel."""
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    async def run(self, work: Coroutine[None, None, None]) -> None:
        """Do *work* in the task that calls, which `drain` waits for meanwhile."""
        task = cast("asyncio.Task[object]", asyncio.current_task())
        self._tasks.add(task)
        try:
            await work
        finally:
            self._tasks.discard(task)

    async def drain(self, timeout_s: float) -> int:
        """Wait for all work, at most *timeout_s*, then cancel the rest; return how much it was."""
        # Work may spawn more work (a settle that is repeated), so what there is is asked again.
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(timeout_s):
                while self._tasks:
                    await asyncio.wait(self._tasks)
        unfinished = list(self._tasks)
        # Cancelled work still ends its hold, so it is waited for, and what tells the store of it.
        await end(unfinished)
        if self._tasks:
            await asyncio.wait(self._tasks, timeout=LAST_WORDS_S)
        return len(unfinished)


class Drains:
    """
    Answers that are read to their end although the client has gone: how many at once, how long.

    While half of the places are free anybody gets one; of the other half, who has `of_one` already
    gets none, so that no customer can take them all.
    """

    def __init__(self, *, at_most: int = 64, of_one: int = 8, seconds: float = 120.0) -> None:
        self._at_most = at_most
        self._of_one = of_one
        self._seconds = seconds
        self._taken: Counter[CustomerId] = Counter()

    def enter(self, customer_id: CustomerId) -> float:
        """Take a place; return how many seconds it is good for, 0 where there is none."""
        taken = self._taken.total()
        is_scarce = 2 * taken >= self._at_most
        if taken >= self._at_most or (is_scarce and self._taken[customer_id] >= self._of_one):
            return 0.0
        self._taken[customer_id] += 1
        return self._seconds

    def leave(self, customer_id: CustomerId) -> None:
        """Give a place back."""
        self._taken[customer_id] -= 1
        # Only who has one is remembered.
        self._taken = +self._taken


@dataclass(frozen=True, slots=True, kw_only=True)
class CustomerRules:
    """
    How customers are named.

    Attributes:
        headers: Names of the headers that may carry a customer id; lower case, the first one is
            named in messages.
        body_user: Whether the body's `user` names one where no header does.
        creates_unknown: Whether a new name becomes a customer of the default tier.
        default_tier: Its name; None only where new names are refused.
        trusts_header: Whether a host application's requests may name a customer without a key.
    """

    headers: tuple[str, ...]
    body_user: bool
    creates_unknown: bool
    default_tier: str | None
    trusts_header: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Services:
    """
    The parts that requests are served with, wired once.

    Attributes:
        hold_ttl_s: Seconds until a hold that nobody touches expires: its process is dead.
        new_request_id: Makes an identifier that was never made before.
    """

    directory: CustomerDirectory
    spend: SpendStore
    rates: RateLimiter
    upstream: Upstream
    tokenizer: Tokenizer
    journal: Journal
    spool: Spool
    open_holds: OpenHolds
    clock: Clock
    tiers: Mapping[str, Tier]
    models: tuple[str, ...]
    customer_rules: CustomerRules
    max_body_bytes: int
    hold_ttl_s: float
    new_request_id: Callable[[], str]
    standings: Standings = field(default_factory=Standings)
    waits: Waits = field(default_factory=Waits)
    background: Background = field(default_factory=Background)
    drains: Drains = field(default_factory=Drains)
