"""
The embedded store: the same contract in the memory of one process.

No `await` stands between a check and its write, so every method is atomic. What it knows is lost
with the process; at each start the relay raises the accounts to what SQL has.
"""

import fcntl
import os
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path

from relay_middleware.core.holds import (
    Balance,
    Ended,
    Hold,
    HoldEvent,
    HoldState,
    HoldStateError,
    NotReserved,
    Reserved,
    next_state,
    shortage,
)
from relay_middleware.core.identifiers import CustomerId, HoldId
from relay_middleware.core.money import NO_MONEY, NanoUsd
from relay_middleware.core.periods import PeriodWindow
from relay_middleware.errors import ConfigurationError
from relay_middleware.ports import Clock

KEPT_AFTER_END = timedelta(minutes=10)
"""How long a hold that nobody needs any more is remembered, for a command that is repeated late."""

KEPT_AFTER_WINDOW = timedelta(days=40)
"""How long a period's account is kept after its end: for settles and corrections that come late."""


@dataclass(slots=True)
class _Account:
    posted: int = 0
    held: int = 0
    credit: int = 0

    def balance(self) -> Balance:
        return Balance(
            posted_nano_usd=NanoUsd(self.posted),
            held_nano_usd=NanoUsd(self.held),
            credit_nano_usd=NanoUsd(self.credit),
        )


@dataclass(slots=True)
class _Known:
    """What is remembered of a hold: *amount* is what it held, *actual* what it was settled for."""

    state: HoldState
    amount: NanoUsd
    actual: NanoUsd = NO_MONEY
    forgotten_at: datetime | None = None


