"""
Spend stores under random commands, against a model that knows nothing of how they work.

The invariants are those of SPEND B8, checked after every step.
"""

import asyncio
import contextlib
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from contextlib import AbstractAsyncContextManager, AsyncExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import pytest
from fixtures.holds import facts
from fixtures.spend import (
    AT,
    Subject,
    local_store,
    redis_store,
    release,
    settle,
)
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    rule,
    run_state_machine_as_test,
)
from redis.asyncio import Redis

from relay_middleware.core.holds import (
    Account,
    Adjustment,
    Hold,
    HoldStateError,
    NotReserved,
    Reserved,
    Shortage,
    TooManyAtOnce,
    TooManyRequests,
    TooManyTokens,
)
from relay_middleware.core.identifiers import CustomerId, HoldId
from relay_middleware.core.money import NanoUsd
from relay_middleware.core.periods import windows_of
from relay_middleware.core.rates import TokenLimit

WINDOWS = windows_of(AT)
# One bucket of it is longer than the tests live.
TOKEN_LIMIT = TokenLimit("200/forever", 200, 10**9)
MOST_BY_RATE = {"4/day": 4, "9/2 days": 9}
RATES = st.sampled_from([(), ("4/day",), ("9/2 days",), ("4/day", "9/2 days")])

NAMES = st.integers(0, 9)
LIMITS = st.sampled_from([0, 60, 100, None])

STEPS = 50
"""Most commands of one example."""

Result = TypeVar("Result")
Open = Callable[[], AbstractAsyncContextManager[Subject]]


@dataclass(slots=True)
class Known:
    """
    What should be of a hold.

    Attributes:
        amount: What it holds, or has posted.
        tokens: What it has taken, or used.
        has_place: Whether it keeps another request out.
        journaled: What the journal should say of it, oldest first.
    """

    state: str
    amount: int
    tokens: int
    has_place: bool = False
    journaled: list[tuple[str, int]] = field(default_factory=list)


@dataclass(slots=True)
class Model:
    """What should be of one customer: sums over its holds."""

    holds: dict[int, Known] = field(default_factory=dict)
    adjustments: dict[str, tuple[int, int]] = field(default_factory=dict)
    requests: Counter[str] = field(default_factory=Counter)

    def _sum(self, *states: str) -> int:
        return sum(known.amount for known in self.holds.values() if known.state in states)

    @property
    def held(self) -> int:
        return self._sum("open")

    @property
    def expired(self) -> int:
        return self._sum("expired")

    @property
    def posted(self) -> int:
        corrections = sum(posted for posted, _ in self.adjustments.values())
        return self._sum("settled", "expired") + corrections

    @property
    def credit(self) -> int:
        return sum(credit for _, credit in self.adjustments.values())

    @property
    def tokens(self) -> int:
        return sum(known.tokens for known in self.holds.values())

    @property
    def running(self) -> int:
        return sum(known.has_place for known in self.holds.values())

    def left(self, rate: str) -> int:
        return MOST_BY_RATE[rate] - self.requests[rate]

    def refusal(
        self, amount: int, limit: int | None, tokens: int, most: int, rates: Sequence[str]
    ) -> str | None:
        if limit is not None and amount:
            ceiling = limit + self.credit
            if self.posted + self.held + amount > ceiling:
                return "exhausted" if self.posted + amount > ceiling else "in flight"
        if self.tokens + tokens > TOKEN_LIMIT.limit_tokens:
            return "tokens"
        if self.running >= most:
            return "places"
        return next((rate for rate in rates if not self.left(rate)), None)

    def end(self, name: int, state: str, amount: int, tokens: int | None) -> str:
        known = self.holds.get(name)
        if known is None:
            self.holds[name] = Known(state, amount, 0, journaled=[(state, amount)])
            return "done"
        if known.state == state:
            same = state != "settled" or known.amount == amount
            return "duplicate" if same else "illegal"
        if known.state not in {"open", "expired"}:
            return "illegal"
        known.journaled.append((state, amount))
        # What was posted for a hold that the store had lost has taken no tokens.
        has_taken = known.state == "open" or (known.journaled[0][0] == "expired" and known.tokens)
        if tokens is not None and has_taken:
            known.tokens = tokens
        known.state, known.amount, known.has_place = state, amount, False
        return "done"


