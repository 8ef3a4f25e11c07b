"""
Upkeep: what keeps counters true while nobody asks. Holds that live on, holds whose time has run
out, ends that the store has not heard of, files of processes that were killed, a store that has
lost its data.

Rules for editors. The ledger is the book of record, and a cold store is filled from it; so before
it is read, every process writes into it what it remembers of ended requests (`_book`), once. What
was booked that way is never settled in the store again: it is in what the store was filled with, or
raised to afterwards, where somebody booked too late. What ends after that is settled as usual. A
process that was killed cannot book; whoever takes over its file asks the ledger first.
"""

import asyncio
from collections.abc import Awaitable, Callable, Collection, Sequence
from dataclasses import dataclass

import structlog

from relay_middleware.booking import book
from relay_middleware.bugs import log_bug
from relay_middleware.comparing import compare, expire_again
from relay_middleware.core.holds import Hold, HoldState, HoldStateError
from relay_middleware.core.identifiers import CustomerId, HoldId
from relay_middleware.core.records import expired
from relay_middleware.errors import StoreUnavailableError
from relay_middleware.open_holds import OpenHolds
from relay_middleware.ports.books import Ledger, Remembered, Spool
from relay_middleware.ports.stores import Clock, Drift, SpendStore
from relay_middleware.tasks import end

log = structlog.get_logger("relay")

ROUND_S = 1.0
BOOKED_EVERY, TAKE_OVER_EVERY, RECONCILE_EVERY = 2, 5, 60
"""Rounds; the last is a multiple of the others."""

LIFETIMES_EVERY = 3600
"""Rounds, a multiple of `RECONCILE_EVERY`, after which lifetimes are compared in any case."""

TOLD_AGAIN_AT_ONCE = 500
"""Settles in one round: with more, other work would wait."""

TOUCHES_PER_TTL = 3
"""How often a hold is touched before it would expire."""

CALM_ROUNDS = 5
"""Rounds in which the store has to answer before anything is swept again. When it was away for long
the holds of all processes are overdue: those who live touch them within a second or two."""

BOOKED_AT_ONCE = 500
"""Records in one transaction: some milliseconds of work. After hours without a database there may
be more of them than a statement takes."""

BOOKING_S = 2.5
"""How long the others have to book before a cold store is filled: each looks once a round."""

FILL_TIMEOUT_S = 300.0
"""Longest wait at the start for another process to fill the store."""

_FINAL = frozenset({HoldState.SETTLED, HoldState.RELEASED})


@dataclass(frozen=True, slots=True, kw_only=True)
class Books:
    """What upkeep keeps true, and against what."""

    spend: SpendStore
    ledger: Ledger
    spool: Spool
    open_holds: OpenHolds
    clock: Clock


