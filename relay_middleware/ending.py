"""
Ending: what tells the store that a hold has ended, and when the store is away, leaves it to upkeep.
"""

import contextlib

from relay_middleware.core.holds import Ended, Hold
from relay_middleware.core.records import RequestEnded, released
from relay_middleware.errors import StoreUnavailableError
from relay_middleware.services import Services


async def tell(services: Services, hold: Hold, record: RequestEnded) -> Ended | None:
    """
    Tell the store how *hold*, which is owed, has ended.

    Returns:
        What it answers; None where it does not know yet.
    """
    try:
        return await services.open_holds.tell(services.spend, hold, record)
    except StoreUnavailableError:
        return None


async def give_back(services: Services, hold: Hold) -> None:
    """End *hold*, of which no provider has heard; if the store is away, later."""
    record = released(hold, services.clock.now())
    services.open_holds.owe(hold, record)
    await tell(services, hold, record)


async def vacate(services: Services, hold: Hold) -> None:
    """Give the place of *hold* back; if the store is away, it runs out with the hold."""
    with contextlib.suppress(StoreUnavailableError):
        await services.spend.vacate(hold)
