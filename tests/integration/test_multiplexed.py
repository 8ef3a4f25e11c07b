"""
All scripts on one connection: what is sent, what is tried again, and what is left at the end.
"""

import asyncio
import tempfile
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from fixtures.answering_redis import (
    GONE,
    answering_on,
    answering_redis,
    with_nothing,
    with_one,
)
from redis.asyncio import Redis

from relay_middleware.errors import StoreUnavailableError
from relay_middleware.stores import link, multiplexed
from relay_middleware.stores.connection import NoConnectionError, Reply, source_of
from relay_middleware.stores.multiplexed import Endpoint, MultiplexedScripts, can_multiplex

pytestmark = pytest.mark.anyio


@pytest.fixture(params=["asyncio", "uvloop"])
def anyio_backend(request: pytest.FixtureRequest) -> tuple[str, dict[str, bool]]:
    """
    Both loops that Relay is served by.
    """
    return "asyncio", {"use_uvloop": request.param == "uvloop"}


@asynccontextmanager
async def opened(url: str) -> AsyncIterator[MultiplexedScripts]:
    scripts = MultiplexedScripts(url)
    try:
        yield scripts
    finally:
        await scripts.aclose()


async def run(scripts: MultiplexedScripts, key: str = "k") -> Reply:
    return await scripts.call("generation", [key], [])


async def run_many(scripts: MultiplexedScripts, count: int) -> list[Reply | type]:
    """Run *count* scripts at once; return what came of each, an error by its type."""
    found = await asyncio.gather(
        *(run(scripts, str(i)) for i in range(count)), return_exceptions=True
    )
    return [type(each) if isinstance(each, BaseException) else each for each in found]


def after(*answers: bytes | None) -> Callable[[list[str]], bytes | None]:
    """Answer with *answers*, in turn, then with 1."""
    left = list(answers)
    return lambda command: left.pop(0) if left else with_one(command)


async def test_what_is_called_together_is_sent_together() -> None:
    """
    50 scripts at once are one connection and one piece of bytes; the next one is another.
    """
    async with answering_redis() as redis, opened(redis.url) as scripts:
        assert await run_many(scripts, 50) == [1] * 50
        await run(scripts)

    assert redis.connections == 1
    assert redis.pieces == [50, 1]


async def test_each_caller_has_its_own_reply() -> None:
    """
    Answered with their own keys, 50 callers get theirs.
    """
    async with (
        answering_redis(lambda command: f":{command[3]}\r\n".encode()) as redis,
        opened(redis.url) as scripts,
    ):
        assert await run_many(scripts, 50) == list(range(50))


async def test_who_we_are_is_said_first() -> None:
    """
    User, password and database of the URL, decoded, precede the first script.
    """
    async with answering_redis() as redis:
        url = redis.url.replace("//", "//re%40lay:p%2Fw@", 1).replace("?", "/3?")
        async with opened(url) as scripts:
            await run_many(scripts, 2)

    assert redis.commands[:2] == [["AUTH", "re@lay", "p/w"], ["SELECT", "3"]]
    assert redis.names[2:] == ["EVALSHA", "EVALSHA"]


async def test_a_wrong_password_is_said_and_not_tried_again() -> None:
    """
    The code of the refusal is named, the password is not.
    """
    async with (
        answering_redis(after(b"-WRONGPASS hunter2 is wrong\r\n")) as redis,
        opened(redis.url.replace("//", "//:hunter2@")) as scripts,
    ):
        with pytest.raises(StoreUnavailableError, match=r"refused .* \(WRONGPASS\)") as raised:
            await run(scripts)

    assert redis.names == ["AUTH"]
    assert "hunter2" not in str(raised.value)


async def test_a_real_redis_is_spoken_to(redis_url: str) -> None:
    """
    A user of its own and the fifth database: what is there is found.
    """
    async with Redis.from_url(redis_url) as admin, Redis.from_url(redis_url, db=5) as fifth:
        await admin.acl_setuser(
            "relay", enabled=True, passwords=["+hunter2"], commands=["+@all"], keys=["*"]
        )
        await fifth.set("epoch", "there")
        port = urlsplit(redis_url).port
        async with opened(f"redis://relay:hunter2@127.0.0.1:{port}/5?socket_timeout=10") as scripts:
            assert await run(scripts, "epoch") == b"there"
        await admin.acl_deluser("relay")


