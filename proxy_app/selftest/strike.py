"""
The strike: a process is killed in the middle of its work, and another one stopped for a while.
"""

import asyncio
import contextlib
import os
import signal
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from proxy_app.selftest.books import Books
from proxy_app.selftest.plan import ANSWERING, LIMIT, PRICE, Plan
from proxy_app.selftest.waiting import until
from relay_middleware.stores.spool import under_way

POLL_S = 0.02

FROZEN_S, MOVING_S = 0.2, 0.4
"""Longest time for which a process is stopped before it is killed or goes on, and for how long it
goes on before the next try."""


class Strike:
    """
    Attributes:
        killed: Processes that were.
        lost: Requests that they were about.
        paused: Processes that were stopped, and went on.
    """

    def __init__(
        self, plan: Plan, books: Books, worker_ids: Sequence[str], *, group: int, state_dir: Path
    ) -> None:
        """
        Args:
            worker_ids: Of the processes that serve, two at least.
            group: Theirs: no process of another is ever touched.
            state_dir: Where their write-ahead files are.
        """  # fmt: skip
        self._plan = plan
        self._books = books
        self._living = list(worker_ids)
        self._group = group
        self._state_dir = state_dir
        self.killed = 0
        self.lost = 0
        self.paused = 0

    async def run(self) -> None:
        """Wait for the middle, and strike."""
        while not self.killed:
            balance = await self._books.balance()
            is_middle = balance.held_nano_usd + balance.posted_nano_usd > LIMIT // 2
            if is_middle and balance.held_nano_usd:
                await self._try_to_kill()
                await asyncio.sleep(MOVING_S)
            await asyncio.sleep(POLL_S)
        if self._plan.pause_s:
            with self._stopped(self._busiest()):
                self.paused = 1
                await asyncio.sleep(self._plan.pause_s)

    async def _try_to_kill(self) -> None:
        """
        Kill who has most to lose, once the providers have every call for which it has set money
        aside: then all that it leaves has cost something, and their calls can be counted against
        the ledger. It is stopped while that is found out.
        """
        victim = self._busiest()
        with self._stopped(victim):
            is_all_sent = await until(self._is_all_sent, timeout_s=FROZEN_S, poll_s=POLL_S)
            lost = under_way(self._state_dir).get(victim, 0)
            if is_all_sent and lost:
                self._signal(victim, signal.SIGKILL)
                self._living.remove(victim)
                self.killed, self.lost = 1, lost

    async def _is_all_sent(self) -> bool:
        """
        Whether providers have a call for all that is held or was charged.

        The calls are asked first: of those who go on, there are then no more of them than of what
        is held or charged. So none can stand for one that the stopped process has not made.
        """
        calls = await self._books.provider_calls()
        balance = await self._books.balance()
        held = balance.held_nano_usd // PRICE
        charged = balance.posted_nano_usd // self._plan.cost_nano_usd
        return held + charged <= sum(calls.get(model, 0) for model in ANSWERING)

    def _busiest(self) -> str:
        """Return who lives and has most requests under way, as the write-ahead files say."""
        counts = under_way(self._state_dir)
        return max(self._living, key=lambda worker_id: counts.get(worker_id, 0))

    @contextmanager
    def _stopped(self, worker_id: str) -> Iterator[None]:
        """Stop a process while the context lasts."""
        self._signal(worker_id, signal.SIGSTOP)
        try:
            yield
        finally:
            self._signal(worker_id, signal.SIGCONT)

    def _signal(self, worker_id: str, number: signal.Signals) -> None:
        # Its supervisor may have killed it, and its number may be another's.
        with contextlib.suppress(ProcessLookupError):
            if os.getpgid(pid_of(worker_id)) == self._group:
                os.kill(pid_of(worker_id), number)


def pid_of(worker_id: str) -> int:
    """Return the process of a worker: its id is host, process and something random."""
    return int(worker_id.split(":")[-2])
