"""
The connection to Redis: short time-outs, few retries, errors in our own words.
"""

from collections.abc import Sequence
from functools import cache
from importlib.resources import files
from typing import Protocol
from urllib.parse import urlsplit

from redis.asyncio import BlockingConnectionPool, Redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.commands.core import AsyncScript
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import RedisError, ResponseError

from relay_middleware.errors import StoreUnavailableError

COMMAND_TIMEOUT_S = 0.25
"""Longest wait for one command, from when it is written."""

MAX_CONNECTIONS = 16
"""Of one process: a command takes a fraction of a millisecond, and a burst of requests at the start
must not spend its time on making connections."""

POOL_TIMEOUT_S = 5.0
"""Longest wait for a free connection: a queue of ours, which says nothing about Redis."""

Reply = Sequence[bytes] | bytes | int


class Scripts(Protocol):
    """
    Runs the scripts in `lua/`: all that the spend store needs of Redis.
    """

    async def ping(self) -> None:
        """
        Ask whether Redis is there.

        Raises:
            StoreUnavailableError: It is not.
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
    """
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


def address_of(redis_url: str) -> str:
    """Return where *redis_url* points, without what is secret in it."""
    parts = urlsplit(redis_url)
    if parts.hostname is None:
        return parts.path
    return f"{parts.hostname}:{parts.port or 6379}"


class RedisScripts:
    """`Scripts` through redis-py."""

    def __init__(self, redis_url: str) -> None:
        self._address = address_of(redis_url)
        self._client = Redis(connection_pool=connection_pool(redis_url))
        self._scripts: dict[str, AsyncScript] = {}

    async def ping(self) -> None:
        """
        Ask whether Redis is there.

        Raises:
            StoreUnavailableError: It is not.
        """
        try:
            await self._client.ping()
        except (RedisError, OSError) as error:
            raise self._unavailable(error) from error

    async def call(self, name: str, keys: Sequence[str], args: Sequence[str]) -> Reply:
        """
        Run the script *name*, atomically.

        Repeated once where the connection broke at once: every script may be. Not after a wait.

        Raises:
            StoreUnavailableError: It did not answer in time; whether it ran is unknown.
        """
        script = self._script(name)
        try:
            try:
                reply: Reply = await script(keys=keys, args=args)
            except RedisConnectionError as error:
                if isinstance(error.__cause__, TimeoutError):
                    # No connection of the pool became free: a second wait is not an immediate try.
                    raise
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
        # The vendor's text may hold the URL, and with it the password.
        if isinstance(error, ResponseError):
            return StoreUnavailableError(
                f"Redis at {self._address} refused a command ({type(error).__name__}). Is it the"
                " primary, with memory left, and may this user run scripts?"
            )
        return StoreUnavailableError(
            f"Redis at {self._address} did not answer ({type(error).__name__}). Is it running, and"
            " is redis_url right?"
        )


@cache
def source_of(name: str) -> str:
    """Return the text of the script *name*, with what it shares with others before it."""
    folder = files("relay_middleware.stores").joinpath("lua")
    shared = folder.joinpath("balances.lua").read_text("utf-8")
    source = folder.joinpath(f"{name}.lua").read_text("utf-8")
    return shared + source if "balance" in source else source