class SpendMachine(RuleBasedStateMachine):
    """Gives every command to a store and to the model, and compares."""

    open_store: Open
    steps = 0

    def __init__(self) -> None:
        super().__init__()
        self.runner = asyncio.Runner()
        self.stack = AsyncExitStack()
        self.model = Model()
        self.customer = CustomerId("alice")
        self.subject = self.run(self.stack.enter_async_context(type(self).open_store()))

    def run(self, work: Awaitable[Result]) -> Result:
        async def wait() -> Result:
            return await work

        return self.runner.run(wait())

    def teardown(self) -> None:
        self.run(self.stack.aclose())
        self.runner.close()

    def hold(
        self, name: int, amount: int = 0, limit: int | None = None, tokens: int = 0, most: int = 9
    ) -> Hold:
        return Hold(
            hold_id=HoldId(f"h{name}"),
            customer_id=self.customer,
            amount_nano_usd=NanoUsd(amount),
            accounts=tuple(
                Account(window=each, limit_nano_usd=None if limit is None else NanoUsd(limit))
                for each in WINDOWS
            ),
            ttl_s=3600,
            facts=facts(),
            tokens=tokens,
            token_limits=(TOKEN_LIMIT,),
            max_concurrency=most,
        )

    @initialize()
    def begin(self) -> None:
        type(self).steps += 1

    @rule(
        name=NAMES,
        amount=st.integers(0, 60),
        limit=LIMITS,
        tokens=st.integers(0, 80),
        most=st.integers(1, 5),
        rates=RATES,
    )
    def reserve(
        self,
        *,
        name: int,
        amount: int,
        limit: int | None,
        tokens: int,
        most: int,
        rates: Sequence[str],
    ) -> None:
        hold = self.hold(name, amount, limit, tokens, most)
        result = self.run(self.subject.store.reserve(hold, rates))
        if name in self.model.holds:
            assert isinstance(result, Reserved)
            assert result.is_duplicate
            assert result.state.value == self.model.holds[name].state
            return
        refusal = self.model.refusal(amount, limit, tokens, most, rates)
        match result:
            case Reserved(rates=statuses):
                assert refusal is None
                self.model.requests.update(rates)
                left = [(rate, self.model.left(rate)) for rate in rates]
                assert [(each.limit, each.remaining_requests) for each in statuses] == left
                self.model.holds[name] = Known("open", amount, tokens, has_place=True)
                model = self.model
                assert (
                    not amount
                    or limit is None
                    or (model.posted + model.held <= limit + model.credit)
                )
            case NotReserved(shortage=shortage):
                told = "exhausted" if shortage is Shortage.EXHAUSTED else "in flight"
                assert refusal == told
            case TooManyTokens(status=status):
                assert refusal == "tokens"
                assert status.remaining_tokens == max(0, 200 - self.model.tokens)
            case TooManyAtOnce(running=running):
                assert (refusal, running) == ("places", self.model.running)
            case TooManyRequests(status=status):
                assert (refusal, status.remaining_requests) == (status.limit, 0)

    def ended(self, name: int, state: str, amount: int, tokens: int | None) -> None:
        hold = self.hold(name, amount if state == "expired" else 0)
        expected = self.model.end(name, state, amount, tokens)
        try:
            match state:
                case "settled":
                    result = self.run(settle(self.subject.store, hold, amount, tokens=tokens))
                case "released":
                    result = self.run(release(self.subject.store, hold))
                case _:
                    result = self.run(self.subject.store.expire(hold))
        except HoldStateError:
            assert expected == "illegal"
            return
        assert expected == ("duplicate" if result.is_duplicate else "done")

    @rule(name=NAMES, amount=st.integers(0, 130), tokens=st.integers(0, 120))
    def settle(self, name: int, amount: int, tokens: int) -> None:
        self.ended(name, "settled", amount, tokens)

    @rule(name=NAMES)
    def settle_again(self, name: int) -> None:
        known = self.model.holds.get(name)
        if known is not None and known.state == "settled":
            self.ended(name, "settled", known.amount, 0)

    @rule(name=NAMES)
    def release(self, name: int) -> None:
        self.ended(name, "released", 0, 0)

    @rule(name=NAMES)
    def expire(self, name: int) -> None:
        known = self.model.holds.get(name)
        self.ended(name, "expired", 30 if known is None else known.amount, None)

    @rule(name=NAMES)
    def vacate(self, name: int) -> None:
        self.run(self.subject.store.vacate(self.hold(name)))
        if name in self.model.holds:
            self.model.holds[name].has_place = False

    @rule(name=NAMES)
    def touch_and_sweep(self, name: int) -> None:
        self.run(self.subject.store.touch([(self.customer, HoldId(f"h{name}"))], ttl_s=3600))
        assert self.run(self.subject.store.sweep()) == 0

    @rule(name=NAMES)
    def run_out(self, name: int) -> None:
        self.run(self.subject.store.touch([(self.customer, HoldId(f"h{name}"))], ttl_s=0))
        known = self.model.holds.get(name)
        is_open = known is not None and known.state == "open"
        assert self.run(self.subject.store.sweep()) == int(is_open)
        if known is not None and is_open:
            self.model.end(name, "expired", known.amount, None)

    @rule(name=NAMES)
    def acknowledge(self, name: int) -> None:
        self.run(self.subject.store.acknowledge([(self.customer, HoldId(f"h{name}"))]))

    @rule(name=st.integers(0, 3), posted=st.integers(-20, 20), credit=st.integers(-10, 30))
    def adjust(self, name: int, posted: int, credit: int) -> None:
        operation = f"op{name}"
        is_new = operation not in self.model.adjustments
        for window in WINDOWS:
            adjustment = Adjustment(
                operation_id=f"{operation}:{window.period.value}",
                posted_nano_usd=NanoUsd(posted),
                credit_nano_usd=NanoUsd(credit),
            )
            told = self.run(self.subject.store.adjust(self.customer, window, adjustment))
            assert told == is_new
        if is_new:
            self.model.adjustments[operation] = (posted, credit)

    @invariant()
    def balances_are_sums(self) -> None:
        type(self).steps += 1
        model = self.model
        for balance in self.run(self.subject.store.balances(self.customer, WINDOWS)):
            assert balance.posted_nano_usd == model.posted
            assert balance.held_nano_usd == model.held
            assert balance.credit_nano_usd == model.credit
            assert balance.expired_nano_usd == model.expired

    @invariant()
    def journal_has_each_end_once(self) -> None:
        # At every step it would be a tenth of the speed: sampled by the number of known holds.
        if len(self.model.holds) % 3:
            return
        journaled: dict[str, list[tuple[str, int]]] = {}
        for entry in self.run(self.subject.journaled()):
            charge = entry.charge_nano_usd
            amount = entry.hold_nano_usd if entry.state.value == "expired" else charge
            journaled.setdefault(entry.hold_id, []).append((entry.state.value, amount))
        assert journaled == {
            f"h{name}": known.journaled for name, known in self.model.holds.items()
            if known.journaled
        }  # fmt: skip


