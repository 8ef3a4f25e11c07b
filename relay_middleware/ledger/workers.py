"""
What each worker last saw of the deployments: written to SQL each second, for the command line.
"""

import asyncio
import json
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Any

import structlog
from sqlalchemy import delete, select

from relay_middleware.core.deployments import DeploymentStatus
from relay_middleware.core.identifiers import DeploymentId
from relay_middleware.core.instants import from_us, to_us
from relay_middleware.core.records import AttemptOutcome
from relay_middleware.errors import StoreUnavailableError
from relay_middleware.ledger.database import Database
from relay_middleware.ledger.tables import WORKER
from relay_middleware.ports.stores import Clock

log = structlog.get_logger("relay")

WRITE_S = 1.0
"""How often a worker says what it sees."""

GONE_AFTER = timedelta(seconds=10)
"""A worker that said nothing for so long was ended, without being able to say so."""

_FORGET_AFTER = timedelta(hours=1)

_TIMEOUT_S = 5.0
"""Longest wait for one write, as in `directory.py`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkerReport:
    """
    What one worker last saw.

    Attributes:
        seen_at: When it said so; aware, UTC.
    """

    worker_id: str
    seen_at: datetime
    deployments: tuple[DeploymentStatus, ...]


class WorkerJournal:
    """Writes what this worker sees, until it is closed."""

    def __init__(
        self,
        database: Database,
        *,
        worker_id: str,
        status: Callable[[], Sequence[DeploymentStatus]],
        clock: Clock,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        """
        Args:
            worker_id: Unlike that of any other worker.
            status: Says what is to be written.
        """  # fmt: skip
        self._database = database
        self._worker_id = worker_id
        self._status = status
        self._clock = clock
        self._sleep = sleep
        self._task: asyncio.Task[None] | None = None
        self._is_away = False

    async def start(self) -> None:
        """Begin to write. Calling it again does nothing; a database that is away stops nobody."""
        if self._task is None:
            await self._try(self._forget_others)
            self._task = asyncio.create_task(self._run())

    async def aclose(self) -> None:
        """Stop, and take back what was written."""
        task, self._task = self._task, None
        if task is not None:
            task.cancel()
            with suppress(asyncio.CancelledError):
                await task
            await self._try(self._remove)

    async def _run(self) -> None:
        while True:
            await self._try(self._write)
            await self._sleep(WRITE_S)

    async def _try(self, work: Callable[[], Awaitable[None]]) -> None:
        """Do *work* on a database that may be away, which is logged once."""
        try:
            async with asyncio.timeout(_TIMEOUT_S):
                await work()
        except (StoreUnavailableError, TimeoutError) as error:
            if not self._is_away:
                log.warning("worker_status_not_written", reason=str(error) or "no answer in time")
            self._is_away = True
        else:
            self._is_away = False

    async def _write(self) -> None:
        row = {
            "id": self._worker_id,
            "seen_at_us": to_us(self._clock.now()),
            "deployments": json.dumps([_to_json(each) for each in self._status()]),
        }
        insert = self._database.insert_into(WORKER)
        upsert = insert.on_conflict_do_update(index_elements=["id"], set_=row)
        async with self._database.begin() as connection:
            await connection.execute(upsert, row)

    async def _forget_others(self) -> None:
        """Remove what workers left that were killed."""
        oldest = to_us(self._clock.now() - _FORGET_AFTER)
        async with self._database.begin() as connection:
            await connection.execute(delete(WORKER).where(WORKER.c.seen_at_us < oldest))

    async def _remove(self) -> None:
        async with self._database.begin() as connection:
            await connection.execute(delete(WORKER).where(WORKER.c.id == self._worker_id))


async def list_workers(database: Database, now: datetime) -> list[WorkerReport]:
    """
    Return what the workers see that live at *now*, an aware instant; in the order of their ids.

    `cooling_s` is what is left of it at *now*.
    """
    oldest = to_us(now - GONE_AFTER)
    query = select(WORKER).where(WORKER.c.seen_at_us >= oldest).order_by(WORKER.c.id)
    async with database.connect() as connection:
        rows = list(await connection.execute(query))
    return [
        WorkerReport(
            worker_id=row.id,
            seen_at=from_us(row.seen_at_us),
            deployments=tuple(
                _aged(_from_json(each), (now - from_us(row.seen_at_us)).total_seconds())
                for each in json.loads(row.deployments)
            ),
        )
        for row in rows
    ]


def _aged(status: DeploymentStatus, age_s: float) -> DeploymentStatus:
    return replace(status, cooling_s=max(0.0, status.cooling_s - max(0.0, age_s)))


def _to_json(status: DeploymentStatus) -> dict[str, object]:
    return {
        "deployment_id": status.deployment_id,
        "model": status.model,
        "provider": status.provider,
        "deployment_model": status.deployment_model,
        "last_outcome": None if status.last_outcome is None else status.last_outcome.value,
        "last_status_code": status.last_status_code,
        "last_at_us": None if status.last_at is None else to_us(status.last_at),
        "cooling_s": status.cooling_s,
    }


def _from_json(members: Mapping[str, Any]) -> DeploymentStatus:
    outcome, at_us = members["last_outcome"], members["last_at_us"]
    return DeploymentStatus(
        deployment_id=DeploymentId(members["deployment_id"]),
        model=members["model"],
        provider=members["provider"],
        deployment_model=members["deployment_model"],
        last_outcome=None if outcome is None else AttemptOutcome(outcome),
        last_status_code=members["last_status_code"],
        last_at=None if at_us is None else from_us(at_us),
        cooling_s=members["cooling_s"],
    )
