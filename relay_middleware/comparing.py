"""
Comparing: the store's counters are brought to what the ledger has, where they are below it.
"""

import contextlib
from collections.abc import AsyncIterator, Sequence
from datetime import datetime, timedelta

from relay_middleware.core.holds import HoldStateError
from relay_middleware.core.money import NanoUsd
from relay_middleware.ports.books import Ledger
from relay_middleware.ports.stores import Drift, Spend, SpendStore

LATELY = timedelta(hours=1)
"""How long after it expired a request is looked for in the store with each comparison: the ledger
may have heard of it when the store was filled already."""


async def compare(
    spend: SpendStore, ledger: Ledger, at: datetime, *, with_lifetimes: bool
) -> Drift:
    """
    Raise what was settled in the periods that contain *at*, and count what expired lately.

    Args:
        with_lifetimes: Whether lifetimes are looked at where nothing lacks elsewhere: for them the
            ledger reads all that it has. What a store forgets, it forgets in all periods.

    Returns:
        How far the counters were off.
    """
    drift = Drift()
    if not with_lifetimes:
        drift = await _raise_to(spend, ledger.open_spends(at))
    if with_lifetimes or drift.below_nano_usd:
        whole = await _raise_to(spend, ledger.spends(at))
        below = NanoUsd(drift.below_nano_usd + whole.below_nano_usd)
        drift = Drift(below_nano_usd=below, above_nano_usd=whole.above_nano_usd)
    await expire_again(spend, ledger, since=at - LATELY)
    return drift


async def _raise_to(spend: SpendStore, found: AsyncIterator[Sequence[Spend]]) -> Drift:
    below, above = 0, 0
    async for spends in found:
        drift = await spend.raise_to(spends)
        below += drift.below_nano_usd
        above += drift.above_nano_usd
    return Drift(below_nano_usd=NanoUsd(below), above_nano_usd=NanoUsd(above))


async def expire_again(spend: SpendStore, ledger: Ledger, *, since: datetime | None = None) -> None:
    """
    See to it that what the ledger has as expired counts, until somebody says what it came to. What
    the store knows better, or has already, stays as it is.

    Args:
        since: What expired then or later; None: all.
    """
    for hold in await ledger.expired(since):
        with contextlib.suppress(HoldStateError):
            await spend.expire(hold)
