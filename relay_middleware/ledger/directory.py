"""
Keys and customers, as SQL has them: read at first sight, and again when anything was changed.
"""

import asyncio
import math
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress

import structlog
from sqlalchemy import bindparam, select
from sqlalchemy.ext.asyncio import AsyncConnection

from relay_middleware.core.identifiers import ApiKeyId, CustomerId
from relay_middleware.core.keys import ApiKey, KeyRight
from relay_middleware.core.money import NanoUsd
from relay_middleware.core.periods import UTC_CALENDAR, Period
from relay_middleware.core.tiers import Customer, CustomerStatus
from relay_middleware.errors import StoreUnavailableError
from relay_middleware.ledger.calendars import calendar_from
from relay_middleware.ledger.database import Database
from relay_middleware.ledger.memory import Memory
from relay_middleware.ledger.tables import (
    API_KEY,
    CUSTOMER,
    CUSTOMER_CALENDAR,
    CUSTOMER_OVERRIDE,
    REVISION,
)

log = structlog.get_logger("relay")

POLL_S = 1.0
"""How often the revision is read: a revoked key stops working within twice this time."""

TRUST_S = 900.0
"""How long what is known stays in force while the revision cannot be read: a database that is away
for ten minutes stops nobody, a revoked key does not live on for ever behind a broken network."""

ANSWER_TIMEOUT_S = 5.0
"""Longest wait for one answer: a connection whose other end is gone would keep silent for ever."""


# Made once: to put a statement together takes longer than to have it answered.
_REVISION = select(REVISION.c.number)
_KEY = select(API_KEY).where(API_KEY.c.hash == bindparam("hash"), API_KEY.c.revoked_at_us.is_(None))
_CUSTOMER = (
    # A row for each limit of its own, or one without.
    select(
        CUSTOMER,
        CUSTOMER_OVERRIDE.c.period,
        CUSTOMER_OVERRIDE.c.limit_nano_usd,
        CUSTOMER_CALENDAR,
    )
    .outerjoin(CUSTOMER_OVERRIDE, CUSTOMER_OVERRIDE.c.customer_id == CUSTOMER.c.id)
    .outerjoin(CUSTOMER_CALENDAR, CUSTOMER_CALENDAR.c.customer_id == CUSTOMER.c.id)
    .where(CUSTOMER.c.id == bindparam("customer_id"))
)


class SqlDirectory:
    """
    `CustomerDirectory` over a SQL database.

    While the database is away what is known stays in force for `TRUST_S`; then every answer is
    `StoreUnavailableError`, until the revision was read again. So it is before `start`.
    """

    def __init__(
        self,
        database: Database,
        *,
        poll_interval_s: float = POLL_S,
        answer_timeout_s: float = ANSWER_TIMEOUT_S,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
        monotonic_s: Callable[[], float] = time.monotonic,
    ) -> None:
        self._database = database
        self._poll_interval_s = poll_interval_s
        self._answer_timeout_s = answer_timeout_s
        self._sleep = sleep
        self._monotonic_s = monotonic_s
        self._trusted_until_s = -math.inf
        self._keys: Memory[str, ApiKey] = Memory(self._load_key)
        self._customers: Memory[CustomerId, Customer] = Memory(self._load_customer)
        self._revision: int | None = None
        self._task: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """
        Begin to watch for changes. Calling it again does nothing.

        Raises:
            StoreUnavailableError: The database did not answer.
        """
        if self._task is None:
            await self.refresh()
            self._task = asyncio.create_task(self._watch())

    async def aclose(self) -> None:
        """Stop watching."""
        task, self._task = self._task, None
        if task is not None:
            task.cancel()
            with suppress(asyncio.CancelledError):
                await task

    @property
    def revision(self) -> int | None:
        """Number of the last change that was seen, by which others see that there was one."""
        return self._revision

    async def refresh(self) -> None:
        """
        Ask once whether anything was changed, and forget everything if so.

        Raises:
            StoreUnavailableError: The database did not answer.
        """
        # Counted from before the question: what changes after the answer is not in it.
        asked_at_s = self._monotonic_s()
        async with self._asking() as connection:
            revision: int = (await connection.execute(_REVISION)).scalar_one()
        if revision != self._revision:
            self._revision = revision
            self._keys.forget()
            self._customers.forget()
        self._trusted_until_s = asked_at_s + TRUST_S

    async def _watch(self) -> None:
        is_away = False
        while True:
            await self._sleep(self._poll_interval_s)
            try:
                await self.refresh()
            except StoreUnavailableError as error:
                if not is_away:
                    log.warning("directory_unavailable", reason=str(error))
                is_away = True
            else:
                is_away = False

    async def api_key(self, key_hash: str) -> ApiKey | None:
        """Return the key in force whose secret hashes to *key_hash*."""
        self._require_trust()
        return await self._keys.get(key_hash)

    async def customer(self, customer_id: CustomerId) -> Customer | None:
        """
        Return the customer, or None if there is none of that name.

        Raises:
            UnknownZoneError: Nobody can say when its periods begin: it is not served.
        """
        self._require_trust()
        return await self._customers.get(customer_id)

    def remember(self, customer: Customer) -> None:
        """Know *customer*, whose row is on its way to SQL, from now on."""
        self._customers.put(customer.customer_id, customer)

    def known(self, customer_id: CustomerId) -> Customer | None:
        """Return the customer if it is in memory, without asking SQL."""
        return self._customers.known(customer_id)

    def forget(self, customer_id: CustomerId) -> None:
        """Take `remember` back: its row will not come."""
        self._customers.drop(customer_id)

    def _require_trust(self) -> None:
        if self._monotonic_s() >= self._trusted_until_s:
            raise StoreUnavailableError(
                f"keys and customers could not be checked for changes for {TRUST_S:.0f} s"
            )

    @asynccontextmanager
    async def _asking(self) -> AsyncIterator[AsyncConnection]:
        """Give a connection that answers in time, or raise `StoreUnavailableError`."""
        try:
            async with (
                asyncio.timeout(self._answer_timeout_s),
                self._database.connect() as connection,
            ):
                yield connection
        except TimeoutError as error:
            raise StoreUnavailableError(
                f"the database did not answer in {self._answer_timeout_s:g} s"
            ) from error

    async def _load_key(self, key_hash: str) -> ApiKey | None:
        async with self._asking() as connection:
            row = (await connection.execute(_KEY, {"hash": key_hash})).one_or_none()
        if row is None:
            return None
        return ApiKey(
            api_key_id=ApiKeyId(row.id),
            right=KeyRight(row.key_right),
            customer_id=row.customer_id,
        )

    async def _load_customer(self, customer_id: CustomerId) -> Customer | None:
        async with self._asking() as connection:
            rows = (await connection.execute(_CUSTOMER, {"customer_id": customer_id})).all()
        if not rows:
            return None
        row = rows[0]
        return Customer(
            customer_id=customer_id,
            tier=row.tier,
            status=CustomerStatus(row.status),
            spend_limits={
                Period(item.period): None
                if item.limit_nano_usd is None
                else NanoUsd(item.limit_nano_usd)
                for item in rows
                if item.period is not None
            },
            calendar=UTC_CALENDAR if row.zone is None else calendar_from(row),
        )
