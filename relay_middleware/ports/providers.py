"""
What Relay needs of the providers, and what it may rely on.
"""

from collections.abc import AsyncGenerator, Callable, Collection, Mapping
from dataclasses import field
from typing import Protocol

from relay_middleware.core.deployments import Deployment
from relay_middleware.core.endpoints.endpoint import Endpoint
from relay_middleware.core.records import Attempt
from relay_middleware.core.values import dataclass


def _nobody_asks(_: Deployment | Attempt) -> None:
    """Default of `UpstreamCall.on_sent` and `on_attempt`."""


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
        on_sent: Called with each deployment just before anything of the request may be sent to it:
            what was not announced has not reached it.
        on_attempt: Called with each attempt when it has ended, also one that was cancelled.
    """

    endpoint: Endpoint
    model: str
    body: Mapping[str, object]
    is_stream: bool
    output_cap_tokens: int | None
    on_sent: Callable[[Deployment], None] = field(default=_nobody_asks)
    on_attempt: Callable[[Attempt], None] = field(default=_nobody_asks)


@dataclass(frozen=True, slots=True, kw_only=True)
class WholeAnswer:
    """
    A provider's answer, complete.

    Attributes:
        body: As it came.
        members: The same, decoded: a JSON object.
        dropped: Names of the request's members that the provider was not told.
        is_too_long: It was given, and is longer than what is read of one: then there is neither
            *body* nor *members*.
    """

    deployment: Deployment
    body: bytes
    members: Mapping[str, object]
    dropped: tuple[str, ...] = ()
    is_too_long: bool = False


def _nothing_reported() -> None:
    """Default of `StreamAnswer.early_usage`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StreamAnswer:
    """
    A provider's event stream, with its first content at hand.

    Attributes:
        chunks: The body's bytes from the first one on, cut anywhere. Raises `StreamBrokenError`
            when the provider falls silent or the connection breaks. `aclose` ends the provider's
            connection.
        dropped: Names of the request's members that the provider was not told.
        early_usage: Returns a usage object that the provider has sent beside the events, or None.
            It is right about the input; about the output the events may say more.
    """

    deployment: Deployment
    chunks: AsyncGenerator[bytes, None]
    dropped: tuple[str, ...] = ()
    early_usage: Callable[[], Mapping[str, object] | None] = field(default=_nothing_reported)


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


class Upstream(Protocol):
    """Providers, with routing and fallback."""

    def reachable(self, model: str) -> tuple[Deployment, ...]:
        """
        Return the deployments that a request for *model* may end up at, fallbacks included, of
        those that are alike the first; empty where there is no such model.
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


class Tokenizer(Protocol):
    """Counts the tokens of a text, off the event loop and without the network."""

    async def count(self, text: str, encodings: Collection[str]) -> int | None:
        """
        Return the most tokens that *text* has by any of *encodings*, at least one.

        One text at a time: while another is being counted, None is returned at once, and the caller
        goes on without. Cancelling it is safe and leaves nothing behind.
        """
        ...

    async def aclose(self) -> None:
        """Give back what it holds. Nothing is counted afterwards."""
        ...
