"""
The proof: a crowd spends a customer's money at several processes, one of which is killed, and
afterwards every nano-dollar is where it must be.
"""

import asyncio
import secrets
import time
from collections.abc import AsyncIterator, Callable, Coroutine, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import httpx
import orjson

from proxy_app.administration import new_operation, opened
from proxy_app.selftest import crowd
from proxy_app.selftest.books import Books, patiently
from proxy_app.selftest.crowd import Tally
from proxy_app.selftest.plan import CUSTOMER_ID, LIMIT, PRICE, STATE_DIR, TIER, Plan
from proxy_app.selftest.processes import ProcessFailedError, Running, ask, relay
from proxy_app.selftest.strike import Strike
from proxy_app.selftest.verdict import Findings
from proxy_app.selftest.waiting import until
from relay_middleware.core.keys import KeyRight
from relay_middleware.ledger.database import Database
from relay_middleware.ledger.operations import CustomerChange, create_key, set_tier
from relay_middleware.ledger.workers import list_workers
from relay_middleware.stores.connection import RedisScripts
from relay_middleware.stores.keys import Keys
from relay_middleware.stores.redis import RedisSpendStore
from relay_middleware.stores.scratch import ScratchKeys
from relay_middleware.tasks import end

SERVING_TIMEOUT_S = 180.0
"""Longest wait for all processes to serve."""

SPENDING_TIMEOUT_S = 120.0
"""Longest time for the crowd to spend the money."""

QUIET_TIMEOUT_S = 120.0
"""Longest wait for all that is held to end, and for the ledger to have it."""

Say = Callable[[str], None]


async def prove(redis_url: str, plan: Plan, folder: Path, say: Say) -> Findings:
    """
    Run *plan* against the Redis at *redis_url*, under a prefix whose keys are removed at the end,
    whatever that is.

    Args:
        folder: Where everything else is; empty.
        say: Is told what is being done.

    Raises:
        RelayError: The proof could not be run.
    """
    keys = Keys(f"relay-selftest-{secrets.token_hex(4)}")
    async with AsyncExitStack() as stack:
        scratch = ScratchKeys(redis_url, keys)
        stack.push_async_callback(scratch.aclose)
        await scratch.check()
        stack.push_async_callback(_remove, scratch, say)
        say(f"Keys in Redis begin with {keys.prefix}:")
        started = await _start(stack, plan, folder, redis_url=redis_url, keys=keys, say=say)
        spend = RedisSpendStore(RedisScripts(redis_url), now=_now, keys=keys)
        stack.push_async_callback(spend.aclose)
        http = httpx.AsyncClient(base_url=started.providers_url, trust_env=False)
        await stack.enter_async_context(http)
        books = Books(spend=spend, scratch=scratch, database=started.database, providers=http)
        strike = Strike(
            plan,
            books,
            started.worker_ids,
            group=started.server.process.pid,
            state_dir=folder / STATE_DIR,
        )
        run = _Run(plan, books, strike, url=started.server.url, secret=started.secret, say=say)
        return await _apart(run.run())


@dataclass(frozen=True, slots=True, kw_only=True)
class _Started:
    """
    What serves.

    Attributes:
        secret: A key that may name customers.
    """

    server: Running
    worker_ids: Sequence[str]
    providers_url: str
    database: Database
    secret: str


async def _start(
    stack: AsyncExitStack, plan: Plan, folder: Path, *, redis_url: str, keys: Keys, say: Say
) -> _Started:
    """Start everything, to be ended with *stack*."""
    providers = await stack.enter_async_context(_providers(plan, folder))
    config = plan.configuration(
        provider_url=providers.url, redis_url=redis_url, redis_prefix=keys.prefix, folder=folder
    )
    path = folder / "relay.yaml"
    # JSON is YAML.
    path.write_bytes(orjson.dumps(config, option=orjson.OPT_INDENT_2))
    database = await stack.enter_async_context(opened(str(config["database_url"])))
    secret = await _prepare(plan, database)
    say(f"Starting {plan.workers} processes")
    arguments = ["serve", "--config", str(path), "--port", "0", "--workers", str(plan.workers)]
    server = await stack.enter_async_context(relay("serve", arguments, folder))
    return _Started(
        server=server,
        worker_ids=await _serving(plan, database, server),
        providers_url=providers.url,
        database=database,
        secret=secret,
    )


