"""
HTTP/1.1, as far as a provider's client needs it: POST over connections that are kept.

Alone knows `httptools`, which reads the answers, and `aiohappyeyeballs`, which connects. A
request of Relay takes 0.85 of the CPU that it takes with a general one (aiohttp 3.14, measured).

Rules for editors. A connection has one request at a time, and goes back to the others only when its
answer has come to its end, nothing came after it, and both sides want to keep it. Nothing is ever
sent twice: whether the first was read nobody knows, and it costs money.

Source: RFC 9112, "HTTP/1.1"; read 2026-11-25.
"""

import asyncio
import socket
import ssl
from collections import defaultdict
from functools import cached_property
from typing import cast

import aiohappyeyeballs
import httptools
from typing_extensions import override

from relay_middleware.upstream.targets import Origin, Target

MAX_HEAD_BYTES = 64 * 1024
"""How much may come of an answer without a piece of its body: its head, or trailers at its end.
Heads of providers have 1 to 4 KB. One that comes in a single read may have all of that, which is
256 KiB at most."""

MAX_UNREAD_BYTES = 64 * 1024
"""What of an answer waits for its reader before the provider is kept waiting."""

IDLE_S = 30.0
"""How long a connection is kept unused. Load balancers close theirs after 60 s and more; a request
that meets the closing is lost."""

SECOND_ADDRESS_AFTER_S = 0.25
"""How long the first address of a host may take until the next is tried beside it.
Source: RFC 8305, "Happy Eyeballs", section 8."""

_INTERIM = 100
_FINAL = 200


class HttpError(OSError):
    """A connection broke, or what came over it is no answer."""


class Response:
    """
    An answer that is coming.

    Attributes:
        status: Known when `head` has returned.
    """

    __slots__ = (
        "_chunks",
        "_connection",
        "_error",
        "_headers",
        "_is_ended",
        "_is_held_up",
        "_unread_bytes",
        "_waiting",
        "status",
    )

    def __init__(self, connection: "Connection") -> None:
        self._connection = connection
        self._headers: dict[bytes, bytes] = {}
        self._chunks: list[bytes] = []
        self._unread_bytes = 0
        self._waiting: asyncio.Future[None] | None = None
        self._error: HttpError | None = None
        self._is_ended = False
        self._is_held_up = False
        self.status = 0

    async def head(self) -> None:
        """
        Wait for status and headers.

        Raises:
            HttpError: They do not come.
        """
        while not self.status:
            await self._more()

    def header(self, name: bytes) -> str | None:
        """Return the first value of the header *name*, which is in lower case."""
        for found, value in self._headers.items():
            # The length first: it is quicker, and there are dozens.
            if len(found) == len(name) and found.lower() == name:
                return value.decode("latin-1")
        return None

    @property
    def is_until_close(self) -> bool:
        """Whether only the end of the connection tells that of the body."""
        lengths = (b"content-length", b"transfer-encoding")
        return self.status > 0 and all(self.header(name) is None for name in lengths)

    async def read(self) -> bytes:
        """
        Return what has arrived of the body, after `head`: more than nothing but for its end.

        Raises:
            HttpError: It broke off.
        """
        while not (self._chunks or self._is_ended):
            await self._more()
        data = b"".join(self._chunks)
        self._chunks.clear()
        self._unread_bytes = 0
        if self._is_held_up:
            self._is_held_up = False
            self._connection.go_on()
        return data

    def close(self) -> None:
        """Read no more; what has not come to its end ends the connection."""
        if not self._is_ended:
            self._connection.abort()

    async def _more(self) -> None:
        if self._error is not None:
            raise self._error
        self._waiting = self._connection.loop.create_future()
        try:
            await self._waiting
        finally:
            self._waiting = None

    def _wake(self) -> None:
        if self._waiting is not None and not self._waiting.done():
            self._waiting.set_result(None)

    def begin(self, status: int, headers: dict[bytes, bytes]) -> None:
        """Take status and headers, with their names as they came."""
        self.status = status
        self._headers = headers
        self._wake()

    def add(self, data: bytes) -> bool:
        """Take a piece of the body; say whether the provider is to wait with more."""
        self._chunks.append(data)
        self._unread_bytes += len(data)
        self._wake()
        self._is_held_up = self._is_held_up or self._unread_bytes > MAX_UNREAD_BYTES
        return self._is_held_up

    def end(self, error: HttpError | None = None) -> None:
        """Take the end: of the body, or by *error*."""
        self._error = error
        self._is_ended = error is None
        self._wake()


