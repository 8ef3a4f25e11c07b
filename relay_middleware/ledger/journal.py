"""
The journal inside a process: a queue, and one task that empties it into the ledger.
"""

import asyncio
import contextlib
from collections import deque
from collections.abc import Awaitable, Callable, Sequence

import structlog

from relay_middleware.bugs import log_bug, log_refused_record
from relay_middleware.core.records import LedgerRecord, RequestEnded
from relay_middleware.errors import RecordRefusedError, StoreUnavailableError
from relay_middleware.ports.books import Ledger
from relay_middleware.tasks import Gathering

log = structlog.get_logger("relay")

MAX_BATCH = 500
"""Records in one transaction: some milliseconds of work."""

GATHER_S = 0.25
"""How long records wait for others: a transaction costs as much as ten records. As many as go into
one transaction wait for nobody: else the rate at which records are taken would have an end, of
2,000 a second, and above it they would gather in memory, a kilobyte each (measured)."""

FIRST_PAUSE_S, LONGEST_PAUSE_S = 0.1, 5.0
"""Waits between tries while the database is away, doubled each time."""


class QueueJournal:
    """
    `Journal` in memory. Records wait a quarter of a second for others, unless there is a batch of
    them, or `drain` is called.
    """

    def __init__(
        self,
        ledger: Ledger,
        *,
        on_appended: Callable[[Sequence[LedgerRecord]], Awaitable[None]],
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
        gather_s: float = GATHER_S,
    ) -> None:
        """
        Args:
            on_appended: Called with the records of each batch that the ledger took; may raise
                `StoreUnavailableError`, which is logged.
            gather_s: How long records wait for others.
        """  # fmt: skip
        self._ledger = ledger
        self._on_appended = on_appended
        self._sleep = sleep
        self._waiting: deque[LedgerRecord] = deque()
        self._arrived = asyncio.Event()
        self._emptied = asyncio.Event()
        self._emptied.set()
        self._task: asyncio.Task[None] | None = None
        self._gathering = Gathering(gather_s)

    async def start(self) -> None:
        """Begin to empty the queue. Calling it again does nothing."""
        if self._task is None:
            self._task = asyncio.create_task(self._run())

    async def aclose(self) -> None:
        """Stop, whatever is still in the queue; `drain` before."""
        task, self._task = self._task, None
        if task is not None:
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await task

    @property
    def waiting(self) -> int:
        """How many records are not in the ledger yet."""
        return len(self._waiting)

    def put(self, record: LedgerRecord) -> None:
        """Hand over *record*. Never blocks, never fails, keeps the order."""
        self._waiting.append(record)
        self._emptied.clear()
        self._arrived.set()

    async def drain(self, timeout_s: float) -> int:
        """Wait until all is in the ledger, at most *timeout_s*; return how many are not."""
        with contextlib.suppress(TimeoutError), self._gathering.hurrying():
            async with asyncio.timeout(timeout_s):
                await self._emptied.wait()
        return len(self._waiting)

    async def _run(self) -> None:
        while True:
            await self._arrived.wait()
            if len(self._waiting) < MAX_BATCH:
                await self._gathering.wait()
            batch = [self._waiting[i] for i in range(min(MAX_BATCH, len(self._waiting)))]
            try:
                taken = await self._append(batch)
            except Exception as error:  # noqa: BLE001 - a bug must not end the way to the ledger
                log_bug("journal_failed", error)
                await self._sleep(LONGEST_PAUSE_S)
                continue
            # Only now: whatever ends this task before, the records are still counted as waiting.
            for _ in batch:
                self._waiting.popleft()
            await self._acknowledge(taken)
            if not self._waiting:
                self._arrived.clear()
                self._emptied.set()

    async def _append(self, batch: Sequence[LedgerRecord]) -> Sequence[LedgerRecord]:
        """Return those that the ledger took: all but the ones that it never will."""
        pause_s = FIRST_PAUSE_S
        while True:
            try:
                return await self._append_or_bury(batch)
            except StoreUnavailableError as error:
                log.warning("ledger_unavailable", reason=str(error), records=len(self._waiting))
                await self._sleep(pause_s)
                pause_s = min(2 * pause_s, LONGEST_PAUSE_S)

    async def _append_or_bury(self, batch: Sequence[LedgerRecord]) -> Sequence[LedgerRecord]:
        try:
            await self._ledger.append(batch)
        except RecordRefusedError as error:
            if len(batch) > 1:
                # One bad record must not keep the others out.
                return [taken for record in batch for taken in await self._append([record])]
            (refused,) = batch
            if isinstance(refused, RequestEnded):
                await self._ledger.bury(refused, str(error))
            log_refused_record(refused, error)
            return []
        return batch

    async def _acknowledge(self, taken: Sequence[LedgerRecord]) -> None:
        if not taken:
            return
        try:
            await self._on_appended(taken)
        except StoreUnavailableError as error:
            # Their holds are then remembered for longer than they need be.
            log.warning("holds_not_acknowledged", reason=str(error))
