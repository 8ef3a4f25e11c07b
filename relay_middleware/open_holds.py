"""
The holds of this process: which are open, and of which the store has not heard how they ended.
"""

from collections.abc import Sequence

import structlog

from relay_middleware.core.holds import Ended, Hold, HoldState, HoldStateError
from relay_middleware.core.identifiers import CustomerId, HoldId
from relay_middleware.core.records import RequestEnded
from relay_middleware.ports.stores import SpendStore

log = structlog.get_logger("relay")


class OpenHolds:
    """
    A hold is `add`ed when it was taken, and `owe`d from the moment that it has ended until the
    store, or the ledger itself, knows.

    Attributes:
        overrun_nano_usd: By how much charges were above their holds.
    """

    def __init__(self) -> None:
        self.overrun_nano_usd = 0
        self._customer_by_hold: dict[HoldId, CustomerId] = {}
        self._owed: dict[HoldId, tuple[Hold, RequestEnded]] = {}

    @property
    def open(self) -> Sequence[tuple[CustomerId, HoldId]]:
        """All that are open."""
        return [(customer_id, hold_id) for hold_id, customer_id in self._customer_by_hold.items()]

    @property
    def owed(self) -> Sequence[tuple[Hold, RequestEnded]]:
        """What the store is still to be told, oldest first."""
        return list(self._owed.values())

    def add(self, hold: Hold) -> None:
        """Note that *hold* is open."""
        self._customer_by_hold[hold.hold_id] = hold.customer_id

    def owe(self, hold: Hold, record: RequestEnded) -> None:
        """Note that *hold* has ended, before the store is told."""
        self._customer_by_hold.pop(hold.hold_id, None)
        self._owed[hold.hold_id] = (hold, record)
        self.overrun_nano_usd += max(0, record.charge_nano_usd - hold.amount_nano_usd)

    def pay(self, hold_id: HoldId) -> None:
        """Note that the store, or the ledger, knows how a hold ended."""
        self._owed.pop(hold_id, None)

    async def tell(self, spend: SpendStore, hold: Hold, record: RequestEnded) -> Ended | None:
        """
        Tell *spend* how *hold* ended.

        Returns:
            What it answers; None where it had ended another way, which is logged: a bug of ours.

        Raises:
            StoreUnavailableError: It does not know yet, and is still owed.
        """
        ended = None
        try:
            if record.state is HoldState.SETTLED:
                ended = await spend.settle(hold, record)
            else:
                is_dispatched = bool(record.attempts)
                ended = await spend.release(hold, record, is_dispatched=is_dispatched)
        except HoldStateError as error:
            log.error(  # noqa: TRY400 - in words, which name the amounts
                "hold_not_ended", hold_id=hold.hold_id, reason=str(error)
            )
        self.pay(hold.hold_id)
        return ended
