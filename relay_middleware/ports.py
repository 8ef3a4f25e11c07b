"""
What Relay needs of the world, and what it may rely on.

Each Protocol has one contract suite in `tests/contract`, run over every implementation.
"""

from collections.abc import AsyncGenerator, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Protocol

from relay_middleware.core.deployments import Deployment
from relay_middleware.core.endpoints.endpoint import Endpoint
from relay_middleware.core.holds import Ended, Hold, NotReserved, Reserved
from relay_middleware.core.identifiers import CustomerId, HoldId
from relay_middleware.core.keys import ApiKey
from relay_middleware.core.money import NanoUsd
from relay_middleware.core.periods import PeriodWindow
from relay_middleware.core.rates import RateStatus
from relay_middleware.core.records import Attempt, LedgerRecord
from relay_middleware.core.tiers import Customer


class Clock(Protocol):
    """The time, as an argument."""

    def now(self) -> datetime:
        """Return the aware instant, in UTC."""
        ...


class SpendStore(Protocol):
    """
    Holds and settles spend.

    Every method is atomic, over all accounts of a hold or none, and idempotent by hold id. Every
    method may raise `StoreUnavailableError`: then it is unknown whether it took effect, and
    repeating it is safe.
    """

    async def start(self) -> None:
        """
        Open the store. Calling it again does nothing.

        Raises:
            ConfigurationError: This process may not use the store (the embedded one is another's).
        """
        ...

    async def aclose(self) -> None:
        """Give back what `start` took."""
        ...

    async def reserve(self, hold: Hold) -> Reserved | NotReserved:
        """
        Set the hold's amount aside in all its accounts if it fits every one that has a limit.

        `posted + held + amount <= limit + credit` holds for each of them afterwards. An amount of 0
        always fits. A hold that is known already is answered as a duplicate, whatever its state.
        """
        ...

    async def settle(self, hold: Hold, actual_nano_usd: NanoUsd) -> Ended:
        """
        End *hold* and post *actual_nano_usd* to the accounts it names, above the limit if need be.

        A hold that the store does not know is posted all the same: the money was spent.

        Raises:
            HoldStateError: It was released, or settled for another amount. Nothing was changed.
        """
        ...

    async def release(self, hold: Hold, *, is_dispatched: bool) -> Ended:
        """
        End *hold* and post nothing.

        Args:
            is_dispatched: Whether a provider was called. If not, nobody will acknowledge the hold:
                it is forgotten after 10 minutes.

        Raises:
            HoldStateError: It was settled. Nothing was changed.
        """
        ...

    async def acknowledge(self, holds: Sequence[tuple[CustomerId, HoldId]]) -> None:
        """Note that the ledger has these ended holds: they are forgotten after 10 minutes."""
        ...

    async def raise_to(
        self, customer_id: CustomerId, window: PeriodWindow, posted_nano_usd: NanoUsd
    ) -> None:
        """Raise settled spend to *posted_nano_usd* where it is lower; never lower it, never add."""
        ...


class RateLimiter(Protocol):
    """
    Counts requests per subject: any text, such as a customer's id.

    Both methods may raise `StoreUnavailableError`.
    """

    async def hit(self, subject: str, rate_limits: Sequence[str]) -> RateStatus | None:
        """
        Count one request against *rate_limits*, in their order.

        Returns:
            None if all of them admit it; else the first that refuses, which, like those after it,
            has not counted the request.
        """
        ...

    async def status(self, subject: str, rate_limits: Sequence[str]) -> tuple[RateStatus, ...]:
        """Report each of *rate_limits* without counting."""
        ...


class Ledger(Protocol):
    """The book of record."""

    async def append(self, records: Sequence[LedgerRecord]) -> None:
        """
        Add *records* in one transaction; a record that is there already is left as it is.

        A customer that a `RequestEnded` names and SQL does not know gets a row too.

        Raises:
            StoreUnavailableError: Nothing was written; the same batch may be appended again.
        """
        ...

    async def posted(
        self, windows: Sequence[PeriodWindow]
    ) -> Sequence[tuple[CustomerId, PeriodWindow, NanoUsd]]:
        """Sum the settled charges by customer, for each of *windows*; sums of zero are left out."""
        ...


