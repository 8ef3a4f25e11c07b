"""
What Relay needs of its books, and what it may rely on: the ledger, what feeds it, and the keys and
customers in it.
"""

from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from datetime import datetime
from typing import Protocol

from relay_middleware.core.holds import Adjustment, Hold, HoldState
from relay_middleware.core.identifiers import CustomerId, HoldId
from relay_middleware.core.keys import ApiKey
from relay_middleware.core.periods import PeriodWindow
from relay_middleware.core.records import LedgerRecord, RequestEnded
from relay_middleware.core.tiers import Customer
from relay_middleware.core.values import dataclass
from relay_middleware.ports.stores import Spend


@dataclass(frozen=True, slots=True, kw_only=True)
class LedgerAdjustment:
    """An adjustment as the ledger has it, and the one account that it is for."""

    customer_id: CustomerId
    window: PeriodWindow
    adjustment: Adjustment


class Ledger(Protocol):
    """The book of record."""

    async def append(self, records: Sequence[LedgerRecord]) -> None:
        """
        Add *records* in one transaction; a record that is there already is left as it is, but for
        one of an expired request, which a settled or released one replaces, in whichever order they
        come.

        A customer that a `RequestEnded` names and SQL does not know gets a row too.

        Raises:
            StoreUnavailableError: Nothing was written; the same batch may be appended again.
            RecordRefusedError: It never takes one of them. Nothing was written; the others may be
                appended without it.
        """
        ...

    async def bury(self, record: RequestEnded, reason: str) -> None:
        """
        Keep *record*, which it never takes, as a dead letter, for a correction by hand. The second
        time changes nothing.

        Raises:
            StoreUnavailableError: It is not kept yet.
        """
        ...

    async def states(self, hold_ids: Sequence[HoldId]) -> Mapping[HoldId, HoldState]:
        """Return how those of *hold_ids* ended whose request it has."""
        ...

    def spends(self, at: datetime) -> AsyncIterator[Sequence[Spend]]:
        """
        Yield what each customer has spent in its periods that contain *at*, in batches; what is
        zero is left out.
        """
        ...

    def open_spends(self, at: datetime) -> AsyncIterator[Sequence[Spend]]:
        """
        Yield the same without lifetimes: it reads no request that was reserved before all of its
        customer's periods, so that it takes no longer the older the ledger is.
        """
        ...

    async def expired(self, since: datetime | None = None) -> Sequence[Hold]:
        """
        Return the holds of requests of which it does not know what they came to: of all, or of
        those that expired at *since* or later.
        """
        ...

    async def adjustments(self, at: datetime) -> Sequence[LedgerAdjustment]:
        """Return the adjustments of all accounts whose period contains *at*."""
        ...


class Journal(Protocol):
    """Feeds the ledger, off the request path."""

    def put(self, record: LedgerRecord) -> None:
        """Hand over *record*. Never blocks, never fails, keeps the order."""
        ...

    async def drain(self, timeout_s: float) -> int:
        """Wait until all is in the ledger, at most *timeout_s*; return how many are not."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Remembered:
    """
    What a write-ahead file has of a request.

    Attributes:
        hold: Taken before a provider was called.
        record: How it ended; None: it had not, when the last line was written.
    """

    hold: Hold
    record: RequestEnded | None


class Spool(Protocol):
    """
    The write-ahead file of this process: what it was about when it was killed.

    The writing methods are synchronous, and what they wrote survives the process (not the machine).
    They never fail: a file that cannot be written to is logged, once, and told by `is_failing`.
    """

    @property
    def is_failing(self) -> bool:
        """Whether the last write failed."""
        ...

    def dispatching(self, hold: Hold) -> None:
        """Note that a provider is about to be called under *hold*."""
        ...

    def ended(self, hold: Hold, record: RequestEnded) -> None:
        """Note how the request of *hold* ended, before any store is told."""
        ...

    def drop(self, hold_ids: Iterable[HoldId]) -> None:
        """Forget requests: the ledger has them, or nobody was called."""
        ...

    def remembered(self, hold_ids: Iterable[HoldId] | None = None) -> Sequence[Remembered]:
        """Return what was noted and not dropped: of *hold_ids*, or all of it, oldest first."""
        ...

    def ended_ids(self) -> Sequence[HoldId]:
        """Return the holds of those of `remembered` that have ended; cheap."""
        ...

    def take_over(self) -> Sequence[Remembered]:
        """
        Make what dead processes have left in the same folder this one's own, and return it.

        A file belongs to whoever has it locked; the lock of a process that was killed is free.
        """
        ...


class CustomerDirectory(Protocol):
    """
    Keys and customers as SQL has them, at most 2 seconds old.

    Both methods answer from memory once they have seen a name, and may raise
    `StoreUnavailableError` when they have to ask SQL and it does not answer.
    """

    async def api_key(self, key_hash: str) -> ApiKey | None:
        """Return the key in force whose secret hashes to *key_hash*."""
        ...

    async def customer(self, customer_id: CustomerId) -> Customer | None:
        """Return the customer, or None if there is none of that name."""
        ...

    def known(self, customer_id: CustomerId) -> Customer | None:
        """Return the customer if it is in memory, without asking SQL."""
        ...

    def remember(self, customer: Customer) -> None:
        """Know *customer*, whose row is on its way to SQL, from now on."""
        ...

    def forget(self, customer_id: CustomerId) -> None:
        """Take `remember` back: its row will not come."""
        ...
