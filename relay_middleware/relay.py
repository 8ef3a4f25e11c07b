"""
`Relay`: the engine that a program holds.
"""

import asyncio
import contextlib
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from functools import partial
from pathlib import Path
from typing import Self

import structlog

from relay_middleware.asgi import ClientWatch, DirectWatch, Receive, Scope, Send
from relay_middleware.calls import CustomerCalls
from relay_middleware.composition import Parts, compose
from relay_middleware.config import Config, load_config
from relay_middleware.core.annotation import Receipt
from relay_middleware.core.attribution import to_customer_id
from relay_middleware.core.identifiers import CustomerId
from relay_middleware.errors import ConfigurationError, StoreUnavailableError
from relay_middleware.exchange import Exchange, ignore_receipt
from relay_middleware.host_requests import CustomerOf, customer_of
from relay_middleware.ledger.migrations import migrate
from relay_middleware.services import Background, Services
from relay_middleware.vitals import Vitals, is_enforcing, vitals_of

log = structlog.get_logger("relay")

DRAIN_S = 60.0
"""How long to wait for answers under way and the ledger, where the configuration does not say."""

LAST_S = 1.0
"""What is left for the ledger at least, when answers took all of the time."""


class Relay:
    """
    Everything that requests are served with, opened and closed together.

    Made without I/O; opens at `start`, or by itself at the first request. It belongs to the event
    loop that opened it.
    """

    def __init__(self, parts: Parts) -> None:
        self._parts = parts
        self._opened: AsyncExitStack | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._starting = asyncio.Lock()

    @classmethod
    def from_config(cls, source: str | Path | Config) -> Self:
        """
        Wire a relay as the configuration says.

        Args:
            source: A YAML file's path, or what was read from one.

        Raises:
            ConfigurationError: Something in it is wrong, in words.
        """
        config = source if isinstance(source, Config) else load_config(source)
        return cls(compose(config))

    @property
    def is_ready(self) -> bool:
        """Whether it is open, and so may take traffic."""
        return self._opened is not None

    @property
    def services(self) -> Services:
        """The parts that requests are served with."""
        return self._parts.services

    @property
    def is_enforcing(self) -> bool:
        """
        Whether limits can be checked; while they cannot, requests are refused or served as each
        tier's `on_outage` says.
        """
        return is_enforcing(self._parts)

    async def vitals(self) -> Vitals:
        """Return how this process is. The relay must be open."""
        return await vitals_of(self._parts)

    async def refresh(self) -> None:
        """
        Learn of changed keys and customers now, rather than within two seconds.

        Raises:
            StoreUnavailableError: The database did not answer.
        """
        await self._parts.directory.refresh()

    async def start(self) -> None:
        """
        Open stores, ledger and journal. Calling it again does nothing.

        Raises:
            ConfigurationError: This process may not use the store, or another event loop has
                opened the relay.
            StoreUnavailableError: Redis or SQL is not there.
        """
        async with self._starting:
            if self._opened is None:
                # Closed or not, its parts wait for what belongs to that loop.
                self._require_own_loop()
                async with AsyncExitStack() as stack:
                    await self._open(stack)
                    self._opened = stack.pop_all()
                    self._loop = asyncio.get_running_loop()

    async def _open(self, stack: AsyncExitStack) -> None:
        parts = self._parts
        for warning in parts.warnings:
            log.warning("configuration_warning", warning=warning)
        # Closed in the opposite order: the answers under way first, the database last.
        stack.push_async_callback(parts.database.aclose)
        # The store's locks before anything else: a second process must not get further.
        await _opened(stack, parts.spend.start, parts.spend.aclose)
        if parts.sole_use is not None:
            await _opened(stack, parts.sole_use.start, parts.sole_use.aclose)
        await migrate(parts.database)
        await _opened(stack, parts.directory.start, parts.directory.aclose)
        await _opened(stack, parts.spool.start, parts.spool.aclose)
        await _opened(stack, parts.journal.start, parts.journal.aclose)
        if parts.stream is not None:
            await _opened(stack, parts.stream.start, parts.stream.aclose)
        stack.push_async_callback(parts.upstream.aclose)
        stack.push_async_callback(parts.tokenizer.aclose)
        await _opened(stack, parts.upkeep.start, parts.upkeep.aclose)
        await _opened(stack, parts.workers.start, parts.workers.aclose)
        stack.push_async_callback(self._finish)
        stack.push_async_callback(partial(self.drain, parts.drain_timeout_s))

    async def drain(self, timeout_s: float = DRAIN_S) -> None:
        """
        Wait until no answer is under way and the ledger has everything.

        Args:
            timeout_s: Longest wait in all. Answers under way are then cut off and charged for what
                came; what the ledger has not is in the write-ahead file, or in Redis.
        """
        parts, loop = self._parts, asyncio.get_running_loop()
        ends_at_s = loop.time() + timeout_s
        cut = await parts.services.background.drain(timeout_s)
        if cut:
            log.warning("answers_cut", answers=cut)
        missing = await parts.journal.drain(max(LAST_S, ends_at_s - loop.time()))
        if parts.stream is not None:
            left = await parts.stream.drain(max(LAST_S, ends_at_s - loop.time()))
            if left is None:
                log.error(
                    "journal_unknown",
                    reason="Redis did not answer: what it has for the ledger is brought there when"
                    " it is back, by any worker",
                )
            missing += left or 0
        if missing:
            log.error("records_not_in_ledger", records=missing)

    async def _finish(self) -> None:
        """Do once more what upkeep does: its next round would be too late."""
        parts = self._parts
        # Where a store is away, the write-ahead file tells whoever comes next.
        with contextlib.suppress(StoreUnavailableError):
            if parts.services.open_holds.owed:
                await parts.upkeep.settle_owed()
                await parts.journal.drain(LAST_S)
                if parts.stream is not None:
                    await parts.stream.drain(LAST_S)
            await parts.upkeep.forget_booked()

    async def aclose(self) -> None:
        """
        Wait for answers under way and for the ledger, then close everything. May be called again.
        """
        # Under the lock: who asks meanwhile opens it anew afterwards, and not half of it now.
        async with self._starting:
            opened, self._opened = self._opened, None
            if opened is not None:
                await opened.aclose()

    async def handle(
        self,
        scope: Scope,
        receive: Receive,
        send: Send,
        *,
        path: str,
        customer_id: CustomerId | None = None,
        on_receipt: Callable[[Receipt], None] = ignore_receipt,
        is_shielded: bool = True,
    ) -> None:
        """
        Serve one HTTP request.

        Args:
            path: Below the prefix, without the leading slash.
            customer_id: The customer for whom the host application vouches. Then no key is asked
                for, and no header names another.
            on_receipt: Called once with what an answer was charged, when it is settled.
            is_shielded: Whether an answer under way goes on when the caller is cancelled. Where
                not, it is cut off, and charged for what came; which saves two tasks. Then *receive*
                must be the server's own.

        Raises:
            ConfigurationError: Another event loop has opened the relay.
        """
        if self._opened is None:
            await self.start()
        self._require_own_loop()
        exchange = Exchange(
            self._parts.services,
            scope,
            ClientWatch(receive) if is_shielded else DirectWatch(receive),
            send,
            path=path,
            customer_id=customer_id,
            on_receipt=on_receipt,
        )
        background = self._parts.services.background
        if is_shielded:
            await _shielded(exchange, background)
        else:
            await background.run(exchange.run())

    def _require_own_loop(self) -> None:
        if self._loop is not None and self._loop is not asyncio.get_running_loop():
            raise ConfigurationError(
                "this Relay was opened by another event loop; make one Relay for each loop"
            )

    async def text_for_customer(
        self, customer_id: str, system: str, user: str, model: str | None = None
    ) -> str:
        """
        Ask *user* under the instructions *system* for a customer, and return the answer's text.

        Raises:
            RefusedError: The call is refused, or no provider answered. Nothing is charged.
        """
        return await self.calls_for_customer(customer_id).text(system, user, model)

    def calls_for_customer(self, customer_id: str) -> CustomerCalls:
        """
        Return what makes calls for a customer (`text`, `chat`, `openai`), outside of any request.

        Raises:
            RefusedError: *customer_id* is none.
        """
        named = to_customer_id(customer_id, where="customer_id")

        async def customer() -> CustomerId:
            return named

        return CustomerCalls(self.handle, customer)

    def calls_for_request(
        self, scope: Scope, *, customer: CustomerOf | None = None, trust_header: bool | None = None
    ) -> CustomerCalls:
        """
        Return what makes calls for the customer of a host application's request.

        Args:
            customer: Says whose request it is; None, or where it returns None, the request itself
                does, by a Relay key.
            trust_header: Whether the customer header is believed without a key; None: as the
                configuration says.
        """

        async def find() -> CustomerId:
            await self.start()
            return await customer_of(
                scope, self.services, customer=customer, trusts_header=trust_header
            )

        return CustomerCalls(self.handle, find)


async def _shielded(exchange: Exchange, background: Background) -> None:
    task = background.spawn(exchange.run())
    try:
        await asyncio.shield(task)
    except asyncio.CancelledError:
        # Whoever cancels us, a provider may be at work: its answer is read and charged.
        exchange.leave()
        raise


async def _opened(
    stack: AsyncExitStack,
    start: Callable[[], Awaitable[None]],
    aclose: Callable[[], Awaitable[None]],
) -> None:
    """Open a part, and close it with the stack, also where opening fails half-way."""
    stack.push_async_callback(aclose)
    await start()
