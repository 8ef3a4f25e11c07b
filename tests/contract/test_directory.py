"""
Keys, customers and what operators change, over each database.
"""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from fixtures.records import AT
from sqlalchemy import text

from relay_middleware.core.identifiers import ApiKeyId, CustomerId
from relay_middleware.core.keys import KeyRight, hash_key
from relay_middleware.core.money import NanoUsd
from relay_middleware.core.periods import Period
from relay_middleware.core.tiers import Customer, CustomerStatus
from relay_middleware.errors import StoreUnavailableError
from relay_middleware.ledger import memory
from relay_middleware.ledger.database import Database
from relay_middleware.ledger.directory import TRUST_S, SqlDirectory
from relay_middleware.ledger.memory import Memory
from relay_middleware.ledger.migrations import migrate
from relay_middleware.ledger.operations import (
    CustomerChange,
    Operation,
    UnknownKeyError,
    create_key,
    reset_spend_limit,
    revoke_key,
    set_spend_limit,
    set_status,
    set_tier,
)
from relay_middleware.ledger.reports import list_customers, list_keys

pytestmark = pytest.mark.anyio

BOB = CustomerChange(customer_id=CustomerId("bob"), tier="free")


def named(operation_id: str) -> Operation:
    return Operation(operation_id=operation_id, at=AT)


@pytest.fixture(name="directory")
async def _directory(database: Database) -> AsyncIterator[SqlDirectory]:
    directory = SqlDirectory(database)
    await directory.start()
    await directory.start()
    yield directory
    await directory.aclose()
    await directory.aclose()


@pytest.mark.parametrize(
    ("right", "customer"),
    [(KeyRight.NAME_CUSTOMERS, None), (KeyRight.CUSTOMER, "bob"), (KeyRight.MANAGEMENT, None)],
)
async def test_a_key_in_force(
    database: Database, directory: SqlDirectory, right: KeyRight, customer: str | None
) -> None:
    """
    A created key is found by the hash of its secret, with its right and its customer.
    """
    customer_id = None if customer is None else CustomerId(customer)
    key, secret = await create_key(database, named("1"), right=right, customer_id=customer_id)

    assert await directory.api_key(hash_key(secret)) == key
    assert (key.right, key.customer_id) == (right, customer)
    assert secret.startswith("mr_sk_")
    assert len(secret) == len("mr_sk_") + 43


async def test_a_revoked_key_is_gone_after_a_refresh(
    database: Database, directory: SqlDirectory
) -> None:
    """
    Known until the revision is read again, then unknown; revoked twice, it stays so.
    """
    key, secret = await create_key(database, named("1"), right=KeyRight.NAME_CUSTOMERS)
    assert await directory.api_key(hash_key(secret)) is not None

    await revoke_key(database, named("2"), key.api_key_id)
    await revoke_key(database, named("3"), key.api_key_id)
    await directory.refresh()

    assert await directory.api_key(hash_key(secret)) is None
    (report,) = await list_keys(database)
    assert (report.api_key_id, report.hint, report.revoked_at) == (key.api_key_id, secret[-4:], AT)


async def test_an_unknown_key_cannot_be_revoked(database: Database) -> None:
    """
    The error says where the known ones are.
    """
    with pytest.raises(UnknownKeyError, match="relay keys list"):
        await revoke_key(database, named("1"), ApiKeyId("key_nope"))


def bytes_of(folder: Path) -> bytes:
    return b"".join(path.read_bytes() for path in folder.iterdir())


async def test_secrets_are_not_stored(tmp_path: Path) -> None:
    """
    No file of the database holds the secret; its hash is there.
    """
    database = Database(f"sqlite:///{tmp_path}/relay.db")
    await migrate(database)
    _, secret = await create_key(database, named("1"), right=KeyRight.NAME_CUSTOMERS)

    written = bytes_of(tmp_path)

    assert secret.encode() not in written
    assert hash_key(secret).encode() in written
    await database.aclose()


