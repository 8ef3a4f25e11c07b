"""
The embedded store: the same contract in the memory of one process.

No `await` stands between a check and its write, so every method is atomic. What it knows is lost
with the process: it starts cold, and is filled from the ledger and the write-ahead files.
"""

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path

from relay_middleware.core.holds import (
    Adjustment,
    Balance,
    Ended,
    Hold,
    HoldEvent,
    HoldState,
    HoldStateError,
    NotReserved,
    Refused,
    Reserved,
    TooManyAtOnce,
    TooManyRequests,
    TooManyTokens,
    next_state,
    shortage,
)
from relay_middleware.core.identifiers import CustomerId, HoldId
from relay_middleware.core.money import NO_MONEY, NanoUsd
from relay_middleware.core.periods import PeriodWindow
from relay_middleware.core.rates import RequestLimit, TokenStatus
from relay_middleware.core.records import RequestEnded, expired
from relay_middleware.errors import ColdStoreError
from relay_middleware.ports.books import Journal
from relay_middleware.ports.stores import Clock, Drift, EndedOf, Spend, none_of
from relay_middleware.stores.local_accounts import Account, Accounts
from relay_middleware.stores.local_rates import Places, RequestCounter, TokenCounter
from relay_middleware.stores.lock import FolderLock
from relay_middleware.stores.rate_limits import limit_of
from relay_middleware.stores.retention import KEPT_IN_PROCESS_S


@dataclass(slots=True)
class _Known:
    """
    What is remembered of a hold.

    Attributes:
        amount: What it holds, or has posted.
        tokens: What it took from *buckets*.
        hold: Itself, as long as it is open, and *expiry* then.
    """

    state: HoldState
    amount: NanoUsd = NO_MONEY
    tokens: int = 0
    buckets: tuple[int, ...] = ()
    hold: Hold | None = None
    expiry: datetime | None = None
    forgotten_at: datetime | None = None


