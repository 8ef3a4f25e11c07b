"""
The connection to a Redis that misbehaves: one error of ours, few tries, short waits.
"""

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import hiredis
import pytest
import redis.exceptions
from fixtures.spend import SCRIPTS

from relay_middleware.composition import scripts_of
from relay_middleware.errors import ConfigurationError, StoreUnavailableError
from relay_middleware.stores import connection
from relay_middleware.stores.connection import NoConnectionError, RedisScripts, Scripts
from relay_middleware.stores.multiplexed import MultiplexedScripts

pytestmark = pytest.mark.anyio

GONE = b""
"""Closes the connection instead of an answer."""
SILENCE = None
"""Never answers."""


@dataclass(slots=True)
class ScriptedRedis:
    """
    Attributes:
        replies: What each script is answered with, in turn; the last one again and again.
        runs: How many scripts it was asked to run.
    """

    replies: Sequence[bytes | None]
    url: str = ""
    runs: int = 0
    closing: asyncio.Event = field(default_factory=asyncio.Event)

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while True:
                reply = await self._reply_to(await read_command(reader))
                if not reply:
                    break
                writer.write(reply)
        except (ConnectionError, asyncio.IncompleteReadError):
            pass
        finally:
            writer.close()

    async def _reply_to(self, command: bytes) -> bytes:
        if command not in {b"EVALSHA", b"EVAL"}:
            return b"+OK\r\n"
        reply = self.replies[min(self.runs, len(self.replies) - 1)]
        self.runs += 1
        if reply is SILENCE:
            await self.closing.wait()
            return GONE
        return reply


async def read_command(reader: asyncio.StreamReader) -> bytes:
    """Read one command of the protocol; return its name."""
    parts = []
    for _ in range(int((await reader.readuntil())[1:])):
        length = int((await reader.readuntil())[1:])
        parts.append((await reader.readexactly(length + 2))[:-2])
    return parts[0].upper()


@asynccontextmanager
async def scripted_redis(*replies: bytes | None) -> AsyncIterator[ScriptedRedis]:
    """Serve *replies* on a free port of 127.0.0.1."""
    scripted = ScriptedRedis(replies)
    server = await asyncio.start_server(scripted.serve, "127.0.0.1", 0)
    # The second version of the protocol begins without a handshake.
    scripted.url = f"redis://127.0.0.1:{server.sockets[0].getsockname()[1]}?protocol=2"
    try:
        yield scripted
    finally:
        scripted.closing.set()
        server.close()


@pytest.fixture(name="make", params=SCRIPTS)
def _make(request: pytest.FixtureRequest) -> Callable[[str], Scripts]:
    """
    Every way to Redis, one at a time.
    """
    return SCRIPTS[request.param]


async def run(scripts: Scripts) -> connection.Reply:
    return await scripts.call("raise_to", ["account"], ["1", "0", ""])


@pytest.mark.parametrize(
    "reply",
    [
        b"-ERR user_script:17: value is not an integer",
        b"-BUSY Redis is busy running a script",
        b"-CLUSTERDOWN The cluster is down",
        b"-LOADING Redis is loading the dataset in memory",
        b"-MASTERDOWN Link with MASTER is down",
        b"-MISCONF Redis is configured to save RDB snapshots",
        b"-MOVED 1 127.0.0.1:1",
        b"-NOAUTH Authentication required.",
        b"-NOPERM this user has no permissions",
        b"-NOSCRIPT No matching script.",
        b"-OOM command not allowed when used memory > 'maxmemory'.",
        b"-READONLY You can't write against a read only replica.",
        b"-TRYAGAIN Multiple keys request during rehashing of slot",
        b"?what is this",
    ],
    ids=lambda reply: reply.split()[0].decode(),
)
async def test_what_redis_refuses_with_is_one_error(
    make: Callable[[str], Scripts], reply: bytes
) -> None:
    """
    Whatever Redis answers instead of a result, the caller sees `StoreUnavailableError` with the
    address and without Redis's own text, and finds the vendor's error as its cause.
    """
    async with scripted_redis(reply + b"\r\n") as scripted:
        scripts = make(scripted.url)

        with pytest.raises(StoreUnavailableError, match=r"^Redis at 127\.0\.0\.1:") as raised:
            await run(scripts)
        await scripts.aclose()

    assert isinstance(raised.value.__cause__, redis.RedisError | hiredis.HiredisError)
    assert reply.decode() not in str(raised.value)


