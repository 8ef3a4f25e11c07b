"""
What only the embedded store can show: its lock, and what it forgets.
"""

from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pytest
from fixtures.clock import FakeClock
from fixtures.spend import ALICE, ListJournal, release, settle, warmed
from fixtures.spend import hold as hold_at

from relay_middleware.core.holds import Hold, HoldState, Reserved
from relay_middleware.core.identifiers import HoldId
from relay_middleware.core.periods import windows_of
from relay_middleware.errors import ConfigurationError
from relay_middleware.stores.local import LocalSpendStore

pytestmark = pytest.mark.anyio

AT = datetime(2026, 11, 23, 12, 0, tzinfo=UTC)


def hold(name: str, amount: int) -> Hold:
    return hold_at(name, amount, month=None, at=AT)


def made(folder: Path, clock: FakeClock | None = None) -> LocalSpendStore:
    return LocalSpendStore(state_dir=folder, clock=clock or FakeClock(AT), journal=ListJournal())


async def warm(folder: Path, clock: FakeClock) -> LocalSpendStore:
    store = made(folder, clock)
    await warmed(store)
    return store


async def state_of(name: str, store: LocalSpendStore) -> HoldState:
    """How a reserve finds the hold: open where it was forgotten, and so is made anew."""
    result = await store.reserve(hold(name, 1))
    assert isinstance(result, Reserved)
    return result.state


async def test_local_store_is_one_processs(tmp_path: Path) -> None:
    """
    A second one on the same folder is refused in words; after the first has closed it may start.
    """
    first, second = (made(tmp_path) for _ in range(2))
    await first.start()
    await first.start()

    with pytest.raises(ConfigurationError, match="set redis_url"):
        await second.start()
    await first.aclose()
    await second.start()
    await second.aclose()


async def test_local_store_says_which_folder_it_cannot_use(tmp_path: Path) -> None:
    """
    A file where the folder should be is a mistake in the configuration, told with its remedy.
    """
    in_the_way = tmp_path / "file"
    in_the_way.touch()
    store = made(in_the_way)

    with pytest.raises(ConfigurationError, match=r"file .*set state_dir"):
        await store.start()


async def test_local_store_remembers_from_the_last_acknowledgement(tmp_path: Path) -> None:
    """
    Acknowledged at seconds 0 and 5, a hold is remembered at second 14, and forgotten at 15.
    """
    clock = FakeClock(AT)
    store = await warm(tmp_path, clock)
    await settle(store, hold("a", 1), 1)
    await store.acknowledge([(ALICE, HoldId("a"))])
    clock.advance(seconds=5)
    await store.acknowledge([(ALICE, HoldId("a"))])

    clock.advance(seconds=9)
    assert await state_of("a", store) is HoldState.SETTLED
    clock.advance(seconds=1)
    assert await state_of("a", store) is HoldState.OPEN


async def test_local_store_waits_for_the_ledger_after_dispatch_only(tmp_path: Path) -> None:
    """
    Never acknowledged: released before dispatch, a hold is forgotten after 10 s; after, kept.
    """
    clock = FakeClock(AT)
    store = await warm(tmp_path, clock)
    await release(store, hold("before", 1), is_dispatched=False)
    await release(store, hold("after", 1), is_dispatched=True)

    clock.advance(minutes=10)

    assert await state_of("before", store) is HoldState.OPEN
    assert await state_of("after", store) is HoldState.RELEASED


async def test_local_store_never_forgets_an_open_hold(tmp_path: Path) -> None:
    """
    Acknowledged by mistake, an open hold is still there an hour later.
    """
    clock = FakeClock(AT)
    store = await warm(tmp_path, clock)
    await store.reserve(hold("a", 1))
    await store.acknowledge([(ALICE, HoldId("a"))])
    clock.advance(hours=1)
    await store.reserve(hold("b", 0))

    assert (await settle(store, hold("a", 1), 1)).previous is HoldState.OPEN


async def test_local_store_forgets_holds_and_periods(tmp_path: Path) -> None:
    """
    Ten seconds after its acknowledgement a hold is forgotten, 40 days after its end a period is.
    """
    clock = FakeClock(AT)
    store = await warm(tmp_path, clock)
    await store.reserve(hold("a", 10))
    await settle(store, hold("a", 10), 10)
    await store.acknowledge([(ALICE, HoldId("a"))])

    clock.advance(seconds=9)
    assert (await settle(store, hold("a", 10), 10)).is_duplicate
    clock.advance(seconds=1)
    assert await state_of("a", store) is HoldState.OPEN
    clock.advance(days=50)
    await store.reserve(replace(hold("c", 0), accounts=()))

    told = await store.balances(ALICE, windows_of(AT))
    assert [item.posted_nano_usd for item in told] == [0, 0, 0, 10]