def check(open_store: Open, *, examples: int) -> int:
    """Run the machine on *examples* stores of one kind; return how many steps it made."""
    machine: Any = type("Machine", (SpendMachine,), {"open_store": staticmethod(open_store)})
    run_state_machine_as_test(
        machine,
        settings=settings(
            max_examples=examples,
            stateful_step_count=STEPS,
            deadline=None,
            suppress_health_check=list(HealthCheck),
        ),
    )
    steps: int = machine.steps
    return steps


@pytest.mark.slow
def test_embedded_store(tmp_path: Path) -> None:
    """
    The embedded store is the model after every one of at least 10,000 steps.
    """
    folders = count_folders(tmp_path)

    assert check(lambda: local_store(next(folders)), examples=250) >= 10_000


@pytest.mark.slow
@pytest.mark.parametrize(
    ("way", "examples", "steps"), [("multiplexed", 120, 5_000), ("redis", 25, 1_000)]
)
def test_redis_store(redis_url: str, way: str, examples: int, steps: int) -> None:
    """
    Redis is the model after every one of at least 5,000 steps; the other way there, which runs the
    same scripts, 1,000.
    """

    @contextlib.asynccontextmanager
    async def empty_store() -> AsyncIterator[Subject]:
        async with redis_store(redis_url, way=way) as subject:
            yield subject
        await flush(redis_url)

    assert check(empty_store, examples=examples) >= steps


def count_folders(parent: Path) -> Iterator[Path]:
    """Yield one new folder after the other."""
    number = 0
    while True:
        number += 1
        yield parent / str(number)


async def flush(redis_url: str) -> None:
    """Empty the server."""
    async with Redis.from_url(redis_url) as client:
        await client.flushall()