def test_all_that_the_vendor_raises_is_caught() -> None:
    """
    Every exception of redis-py is a `RedisError`, which is translated, but for those of its cluster
    client, its locks across forks, and its policies, none of which is used.
    """
    others = {
        name
        for name, each in vars(redis.exceptions).items()
        if isinstance(each, type)
        and issubclass(each, Exception)
        and not issubclass(each, redis.RedisError)
    }

    assert others == {
        "ChildDeadlockedError",
        "CrossSlotTransactionError",
        "IncorrectPolicyType",
        "InvalidPipelineStack",
        "RedisClusterException",
        "SlotNotCoveredError",
    }


async def test_a_refused_command_is_not_said_to_be_unanswered(
    make: Callable[[str], Scripts],
) -> None:
    """
    A Redis that is there and says no is not to be looked for: the message says that it refused.
    """
    async with scripted_redis(b"-OOM no memory\r\n") as scripted:
        scripts = make(scripted.url)

        with pytest.raises(StoreUnavailableError, match=r"refused a command \(OutOf|OOM\)"):
            await run(scripts)
        await scripts.aclose()


async def test_a_broken_connection_is_tried_once_more(make: Callable[[str], Scripts]) -> None:
    """
    The connection breaks and the next one answers: the caller sees the answer. Two tries.
    """
    async with scripted_redis(GONE, b":7\r\n") as scripted:
        scripts = make(scripted.url)

        assert await run(scripts) == 7
        await scripts.aclose()

    assert scripted.runs == 2


async def test_a_connection_that_always_breaks_is_tried_twice(
    make: Callable[[str], Scripts],
) -> None:
    """
    redis-py's own retries are off (SPEND A3: they made one +100 into +400): two tries, no more.
    """
    async with scripted_redis(GONE) as scripted:
        scripts = make(scripted.url)

        with pytest.raises(StoreUnavailableError, match="did not answer"):
            await run(scripts)
        await scripts.aclose()

    assert scripted.runs == 2


@pytest.mark.slow
async def test_silence_is_waited_for_once(make: Callable[[str], Scripts]) -> None:
    """
    No answer within 250 ms is an error at once; a second try would wait as long again.
    """
    async with scripted_redis(SILENCE) as scripted:
        scripts = make(scripted.url)

        with pytest.raises(StoreUnavailableError, match=r"did not answer \(TimeoutError\)"):
            async with asyncio.timeout(2):
                await run(scripts)
        await scripts.aclose()

    assert scripted.runs == 1


@pytest.mark.slow
async def test_a_wait_that_was_not_for_redis_is_no_wait() -> None:
    """
    The time-out of 250 ms is noticed after half a second, because somebody kept the event loop
    busy: the command is tried once more.
    """
    moments_s = iter([100.0, 100.5])
    async with scripted_redis(SILENCE, b":7\r\n") as scripted:
        scripts = RedisScripts(scripted.url, monotonic_s=lambda: next(moments_s))

        assert await run(scripts) == 7
        await scripts.aclose()

    assert scripted.runs == 2


@pytest.mark.slow
async def test_the_queue_for_a_connection_is_waited_in_once(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """
    One connection, busy for 250 ms: who has waited 150 ms for it gives up. With a second wait it
    would get the connection, and Redis a second command.
    """
    monkeypatch.setattr(connection, "MAX_CONNECTIONS", 1)
    monkeypatch.setattr(connection, "POOL_TIMEOUT_S", 0.15)
    async with scripted_redis(SILENCE) as scripted:
        scripts = RedisScripts(scripted.url)
        results = await asyncio.gather(run(scripts), run(scripts), return_exceptions=True)
        await scripts.aclose()

    assert [type(result) for result in results] == [StoreUnavailableError, NoConnectionError]
    assert scripted.runs == 1


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("redis://cache:6379/0", MultiplexedScripts),
        ("unix:///run/redis.sock", MultiplexedScripts),
        ("rediss://cache:6379/0", RedisScripts),
        ("redis://cache:6379/0?max_connections=50", RedisScripts),
    ],
)
def test_the_url_says_which_way(url: str, expected: type) -> None:
    """
    One connection for all where that can do what the URL asks for, else redis-py's pool.
    """
    assert type(scripts_of(url)) is expected


@pytest.mark.parametrize(
    "url",
    [
        "http://127.0.0.1:6379",
        "redis://127.0.0.1:port",
        "redis://127.0.0.1:6379?socket_timeout=soon",
        "redis://:hunter2#secret@127.0.0.1:6379",
    ],
)
def test_what_is_no_address_is_said(make: Callable[[str], Scripts], url: str) -> None:
    """
    A scheme, port or option that cannot be is said in words; the text may hold a password, and is
    not shown.
    """
    with pytest.raises(ConfigurationError, match=r"redis_url is no address") as raised:
        make(url)

    assert "hunter2" not in str(raised.value)