async def test_a_socket_of_this_machine() -> None:
    """
    A `unix://` URL works as the others do.
    """
    # Of pytest's own folders the names are longer than such a path may be.
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "redis.sock"
        async with answering_on(path) as redis, opened(f"unix://{path}?db=2") as scripts:
            assert await run(scripts) == 1

    assert redis.names == ["SELECT", "EVALSHA"]


async def test_a_script_that_is_not_known_is_sent_whole() -> None:
    """
    Told that Redis does not have it, the script's text is sent, which keeps it; next time its
    digest is enough.
    """
    async with answering_redis(after(b"-NOSCRIPT no\r\n")) as redis, opened(redis.url) as scripts:
        assert [await run(scripts), await run(scripts)] == [1, 1]

    assert redis.names == ["EVALSHA", "EVAL", "EVALSHA"]
    assert redis.commands[1][1:] == [source_of("generation"), "1", "k"]


async def test_all_that_a_lost_connection_had_are_sent_again() -> None:
    """
    Five are written when the connection breaks: all five are answered by the next one.
    """
    async with answering_redis(after(GONE, *[None] * 4)) as redis, opened(redis.url) as scripts:
        assert await run_many(scripts, 5) == [1] * 5

    assert redis.connections == 2
    assert redis.pieces == [5, 5]


