"""
`RelayMiddleware`: Relay in front of any ASGI application.
"""

import structlog
from starlette._utils import get_route_path

from relay_middleware.asgi import ASGIApp, Message, Receive, Scope, Send, send_refusal
from relay_middleware.calls import refusal_of
from relay_middleware.core import refusals
from relay_middleware.core.attribution import TRUSTED_HEADER
from relay_middleware.errors import RelayError
from relay_middleware.host_requests import CustomerOf, TotallingSend
from relay_middleware.relay import Relay

log = structlog.get_logger("relay")


class RelayMiddleware:
    """
    Serves everything below a prefix itself, and passes all else to the application it wraps.

    There `request.state.relay` is a `CustomerCalls`: `text`, `chat` and `openai` for the customer
    whose request it is. What these calls came to is told in the response's headers, and a refusal
    that escapes the application becomes the response.

    Where the server speaks ASGI's lifespan, it opens and closes the relay; otherwise the relay
    opens at the first request.
    """

    def __init__(
        self,
        app: ASGIApp,
        *,
        relay: Relay,
        prefix: str = "/v1",
        customer: CustomerOf | None = None,
        trust_header: bool | None = None,
        is_outermost: bool = False,
    ) -> None:
        """
        Args:
            app: The host application.
            prefix: Path of Relay's endpoints, as the application sees paths (below its own mount).
            customer: Says for whom a request of the host is, from its scope; called at the first
                call that the request makes, when the host's own middleware has run. None, or
                where it returns None: the header decides, and needs a Relay key.
            trust_header: Whether the header is believed without a key: only behind a proxy that
                sets it itself. None: as the configuration says.
            is_outermost: Whether nothing is around it that cancels a request, as a time limit of
                the host's would, or has a `receive` of its own: then tasks can be spared.
        """  # fmt: skip
        self.app = app
        self.relay = relay
        self.prefix = f"/{prefix.strip('/')}/"
        self._customer = customer
        self._trust_header = trust_header
        self._is_shielded = not is_outermost
        if trust_header:
            log.warning("configuration_warning", warning=TRUSTED_HEADER)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one connection."""
        if scope["type"] == "lifespan":
            await self._lifespan(scope, receive, send)
            return
        path = get_route_path(scope)
        if not path.startswith(self.prefix):
            await self._host(scope, receive, send)
        elif scope["type"] == "http":
            await self._relay(scope, receive, send, path[len(self.prefix) :])
        else:
            await _refuse_websocket(receive, send)

    async def _relay(self, scope: Scope, receive: Receive, send: Send, path: str) -> None:
        try:
            if not self.relay.is_ready:  # Mounted applications get no lifespan.
                await self.relay.start()
        except RelayError as error:
            log.error("not_started", reason=str(error))  # noqa: TRY400 - in words, for the operator
            await send_refusal(send, refusals.enforcement_unavailable())
            return
        await self.relay.handle(scope, receive, send, path=path, is_shielded=self._is_shielded)

    async def _host(self, scope: Scope, receive: Receive, send: Send) -> None:
        calls = self.relay.calls_for_request(
            scope, customer=self._customer, trust_header=self._trust_header
        )
        scope.setdefault("state", {})["relay"] = calls
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        totalling = TotallingSend(send, calls)
        try:
            await self.app(scope, receive, totalling)
        except Exception as error:
            refusal = refusal_of(error)
            if refusal is None or totalling.is_begun:
                await totalling.flush()
                raise
            totalling.forget()
            await send_refusal(totalling, refusal)
        else:
            await totalling.flush()

    async def _lifespan(self, scope: Scope, receive: Receive, send: Send) -> None:
        startup = await receive()
        try:
            await self.relay.start()
        except RelayError as error:
            # The operator's mistake, told in words: a traceback would hide it.
            await send({"type": "lifespan.startup.failed", "message": str(error)})
            return
        replay = [startup]
        has_answered = False

        async def receive_replayed() -> Message:
            return replay.pop() if replay else await receive()

        async def send_after_close(message: Message) -> None:
            nonlocal has_answered
            has_answered = True
            if message["type"].startswith("lifespan.shutdown"):
                await self.relay.aclose()
            await send(message)

        try:
            await self.app(scope, receive_replayed, send_after_close)
        except Exception:
            if has_answered:
                raise
            # An application that speaks no lifespan says so by raising, as Django's does.
        if not has_answered:
            await send_after_close({"type": "lifespan.startup.complete"})
            await receive()
            await send_after_close({"type": "lifespan.shutdown.complete"})


async def _refuse_websocket(receive: Receive, send: Send) -> None:
    await receive()
    # Closing before accepting makes servers answer 403.
    await send({"type": "websocket.close", "code": 1008, "reason": "no WebSockets here"})
