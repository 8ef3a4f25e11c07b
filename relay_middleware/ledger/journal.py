"""
The journal inside a process: a queue, and one task that empties it into the ledger.
"""

import asyncio
import contextlib
from collections import deque
from collections.abc import Awaitable, Callable, Sequence

import structlog

from relay_middleware.core.records import LedgerRecord, RequestEnded
from relay_middleware.errors import StoreUnavailableError
from relay_middleware.ledger.database import ValueRefusedError
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
            on_appended: Called with the records of each batch that the ledger took; may raise
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
            taken = await self._append(batch)
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
                await self._ledger.append(batch)
            except StoreUnavailableError as error:
                log.warning("ledger_unavailable", reason=str(error), records=len(self._waiting))
                await self._sleep(pause_s)
                pause_s = min(2 * pause_s, LONGEST_PAUSE_S)
            except (LedgerConflictError, ValueRefusedError) as error:
                if len(batch) == 1:
                    _log_refused(batch[0], error)
                    return []
                # One bad record must not keep the others out.
                return [taken for record in batch for taken in await self._append([record])]
            else:
                return batch

    async def _acknowledge(self, taken: Sequence[LedgerRecord]) -> None:
        if not taken:
            return
        try:
            await self._on_appended(taken)
        except StoreUnavailableError as error:
            # Their holds are then remembered for longer than they need be.
            log.warning("holds_not_acknowledged", reason=str(error))


def _log_refused(record: LedgerRecord, error: Exception) -> None:
    """Whom it would have charged and how much, for a correction by hand; no vendor's text."""
    facts: dict[str, object] = {"customer_id": record.customer_id, "reason": str(error)}
    if isinstance(record, RequestEnded):
        facts |= {"hold_id": record.hold_id, "charge_nano_usd": record.charge_nano_usd}
    # Without the exception: its cause quotes the statement with all its values.
    log.error("ledger_record_refused", **facts)
