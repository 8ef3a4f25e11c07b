"""
Settlement: the one end of every hold, and the record of it.
"""

from dataclasses import dataclass

from relay_middleware.admission import Admitted, give_back
from relay_middleware.core.charging import NOTHING, Bill, bill, spend_remaining
from relay_middleware.core.deployments import Deployment
from relay_middleware.core.holds import Ended, HoldState
from relay_middleware.core.money import NanoUsd
from relay_middleware.core.records import Attempt, RequestEnded
from relay_middleware.core.usage import Usage, UsageSource
from relay_middleware.errors import StoreUnavailableError
from relay_middleware.services import Services

RETRY_PAUSES_S = (0.1, 0.5, 1.0, 2.0, 5.0, 10.0, 20.0, 30.0)
"""Waits between tries to end a hold while the store is away, off the request's path."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Consumption:
    """What was used of which deployment, and who says so."""

    usage: Usage
    source: UsageSource
    deployment: Deployment


class Settlement:
    """
    Ends one hold, once: the first of `settle` and `release` counts.

    Attributes:
        is_ended: Whether one of them was called.
    """

    def __init__(self, services: Services, admitted: Admitted, *, endpoint: str) -> None:
        self._services = services
        self._admitted = admitted
        self._endpoint = endpoint
        self.is_ended = False

    async def settle(
        self,
        consumption: Consumption,
        *,
        attempts: tuple[Attempt, ...],
        status_code: int,
    ) -> tuple[Bill, NanoUsd | None]:
        """
        Charge *consumption*, and hand the record to the ledger.

        Never fails for the store: if that is away, the hold is ended as soon as it is back.

        Returns:
            The bill, and the smallest remainder of the customer's limits (None: no limit, or the
            store did not answer).
        """
        self.is_ended = True
        price = consumption.deployment.price
        billed = bill(price, consumption.usage, self._admitted.tier.margin)
        record = self._record(attempts, status_code, billed, consumption)
        ended = await self._end(record)
        remaining = None if ended is None else spend_remaining(self._admitted.hold, ended)
        return billed, remaining

    async def release(self, *, attempts: tuple[Attempt, ...], status_code: int) -> None:
        """
        Charge nothing: no provider gave an answer.

        Only after a dispatch does the ledger hear of it: a flood of refusals must not fill it.
        """
        self.is_ended = True
        if not attempts:
            await give_back(self._services, self._admitted.hold)
            return
        await self._end(self._record(attempts, status_code))

    async def _end(self, record: RequestEnded) -> Ended | None:
        is_postponed = False
        try:
            return await self._apply(record)
        except StoreUnavailableError:
            is_postponed = True
            self._services.background.spawn(self._end_later(record))
            return None
        finally:
            # Also when we are cancelled, at the end of the program: the money was spent.
            if not is_postponed:
                self._services.journal.put(record)

    async def _apply(self, record: RequestEnded) -> Ended:
        if record.state is HoldState.SETTLED:
            return await self._services.spend.settle(self._admitted.hold, record.charge_nano_usd)
        return await self._services.spend.release(self._admitted.hold, is_dispatched=True)

    async def _end_later(self, record: RequestEnded) -> None:
        try:
            for pause_s in RETRY_PAUSES_S:
                await self._services.sleep(pause_s)
                try:
                    await self._apply(record)
                except StoreUnavailableError:
                    continue
                return
        finally:
            # The ledger is the book of record: it has the charge even if the counter never does.
            self._services.journal.put(record)

    def _record(
        self,
        attempts: tuple[Attempt, ...],
        status_code: int,
        billed: Bill = NOTHING,
        consumption: Consumption | None = None,
    ) -> RequestEnded:
        admitted = self._admitted
        deployment = None if consumption is None else consumption.deployment
        return RequestEnded(
            hold_id=admitted.hold.hold_id,
            customer_id=admitted.hold.customer_id,
            api_key_id=admitted.key.api_key_id,
            tier=admitted.tier.name,
            endpoint=self._endpoint,
            model=admitted.model,
            state=HoldState.RELEASED if consumption is None else HoldState.SETTLED,
            status_code=status_code,
            is_stream=admitted.call.is_stream,
            provider=None if deployment is None else deployment.provider,
            deployment_model=None if deployment is None else deployment.deployment_model,
            usage=None if consumption is None else consumption.usage,
            usage_source=None if consumption is None else consumption.source,
            cost_usd=billed.cost_usd,
            cost_nano_usd=billed.cost_nano_usd,
            charge_nano_usd=billed.charge_nano_usd,
            hold_nano_usd=admitted.hold.amount_nano_usd,
            is_bound_exact=admitted.is_bound_exact,
            reserved_at=admitted.reserved_at,
            ended_at=self._services.clock.now(),
            attempts=attempts,
        )