async def test_changes_of_a_customer(database: Database, directory: SqlDirectory) -> None:
    """
    Tier, limits, lifted limits and status are seen after a refresh; a reset gives the tier's back.
    """
    assert await directory.customer(BOB.customer_id) is None
    await set_tier(database, named("1"), CustomerChange(customer_id=BOB.customer_id, tier="pro"))
    month, day = Period.MONTH, Period.DAY
    await set_spend_limit(database, named("2"), BOB, period=month, limit_nano_usd=NanoUsd(5))
    await set_spend_limit(database, named("3"), BOB, period=month, limit_nano_usd=NanoUsd(7))
    await set_spend_limit(database, named("4"), BOB, period=day, limit_nano_usd=None)
    await set_status(database, named("5"), BOB, CustomerStatus.BLOCKED)
    await directory.refresh()

    bob = await directory.customer(BOB.customer_id)

    assert bob == Customer(
        customer_id=BOB.customer_id,
        tier="pro",
        status=CustomerStatus.BLOCKED,
        spend_limits={month: NanoUsd(7), day: None},
    )
    await reset_spend_limit(database, named("6"), BOB, period=month)
    await directory.refresh()
    after = await directory.customer(BOB.customer_id)
    assert after is not None
    assert after.spend_limits == {day: None}


async def test_an_operation_is_applied_once(database: Database, directory: SqlDirectory) -> None:
    """
    The second operation of the same id changes nothing, whatever it says.
    """
    await set_tier(database, named("1"), CustomerChange(customer_id=BOB.customer_id, tier="pro"))
    await set_tier(database, named("1"), CustomerChange(customer_id=BOB.customer_id, tier="gold"))

    bob = await directory.customer(BOB.customer_id)

    assert bob is not None
    assert bob.tier == "pro"


async def test_a_change_makes_the_customer(database: Database) -> None:
    """
    A limit for a name that was never seen makes it a customer of the given tier.
    """
    await set_spend_limit(database, named("1"), BOB, period=Period.DAY, limit_nano_usd=NanoUsd(5))

    (bob,) = await list_customers(database)

    assert (bob.customer_id, bob.tier) == ("bob", "free")
    assert await list_customers(database, only=CustomerId("nobody")) == []


async def test_a_change_is_told_by_its_number(database: Database, directory: SqlDirectory) -> None:
    """
    Whoever compares the revision before and after a refresh learns that something was changed.
    """
    before = directory.revision
    await set_tier(database, named("1"), BOB)
    assert directory.revision == before

    await directory.refresh()

    assert (before, directory.revision) == (0, 1)


async def test_who_is_remembered_is_known(directory: SqlDirectory) -> None:
    """
    A customer whose row is still on its way is known at once, also after it was asked for.
    """
    assert await directory.customer(CustomerId("new")) is None
    new = Customer(customer_id=CustomerId("new"), tier="free", is_new=True)

    directory.remember(new)

    assert await directory.customer(CustomerId("new")) is new


async def test_what_is_known_outlives_the_database(tmp_path: Path) -> None:
    """
    While SQL is away known names are answered, unknown ones are an error, and it goes on after.
    """
    path = tmp_path / "relay.db"
    database = Database(f"sqlite:///{path}")
    await migrate(database)
    directory = SqlDirectory(database)
    await directory.refresh()
    directory.remember(Customer(customer_id=CustomerId("bob"), tier="free"))
    await database.aclose()
    path.rename(tmp_path / "away.db")
    path.mkdir()

    with pytest.raises(StoreUnavailableError):
        await directory.refresh()
    with pytest.raises(StoreUnavailableError):
        await directory.customer(CustomerId("carol"))
    assert await directory.customer(CustomerId("bob")) is not None


async def test_trust_ends_when_changes_cannot_be_seen(database: Database) -> None:
    """
    What is known is answered for less than 15 minutes after the last poll that was answered, then
    not until the next one: a key that was revoked meanwhile does not live on.
    """
    assert TRUST_S == 900.0
    now_s = 0.0
    directory = SqlDirectory(database, monotonic_s=lambda: now_s)
    with pytest.raises(StoreUnavailableError, match="checked for changes"):
        await directory.api_key("never polled")
    key, secret = await create_key(database, named("1"), right=KeyRight.NAME_CUSTOMERS)
    await directory.refresh()
    directory.remember(Customer(customer_id=BOB.customer_id, tier="free"))
    assert await directory.api_key(hash_key(secret)) == key
    await revoke_key(database, named("2"), key.api_key_id)

    now_s = 899.9
    assert await directory.api_key(hash_key(secret)) == key
    now_s = 900.0
    with pytest.raises(StoreUnavailableError, match="for 900 s"):
        await directory.api_key(hash_key(secret))
    with pytest.raises(StoreUnavailableError, match="for 900 s"):
        await directory.customer(BOB.customer_id)

    await directory.refresh()
    assert await directory.api_key(hash_key(secret)) is None


