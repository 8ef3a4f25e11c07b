"""
The journal inside a process: a queue, and one task that empties it into the ledger.
"""

import asyncio
import contextlib
from collections import deque
from collections.abc import Awaitable, Callable, Sequence

import structlog

from relay_middleware.core.records import LedgerRecord
from relay_middleware.errors import StoreUnavailableError
from relay_middleware.ledger.sql import LedgerConflictError
from relay_middleware.ports import Ledger

log = structlog.get_logger("relay")

MAX_BATCH = 500
"""Records in one transaction: some milliseconds of work."""

FIRST_PAUSE_S, LONGEST_PAUSE_S = 0.1, 5.0
"""Waits between tries while the database is away, doubled each time."""


class QueueJournal:
    """
    `Journal` in memory. Batches form by themselves while the last one commits: nothing waits for
    company.
    """

    def __init__(
        self,
        ledger: Ledger,
        *,
        on_appended: Callable[[Sequence[LedgerRecord]], Awaitable[None]],
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        """
        Args:
            on_appended: Called with each batch that the ledger has; may raise
                `StoreUnavailableError`, which is logged.
        """  # fmt: skip
        self._ledger = ledger
        self._on_appended = on_appended
        self._sleep = sleep
        self._waiting: deque[LedgerRecord] = deque()
        self._arrived = asyncio.Event()
        self._emptied = asyncio.Event()
        self._emptied.set()
        self._task: asyncio.Task[None] | None = None

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

    def put(self, record: LedgerRecord) -> None:
        """Hand over *record*. Never blocks, never fails, keeps the order."""
        self._waiting.append(record)
        self._emptied.clear()
        self._arrived.set()

    async def drain(self, timeout_s: float) -> int:
        """Wait until all is in the ledger, at most *timeout_s*; return how many are not."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(timeout_s):
                await self._emptied.wait()
        return len(self._waiting)

    async def _run(self) -> None:
        while True:
            await self._arrived.wait()
            batch = [self._waiting[i] for i in range(min(MAX_BATCH, len(self._waiting)))]
            await self._append(batch)
            # Only now: whatever ends this task before, the records are still counted as waiting.
            for _ in batch:
                self._waiting.popleft()
            await self._acknowledge(batch)
            if not self._waiting:
                self._arrived.clear()
                self._emptied.set()

    async def _append(self, batch: Sequence[LedgerRecord]) -> None:
        pause_s = FIRST_PAUSE_S
        while True:
            try:
                await self._ledger.append(batch)
            except StoreUnavailableError as error:
                log.warning("ledger_unavailable", reason=str(error), records=len(self._waiting))
                await self._sleep(pause_s)
                pause_s = min(2 * pause_s, LONGEST_PAUSE_S)
            except LedgerConflictError:
                if len(batch) == 1:
                    log.exception("ledger_record_refused")
                    return
                # One bad record must not keep the others out.
                for record in batch:
                    await self._append([record])
                return
            else:
                return

    async def _acknowledge(self, batch: Sequence[LedgerRecord]) -> None:
        try:
            await self._on_appended(batch)
        except StoreUnavailableError as error:
            # Their holds are then remembered for longer than they need be.
            log.warning("holds_not_acknowledged", reason=str(error))