class Connection(asyncio.Protocol):
    """
    A connection, and the answer that is coming over it.

    Attributes:
        loop: Its event loop.
        origin: Where it leads to.
        idle_since_s: The loop's time at which its last answer had come.
        closed: Done when it is.
    """

    def __init__(self, origin: Origin, loop: asyncio.AbstractEventLoop, pool: "HttpClient") -> None:
        self.loop = loop
        self.origin = origin
        self.idle_since_s = 0.0
        self.closed: asyncio.Future[None] = loop.create_future()
        self._pool = pool
        self._headers: dict[bytes, bytes] = {}
        # Of the parser, for each header. There are dozens, so that no function of ours is called.
        self.on_header = self._headers.setdefault
        self._parser = httptools.HttpResponseParser(self)
        self._response: Response | None = None
        self._bodyless_bytes = 0
        self._transport: asyncio.Transport

    @property
    def is_usable(self) -> bool:
        """Whether it is still open, as far as is known."""
        return not self._transport.is_closing()

    def send(self, target: Target, body: bytes) -> Response:
        """Send a request; its answer is what comes next."""
        response = self._response = Response(self)
        self._bodyless_bytes = 0
        # Of the answer before: its trailers.
        self._headers.clear()
        self._transport.write(b"%b%d\r\n\r\n%b" % (target.head, len(body), body))
        return response

    def go_on(self) -> None:
        """Let the provider send more."""
        if not self._transport.is_closing():
            self._transport.resume_reading()

    def abort(self) -> None:
        """Close it at once."""
        self._transport.abort()

    @override
    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # What uvloop gives is none by its class.
        self._transport = cast("asyncio.Transport", transport)

    @override
    def data_received(self, data: bytes) -> None:
        response = self._response
        self._bodyless_bytes += len(data)
        try:
            self._parser.feed_data(data)
        except (httptools.HttpParserError, httptools.HttpParserUpgrade):
            self._fail("what came is no answer")
            return
        if response is None:
            self._fail("what came was not asked for")
        elif self._bodyless_bytes > MAX_HEAD_BYTES:
            self._fail("the head of the answer, or what follows its body, has no end")

    @override
    def connection_lost(self, exc: Exception | None) -> None:
        response = self._response
        if response is not None and response.is_until_close and exc is None:
            self._response = None
            response.end()
        self._fail("the connection was closed")
        self._pool.forget(self)
        if not self.closed.cancelled():
            self.closed.set_result(None)

    def on_message_begin(self) -> None:
        """Of the parser: an answer begins, or what must not follow one."""
        if self._response is None:
            self._transport.abort()

    def on_headers_complete(self) -> None:
        """Of the parser: the head is there."""
        headers = self._headers.copy()
        self._headers.clear()
        status = self._parser.get_status_code()
        if status < _INTERIM:
            raise HttpError("the status of the answer is none")
        if status >= _FINAL and self._response is not None:
            self._response.begin(status, headers)

    def on_body(self, body: bytes) -> None:
        """Of the parser: a piece of the body."""
        self._bodyless_bytes = 0
        if self._response is not None and self._response.add(body):
            self._transport.pause_reading()

    def on_message_complete(self) -> None:
        """Of the parser: the answer has come."""
        response = self._response
        if response is None or not response.status:
            # Of a hint that an answer will come, or of what nobody asked for.
            return
        self._response = None
        response.end()
        if self._transport.is_closing():
            return
        self._transport.resume_reading()
        # Who answers before it has read all of the request is not asked again.
        if self._parser.should_keep_alive() and not self._transport.get_write_buffer_size():
            self._pool.keep(self)
        else:
            self._transport.abort()

    def _fail(self, reason: str) -> None:
        response, self._response = self._response, None
        if response is not None:
            response.end(HttpError(reason))
        self._transport.abort()