class LocalSpendStore:
    """`SpendStore` in memory, for one process and one event loop."""

    def __init__(self, *, state_dir: Path, clock: Clock, journal: Journal) -> None:
        """
        Args:
            state_dir: Where the lock is that keeps a second process out.
            journal: Gets the records of ended holds.
        """  # fmt: skip
        self._lock = FolderLock(state_dir)
        self._clock = clock
        self._journal = journal
        self._is_cold = True
        self._accounts = Accounts()
        self._holds: dict[HoldId, _Known] = {}
        self._open: dict[HoldId, _Known] = {}
        self._forgotten_at: deque[tuple[datetime, HoldId]] = deque()
        self._operations: set[tuple[CustomerId, str]] = set()
        self._tokens = TokenCounter()
        self._places = Places()
        self._requests = RequestCounter()

    async def start(self) -> None:
        """
        Take the lock. Calling it again does nothing.

        Raises:
            ConfigurationError: Another process has it, or the folder cannot be written to.
        """
        self._lock.take()

    async def aclose(self) -> None:
        """Give the lock back."""
        self._lock.free()

    async def reserve(self, hold: Hold, rate_limits: Sequence[str] = ()) -> Reserved | Refused:
        """Set aside what *hold* wants and count its request, if all of it fits."""
        self._require_warm()
        self._forget()
        now = self._clock.now()
        rates = [limit_of(rate) for rate in rate_limits]
        known = self._holds.get(hold.hold_id)
        if known is not None:
            return self._reserved(hold, rates, now, is_duplicate=True, state=known.state)
        refused = self._refused(hold, rates, now)
        if refused is not None:
            return refused
        self._take(hold, now)
        self._requests.count(hold.customer_id, rates, now)
        return self._reserved(hold, rates, now)

    def _refused(self, hold: Hold, rates: Sequence[RequestLimit], now: datetime) -> Refused | None:
        accounts = self._accounts_of(hold)
        for item, account in zip(hold.accounts, accounts, strict=True):
            why = shortage(account.balance(), item.limit_nano_usd, hold.amount_nano_usd)
            if why is not None:
                return NotReserved(
                    account=item,
                    balances=_balances(accounts),
                    shortage=why,
                    tokens=self._statuses(hold, now),
                )
        status = self._tokens.refusing(hold.customer_id, hold.token_limits, hold.tokens, now)
        if status is not None:
            return TooManyTokens(
                status=status, balances=_balances(accounts), tokens=self._statuses(hold, now)
            )
        if hold.max_concurrency is not None:
            running = self._places.taken(hold.customer_id, now)
            if running >= hold.max_concurrency:
                return TooManyAtOnce(running=running)
        used_up = self._requests.refusing(hold.customer_id, rates, now)
        return None if used_up is None else TooManyRequests(used_up)

    def _take(self, hold: Hold, now: datetime) -> None:
        expiry = now + timedelta(seconds=hold.ttl_s)
        for account in self._accounts_of(hold):
            account.held += hold.amount_nano_usd
        if hold.max_concurrency is not None:
            self._places.take(hold.customer_id, hold.hold_id, expiry)
        self._holds[hold.hold_id] = self._open[hold.hold_id] = _Known(
            HoldState.OPEN,
            hold.amount_nano_usd,
            hold.tokens,
            self._tokens.take(hold.customer_id, hold.token_limits, hold.tokens, now),
            hold,
            expiry,
        )

    async def touch(self, holds: Sequence[tuple[CustomerId, HoldId]], *, ttl_s: float) -> None:
        """Let those of *holds* that are open live on."""
        expiry = self._clock.now() + timedelta(seconds=ttl_s)
        for customer_id, hold_id in holds:
            known = self._open.get(hold_id)
            if known is not None:
                known.expiry = expiry
                self._places.touch(customer_id, hold_id, expiry)

    async def vacate(self, hold: Hold) -> None:
        """Give the place of *hold* among the customer's requests back."""
        self._places.vacate(hold.customer_id, hold.hold_id)

    async def settle(self, hold: Hold, record: RequestEnded) -> Ended:
        """
        End *hold* and post what *record* says.

        Raises:
            HoldStateError: It was released, or settled for another amount.
        """
        self._require_warm()
        actual = record.charge_nano_usd
        known = self._holds.get(hold.hold_id)
        if known is not None and known.state is HoldState.SETTLED:
            if known.amount != actual:
                raise HoldStateError(
                    f"{hold.hold_id}: it is settled for {known.amount}, not for {actual}"
                )
            return self._ended(hold, HoldState.SETTLED, is_duplicate=True)
        previous = self._end(hold, HoldEvent.SETTLE, actual, tokens=record.tokens)
        for account in self._accounts_of(hold):
            account.posted += actual
        self._journal.put(record)
        return self._ended(hold, previous)

    async def release(self, hold: Hold, record: RequestEnded, *, is_dispatched: bool) -> Ended:
        """
        End *hold* and post nothing.

        Raises:
            HoldStateError: It was settled.
        """
        self._require_warm()
        if self._state_of(hold) is HoldState.RELEASED:
            return self._ended(hold, HoldState.RELEASED, is_duplicate=True)
        previous = self._end(hold, HoldEvent.RELEASE, NO_MONEY, tokens=0)
        if is_dispatched or previous is HoldState.EXPIRED:
            self._journal.put(record)
        else:
            self._forget_later(hold.hold_id)
        return self._ended(hold, previous)

    async def expire(self, hold: Hold) -> Ended:
        """
        End *hold* and post all of it, provisionally.

        Raises:
            HoldStateError: It was settled or released.
        """
        self._require_warm()
        if self._state_of(hold) is HoldState.EXPIRED:
            return self._ended(hold, HoldState.EXPIRED, is_duplicate=True)
        amount = hold.amount_nano_usd
        previous = self._end(hold, HoldEvent.EXPIRE, amount, tokens=None)
        for account in self._accounts_of(hold):
            account.posted += amount
            account.expired += amount
        # Never forgotten: whoever resolves it must find it, or it would be posted twice.
        self._journal.put(expired(hold, self._clock.now()))
        return self._ended(hold, previous)

    async def sweep(self, ended_of: EndedOf = none_of) -> int:  # noqa: ARG002 - the port's
        """
        Expire the holds whose time has run out; return how many. Nobody restores it from a copy, so
        what is open here has not ended.
        """
        now = self._clock.now()
        # In the order in which they were taken, which is not quite that of their expiry: all are
        # looked at.
        due = [
            known.hold
            for known in self._open.values()
            if known.hold is not None and known.expiry is not None and known.expiry <= now
        ]
        for hold in due:
            await self.expire(hold)
        return len(due)

    async def adjust(
        self, customer_id: CustomerId, window: PeriodWindow, adjustment: Adjustment
    ) -> bool:
        """Apply *adjustment* to one account; return whether it was not there already."""
        self._require_warm()
        operation = (customer_id, adjustment.operation_id)
        if operation in self._operations:
            return False
        self._operations.add(operation)
        account = self._accounts.of(customer_id, window)
        account.adjusted += adjustment.posted_nano_usd
        account.credit += adjustment.credit_nano_usd
        return True

    async def raise_to(self, spends: Sequence[Spend]) -> Drift:
        """Raise settled spend where it is lower."""
        below, above = 0, 0
        for spend in spends:
            account = self._accounts.of(spend.customer_id, spend.window)
            missing = spend.posted_nano_usd - account.posted
            # The ledger may have as expired what was settled for less by now.
            missing = min(missing, missing - spend.expired_nano_usd + account.expired)
            account.posted += max(0, missing)
            below += max(0, missing)
            above += max(0, -missing)
        return Drift(below_nano_usd=NanoUsd(below), above_nano_usd=NanoUsd(above))

    async def balances(
        self, customer_id: CustomerId, windows: Sequence[PeriodWindow]
    ) -> tuple[Balance, ...]:
        """Return what a customer's accounts hold, in the order of *windows*."""
        return _balances([self._accounts.of(customer_id, window) for window in windows])

    async def acknowledge(self, holds: Sequence[tuple[CustomerId, HoldId]]) -> None:
        """Note that the ledger has these ended holds."""
        for _, hold_id in holds:
            known = self._holds.get(hold_id)
            if known is not None and known.state in {HoldState.SETTLED, HoldState.RELEASED}:
                self._forget_later(hold_id)

    async def generation(self) -> str | None:
        """Say that it was filled, which happens once."""
        return None if self._is_cold else "embedded"

    async def claim(self, work: str, worker_id: str) -> bool:  # noqa: ARG002 - the port's
        """Say yes: there is one process."""
        return True

    def adopt(self, generation: str) -> None:
        """Do nothing: it loses its data with its process only."""

    async def begin_filling(self) -> None:
        """Do nothing: it loses its data with its process only."""

    async def open(self) -> None:
        """Declare it filled."""
        self._is_cold = False

    def _require_warm(self) -> None:
        if self._is_cold:
            raise ColdStoreError("the embedded store is still told what the ledger has")

    def _state_of(self, hold: Hold) -> HoldState | None:
        known = self._holds.get(hold.hold_id)
        return None if known is None else known.state

    def _end(
        self, hold: Hold, event: HoldEvent, amount: NanoUsd, *, tokens: int | None
    ) -> HoldState | None:
        """
        Apply *event* to the hold: take back what it had set aside, or posted when it expired.

        Args:
            amount: What it ends with.
            tokens: What it used; None: what it took.

        Returns:
            Its state before; None where it was not known: a command that comes after its hold was
            forgotten, or before a reserve that was cut off. It is remembered, so that neither is
            counted twice.
        """
        known = self._holds.get(hold.hold_id)
        if known is None:
            self._holds[hold.hold_id] = _Known(next_state(HoldState.OPEN, event), amount)
            return None
        previous, known.state = known.state, next_state(known.state, event)
        for account in self._accounts_of(hold):
            if previous is HoldState.OPEN:
                account.held -= known.amount
            else:
                account.posted -= known.amount
                account.expired -= known.amount
        if tokens is not None:
            delta = tokens - known.tokens
            self._tokens.correct(hold.customer_id, hold.token_limits, known.buckets, delta)
            known.buckets = ()
        self._places.vacate(hold.customer_id, hold.hold_id)
        self._open.pop(hold.hold_id, None)
        known.hold = known.expiry = known.forgotten_at = None
        known.amount = amount
        return previous

    def _reserved(
        self,
        hold: Hold,
        rates: Sequence[RequestLimit],
        now: datetime,
        *,
        is_duplicate: bool = False,
        state: HoldState = HoldState.OPEN,
    ) -> Reserved:
        return Reserved(
            balances=_balances(self._accounts_of(hold)),
            tokens=self._statuses(hold, now),
            rates=tuple(
                self._requests.window(hold.customer_id, limit, now).status(limit) for limit in rates
            ),
            is_duplicate=is_duplicate,
            state=state,
        )

    def _ended(
        self, hold: Hold, previous: HoldState | None, *, is_duplicate: bool = False
    ) -> Ended:
        balances = _balances(self._accounts_of(hold))
        return Ended(previous=previous, balances=balances, is_duplicate=is_duplicate)

    def _statuses(self, hold: Hold, now: datetime) -> tuple[TokenStatus, ...]:
        return tuple(
            self._tokens.window(hold.customer_id, limit, now).status(limit)
            for limit in hold.token_limits
        )

    def _accounts_of(self, hold: Hold) -> list[Account]:
        return [self._accounts.of(hold.customer_id, item.window) for item in hold.accounts]

    def _forget_later(self, hold_id: HoldId) -> None:
        forgotten_at = self._clock.now() + timedelta(seconds=KEPT_IN_PROCESS_S)
        self._holds[hold_id].forgotten_at = forgotten_at
        self._forgotten_at.append((forgotten_at, hold_id))

    def _forget(self) -> None:
        """Drop what is due: a few at a time, in the order in which it came."""
        now = self._clock.now()
        while self._forgotten_at and self._forgotten_at[0][0] <= now:
            due, hold_id = self._forgotten_at.popleft()
            known = self._holds.get(hold_id)
            # Remembered anew meanwhile: then a later entry is the one that counts.
            if known is not None and known.forgotten_at == due:
                del self._holds[hold_id]
        self._accounts.forget(now)


def _balances(accounts: Sequence[Account]) -> tuple[Balance, ...]:
    return tuple(account.balance() for account in accounts)