class Journal(Protocol):
    """Feeds the ledger, off the request path."""

    def put(self, record: LedgerRecord) -> None:
        """Hand over *record*. Never blocks, never fails, keeps the order."""
        ...

    async def drain(self, timeout_s: float) -> int:
        """Wait until all is in the ledger, at most *timeout_s*; return how many are not."""
        ...


class CustomerDirectory(Protocol):
    """
    Keys and customers as SQL has them, at most 2 seconds old.

    Both methods answer from memory once they have seen a name, and may raise
    `StoreUnavailableError` when they have to ask SQL and it does not answer.
    """

    async def api_key(self, key_hash: str) -> ApiKey | None:
        """Return the key in force whose secret hashes to *key_hash*."""
        ...

    async def customer(self, customer_id: CustomerId) -> Customer | None:
        """Return the customer, or None if there is none of that name."""
        ...

    def known(self, customer_id: CustomerId) -> Customer | None:
        """Return the customer if it is in memory, without asking SQL."""
        ...

    def remember(self, customer: Customer) -> None:
        """Know *customer*, whose row is on its way to SQL, from now on."""
        ...

    def forget(self, customer_id: CustomerId) -> None:
        """Take `remember` back: its row will not come."""
        ...


def _nobody_asks(_: Deployment) -> None:
    """Default of `UpstreamCall.on_attempt`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class UpstreamCall:
    """
    What is to be sent to a provider.

    Attributes:
        endpoint: What the client called; its path lies below the provider's base address too.
        model: Name that the client asked for.
        body: The client's own body. Data: nothing in it becomes a route or a credential.
        is_stream: Whether the client wants events.
        output_cap_tokens: Output cap of one choice to write into the body; each deployment lowers
            it to its model's own. None: the body's stands.
        on_attempt: Called with each deployment just before it is called.
    """

    endpoint: Endpoint
    model: str
    body: Mapping[str, object]
    is_stream: bool
    output_cap_tokens: int | None
    on_attempt: Callable[[Deployment], None] = field(default=_nobody_asks)


@dataclass(frozen=True, slots=True, kw_only=True)
class WholeAnswer:
    """
    A provider's answer, complete.

    Attributes:
        body: As it came.
        members: The same, decoded: a JSON object.
        attempts: All tries, the one that gave it last.
        dropped: Names of the request's members that the provider was not told.
    """

    deployment: Deployment
    body: bytes
    members: Mapping[str, object]
    attempts: tuple[Attempt, ...]
    dropped: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class StreamAnswer:
    """
    A provider's event stream, with its first content at hand.

    Attributes:
        chunks: The body's bytes from the first one on, cut anywhere. Raises `StreamBrokenError`
            when the provider falls silent or the connection breaks. `aclose` ends the provider's
            connection.
        attempts: All tries, the one that gave it last.
        dropped: Names of the request's members that the provider was not told.
    """

    deployment: Deployment
    chunks: AsyncGenerator[bytes, None]
    attempts: tuple[Attempt, ...]
    dropped: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class RefusedAnswer:
    """
    A provider's 400, 413 or 422: another one would say the same.

    Attributes:
        code: The provider's error code, if it gave one; as *param*.
        message: The provider's message, hosts and keys redacted.
    """

    deployment: Deployment
    status_code: int
    message: str
    code: str | None
    param: str | None
    attempts: tuple[Attempt, ...]


class Upstream(Protocol):
    """Providers, with routing and fallback."""

    def reachable(self, model: str) -> tuple[Deployment, ...]:
        """
        Return every deployment that a request for *model* may end up at, fallbacks included; empty
        where there is no such model.
        """
        ...

    async def send(self, call: UpstreamCall) -> WholeAnswer | StreamAnswer | RefusedAnswer:
        """
        Call deployments of `call.model` and its fallbacks until one answers.

        Cancelling it closes the provider's connection.

        Raises:
            UpstreamError: None answered; carries the attempts that were made.
        """
        ...

    async def aclose(self) -> None:
        """Close all connections."""
        ...
