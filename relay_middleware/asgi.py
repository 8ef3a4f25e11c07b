"""
ASGI's side of a request: its body, its answer, and whether the client is still there.

Source: ASGI specification, "HTTP & WebSocket message format", 2.5, read 2026-11-23.
"""

import asyncio
from collections.abc import (
    Awaitable,
    Callable,
    Generator,
    Mapping,
    MutableMapping,
    Sequence,
)
from typing import Any

import orjson
from typing_extensions import override

from relay_middleware.core import refusals
from relay_middleware.core.attribution import Headers
from relay_middleware.core.endpoints import members
from relay_middleware.core.refusals import Refusal, RefusedError
from relay_middleware.tasks import Patience

# ASGI's own shapes: a scope and a message are mappings of whatever a server puts there.
Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
ASGIApp = Callable[[Scope, Receive, Send], Awaitable[None]]

HeaderPairs = Sequence[tuple[bytes, bytes]]

MAX_AFTER_BODY = 10
"""How many messages are heard after a body's end. Only the client's going may come then; what a
host puts in place of `receive` may give the body again each time, without ever waiting."""


class ClientGoneError(Exception):
    """The client hung up before its request was complete."""


async def read_body(
    receive: Receive, headers: Headers, patience: Patience, *, limit_bytes: int
) -> bytes:
    """
    Return the whole request body.

    Args:
        patience: Bounds the wait for each piece.

    Raises:
        RefusedError: 408, it stopped coming; 413, it is longer than *limit_bytes*; 415, it is
            compressed.
        ClientGoneError: The client hung up first.
    """
    for encoding in headers.get(b"content-encoding", ()):
        if encoding.strip().lower() not in {b"", b"identity"}:
            raise RefusedError(refusals.unsupported_content_encoding(encoding.decode("latin-1")))
    for length in headers.get(b"content-length", ()):
        if length.isdigit() and int(length) > limit_bytes:
            raise RefusedError(refusals.body_too_large(limit_bytes))
    pieces: list[bytes] = []
    size = 0
    while True:
        try:
            message = await patience.wait(receive())
        except TimeoutError:
            raise RefusedError(refusals.body_timeout(patience.limit_s)) from None
        if message["type"] == "http.disconnect":
            raise ClientGoneError
        piece = message.get("body", b"")
        size += len(piece)
        if size > limit_bytes:
            raise RefusedError(refusals.body_too_large(limit_bytes))
        pieces.append(piece)
        if not message.get("more_body", False):
            return b"".join(pieces)


def decode_json(body: bytes) -> object:
    """
    Decode a request body.

    Raises:
        RefusedError: 400, it is no JSON, has more values than anybody needs, or is nested deeper
            than it could be sent on.
    """
    if members.has_too_many_values(body):
        raise RefusedError(
            refusals.invalid_request(
                f"The body has more than {members.MAX_VALUES} values, or"
                f" {members.MAX_CONTAINERS} objects and arrays: send several requests.",
                code="too_many_values",
            )
        )
    try:
        decoded = orjson.loads(body)
    except orjson.JSONDecodeError as error:
        # The decoder's own words give the place, never more of the body than a character.
        raise RefusedError(
            refusals.invalid_request(f"The body is not valid JSON: {error}.", code="invalid_json")
        ) from error
    # Counting brackets is cheap, and nothing can be nested deeper than it has brackets.
    brackets = body.count(b"[") + body.count(b"{")
    if brackets > members.MAX_NESTING and members.is_nested_too_deeply(decoded):
        raise RefusedError(
            refusals.invalid_request(
                f"The body is nested more than {members.MAX_NESTING} levels deep.",
                code="nested_too_deeply",
            )
        )
    return decoded


async def send_refusal(send: Send, refusal: Refusal) -> None:
    """Answer a request with *refusal* and nothing else."""
    body = orjson.dumps(refusal.envelope())
    headers = [*described(body), *encoded(refusal.headers)]
    await send({"type": "http.response.start", "status": refusal.status_code, "headers": headers})
    await send({"type": "http.response.body", "body": body})


def described(body: bytes) -> list[tuple[bytes, bytes]]:
    """Return the headers that every JSON *body* has."""
    return [(b"content-type", b"application/json"), (b"content-length", b"%d" % len(body))]


