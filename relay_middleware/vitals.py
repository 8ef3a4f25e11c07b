"""
Vitals: what one process says of itself to whoever watches it.
"""

import asyncio
from dataclasses import dataclass

from relay_middleware.composition import Parts
from relay_middleware.errors import StoreUnavailableError
from relay_middleware.ports.stores import Drift

ANSWER_TIMEOUT_S = 0.25
"""Longest wait for Redis to say how long its journal is: as for a command of a request."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Vitals:
    """
    How a process is, at one moment.

    Attributes:
        worker_id: The process, as `relay deployments` names it.
        is_enforcing: Whether limits can be checked. While they cannot, requests are refused or
            served as each tier's `on_outage` says.
        is_breaker_open: Whether Redis did not answer lately, and is asked once a second only.
        drift: How far counters were off the ledger when this process last compared them.
        raised_nano_usd: By how much it has raised counters that were below, since its start.
        overrun_nano_usd: By how much its charges were above their holds, since its start.
        open_holds: Its requests under way.
        owed_settlements: Its requests that have ended, of which the store has not heard.
        journal_entries: Ended requests and new customers on their way to the ledger: of all
            processes where they share a Redis. None: it did not say.
    """

    worker_id: str
    is_enforcing: bool
    is_breaker_open: bool
    drift: Drift
    raised_nano_usd: int
    overrun_nano_usd: int
    open_holds: int
    owed_settlements: int
    journal_entries: int | None


def is_breaker_open(parts: Parts) -> bool:
    """Say whether Redis did not answer lately."""
    return parts.breaker is not None and parts.breaker.is_open


def is_enforcing(parts: Parts) -> bool:
    """Say whether limits can be checked. Asks nobody."""
    return parts.upkeep.is_store_warm and not is_breaker_open(parts)


async def vitals_of(parts: Parts) -> Vitals:
    """Return how the process of *parts*, which are open, is."""
    holds, upkeep = parts.services.open_holds, parts.upkeep
    return Vitals(
        worker_id=upkeep.worker_id,
        is_enforcing=is_enforcing(parts),
        is_breaker_open=is_breaker_open(parts),
        drift=upkeep.drift,
        raised_nano_usd=upkeep.raised_nano_usd,
        overrun_nano_usd=holds.overrun_nano_usd,
        open_holds=len(holds.open),
        owed_settlements=len(holds.owed),
        journal_entries=await _journal_entries(parts),
    )


async def _journal_entries(parts: Parts) -> int | None:
    if parts.stream is None:
        return parts.journal.waiting
    if is_breaker_open(parts):
        return None
    try:
        async with asyncio.timeout(ANSWER_TIMEOUT_S):
            return parts.journal.waiting + await parts.stream.waiting()
    except (StoreUnavailableError, TimeoutError):
        return None
