"""
What only the embedded store can show: its lock, and what it forgets.
"""

from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pytest
from fixtures.clock import FakeClock

from relay_middleware.core.holds import Account, Hold, HoldState, Reserved
from relay_middleware.core.identifiers import CustomerId, HoldId
from relay_middleware.core.money import NanoUsd
from relay_middleware.core.periods import windows_of
from relay_middleware.errors import ConfigurationError
from relay_middleware.stores.local import LocalSpendStore

pytestmark = pytest.mark.anyio

AT = datetime(2026, 11, 23, 12, 0, tzinfo=UTC)
ALICE = CustomerId("alice")


def hold(name: str, amount: int) -> Hold:
    return Hold(
        hold_id=HoldId(name),
        customer_id=ALICE,
        amount_nano_usd=NanoUsd(amount),
        accounts=tuple(Account(window=window, limit_nano_usd=None) for window in windows_of(AT)),
        ttl_s=60,
    )


async def state_of(name: str, store: LocalSpendStore) -> HoldState:
    """How a reserve finds the hold: open where it was forgotten, and so is made anew."""
    result = await store.reserve(hold(name, 1))
    assert isinstance(result, Reserved)
    return result.state


async def test_local_store_is_one_processs(tmp_path: Path) -> None:
    """
    A second one on the same folder is refused in words; after the first has closed it may start.
    """
    first, second = (LocalSpendStore(state_dir=tmp_path, clock=FakeClock(AT)) for _ in range(2))
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
    store = LocalSpendStore(state_dir=in_the_way, clock=FakeClock(AT))

    with pytest.raises(ConfigurationError, match=r"file .*set state_dir"):
        await store.start()


async def test_local_store_remembers_from_the_last_acknowledgement(tmp_path: Path) -> None:
    """
    Acknowledged at minutes 0 and 5, a hold is remembered at minute 14, and forgotten at 15.
    """
    clock = FakeClock(AT)
    store = LocalSpendStore(state_dir=tmp_path, clock=clock)
    await store.settle(hold("a", 1), NanoUsd(1))
    await store.acknowledge([(ALICE, HoldId("a"))])
    clock.advance(minutes=5)
    await store.acknowledge([(ALICE, HoldId("a"))])

    clock.advance(minutes=9)
    assert await state_of("a", store) is HoldState.SETTLED
    clock.advance(minutes=1)
    assert await state_of("a", store) is HoldState.OPEN


async def test_local_store_waits_for_the_ledger_after_dispatch_only(tmp_path: Path) -> None:
    """
    Never acknowledged: released before dispatch, a hold is forgotten after 10 minutes; after, kept.
    """
    clock = FakeClock(AT)
    store = LocalSpendStore(state_dir=tmp_path, clock=clock)
    await store.release(hold("before", 1), is_dispatched=False)
    await store.release(hold("after", 1), is_dispatched=True)

    clock.advance(minutes=10)

    assert await state_of("before", store) is HoldState.OPEN
    assert await state_of("after", store) is HoldState.RELEASED


async def test_local_store_never_forgets_an_open_hold(tmp_path: Path) -> None:
    """
    Acknowledged by mistake, an open hold is still there an hour later.
    """
    clock = FakeClock(AT)
    store = LocalSpendStore(state_dir=tmp_path, clock=clock)
    await store.reserve(hold("a", 1))
    await store.acknowledge([(ALICE, HoldId("a"))])
    clock.advance(hours=1)
    await store.reserve(hold("b", 0))

    assert (await store.settle(hold("a", 1), NanoUsd(1))).previous is HoldState.OPEN


async def test_local_store_forgets_like_redis(tmp_path: Path) -> None:
    """
    Ten minutes after its acknowledgement a hold is forgotten, 40 days after its end a period is.
    """
    clock = FakeClock(AT)
    store = LocalSpendStore(state_dir=tmp_path, clock=clock)
    await store.reserve(hold("a", 10))
    await store.settle(hold("a", 10), NanoUsd(10))
    await store.acknowledge([(ALICE, HoldId("a"))])

    clock.advance(minutes=9, seconds=59)
    assert (await store.settle(hold("a", 10), NanoUsd(10))).is_duplicate
    clock.advance(seconds=1)
    await store.reserve(hold("b", 0))
    assert HoldId("a") not in store._holds  # noqa: SLF001 - what is gone cannot be asked for
    clock.advance(days=50)
    await store.reserve(replace(hold("c", 0), accounts=()))

    assert {key for _, key in store._accounts} == {"lifetime"}  # noqa: SLF001 - the same