async def _apart(work: Coroutine[None, None, Findings]) -> Findings:
    """
    Do *work* in a task of its own: it asks Redis, and so may need more than one cancellation, which
    would end the cleaning up as well.
    """
    task = asyncio.create_task(work)
    try:
        await asyncio.wait([task])
    finally:
        await end([task])
    return task.result()


class _Run:
    """One run, once everything serves."""

    def __init__(
        self, plan: Plan, books: Books, strike: Strike, *, url: str, secret: str, say: Say
    ) -> None:
        self._plan = plan
        self._books = books
        self._strike = strike
        self._task = {"plan": plan, "url": url, "secret": secret, "timeout_s": SPENDING_TIMEOUT_S}
        self._say = say
        self._tally = Tally()

    async def run(self) -> Findings:
        """Spend, strike, wait for quiet, and look."""
        started_s = time.monotonic()
        self._say(f"{self._plan.requests} clients ask at the same time")
        striking = asyncio.create_task(self._strike.run())
        try:
            await self._spend_all()
            if (await self._books.balance()).remaining_nano_usd(LIMIT) >= PRICE:
                self._say("Money has come back late: the clients ask once more")
                await self._spend_all()
        finally:
            await end([striking])
        if not striking.cancelled():
            striking.result()
        return await self._look(time.monotonic() - started_s)

    async def _spend_all(self) -> None:
        told = await ask(crowd.__name__, orjson.dumps(self._task))
        self._tally.add(Tally.from_json(orjson.loads(told)))
        await self._quiet()

    async def _look(self, seconds: float) -> Findings:
        books, at = self._books, _now()
        return Findings(
            plan=self._plan,
            limit_nano_usd=LIMIT,
            ledger=await books.ledger(at),
            counters=await books.counters(at),
            held_nano_usd=(await books.balance()).held_nano_usd,
            journal_entries=await books.journal_entries(),
            ledger_rows=await books.ledger_rows(),
            provider_calls=sum((await books.provider_calls()).values()),
            killed=self._strike.killed,
            lost=self._strike.lost,
            paused=self._strike.paused,
            tally=self._tally,
            seconds=seconds,
        )

    async def _quiet(self) -> None:
        """Wait until nothing is held and the ledger has everything, or for as long as it may be."""
        self._say("Waiting until nothing is held and the ledger has everything")
        books = self._books

        async def is_quiet() -> bool:
            return not ((await books.balance()).held_nano_usd or await books.journal_entries())

        await until(is_quiet, timeout_s=QUIET_TIMEOUT_S)


@asynccontextmanager
async def _providers(plan: Plan, folder: Path) -> AsyncIterator[Running]:
    path = folder / "behaviours.json"
    path.write_bytes(orjson.dumps(plan.behaviours()))
    arguments = ["simulate", "--port", "0", "--behaviour", str(path)]
    async with relay("simulate", arguments, folder) as running:
        yield running


async def _prepare(plan: Plan, database: Database) -> str:
    """Return a key that may name customers; make the customer, if there is to be one already."""
    _, secret = await create_key(database, new_operation(), right=KeyRight.NAME_CUSTOMERS)
    if not plan.is_new_customer:
        await set_tier(
            database, new_operation(), CustomerChange(customer_id=CUSTOMER_ID, tier=TIER)
        )
    return secret


async def _serving(plan: Plan, database: Database, server: Running) -> Sequence[str]:
    """Wait until all processes serve, and return their ids."""

    async def all_workers() -> Sequence[str]:
        server.check()
        workers = await patiently(lambda: list_workers(database, _now()))
        return [] if len(workers) < plan.workers else [worker.worker_id for worker in workers]

    found = await until(all_workers, timeout_s=SERVING_TIMEOUT_S)
    if not found:
        raise ProcessFailedError(
            f"not all of {plan.workers} processes were serving after {SERVING_TIMEOUT_S:.0f} s"
        )
    return found


async def _remove(scratch: ScratchKeys, say: Say) -> None:
    removed = await patiently(scratch.remove)
    say(f"Removed {removed} keys from Redis")


def _now() -> datetime:
    return datetime.now(UTC)