@pytest.mark.parametrize("is_greeted", [False, True])
async def test_a_server_that_hangs_up_at_once_is_tried_twice(*, is_greeted: bool) -> None:
    """
    What takes connections and closes them, or answers a greeting and closes them before the first
    command, is no Redis; nobody tries it for ever.
    """
    connections = []

    async def hang_up(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        connections.append(1)
        if is_greeted:
            await reader.read(1000)
            writer.write(b"+OK\r\n")
        writer.close()

    server = await asyncio.start_server(hang_up, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    user = ":hunter2@" if is_greeted else ""
    async with server, opened(f"redis://{user}127.0.0.1:{port}") as scripts, asyncio.timeout(20):
        assert await run_many(scripts, 5) == [StoreUnavailableError] * 5

    assert len(connections) == 2


async def test_a_connection_that_is_not_answered_is_tried_once() -> None:
    """
    Connected and never greeted: an error after the connection's time, without a second wait.
    """
    async with answering_redis(with_nothing) as redis:
        url = redis.url.replace("//", "//:hunter2@").replace(
            "connect_timeout=10", "connect_timeout=0.05"
        )
        async with opened(url) as scripts:
            assert await run_many(scripts, 3) == [StoreUnavailableError] * 3

    assert redis.names == ["AUTH"]


async def test_a_name_of_a_host_that_is_none() -> None:
    """
    What the machine's resolver cannot even ask for is a Redis that is not there.
    """
    async with opened("redis://cache..example") as scripts:
        with pytest.raises(StoreUnavailableError, match=r"cache\.\.example:6379 did not answer"):
            await run(scripts)


async def test_what_was_given_up_before_its_turn_is_not_sent() -> None:
    """
    Two call and one is cancelled in the same turn: Redis hears of the other only.
    """
    async with answering_redis() as redis, opened(redis.url) as scripts:
        gone = asyncio.create_task(run(scripts, "gone"))
        staying = asyncio.create_task(run(scripts, "staying"))
        await asyncio.sleep(0)
        gone.cancel()

        assert await staying == 1

    assert [command[3] for command in redis.commands] == ["staying"]


async def test_closing_fails_who_waits_and_leaves_nothing_behind() -> None:
    """
    A caller waits for a reply while all is closed: it is told, nothing is tried again, no task is
    left; and the next call makes a new connection.
    """
    async with answering_redis(after(None)) as redis:
        tasks = asyncio.all_tasks()
        scripts = MultiplexedScripts(redis.url)
        waiting = asyncio.create_task(run(scripts))
        await redis.has_asked.wait()
        await scripts.aclose()
        with pytest.raises(StoreUnavailableError, match="closed here"):
            await waiting
        await scripts.aclose()
        connections = redis.connections
        ours = {task for task in asyncio.all_tasks() - tasks if "serve" not in repr(task)}

        assert (connections, ours) == (1, set())
        assert await run(scripts) == 1
        await scripts.aclose()


async def test_closing_while_a_connection_is_made() -> None:
    """
    The greeting is not answered yet: whoever waits is told, and the attempt ends.
    """
    async with answering_redis(with_nothing) as redis:
        tasks = asyncio.all_tasks()
        scripts = MultiplexedScripts(redis.url.replace("//", "//:hunter2@"))
        waiting = asyncio.create_task(run(scripts))
        await redis.has_asked.wait()
        await scripts.aclose()
        with pytest.raises(StoreUnavailableError, match="closed here"):
            await waiting

        assert not {task for task in asyncio.all_tasks() - tasks if "serve" not in repr(task)}


async def test_the_queue_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    """
    Where two may wait, a third is refused at once: a queue of ours, which says nothing of Redis.
    """
    monkeypatch.setattr(multiplexed, "MAX_WAITING", 2)
    async with answering_redis() as redis, opened(redis.url) as scripts:
        assert await run_many(scripts, 3) == [1, 1, NoConnectionError]
        assert await run(scripts) == 1


async def test_only_so_many_are_sent_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """
    Where Redis may owe two replies, seven calls are sent as two, two, two and one.
    """
    monkeypatch.setattr(link, "MAX_UNANSWERED", 2)
    async with answering_redis() as redis, opened(redis.url) as scripts:
        assert await run_many(scripts, 7) == [1] * 7

    assert redis.pieces == [2, 2, 2, 1]


async def test_nobody_waits_for_his_turn_for_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    """
    Redis owes one reply, which is all it may, and does not give it: who was written to is told that
    it did not answer, who has not had a turn, that it is the queue.
    """
    monkeypatch.setattr(link, "MAX_UNANSWERED", 1)
    monkeypatch.setattr(multiplexed, "POOL_TIMEOUT_S", 0.01)
    async with (
        answering_redis(with_nothing) as redis,
        opened(redis.url.replace("socket_timeout=10", "socket_timeout=0.05", 1)) as scripts,
    ):
        assert await run_many(scripts, 2) == [StoreUnavailableError, NoConnectionError]


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("redis://cache", True),
        ("redis://relay:hunter2@cache:6380/3", True),
        ("unix:///run/redis.sock?db=3", True),
        ("redis://cache?socket_timeout=0.5&socket_connect_timeout=1", True),
        ("redis://cache?protocol=2", True),
        ("redis://cache?protocol=3", False),
        ("redis://cache?max_connections=50", False),
        ("redis://cache?health_check_interval=30", False),
        ("rediss://cache", False),
        ("rediss://cache?ssl_cert_reqs=none", False),
    ],
)
async def test_what_may_be_asked_for(url: str, *, expected: bool) -> None:
    """
    Whatever is not done here, TLS first of all, is redis-py's.
    """
    assert can_multiplex(url) is expected


async def test_an_endpoint_is_what_the_url_says() -> None:
    """
    Without options: port 6379, no greeting, a quarter of a second for a reply and for a connection.
    """
    assert Endpoint.of("redis://cache") == Endpoint(
        host="cache", port=6379, path=None, greeting=[], timeout_s=0.25, connect_timeout_s=0.25
    )
    assert Endpoint.of("redis://cache:6380/3?socket_timeout=2") == Endpoint(
        host="cache",
        port=6380,
        path=None,
        greeting=[("SELECT", "3")],
        timeout_s=2,
        connect_timeout_s=0.25,
    )
    # A name alone would be taken for the password of the default user.
    assert Endpoint.of("redis://bob@cache").greeting == [("AUTH", "bob", "")]
    assert Endpoint.of("redis://bob:secret@cache").greeting == [("AUTH", "bob", "secret")]
    assert Endpoint.of("redis://:secret@cache").greeting == [("AUTH", "secret")]
