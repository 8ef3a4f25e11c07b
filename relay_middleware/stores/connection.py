"""
The connection to Redis: short time-outs, few retries, errors in our own words.
"""

import time
from collections.abc import Callable, Mapping, Sequence
from functools import cache
from importlib.resources import files
from typing import Any, Protocol
from urllib.parse import urlsplit

from redis.asyncio import BlockingConnectionPool, Redis
from redis.asyncio.connection import parse_url
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.commands.core import AsyncScript
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import RedisError, ResponseError
from redis.exceptions import TimeoutError as RedisTimeoutError

from relay_middleware.errors import (
    ConfigurationError,
    NothingChangedError,
    StoreUnavailableError,
)

COMMAND_TIMEOUT_S = 0.25
"""Longest wait for one command, from when it is written."""

MAX_CONNECTIONS = 16
"""Of one process: a command takes a fraction of a millisecond, and a burst of requests at the start
must not spend its time on making connections."""

LATE_S = 0.1
"""When a time-out is noticed so much later than it was due, the event loop stood still, and Redis
may well have answered in time."""

POOL_TIMEOUT_S = 5.0
"""Longest wait for a free connection: a queue of ours, which says nothing about Redis."""

NO_EVICTION = "noeviction"
"""The one `maxmemory-policy` under which nothing is forgotten before its time."""

Reply = Sequence[bytes] | bytes | int


class NoConnectionError(NothingChangedError):
    """All connections of the pool are in use: a queue of ours, which says nothing about Redis."""


class Scripts(Protocol):
    """
    Runs the scripts in `lua/`: all that the spend store needs of Redis.
    """

    async def start(self) -> None:
        """
        Ask whether Redis is there and keeps what it is told. May be called again.

        Raises:
            ConfigurationError: It may evict keys.
            StoreUnavailableError: It is not there.
        """
        ...

    async def aclose(self) -> None:
        """Close all connections."""
        ...

    async def call(self, name: str, keys: Sequence[str], args: Sequence[str]) -> Reply:
        """
        Run the script *name*, atomically.

        Raises:
            StoreUnavailableError: It did not answer in time; whether it ran is unknown.
        """
        ...


def connection_pool(redis_url: str) -> BlockingConnectionPool:
    """
    Return a pool for *redis_url* that makes its connections when they are needed.

    redis-py's own retries are off: they repeat commands whose reply was lost, up to ten times.

    Raises:
        ConfigurationError: It is no address of a Redis.
    """
    options_of(redis_url)
    return BlockingConnectionPool.from_url(
        redis_url,
        max_connections=MAX_CONNECTIONS,
        timeout=POOL_TIMEOUT_S,
        socket_timeout=COMMAND_TIMEOUT_S,
        socket_connect_timeout=COMMAND_TIMEOUT_S,
        retry=Retry(NoBackoff(), 0),
        retry_on_error=[],
        # Saying who we are takes half the time of a connect (107 to 55 ms for 64, measured), and a
        # burst after the start makes all of them at once, within one time-out.
        driver_info=None,
    )


def options_of(redis_url: str) -> Mapping[str, Any]:
    """
    Return what *redis_url* asks for, by redis-py's names.

    Raises:
        ConfigurationError: It is no address of a Redis.
    """
    try:
        return {**parse_url(redis_url)}
    except ValueError:
        # Without its text: a password with an odd character is taken for a port, and shown.
        raise ConfigurationError(
            "redis_url is no address of a Redis. It is written redis://:PASSWORD@HOST:6379/0,"
            " rediss://... or unix:///PATH, with odd characters of the password as %23 and the like"
        ) from None


def address_of(redis_url: str) -> str:
    """Return where *redis_url* points, without what is secret in it."""
    parts = urlsplit(redis_url)
    if parts.hostname is None:
        return parts.path
    return f"{parts.hostname}:{parts.port or 6379}"


