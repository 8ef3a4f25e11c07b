"""
Settlement: the one end of every hold, and the record of it.
"""

import contextlib

from relay_middleware.admission import Admitted
from relay_middleware.core.charging import spend_remaining
from relay_middleware.core.holds import Ended, HoldState
from relay_middleware.core.money import NanoUsd
from relay_middleware.core.records import Attempt, RequestEnded, released
from relay_middleware.ending import give_back, tell
from relay_middleware.reckoning import Consumption
from relay_middleware.services import Services


class Settlement:
    """
    Ends one hold, once: the first of `settle` and `release` counts.

    Attributes:
        is_ended: Whether one of them was called.
    """

    def __init__(self, services: Services, admitted: Admitted) -> None:
        self._services = services
        self._admitted = admitted
        self.is_ended = False

    async def settle(
        self,
        consumption: Consumption,
        *,
        attempts: tuple[Attempt, ...],
        status_code: int,
    ) -> NanoUsd | None:
        """
        Charge *consumption*, and hand the record to the ledger.

        Never fails for the store: if that is away, or late, the hold is ended as soon as it can be.

        Returns:
            The smallest remainder of the customer's limits; None: no limit, or the store did not
            answer.
        """
        self.is_ended = True
        ended = await self._end(self._settled(consumption, attempts, status_code))
        return None if ended is None else spend_remaining(self._admitted.hold, ended)

    async def release(self, *, attempts: tuple[Attempt, ...], status_code: int) -> None:
        """
        Charge nothing: no provider gave an answer, or none was asked.

        Only where a deployment was tried does the ledger hear of it: a flood of refusals must not
        fill it.
        """
        self.is_ended = True
        services, hold = self._services, self._admitted.hold
        if attempts:
            now = services.clock.now()
            await self._end(released(hold, now, status_code=status_code, attempts=attempts))
        else:
            services.spool.drop([hold.hold_id])
            await give_back(services, hold)

    async def _end(self, record: RequestEnded) -> Ended | None:
        services, hold = self._services, self._admitted.hold
        # Both before the store is told, and without a wait between them: whatever ends this process
        # or its store from here on, somebody finds it (upkeep.py).
        services.spool.ended(hold, record)
        services.open_holds.owe(hold, record)
        with contextlib.suppress(TimeoutError):
            return await services.waits.settling.wait(tell(services, hold, record))
        # Still owed: the next round of upkeep tells it again, and it counts once.
        return None

    def _settled(
        self,
        consumption: Consumption,
        attempts: tuple[Attempt, ...],
        status_code: int,
    ) -> RequestEnded:
        hold, deployment = self._admitted.hold, consumption.deployment
        billed = consumption.billed
        facts = hold.facts
        return RequestEnded(
            hold_id=hold.hold_id,
            customer_id=hold.customer_id,
            api_key_id=facts.api_key_id,
            tier=facts.tier,
            endpoint=facts.endpoint,
            model=facts.model,
            state=HoldState.SETTLED,
            status_code=status_code,
            is_stream=facts.is_stream,
            provider=deployment.provider,
            deployment_model=deployment.deployment_model,
            usage=consumption.usage,
            usage_source=consumption.source,
            cost_usd=billed.cost_usd,
            cost_nano_usd=billed.cost_nano_usd,
            charge_nano_usd=billed.charge_nano_usd,
            hold_nano_usd=hold.amount_nano_usd,
            is_bound_exact=facts.is_bound_exact,
            reserved_at=facts.reserved_at,
            ended_at=self._services.clock.now(),
            attempts=attempts,
        )