def encoded(headers: Mapping[str, str]) -> list[tuple[bytes, bytes]]:
    """Return *headers* as ASGI wants them."""
    return [(name.encode(), value.encode()) for name, value in headers.items()]


class ClientWatch:
    """
    Notices when the client hangs up, once its request body was read.

    Attributes:
        receive: The server's.
        is_gone: Whether it has.
    """

    def __init__(self, receive: Receive) -> None:
        self.receive = receive
        self._listening: asyncio.Task[None] | None = None
        self._callback: Callable[[], None] | None = None
        self.is_gone = False

    def start(self) -> None:
        """Begin to listen."""
        self._listening = asyncio.create_task(self._listen())

    async def _listen(self) -> None:
        for _ in range(MAX_AFTER_BODY):
            if (await self.receive())["type"] == "http.disconnect":
                self.mark_gone()
                return

    def mark_gone(self) -> None:
        """Take the client for gone: it hung up, or whoever served it was cancelled."""
        if self.is_gone:
            return
        self.is_gone = True
        if self._callback is not None:
            self._callback()

    def when_gone(self, callback: Callable[[], None] | None) -> None:
        """Call *callback*, and none before it, when the client goes; at once if it has gone."""
        self._callback = callback
        if self.is_gone and callback is not None:
            callback()

    def stop(self) -> None:
        """Stop listening."""
        if self._listening is not None:
            self._listening.cancel()


class DirectWatch(ClientWatch):
    """
    The same without a task, which costs a twentieth of a request's CPU (measured, 16 at once): for
    a `receive` that waits for futures of the event loop and does not ask which task it runs in, as
    a server's own.
    """

    def __init__(self, receive: Receive) -> None:
        super().__init__(receive)
        self._receiving: Generator[Any, None, Message] | None = None
        self._heard = 0
        self._is_stopped = False

    @override
    def start(self) -> None:
        self._go_on()

    def _go_on(self, _: object = None) -> None:
        while not (self.is_gone or self._is_stopped):
            if self._receiving is None:
                self._receiving = self.receive().__await__()
            try:
                waited_for = next(self._receiving)
            except StopIteration as end:
                self._receiving = None
                self._heard += 1
                self._is_stopped = self._heard == MAX_AFTER_BODY
                if end.value["type"] == "http.disconnect":
                    self.mark_gone()
            else:
                waited_for.add_done_callback(self._go_on)
                return

    @override
    def stop(self) -> None:
        self._is_stopped = True
        if self._receiving is not None:
            self._receiving.close()


class Responder:
    """
    Sends one response; does nothing any more once the client has gone.

    Attributes:
        status_code: What was sent, or None before that.
    """

    def __init__(self, send: Send, watch: ClientWatch, patience: Patience) -> None:
        """
        Args:
            patience: Bounds each wait for the client to take what is sent.
        """  # fmt: skip
        self._send = send
        self._watch = watch
        self._patience = patience
        self.status_code: int | None = None

    async def start(self, status_code: int, headers: HeaderPairs) -> None:
        """Send status and headers."""
        await self._deliver(self._opening(status_code, headers))

    async def write(self, body: bytes, *, is_last: bool = False) -> None:
        """Send a part of the body."""
        await self._deliver(_part(body, is_last=is_last))

    async def send_json(self, status_code: int, headers: HeaderPairs, body: bytes) -> None:
        """Send a whole response whose body is JSON."""
        opening = self._opening(status_code, [*described(body), *headers])
        await self._deliver(opening, _part(body, is_last=True))

    def _opening(self, status_code: int, headers: HeaderPairs) -> Message:
        if not self._watch.is_gone:
            self.status_code = status_code
        return {"type": "http.response.start", "status": status_code, "headers": list(headers)}

    async def _deliver(self, message: Message, rest: Message | None = None) -> None:
        if self._watch.is_gone:
            return
        try:
            await self._patience.wait(
                self._send(message) if rest is None else self._send_both(message, rest)
            )
        except (OSError, TimeoutError):
            # ASGI lets a server raise OSError when the client has gone. The answer is charged
            # all the same, so whoever produces it must go on.
            self._watch.mark_gone()

    async def _send_both(self, message: Message, rest: Message) -> None:
        await self._send(message)
        if not self._watch.is_gone:
            await self._send(rest)


def _part(body: bytes, *, is_last: bool) -> Message:
    return {"type": "http.response.body", "body": body, "more_body": not is_last}