class Upkeep:
    """
    Keeps the counters true until it is closed.

    Attributes:
        worker_id: Unlike that of any other process.
        drift: How far counters were off when they were last compared.
        raised_nano_usd: By how much they were raised since the start.
    """

    def __init__(
        self,
        books: Books,
        *,
        worker_id: str,
        hold_ttl_s: float,
        has_peers: Callable[[], Awaitable[bool]],
        revision: Callable[[], int | None] = lambda: None,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        """
        Args:
            hold_ttl_s: For how long a hold lives that nobody touches.
            has_peers: Says whether other processes use the same store.
            revision: Numbers what operators have changed in the ledger; None: nobody knows.
        """  # fmt: skip
        self._books = books
        self.worker_id = worker_id
        self._hold_ttl_s = hold_ttl_s
        self._calm_rounds = CALM_ROUNDS
        self._has_peers = has_peers
        self._sleep = sleep
        self._generation: str | None = None
        self._revision = revision
        self._applied: set[tuple[CustomerId, str]] = set()
        self._applied_revision: int | None = None
        self._unresolved: list[Remembered] = []
        self._unbooked: frozenset[HoldId] = frozenset()
        # Of the loss of data that is being mended: whether this process has booked, whether the
        # counters may lack what it has, and whether they lack what has expired.
        self._has_booked = False
        self._may_lack = False
        self._lacks_expired = False
        # Of dead processes: nobody will say any more how they ended.
        self._given_up: set[HoldId] = set()
        self._tasks: list[asyncio.Task[None]] = []
        self._is_away = False
        self.drift = Drift()
        self.raised_nano_usd = 0

    @property
    def is_store_warm(self) -> bool:
        """Whether the store had its data when it was last looked at."""
        return self._generation is not None

    async def start(self) -> None:
        """
        Fill the store if it is cold, then go on in the background. Calling it again does nothing.

        Raises:
            StoreUnavailableError: Store or ledger is not there.
        """
        if self._tasks:
            return
        self._unresolved += self._books.spool.take_over()
        try:
            async with asyncio.timeout(FILL_TIMEOUT_S):
                while not await self._is_filled():
                    await self._sleep(0.1)
        except TimeoutError:
            raise StoreUnavailableError(
                f"the store is cold, and nobody has filled it from the ledger in {FILL_TIMEOUT_S:g}"
                " s; is another process of the same Redis stuck?"
            ) from None
        await self._resolve()
        await self._apply_adjustments()
        self._tasks = [asyncio.create_task(self._touch()), asyncio.create_task(self._run())]

    async def aclose(self) -> None:
        """Stop."""
        tasks, self._tasks = self._tasks, []
        await end(tasks)

    async def settle_owed(self) -> int:
        """Tell the store what it has not heard of yet; return how much is left."""
        books = self._books
        for hold, record in books.open_holds.owed:
            await books.open_holds.tell(books.spend, hold, record)
        return len(books.open_holds.owed)

    async def _touch(self) -> None:
        """
        Keep open holds alive. Apart from the rounds: a database that is slow, or a long comparison,
        must not cost a request its hold.
        """
        pause_s = self._hold_ttl_s / TOUCHES_PER_TTL
        while True:
            await self._sleep(pause_s)
            pause_s = self._hold_ttl_s / TOUCHES_PER_TTL
            try:
                await self.touch()
            except StoreUnavailableError:
                # The rounds say so.
                pause_s = min(pause_s, ROUND_S)
            except Exception as error:  # noqa: BLE001 - as in `_run`
                log_bug("touch_failed", error)

    async def touch(self) -> None:
        """
        Let the holds of this process live on.

        Raises:
            StoreUnavailableError: Some may not.
        """
        await self._books.spend.touch(self._books.open_holds.open, ttl_s=self._hold_ttl_s)

    async def _run(self) -> None:
        rounds = 0
        while True:
            await self._sleep(ROUND_S)
            rounds += 1
            try:
                await self.do_round(rounds)
            except StoreUnavailableError as error:
                if not self._is_away:
                    log.warning("upkeep_delayed", reason=str(error))
                self._is_away = True
            except Exception as error:  # noqa: BLE001 - a bug must not end it: holds would expire
                log_bug("upkeep_failed", error)
            else:
                self._is_away = False

    async def do_round(self, rounds: int) -> None:
        """
        Do what is due in a round.

        Raises:
            StoreUnavailableError: Store or ledger is away; the next round goes on.
        """
        books = self._books
        # Begun anew by whatever is raised before the store has answered.
        calm_rounds, self._calm_rounds = self._calm_rounds, 0
        if not await self._is_filled():
            return
        await self.settle_owed()
        self._calm_rounds = calm_rounds + 1
        if self._calm_rounds > CALM_ROUNDS:
            await books.spend.sweep(self._ended_of)
        await self._apply_adjustments()
        if rounds % BOOKED_EVERY == 0:
            await self.forget_booked()
        if rounds % TAKE_OVER_EVERY == 0:
            self._unresolved += books.spool.take_over()
            await self._resolve()
        if rounds % RECONCILE_EVERY == 0:
            await self._tell_again()
            self.drift = Drift()
            if await books.spend.claim("reconcile", self.worker_id):
                await self.reconcile(with_lifetimes=rounds % LIFETIMES_EVERY == 0)

    async def _is_filled(self) -> bool:
        """See to it that the store has its data; return whether it does now."""
        spend = self._books.spend
        generation = await spend.generation()
        # Lost, or lost and filled again since we looked.
        is_lost = generation is None or generation != self._generation is not None
        if is_lost and not self._has_booked:
            await self._book()
            self._has_booked = self._may_lack = True
            self._applied.clear()
            self._applied_revision = None
        if generation is None and await spend.claim("fill", self.worker_id):
            self._lacks_expired = await self._fill()
            self._may_lack = not self._lacks_expired
            generation = await spend.generation()
        self._generation = generation
        if generation is None:
            return False
        spend.adopt(generation)
        self._has_booked = False
        if self._lacks_expired:
            await expire_again(spend, self._books.ledger)
            self._lacks_expired = False
        if self._may_lack:
            await self.reconcile()
            self._may_lack = False
        return True

    async def _book(self) -> None:
        """Write what this process remembers of ended requests into the ledger itself."""
        books = self._books
        ended = [
            item.record or expired(item.hold, books.clock.now())
            for item in books.spool.remembered()
            if item.record is not None or item.hold.hold_id in self._given_up
        ]
        for start in range(0, len(ended), BOOKED_AT_ONCE):
            batch = ended[start : start + BOOKED_AT_ONCE]
            await book(books.ledger, batch)
            books.spool.drop(record.hold_id for record in batch)
            for record in batch:
                books.open_holds.pay(record.hold_id)
        self._unresolved = [item for item in self._unresolved if item.record is None]

    async def _fill(self) -> bool:
        """Tell the cold store what the ledger has; return whether that was all of it."""
        books = self._books
        await books.spend.begin_filling()
        if await self._has_peers():
            await self._sleep(BOOKING_S)
        accounts = 0
        async for spends in books.ledger.spends(books.clock.now()):
            # The claim is good for half a minute, and this may take longer.
            if not await books.spend.claim("fill", self.worker_id):
                return False
            await books.spend.raise_to(spends)
            accounts += len(spends)
        await books.spend.open()
        log.info("store_filled", accounts=accounts)
        return True

    async def _apply_adjustments(self) -> None:
        # Before the question: what is changed after the answer has another number.
        revision = self._revision()
        if revision is not None and revision == self._applied_revision:
            return
        books = self._books
        for item in await books.ledger.adjustments(books.clock.now()):
            key = (item.customer_id, item.adjustment.operation_id)
            if key not in self._applied:
                await books.spend.adjust(item.customer_id, item.window, item.adjustment)
                self._applied.add(key)
        self._applied_revision = revision

    async def _resolve(self) -> None:
        """End what dead processes have left: as they noted it, or as expired."""
        books = self._books
        if not self._unresolved:
            return
        holds = [item.hold.hold_id for item in self._unresolved]
        known = await books.ledger.states(holds)
        while self._unresolved:
            item = self._unresolved[0]
            state = known.get(item.hold.hold_id)
            if state in _FINAL or (state is HoldState.EXPIRED and item.record is None):
                books.spool.drop([item.hold.hold_id])
            elif item.record is not None:
                await books.open_holds.tell(books.spend, item.hold, item.record)
            else:
                await self._expire(item.hold)
                self._given_up.add(item.hold.hold_id)
            self._unresolved.pop(0)

    async def _expire(self, hold: Hold) -> None:
        try:
            await self._books.spend.expire(hold)
        except HoldStateError:
            # It ended, and the ledger has not heard of it yet.
            return
        log.warning(
            "hold_expired",
            hold_id=hold.hold_id,
            customer_id=hold.customer_id,
            hold_nano_usd=hold.amount_nano_usd,
        )

    async def _ended_of(self, hold_ids: Sequence[HoldId]) -> Collection[HoldId]:
        known = await self._books.ledger.states(hold_ids)
        return {hold_id for hold_id, state in known.items() if state in _FINAL}

    async def forget_booked(self) -> None:
        """
        Drop from the write-ahead file what the ledger has.

        Raises:
            StoreUnavailableError: The ledger is away.
        """
        books = self._books
        known = await books.ledger.states([*books.spool.ended_ids(), *self._given_up])
        booked = {
            hold_id
            for hold_id, state in known.items()
            if state in _FINAL or hold_id in self._given_up
        }
        self._given_up -= booked
        # Also of nothing: what could not be written is tried again.
        books.spool.drop(booked)

    async def _tell_again(self) -> None:
        """
        Tell the store what ended at the last comparison or before, and is not in the ledger yet: it
        may have lost that after it had acknowledged it, the entry for the journal included.

        What it has not lost it does not post again. Its entry alone may be lost: so that is booked.
        """
        books = self._books
        # What the ledger has was dropped in this round (`forget_booked`).
        waiting = frozenset(books.spool.ended_ids()) | self._given_up
        lost, self._unbooked = waiting & self._unbooked, waiting
        posted = []
        for item in books.spool.remembered(sorted(lost)[:TOLD_AGAIN_AT_ONCE]):
            if item.record is None:
                posted.append(expired(item.hold, books.clock.now()))
                continue
            told = await books.open_holds.tell(books.spend, item.hold, item.record)
            if told is not None and told.is_duplicate:
                posted.append(item.record)
        await book(books.ledger, posted)
        books.spool.drop(record.hold_id for record in posted)

    async def reconcile(self, *, with_lifetimes: bool = True) -> Drift:
        """Raise the counters that are below the ledger; return by how much, and how far above."""
        books = self._books
        at = books.clock.now()
        self.drift = await compare(books.spend, books.ledger, at, with_lifetimes=with_lifetimes)
        below = self.drift.below_nano_usd
        if below:
            # A store that was restored from a copy, or has failed over to a replica that lagged.
            log.error("spend_raised", below_nano_usd=below)
            self.raised_nano_usd += below
        return self.drift
