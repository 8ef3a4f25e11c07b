"""
All scripts on one connection: what is called in one turn of the event loop is written together.

For a Redis by itself, by TCP or by a socket of this machine. TLS, and whatever else a URL may ask
of redis-py, is left to `RedisScripts`; `can_multiplex` says which URLs are whose.
"""

import asyncio
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from hashlib import sha1
from typing import Any, Self

import hiredis
from redis.asyncio.connection import SSLConnection

from relay_middleware.errors import StoreUnavailableError
from relay_middleware.stores.connection import (
    COMMAND_TIMEOUT_S,
    LATE_S,
    NO_EVICTION,
    POOL_TIMEOUT_S,
    NoConnectionError,
    Reply,
    address_of,
    options_of,
    refused,
    require_no_eviction,
    source_of,
    unanswered,
)
from relay_middleware.stores.link import MAX_UNANSWERED, Command, Link

MAX_WAITING = 10_000
"""Commands that wait for their turn; some 20 MB of them."""

_UNDERSTOOD = frozenset(
    {
        *("connection_class", "host", "port", "path", "db", "username", "password", "protocol"),
        *("socket_timeout", "socket_connect_timeout"),
    }
)

_OLD_PROTOCOL = 2


def can_multiplex(redis_url: str) -> bool:
    """
    Say whether all that *redis_url* asks for is understood here.

    Raises:
        ConfigurationError: It is no address of a Redis.
    """
    options = options_of(redis_url)
    return (
        options.keys() <= _UNDERSTOOD
        and options.get("connection_class") is not SSLConnection
        and options.get("protocol", _OLD_PROTOCOL) == _OLD_PROTOCOL
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Endpoint:
    """
    Where a Redis is, and what it is told first.

    Attributes:
        path: Of a socket of this machine; None: host and port.
        greeting: Commands that precede all others: who we are, which database.
        timeout_s: Longest wait for a reply.
        connect_timeout_s: Longest wait for a connection, greeted.
    """

    host: str
    port: int
    path: str | None
    greeting: Sequence[tuple[str, ...]]
    timeout_s: float
    connect_timeout_s: float

    @classmethod
    def of(cls, redis_url: str) -> Self:
        """
        Read *redis_url* as redis-py does.

        Raises:
            ConfigurationError: It is no address of a Redis.
        """
        options = options_of(redis_url)
        greeting: list[tuple[str, ...]] = []
        password = options.get("password") or ""
        if options.get("username"):
            # Alone it would be taken for the password of the default user.
            greeting.append(("AUTH", options["username"], password))
        elif password:
            greeting.append(("AUTH", password))
        if options.get("db"):
            greeting.append(("SELECT", str(options["db"])))
        return cls(
            host=options.get("host", "localhost"),
            port=options.get("port", 6379),
            path=options.get("path"),
            greeting=greeting,
            timeout_s=options.get("socket_timeout", COMMAND_TIMEOUT_S),
            connect_timeout_s=options.get("socket_connect_timeout", COMMAND_TIMEOUT_S),
        )


class Multiplexer:
    """
    Puts the commands of all callers on one connection, which is made when it is needed.

    Of one event loop, from the first command until it is closed; then of any other.
    """

    def __init__(self, endpoint: Endpoint) -> None:
        self._endpoint = endpoint
        self._waiting: deque[Command] = deque()
        self._is_flushing = False
        self._loop: asyncio.AbstractEventLoop | None = None
        self._link: Link | None = None
        self._connecting: asyncio.Task[Link] | None = None

    def ask(self, parts: tuple[str, ...]) -> asyncio.Future[Any]:
        """
        Send a command; the future is its reply.

        It fails with TimeoutError where there is none in time, with another OSError where the
        connection is lost. Whoever cancels it is rid of the reply, not of the command.

        Raises:
            NoConnectionError: Too many wait already.
        """
        if len(self._waiting) >= MAX_WAITING:
            raise NoConnectionError(f"{MAX_WAITING} commands wait for their turn at Redis already")
        # To ask for it costs a call of the system's, until Python 3.12.
        loop = self._loop = self._loop or asyncio.get_running_loop()
        command = _command(parts, loop)
        self._waiting.append(command)
        if not self._is_flushing:
            self._is_flushing = True
            loop.call_soon(self._flush)
        return command.reply

    async def aclose(self) -> None:
        """Close the connection; what waits for a reply fails. The next command makes a new one."""
        error = StoreUnavailableError("the connection to Redis was closed here")
        self._fail_waiting(error)
        connecting, self._connecting = self._connecting, None
        if connecting is not None:
            connecting.cancel()
            await asyncio.wait({connecting})
        link, self._link = self._link, None
        if link is not None:
            await link.aclose(error)
        self._loop = None

    def _flush(self) -> None:
        """Write what waits, as much as there is room for."""
        self._is_flushing = False
        waiting = self._waiting
        if not waiting:
            return
        link = self._link
        if link is None or link.is_lost:
            self._connect()
            return
        room = link.room
        commands: list[Command] = []
        while waiting and len(commands) < room:
            command = waiting.popleft()
            # Nobody waits for it any more, and it was not sent: it never is.
            if not command.reply.done():
                commands.append(command)
        if commands:
            link.write(commands)
        if waiting:
            self._fail_late()

    def _connect(self) -> None:
        if self._connecting is None:
            self._connecting = asyncio.get_running_loop().create_task(self._open())
            self._connecting.add_done_callback(self._connected)

    def _connected(self, connecting: asyncio.Task[Link]) -> None:
        if connecting.cancelled():
            return
        self._connecting = None
        error = connecting.exception()
        if error is None:
            self._link = connecting.result()
            if self._link.is_lost:
                # Not tried again from here: whoever closes what has just been made may go on so.
                error = ConnectionResetError("the connection was closed at once")
        if error is None:
            self._flush()
        else:
            self._fail_waiting(error)

    async def _open(self) -> Link:
        loop = asyncio.get_running_loop()
        began_s = loop.time()
        try:
            return await self._open_in_time()
        except TimeoutError:
            if loop.time() - began_s < self._endpoint.connect_timeout_s + LATE_S:
                raise
            # It was not Redis that took the time, but whoever held the loop up.
            return await self._open_in_time()

    async def _open_in_time(self) -> Link:
        endpoint = self._endpoint
        loop = asyncio.get_running_loop()
        make = partial(Link, timeout_s=endpoint.timeout_s, on_change=self._flush)
        async with asyncio.timeout(endpoint.connect_timeout_s):
            try:
                if endpoint.path is None:
                    _, link = await loop.create_connection(make, endpoint.host, endpoint.port)
                else:
                    _, link = await loop.create_unix_connection(make, endpoint.path)
            except UnicodeError as error:
                raise OSError("the host's name is none") from error
            try:
                await _greet(link, endpoint.greeting)
            except BaseException as error:
                await link.aclose(ConnectionAbortedError(type(error).__name__))
                raise
        return link

    def _fail_waiting(self, error: BaseException) -> None:
        waiting, self._waiting = self._waiting, deque()
        for command in waiting:
            if not command.reply.done():
                command.reply.set_exception(error)

    def _fail_late(self) -> None:
        """A queue that Redis is too slow for must not hold anybody for ever."""
        waiting = self._waiting
        earliest_s = asyncio.get_running_loop().time() - POOL_TIMEOUT_S
        while waiting and waiting[0].since_s < earliest_s:
            reply = waiting.popleft().reply
            if not reply.done():
                reply.set_exception(NoConnectionError("no turn at Redis came in time"))


def _command(parts: tuple[str, ...], loop: asyncio.AbstractEventLoop) -> Command:
    # Typed by hiredis as a tuple of one.
    data: bytes = hiredis.pack_command(parts)  # type: ignore[arg-type]
    return Command(data, loop.create_future(), loop.time())


async def _greet(link: Link, greeting: Sequence[tuple[str, ...]]) -> None:
    if not greeting:
        return
    loop = asyncio.get_running_loop()
    commands = [_command(parts, loop) for parts in greeting]
    link.write(commands)
    for reply in await asyncio.gather(*(command.reply for command in commands)):
        if isinstance(reply, hiredis.ReplyError):
            raise reply


@dataclass(frozen=True, slots=True)
class _Script:
    source: str
    digest: str


class MultiplexedScripts:
    """
    `Scripts` on one connection.

    Attributes:
        most_at_once: Commands that can be under way.
    """

    most_at_once = MAX_UNANSWERED

    def __init__(self, redis_url: str) -> None:
        # First, because it says so where that is no address.
        self._multiplexer = Multiplexer(Endpoint.of(redis_url))
        self._address = address_of(redis_url)
        self._scripts: dict[str, _Script] = {}

    async def start(self) -> None:
        """
        Ask whether Redis is there and keeps what it is told. May be called again.

        Raises:
            ConfigurationError: It may evict keys.
            StoreUnavailableError: It is not there.
        """
        memory = await self._answer(("INFO", "memory"))
        if isinstance(memory, hiredis.ReplyError):
            raise refused(self._address, _code(memory)) from memory
        require_no_eviction(self._address, _policy(memory))

    async def call(self, name: str, keys: Sequence[str], args: Sequence[str]) -> Reply:
        """
        Run the script *name*, atomically.

        Repeated once where the connection broke at once: every script may be. Not after a wait.

        Raises:
            StoreUnavailableError: It did not answer in time; whether it ran is unknown.
        """
        script = self._script(name)
        rest = (str(len(keys)), *keys, *args)
        reply = await self._answer(("EVALSHA", script.digest, *rest))
        if isinstance(reply, hiredis.ReplyError) and _code(reply) == "NOSCRIPT":
            # This keeps the script, too.
            reply = await self._answer(("EVAL", script.source, *rest))
        if isinstance(reply, hiredis.ReplyError):
            raise refused(self._address, _code(reply)) from reply
        answer: Reply = reply
        return answer

    async def aclose(self) -> None:
        """Close the connection."""
        await self._multiplexer.aclose()

    async def _answer(self, parts: tuple[str, ...]) -> Any:
        try:
            try:
                return await self._multiplexer.ask(parts)
            except TimeoutError:
                # A second wait is not an immediate try.
                raise
            except OSError:
                return await self._multiplexer.ask(parts)
        except hiredis.ReplyError as error:
            # To the greeting.
            raise refused(self._address, _code(error)) from error
        except (OSError, hiredis.ProtocolError) as error:
            raise unanswered(self._address, type(error).__name__) from error

    def _script(self, name: str) -> _Script:
        script = self._scripts.get(name)
        if script is None:
            source = source_of(name)
            digest = sha1(source.encode(), usedforsecurity=False).hexdigest()
            script = self._scripts[name] = _Script(source, digest)
        return script


def _code(reply: hiredis.ReplyError) -> str:
    """Return the word that an error begins with; the rest may hold what is secret."""
    word, _, _ = str(reply).partition(" ")
    return word if word.isalpha() and word.isupper() else "an error"


def _policy(memory: bytes) -> str:
    for line in memory.decode().splitlines():
        name, _, value = line.partition(":")
        if name == "maxmemory_policy":
            return value
    # Of a server that does not say, as some services keep it to themselves.
    return NO_EVICTION