class LocalSpendStore:
    """`SpendStore` in memory, for one process and one event loop."""

    def __init__(self, *, state_dir: Path, clock: Clock) -> None:
        """
        Args:
            state_dir: Where the lock is that keeps a second process out.
        """  # fmt: skip
        self._lock_path = state_dir / "embedded.lock"
        self._clock = clock
        self._lock: int | None = None
        self._accounts: dict[tuple[CustomerId, str], _Account] = {}
        self._ends: deque[tuple[datetime, tuple[CustomerId, str]]] = deque()
        self._holds: dict[HoldId, _Known] = {}
        self._forgotten_at: deque[tuple[datetime, HoldId]] = deque()

    async def start(self) -> None:
        """
        Take the lock. Calling it again does nothing.

        Raises:
            ConfigurationError: Another process has it, or the folder cannot be written to.
        """
        if self._lock is not None:
            return
        try:
            self._lock = _locked(self._lock_path)
        except BlockingIOError:
            raise ConfigurationError(
                f"another process uses the embedded store in {self._lock_path.parent}. It counts in"
                " one process only, and a second one would double every limit: run one worker, or"
                " set redis_url"
            ) from None
        except OSError as error:
            raise ConfigurationError(
                f"the embedded store cannot write to {self._lock_path.parent} ({error.strerror}):"
                " set state_dir to a folder of this process, or set redis_url"
            ) from error

    async def aclose(self) -> None:
        """Give the lock back."""
        lock, self._lock = self._lock, None
        if lock is not None:
            os.close(lock)

    async def reserve(self, hold: Hold) -> Reserved | NotReserved:
        """Set the hold's amount aside in all its accounts if it fits every one."""
        self._forget()
        accounts = [self._account(hold.customer_id, item.window) for item in hold.accounts]
        known = self._holds.get(hold.hold_id)
        if known is not None:
            return Reserved(balances=_balances(accounts), is_duplicate=True, state=known.state)
        for item, account in zip(hold.accounts, accounts, strict=True):
            why = shortage(account.balance(), item.limit_nano_usd, hold.amount_nano_usd)
            if why is not None:
                return NotReserved(account=item, balances=_balances(accounts), shortage=why)
        for account in accounts:
            account.held += hold.amount_nano_usd
        self._holds[hold.hold_id] = _Known(HoldState.OPEN, hold.amount_nano_usd)
        return Reserved(balances=_balances(accounts))

    async def settle(self, hold: Hold, actual_nano_usd: NanoUsd) -> Ended:
        """
        End *hold* and post *actual_nano_usd*.

        Raises:
            HoldStateError: It was released, or settled for another amount.
        """
        known = self._holds.get(hold.hold_id)
        if known is not None and known.state is HoldState.SETTLED:
            if known.actual != actual_nano_usd:
                raise HoldStateError(
                    f"{hold.hold_id} is settled for {known.actual}, not for {actual_nano_usd}"
                )
            return self._ended(hold, HoldState.SETTLED, is_duplicate=True)
        previous = self._end(hold, known, HoldEvent.SETTLE)
        for item in hold.accounts:
            self._account(hold.customer_id, item.window).posted += actual_nano_usd
        self._holds[hold.hold_id].actual = actual_nano_usd
        return self._ended(hold, previous)

    async def release(self, hold: Hold, *, is_dispatched: bool) -> Ended:
        """
        End *hold* and post nothing.

        Raises:
            HoldStateError: It was settled.
        """
        known = self._holds.get(hold.hold_id)
        if known is not None and known.state is HoldState.RELEASED:
            return self._ended(hold, HoldState.RELEASED, is_duplicate=True)
        previous = self._end(hold, known, HoldEvent.RELEASE)
        if not is_dispatched:
            self._forget_later(hold.hold_id, self._holds[hold.hold_id])
        return self._ended(hold, previous)

    async def acknowledge(self, holds: Sequence[tuple[CustomerId, HoldId]]) -> None:
        """Note that the ledger has these ended holds."""
        for _, hold_id in holds:
            known = self._holds.get(hold_id)
            if known is not None and known.state is not HoldState.OPEN:
                self._forget_later(hold_id, known)

    async def raise_to(
        self, customer_id: CustomerId, window: PeriodWindow, posted_nano_usd: NanoUsd
    ) -> None:
        """Raise settled spend to *posted_nano_usd* where it is lower."""
        account = self._account(customer_id, window)
        account.posted = max(account.posted, posted_nano_usd)

    def _end(self, hold: Hold, known: _Known | None, event: HoldEvent) -> HoldState | None:
        """Apply *event* to the hold and take back what it had set aside, or provisionally spent."""
        if known is None:
            # A command that comes after its hold was forgotten, or before a reserve that was cut
            # off: remembered, so that neither is counted twice.
            ended = next_state(HoldState.OPEN, event)
            self._holds[hold.hold_id] = _Known(ended, NO_MONEY)
            return None
        previous = known.state
        known.state = next_state(previous, event)
        for item in hold.accounts:
            account = self._account(hold.customer_id, item.window)
            if previous is HoldState.OPEN:
                account.held -= known.amount
            else:
                account.posted -= known.amount
        return previous

    def _ended(
        self, hold: Hold, previous: HoldState | None, *, is_duplicate: bool = False
    ) -> Ended:
        accounts = [self._account(hold.customer_id, item.window) for item in hold.accounts]
        return Ended(previous=previous, balances=_balances(accounts), is_duplicate=is_duplicate)

    def _account(self, customer_id: CustomerId, window: PeriodWindow) -> _Account:
        key = (customer_id, window.key)
        account = self._accounts.get(key)
        if account is None:
            account = self._accounts[key] = _Account()
            if window.ends_at is not None:
                self._ends.append((window.ends_at + KEPT_AFTER_WINDOW, key))
        return account

    def _forget_later(self, hold_id: HoldId, known: _Known) -> None:
        known.forgotten_at = self._clock.now() + KEPT_AFTER_END
        self._forgotten_at.append((known.forgotten_at, hold_id))

    def _forget(self) -> None:
        """Drop what is due: a few at a time, in the order in which it came."""
        now = self._clock.now()
        while self._forgotten_at and self._forgotten_at[0][0] <= now:
            due, hold_id = self._forgotten_at.popleft()
            known = self._holds.get(hold_id)
            # Acknowledged again meanwhile: then a later entry is the one that counts.
            if known is not None and known.forgotten_at == due:
                del self._holds[hold_id]
        # Windows of different length end in no order; one that ends late delays the ones after
        # it, by a month at most.
        while self._ends and self._ends[0][0] <= now:
            self._accounts.pop(self._ends.popleft()[1], None)


def _locked(path: Path) -> int:
    """Return the descriptor of *path*, locked until it is closed."""
    path.parent.mkdir(parents=True, exist_ok=True)
    lock = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        os.close(lock)
        raise
    return lock


def _balances(accounts: Sequence[_Account]) -> tuple[Balance, ...]:
    return tuple(account.balance() for account in accounts)
