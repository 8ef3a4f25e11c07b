"""
Requests of a host application: whose they are, and what its responses tell of Relay's calls.
"""

import inspect
from collections.abc import Awaitable, Callable

from relay_middleware.admission import Admission
from relay_middleware.asgi import Message, Scope, Send
from relay_middleware.calls import CustomerCalls
from relay_middleware.core import refusals
from relay_middleware.core.attribution import (
    collect_headers,
    named_customer,
    relay_secret,
    to_customer_id,
)
from relay_middleware.core.identifiers import CustomerId
from relay_middleware.core.refusals import CustomerRequiredError
from relay_middleware.core.totals import totals_headers
from relay_middleware.services import Services

CustomerOf = Callable[[Scope], str | Awaitable[str | None] | None]
"""Says whose request a scope is; None: nobody's that it knows."""


async def customer_of(
    scope: Scope,
    services: Services,
    *,
    customer: CustomerOf | None,
    trusts_header: bool | None,
) -> CustomerId:
    """
    Decide who pays for the calls that the host makes during a request.

    The host's own word goes first. A header is believed with a Relay key that may name customers,
    or where the operator trusts whoever sends it: else any browser could bill another customer.

    Raises:
        CustomerRequiredError: Nobody says who.
        RefusedError: 400, what is named is no customer id; 401 or 403, a Relay key was sent that
            is not in force or may not name the customer.
        StoreUnavailableError: The key could not be looked up.
    """
    if customer is not None:
        named = customer(scope)
        if inspect.isawaitable(named):
            named = await named
        if named is not None:
            return to_customer_id(named, where="What customer= returned")
    headers = collect_headers(scope["headers"])
    rules = services.customer_rules
    if secret := relay_secret(headers):
        admission = Admission(services)
        return admission.customer_id(await admission.key_of(secret), headers, None)
    is_trusted = rules.trusts_header if trusts_header is None else trusts_header
    in_header = named_customer(headers, rules.headers) if is_trusted else None
    if in_header is None:
        raise CustomerRequiredError(refusals.customer_required_of_host(rules.headers[0]))
    return in_header


class TotallingSend:
    """
    Passes on a host's response, with headers for the calls that ended before its first body byte.

    Attributes:
        is_begun: Whether anything was passed on: then it cannot become another response.
    """

    def __init__(self, send: Send, calls: CustomerCalls) -> None:
        self._send = send
        self._calls = calls
        self._start: Message | None = None
        self.is_begun = False

    async def __call__(self, message: Message) -> None:
        """Pass on a message; the first one waits for the second."""
        if message["type"] == "http.response.start" and self._start is None:
            self._start = message
            return
        await self.flush()
        self.is_begun = self.is_begun or message["type"] == "http.response.body"
        await self._send(message)

    async def flush(self) -> None:
        """Pass on what waits."""
        if self._start is None:
            return
        start, self._start = self._start, None
        headers = [*start.get("headers", ()), *totals_headers(self._calls.totals)]
        self.is_begun = True
        await self._send({**start, "headers": headers})

    def forget(self) -> None:
        """Drop what waits: another response takes its place."""
        self._start = None