@pytest.mark.slow
async def test_a_silent_database_is_not_waited_for(postgres_url: str) -> None:
    """
    While another connection holds the tables, neither a poll nor a first sight waits for ever, and
    a poll goes through when they are free again.
    """
    database = Database(postgres_url)
    await migrate(database)
    directory = SqlDirectory(database, answer_timeout_s=0.5)
    await directory.refresh()
    async with database.begin() as connection:
        await connection.execute(text("LOCK TABLE revision, api_key, customer"))
        for asking in (
            directory.refresh(),
            directory.api_key("hash"),
            directory.customer(BOB.customer_id),
        ):
            with pytest.raises(StoreUnavailableError, match=r"did not answer in 0\.5 s"):
                await asking

    await directory.refresh()
    assert await directory.api_key("hash") is None
    await database.aclose()


async def test_the_revision_is_read_by_itself(database: Database) -> None:
    """
    Without anybody asking, a change is seen after a pause; and a database away does not end that.
    """
    looked = asyncio.Semaphore(0)

    async def sleep(_: float) -> None:
        looked.release()
        await asyncio.sleep(0)

    directory = SqlDirectory(database, sleep=sleep)
    await directory.start()
    assert await directory.customer(BOB.customer_id) is None
    await set_tier(database, named("1"), BOB)
    async with asyncio.timeout(5):
        while await directory.customer(BOB.customer_id) is None:
            await looked.acquire()
    await directory.aclose()


# The memory under the directory.


class Source:
    """Answers when it is let, and counts how often it was asked."""

    def __init__(self, answer: str | None = "value") -> None:
        self.answer = answer
        self.asked = 0
        self.began = asyncio.Event()
        self.let = asyncio.Event()

    async def load(self, _: str) -> str | None:
        self.asked += 1
        self.began.set()
        answer = self.answer
        await self.let.wait()
        return answer


async def test_first_sights_at_once_ask_once() -> None:
    """
    50 who ask at once for a new name are answered by one reading; so is one who asks later.
    """
    source = Source()
    cache: Memory[str, str] = Memory(source.load)
    asking = [asyncio.create_task(cache.get("a")) for _ in range(50)]
    await asyncio.sleep(0)
    source.let.set()

    assert set(await asyncio.gather(*asking)) == {"value"}
    assert await cache.get("a") == "value"
    assert source.asked == 1


async def test_that_there_is_none_is_remembered() -> None:
    """
    A name that does not exist is asked for once.
    """
    source = Source(None)
    source.let.set()
    cache: Memory[str, str] = Memory(source.load)

    assert [await cache.get("a") for _ in range(3)] == [None] * 3
    assert source.asked == 1


async def test_one_who_gives_up_does_not_stop_the_others() -> None:
    """
    Of two who wait for one reading, one is cancelled and the other is answered.
    """
    source = Source()
    cache: Memory[str, str] = Memory(source.load)
    first, second = (asyncio.create_task(cache.get("a")) for _ in range(2))
    await asyncio.sleep(0)
    first.cancel()
    await asyncio.sleep(0)
    source.let.set()

    assert await second == "value"


async def test_a_reading_that_was_overtaken_is_not_remembered() -> None:
    """
    What was being read when everything was forgotten may be stale: the next one reads again.
    """
    source = Source("old")
    cache: Memory[str, str] = Memory(source.load)
    asking = asyncio.create_task(cache.get("a"))
    await source.began.wait()
    cache.forget()
    source.answer = "new"
    source.let.set()

    assert await asking == "old"
    assert await cache.get("a") == "new"


async def test_unknown_names_do_not_push_out_known_ones(monkeypatch: pytest.MonkeyPatch) -> None:
    """
    With room for two of each kind, a hundred unknown names leave the known one known.
    """
    monkeypatch.setattr(memory, "CAPACITY", 2)
    source = Source(None)
    source.let.set()
    cache: Memory[str, str] = Memory(source.load)
    cache.put("known", "value")

    for i in range(100):
        await cache.get(f"unknown{i}")
    cache.put("b", "value")
    assert await cache.get("known") == "value"
    cache.put("c", "value")

    assert source.asked == 100
    assert await cache.get("b") is None, "the one that was used least lately"