class HttpClient:
    """
    Connections, as many as are needed at a time, of one event loop from the first on until it is
    closed.
    """

    def __init__(self, *, idle_s: float = IDLE_S, tls: ssl.SSLContext | None = None) -> None:
        """
        Args:
            idle_s: How long a connection is kept unused; twice that at most.
            tls: Whom to believe; None: whom the system does.
        """  # fmt: skip
        self._idle_s = idle_s
        self._given_tls = tls
        self._idle: defaultdict[Origin, list[Connection]] = defaultdict(list)
        self._open: set[Connection] = set()
        self._timer: asyncio.TimerHandle | None = None

    def idle(self, origin: Origin) -> Connection | None:
        """Return a connection that nobody uses, the one that was used last; None: there is none."""
        kept = self._idle[origin]
        while kept:
            connection = kept.pop()
            if connection.is_usable:
                return connection
        return None

    async def connect(self, origin: Origin) -> Connection:
        """
        Make a connection.

        Raises:
            OSError: None can be made.
        """
        loop = asyncio.get_running_loop()
        try:
            addresses = await loop.getaddrinfo(
                origin.host, origin.port, type=socket.SOCK_STREAM, proto=socket.IPPROTO_TCP
            )
        except UnicodeError as error:
            raise HttpError("the host's name is none") from error
        connected = await aiohappyeyeballs.start_connection(
            addresses, happy_eyeballs_delay=SECOND_ADDRESS_AFTER_S, interleave=1, loop=loop
        )
        try:
            # A provider that is gone without a word is noticed, if late.
            connected.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
            _, connection = await loop.create_connection(
                lambda: Connection(origin, loop, self),
                sock=connected,
                ssl=self._tls if origin.is_tls else None,
                server_hostname=origin.host if origin.is_tls else None,
            )
        except BaseException:
            connected.close()
            raise
        if not connection.is_usable:
            raise HttpError("the connection was closed at once")
        self._open.add(connection)
        return connection

    def keep(self, connection: Connection) -> None:
        """Take back a connection whose answer has come."""
        connection.idle_since_s = connection.loop.time()
        self._idle[connection.origin].append(connection)
        if self._timer is None:
            self._timer = connection.loop.call_later(self._idle_s, self._sweep)

    def forget(self, connection: Connection) -> None:
        """Note that a connection was lost."""
        self._open.discard(connection)
        kept = self._idle[connection.origin]
        if connection in kept:
            kept.remove(connection)

    async def aclose(self) -> None:
        """Close all connections, those in use too."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        closing = list(self._open)
        for connection in closing:
            connection.abort()
        await asyncio.gather(*(connection.closed for connection in closing))

    def _sweep(self) -> None:
        self._timer = None
        loop = asyncio.get_running_loop()
        too_old_s = loop.time() - self._idle_s
        for connection in [each for kept in self._idle.values() for each in kept]:
            if connection.idle_since_s <= too_old_s:
                self._idle[connection.origin].remove(connection)
                connection.abort()
        if any(self._idle.values()):
            self._timer = loop.call_later(self._idle_s, self._sweep)

    @cached_property
    def _tls(self) -> ssl.SSLContext:
        """Made once, when it is needed: reading all certificates takes some 20 ms."""
        context = self._given_tls or ssl.create_default_context()
        context.set_alpn_protocols(["http/1.1"])
        return context
