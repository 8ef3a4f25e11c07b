"""
Spend stores under random commands, against a model that knows nothing of how they work.
"""

from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from uuid import uuid4

import pytest
from fixtures.clock import FakeClock
from fixtures.spend_states import expire
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from relay_middleware.core.holds import (
    Account,
    Hold,
    HoldStateError,
    NotReserved,
    Reserved,
    Shortage,
)
from relay_middleware.core.identifiers import CustomerId, HoldId
from relay_middleware.core.money import NanoUsd
from relay_middleware.core.periods import windows_of
from relay_middleware.ports import SpendStore
from relay_middleware.stores.connection import RedisScripts
from relay_middleware.stores.local import LocalSpendStore
from relay_middleware.stores.redis import RedisSpendStore

pytestmark = pytest.mark.anyio

# Far ahead: Redis forgets by its own clock what ended long ago.
WINDOWS = windows_of(datetime(2100, 11, 23, 12, 0, tzinfo=UTC))
LIMIT = 100

HOLDS = st.integers(0, 4)
COMMANDS = st.one_of(
    st.tuples(st.sampled_from(["reserve", "release", "expire", "acknowledge"]), HOLDS, st.just(0)),
    st.tuples(st.just("settle"), HOLDS, st.integers(0, 130)),
)


@dataclass(slots=True)
class Model:
    """
    What should be: holds as the rules have them, balances as sums over the holds.

    Attributes:
        amounts: What each hold sets aside.
        ends: How each known hold stands, and the amount it holds or was settled for.
        is_honest: Whether nothing has been settled for more than had been set aside.
    """

    amounts: list[int]
    ends: dict[int, tuple[str, int]] = field(default_factory=dict)
    is_honest: bool = True

    @property
    def held(self) -> int:
        return sum(amount for state, amount in self.ends.values() if state == "open")

    @property
    def posted(self) -> int:
        return sum(
            amount for state, amount in self.ends.values() if state in {"settled", "expired"}
        )

    def reserve(self, which: int) -> str:
        amount = self.amounts[which]
        if which in self.ends:
            return "duplicate"
        if amount and self.posted + self.held + amount > LIMIT:
            return "exhausted" if self.posted + amount > LIMIT else "in_flight"
        self.ends[which] = ("open", amount)
        return "done"

    def settle(self, which: int, actual: int) -> str:
        state, amount = self.ends.get(which, ("unknown", 0))
        if state == "settled":
            return "duplicate" if amount == actual else "illegal"
        if state == "released":
            return "illegal"
        self.is_honest &= actual <= amount
        self.ends[which] = ("settled", actual)
        return "done"

    def release(self, which: int) -> str:
        state, _ = self.ends.get(which, ("unknown", 0))
        if state in {"settled", "released"}:
            return "illegal" if state == "settled" else "duplicate"
        self.ends[which] = ("released", 0)
        return "done"

    def expire(self, which: int) -> str:
        state, amount = self.ends.get(which, ("unknown", 0))
        if state != "open":
            return "illegal"
        self.ends[which] = ("expired", amount)
        return "done"


@dataclass(frozen=True, slots=True, kw_only=True)
class Subject:
    """A store, answering in the words of the model."""

    store: SpendStore
    redis_url: str | None

    async def reserve(self, hold: Hold) -> str:
        match await self.store.reserve(hold):
            case NotReserved(shortage=shortage):
                return "exhausted" if shortage is Shortage.EXHAUSTED else "in_flight"
            case Reserved(is_duplicate=is_duplicate):
                return "duplicate" if is_duplicate else "done"

    async def settle(self, hold: Hold, actual: int) -> str:
        try:
            ended = await self.store.settle(hold, NanoUsd(actual))
        except HoldStateError:
            return "illegal"
        return "duplicate" if ended.is_duplicate else "done"

    async def release(self, hold: Hold) -> str:
        try:
            ended = await self.store.release(hold, is_dispatched=True)
        except HoldStateError:
            return "illegal"
        return "duplicate" if ended.is_duplicate else "done"

    async def balances(self, customer: str) -> set[tuple[int, int]]:
        """Posted and held, of all accounts: by way of a hold of nothing that changes neither."""
        result = await self.store.reserve(hold_of(customer, "probe", 0))
        assert isinstance(result, Reserved)
        return {(item.posted_nano_usd, item.held_nano_usd) for item in result.balances}


def hold_of(customer: str, name: object, amount: int) -> Hold:
    return Hold(
        hold_id=HoldId(f"{customer}-{name}"),
        customer_id=CustomerId(customer),
        amount_nano_usd=NanoUsd(amount),
        accounts=tuple(Account(window=each, limit_nano_usd=NanoUsd(LIMIT)) for each in WINDOWS),
        ttl_s=60,
    )


@pytest.fixture(name="subject", params=["local", "redis"])
async def _subject(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Subject]:
    """
    Every implementation, one at a time.
    """
    if request.param == "local":
        clock = FakeClock(datetime(2100, 11, 23, 12, 0, tzinfo=UTC))
        yield Subject(store=LocalSpendStore(state_dir=tmp_path, clock=clock), redis_url=None)
        return
    url = request.getfixturevalue("redis_url")
    store = RedisSpendStore(RedisScripts(url))
    yield Subject(store=store, redis_url=url)
    await store.aclose()


async def do(subject: Subject, model: Model, command: tuple[str, int, int], customer: str) -> None:
    """Give one command to both, and compare their answers."""
    name, which, actual = command
    hold = hold_of(customer, which, model.amounts[which])
    match name:
        case "reserve":
            expected = model.reserve(which)
            assert await subject.reserve(hold) == expected
            assert (
                expected != "done"
                or not hold.amount_nano_usd
                or (model.posted + model.held <= LIMIT)
            )
        case "settle":
            assert await subject.settle(hold, actual) == model.settle(which, actual)
        case "release":
            assert await subject.release(hold) == model.release(which)
        case "expire":
            if model.expire(which) == "done":
                await expire(subject.store, hold, subject.redis_url)
        case _:
            await subject.store.acknowledge([(hold.customer_id, hold.hold_id)])


# The store is the same for all examples: each has a customer of its own.
@settings(
    max_examples=80, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(
    amounts=st.lists(st.integers(0, 60), min_size=5, max_size=5),
    commands=st.lists(COMMANDS, max_size=25),
)
async def test_balances_are_the_sums_of_their_holds(
    subject: Subject, amounts: list[int], commands: list[tuple[str, int, int]]
) -> None:
    """
    After every command: held is the sum of the open holds, posted of the settled and expired ones,
    in every account; what was reserved fits; and honest bounds never overrun the limit.
    """
    customer = uuid4().hex
    model = Model(amounts)
    for command in commands:
        await do(subject, model, command, customer)

        assert await subject.balances(customer) == {(model.posted, model.held)}
        assert not model.is_honest or model.posted <= LIMIT
