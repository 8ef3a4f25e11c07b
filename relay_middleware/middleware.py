"""
`RelayMiddleware`: Relay in front of any ASGI application.
"""

from starlette._utils import get_route_path

from relay_middleware.asgi import ASGIApp, Message, Receive, Scope, Send
from relay_middleware.errors import RelayError
from relay_middleware.relay import Relay


class RelayMiddleware:
    """
    Serves everything below a prefix itself, and passes all else to the application it wraps.

    Where the server speaks ASGI's lifespan, it opens and closes the relay; otherwise the relay
    opens at the first request.
    """

    def __init__(self, app: ASGIApp, *, relay: Relay, prefix: str = "/v1") -> None:
        """
        Args:
            app: The host application.
            prefix: Path of Relay's endpoints, as the application sees paths (below its own mount).
        """  # fmt: skip
        self.app = app
        self.relay = relay
        self.prefix = f"/{prefix.strip('/')}/"

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one connection."""
        if scope["type"] == "lifespan":
            await self._lifespan(scope, receive, send)
            return
        path = get_route_path(scope)
        if not path.startswith(self.prefix):
            await self.app(scope, receive, send)
        elif scope["type"] == "http":
            await self.relay.handle(scope, receive, send, path=path[len(self.prefix) :])
        else:
            await _refuse_websocket(receive, send)

    async def _lifespan(self, scope: Scope, receive: Receive, send: Send) -> None:
        startup = await receive()
        try:
            await self.relay.start()
        except RelayError as error:
            # The operator's mistake, told in words: a traceback would hide it.
            await send({"type": "lifespan.startup.failed", "message": str(error)})
            return
        replay = [startup]

        async def receive_replayed() -> Message:
            return replay.pop() if replay else await receive()

        async def send_after_close(message: Message) -> None:
            if message["type"].startswith("lifespan.shutdown"):
                await self.relay.aclose()
            await send(message)

        await self.app(scope, receive_replayed, send_after_close)


async def _refuse_websocket(receive: Receive, send: Send) -> None:
    await receive()
    # Closing before accepting makes servers answer 403.
    await send({"type": "websocket.close", "code": 1008, "reason": "no WebSockets here"})