def require_no_eviction(address: str, policy: str) -> None:
    """
    Look at the `maxmemory-policy` of the Redis at *address*.

    Raises:
        ConfigurationError: It may evict keys.
    """
    if policy != NO_EVICTION:
        raise ConfigurationError(
            f"Redis at {address} has the maxmemory-policy {policy}: it would throw away what"
            f" customers have spent. Set maxmemory-policy {NO_EVICTION}, or use a Redis of its own"
        )


# Of what happened, the kind and not the text, which may hold the URL, and with it the password.


def unanswered(address: str, kind: str) -> StoreUnavailableError:
    """Say that the Redis at *address* could not be asked, or said nothing."""
    return StoreUnavailableError(
        f"Redis at {address} did not answer ({kind}). Is it running, and is redis_url right?"
    )


def refused(address: str, kind: str) -> StoreUnavailableError:
    """Say that the Redis at *address* is there and said no."""
    return StoreUnavailableError(
        f"Redis at {address} refused a command ({kind}). Is it the primary, with memory left, and"
        " may this user run scripts?"
    )


class RedisScripts:
    """
    `Scripts` through redis-py.

    Attributes:
        most_at_once: Commands that can be under way.
    """

    most_at_once = MAX_CONNECTIONS

    def __init__(
        self, redis_url: str, *, monotonic_s: Callable[[], float] = time.monotonic
    ) -> None:
        # First, because it says so where that is no address.
        self._client = Redis(connection_pool=connection_pool(redis_url))
        self._address = address_of(redis_url)
        self._monotonic_s = monotonic_s
        self._scripts: dict[str, AsyncScript] = {}

    async def start(self) -> None:
        """
        Ask whether Redis is there and keeps what it is told. May be called again.

        Raises:
            ConfigurationError: It may evict keys.
            StoreUnavailableError: It is not there.
        """
        try:
            memory = await self._client.info("memory")
        except (RedisError, OSError) as error:
            raise self._unavailable(error) from error
        require_no_eviction(self._address, memory.get("maxmemory_policy", NO_EVICTION))

    async def call(self, name: str, keys: Sequence[str], args: Sequence[str]) -> Reply:
        """
        Run the script *name*, atomically.

        Repeated once where the connection broke at once, or where it was not Redis that took the
        time: every script may be. Not after a wait.

        Raises:
            StoreUnavailableError: It did not answer in time; whether it ran is unknown.
        """
        script = self._script(name)
        began_s = self._monotonic_s()
        try:
            try:
                reply: Reply = await script(keys=keys, args=args)
            except RedisTimeoutError:
                if self._monotonic_s() - began_s < COMMAND_TIMEOUT_S + LATE_S:
                    raise
                reply = await script(keys=keys, args=args)
            except RedisConnectionError as error:
                if isinstance(error.__cause__, TimeoutError):
                    # A second wait is not an immediate try.
                    raise NoConnectionError(
                        f"no connection to Redis at {self._address} became free in time"
                    ) from error
                reply = await script(keys=keys, args=args)
        except (RedisError, OSError) as error:
            raise self._unavailable(error) from error
        return reply

    async def aclose(self) -> None:
        """Close all connections."""
        await self._client.aclose(close_connection_pool=True)
        await self._client.connection_pool.disconnect()

    def _script(self, name: str) -> AsyncScript:
        script = self._scripts.get(name)
        if script is None:
            script = self._scripts[name] = self._client.register_script(source_of(name))
        return script

    def _unavailable(self, error: Exception) -> StoreUnavailableError:
        say = refused if isinstance(error, ResponseError) else unanswered
        return say(self._address, type(error).__name__)


@cache
def source_of(name: str) -> str:
    """Return the text of the script *name*, with what all of them share before it."""
    folder = files("relay_middleware.stores").joinpath("lua")
    return "".join(folder.joinpath(f"{part}.lua").read_text("utf-8") for part in ("shared", name))
