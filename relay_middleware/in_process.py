"""
HTTP without a network: httpx's transport that hands a request to Relay in the same process.

httpx's own `ASGITransport` collects the whole answer before it gives any of it; this one streams,
with backpressure, and tells Relay when whoever reads the answer stops reading.
"""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable

import httpx
from typing_extensions import override

from relay_middleware.asgi import Message, Receive, Scope, Send

Serve = Callable[[Scope, Receive, Send], Awaitable[None]]
"""Answers one HTTP request; its path is below the prefix, without the leading slash."""

BASE_URL = "http://relay.invalid/v1/"
"""What a client is told to be talking to: a name that no network resolves (RFC 6761, 6.4)."""

MESSAGES_AHEAD = 16
"""Messages that Relay may be ahead of the reader."""


class InProcessTransport(httpx.AsyncBaseTransport):
    """Gives every request to *serve*, a task each."""

    def __init__(self, serve: Serve) -> None:
        self._serve = serve

    @override
    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        """Return the response as soon as its headers are there; its body streams."""
        call = _Call(await request.aread())
        scope: Scope = {
            "type": "http",
            "http_version": "1.1",
            "method": request.method,
            "path": request.url.path.removeprefix(httpx.URL(BASE_URL).path),
            "query_string": request.url.query,
            "headers": [(name.lower(), value) for name, value in request.headers.raw],
        }
        call.work = asyncio.ensure_future(self._serve(scope, call.receive, call.send))
        call.work.add_done_callback(call.end)
        try:
            start = await call.next_message()
        except asyncio.CancelledError:
            # Relay reads and charges what a provider is at, whoever goes.
            call.work.cancel()
            raise
        return httpx.Response(start["status"], headers=start["headers"], stream=_Body(call))


class _Call:
    """One request under way: what ASGI's two callables and the reader share."""

    work: asyncio.Future[None]

    def __init__(self, body: bytes) -> None:
        self._body: bytes | None = body
        self._messages: asyncio.Queue[Message | None] = asyncio.Queue(MESSAGES_AHEAD)
        self._is_left = asyncio.Event()

    async def receive(self) -> Message:
        if self._body is not None:
            body, self._body = self._body, None
            return {"type": "http.request", "body": body, "more_body": False}
        await self._is_left.wait()
        return {"type": "http.disconnect"}

    async def send(self, message: Message) -> None:
        if self._is_left.is_set():
            raise OSError("nobody reads the answer any more")
        await self._messages.put(message)

    def end(self, work: asyncio.Future[None]) -> None:
        """Wake a reader that waits for more than came."""
        if not work.cancelled():
            work.exception()  # Told to the reader; without one, asyncio would tell it the log.
        if self._messages.empty():
            self._messages.put_nowait(None)

    async def next_message(self) -> Message:
        """
        Return what was sent next.

        Raises:
            Exception: What ended the work instead.
        """
        message = None
        if not (self.work.done() and self._messages.empty()):
            message = await self._messages.get()
        if message is None:
            await self.work
            raise httpx.RemoteProtocolError("the answer has no end")
        return message

    def leave(self) -> None:
        """Read no more."""
        self._is_left.set()
        while not self._messages.empty():
            self._messages.get_nowait()


class _Body(httpx.AsyncByteStream):
    """The response's body, piece by piece."""

    def __init__(self, call: _Call) -> None:
        self._call = call

    @override
    async def __aiter__(self) -> AsyncIterator[bytes]:
        is_last = False
        while not is_last:
            message = await self._call.next_message()
            is_last = not message.get("more_body", False)
            yield message.get("body", b"")

    @override
    async def aclose(self) -> None:
        self._call.leave()
