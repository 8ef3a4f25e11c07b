"""
Scratch keys in a real Redis: none is left behind, and nobody else's is touched.
"""

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from urllib.parse import urlsplit

import pytest
from fixtures.redis_server import PATIENCE
from redis.asyncio import Redis

from relay_middleware.errors import ConfigurationError, RelayError, StoreUnavailableError
from relay_middleware.stores.keys import Keys
from relay_middleware.stores.scratch import ScratchKeys

pytestmark = [pytest.mark.anyio, pytest.mark.redis]

KEYS = Keys("relay-scratch")


@pytest.fixture(name="client")
async def _client(redis_url: str) -> AsyncIterator[Redis]:
    async with Redis.from_url(redis_url, decode_responses=True) as client:
        yield client


@asynccontextmanager
async def scratch_at(redis_url: str) -> AsyncIterator[ScratchKeys]:
    scratch = ScratchKeys(redis_url, KEYS)
    try:
        yield scratch
    finally:
        await scratch.aclose()


async def names(client: Redis) -> set[str]:
    return {name async for name in client.scan_iter()}


async def test_only_what_begins_like_ours_is_removed(client: Redis, redis_url: str) -> None:
    """
    Of 3,000 keys under the prefix none is left; those that only look alike are.
    """
    others = {"relay:{00}:epoch", "relay-scratch2:{00}:epoch", "relay-scratch"}
    async with client.pipeline() as pipeline:
        for i in range(3000):
            pipeline.set(f"relay-scratch:{i}", "x")
        for other in others:
            pipeline.set(other, "x")
        await pipeline.execute()

    async with scratch_at(redis_url) as scratch:
        assert await scratch.remove() == 3000
        assert await scratch.remove() == 0

    assert await names(client) == others


async def test_what_the_ledger_has_not_got_is_counted(client: Redis, redis_url: str) -> None:
    """
    Two entries in one bucket and one in another are three; those of another Relay are not ours.
    """
    for keys, bucket in ((KEYS, 0), (KEYS, 0), (KEYS, 63), (Keys("relay"), 0)):
        await client.xadd(keys.journal(bucket), {"entry": "x"})

    async with scratch_at(redis_url) as scratch:
        assert await scratch.journal_entries() == 3


async def test_a_check_leaves_nothing(client: Redis, redis_url: str) -> None:
    """
    A Redis that will do is left as it was.
    """
    async with scratch_at(redis_url) as scratch:
        await scratch.check()

    assert await names(client) == set()


@pytest.mark.parametrize(
    ("rights", "words", "kind"),
    [
        ("+@all -@scripting", "may this user run scripts", StoreUnavailableError),
        ("+@all -@stream", "must be allowed streams", ConfigurationError),
        ("+@all -scan", r"refused a command .*SCAN", ConfigurationError),
        ("+@all -unlink", r"refused a command .*UNLINK", ConfigurationError),
    ],
    ids=["scripts", "streams", "scan", "unlink"],
)
async def test_a_user_who_may_not(
    client: Redis, redis_url: str, rights: str, words: str, kind: type[RelayError]
) -> None:
    """
    What Relay does and the user may not is said before anything begins, and never the password.
    """
    await client.execute_command(
        "ACL", "SETUSER", "scratch", "on", ">hunter2", "~*", *rights.split()
    )
    url = f"redis://scratch:hunter2@127.0.0.1:{urlsplit(redis_url).port}?{PATIENCE}"
    try:
        async with scratch_at(url) as scratch:
            with pytest.raises(kind, match=words) as raised:
                await scratch.check()
    finally:
        await client.execute_command("ACL", "DELUSER", "scratch")

    assert "hunter2" not in str(raised.value)


async def test_nobody_there_is_said() -> None:
    """
    Where nobody listens, each question says so, in words.
    """
    async with scratch_at("redis://127.0.0.1:1") as scratch:
        asked: tuple[Callable[[], object], ...] = (
            scratch.check,
            scratch.remove,
            scratch.journal_entries,
        )
        for ask in asked:
            with pytest.raises(StoreUnavailableError, match=r"127\.0\.0\.1:1 did not answer"):
                await ask()
