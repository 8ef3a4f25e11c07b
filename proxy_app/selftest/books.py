"""
The books of a proof: what Redis, SQL and the providers say, each asked by itself.
"""

from collections.abc import Awaitable, Callable, Mapping
from datetime import UTC, datetime
from typing import TypeVar

import httpx

from proxy_app.selftest.plan import CUSTOMER_ID
from proxy_app.selftest.verdict import Counted
from relay_middleware.core.holds import Balance, HoldState
from relay_middleware.core.money import NanoUsd
from relay_middleware.core.periods import Period, windows_of
from relay_middleware.errors import StoreUnavailableError
from relay_middleware.ledger.database import Database
from relay_middleware.ledger.reports import count_requests
from relay_middleware.ledger.usage_reports import usage_report
from relay_middleware.stores.redis import RedisSpendStore
from relay_middleware.stores.scratch import ScratchKeys

TRIES = 20
"""How often a store is asked that does not answer in time: the machine is kept busy."""

Result = TypeVar("Result")


class Books:
    """Reads what has been counted, and changes nothing."""

    def __init__(
        self,
        *,
        spend: RedisSpendStore,
        scratch: ScratchKeys,
        database: Database,
        providers: httpx.AsyncClient,
    ) -> None:
        """
        Args:
            providers: Whose base is the address of the simulated providers.
        """  # fmt: skip
        self._spend = spend
        self._scratch = scratch
        self._database = database
        self._providers = providers

    async def balance(self) -> Balance:
        """Return what the customer's lifetime account holds in Redis."""
        return (await self._balances(datetime.now(UTC)))[Period.LIFETIME]

    async def provider_calls(self) -> Mapping[str, int]:
        """Return how many calls each provider has received, by its model."""
        counts = (await self._providers.get("/simulator/calls")).json()
        by_model: Mapping[str, int] = counts["by_profile"]
        return by_model

    async def journal_entries(self) -> int:
        """Return how many ended requests the ledger has not heard of yet."""
        return await patiently(self._scratch.journal_entries)

    async def ledger_rows(self) -> int:
        """Return how many of the customer's requests the ledger has."""
        found = await patiently(lambda: count_requests(self._database, CUSTOMER_ID))
        return sum(report.requests for report in found.values())

    async def counters(self, at: datetime) -> Counted:
        """Return what Redis has counted in the periods that contain *at*."""
        balances = await self._balances(at)
        lifetime = balances[Period.LIFETIME]
        return Counted(
            settled_nano_usd=NanoUsd(lifetime.posted_nano_usd - lifetime.expired_nano_usd),
            expired_nano_usd=lifetime.expired_nano_usd,
            posted_nano_usd_by_period={
                period.value: balance.posted_nano_usd for period, balance in balances.items()
            },
        )

    async def ledger(self, at: datetime) -> Counted:
        """Return what SQL has in the periods that contain *at*."""
        found = await patiently(lambda: count_requests(self._database, CUSTOMER_ID))
        reports = await patiently(lambda: usage_report(self._database, at, only=CUSTOMER_ID))
        return Counted(
            settled_nano_usd=found[HoldState.SETTLED].charge_nano_usd,
            expired_nano_usd=found[HoldState.EXPIRED].hold_nano_usd,
            posted_nano_usd_by_period={
                account.window.period.value: account.posted_nano_usd
                for report in reports
                for account in report.accounts
            },
        )

    async def _balances(self, at: datetime) -> dict[Period, Balance]:
        windows = windows_of(at)
        found = await patiently(lambda: self._spend.balances(CUSTOMER_ID, windows))
        return {window.period: balance for window, balance in zip(windows, found, strict=True)}


async def patiently(ask: Callable[[], Awaitable[Result]]) -> Result:
    """
    Return what *ask* does, asked again while the store does not answer.

    Raises:
        StoreUnavailableError: It never did.
    """
    for _ in range(TRIES - 1):
        try:
            return await ask()
        except StoreUnavailableError:
            continue
    return await ask()
