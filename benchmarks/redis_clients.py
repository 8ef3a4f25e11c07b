"""
What a script costs through redis-py's pool and through the one connection that all share.

    PYTHONPATH=tests .venv/bin/python -m benchmarks.redis_clients [PAIRS]

CPU of this process per call, at several concurrencies, this process on the last core and Redis (AOF
on) on the first. Pairs are measured in turn; of PAIRS (20) the medians are printed, and of the
ratios of each pair the median and the quartiles.
"""

import asyncio
import gc
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable, Mapping
from functools import partial
from pathlib import Path

import uvloop
from fixtures.spend import AT, SCRIPTS, hold
from limits import parse
from limits.aio.storage import RedisStorage
from limits.aio.strategies import SlidingWindowCounterRateLimiter
from redis.asyncio import Redis

from benchmarks.figures import percentile, quartiles
from benchmarks.processes import Cores, on_core
from benchmarks.redis_server import running_redis_server
from relay_middleware.stores.connection import Scripts, connection_pool
from relay_middleware.stores.rate_limits import WindowRateLimiter
from relay_middleware.stores.redis import RedisSpendStore

CALLS = {1: 400, 16: 60, 64: 16}
"""Calls of each caller, by how many callers there are at once."""

CUSTOMERS = 500
LIMIT = 10**12
RATE = "1000000000/day"

Act = Callable[[], Awaitable[object]]
Prepare = Callable[[str, int], Act]
"""Called with a name that has not been used, and a number; what it does is not measured."""


async def cpu_us(prepare: Prepare, *, callers: int, name: str) -> float:
    """Return the CPU of one call of what is prepared."""
    calls = CALLS[callers]
    prepared = [
        [prepare(f"{name}-{caller}-{i}", caller * 7 + i) for i in range(calls)]
        for caller in range(callers)
    ]

    async def call(acts: list[Act]) -> None:
        for act in acts:
            await act()

    gc.collect()
    began_s = time.process_time()
    await asyncio.gather(*map(call, prepared))
    return (time.process_time() - began_s) / (callers * calls) * 1e6


async def compare(title: str, acts: Mapping[str, Prepare], url: str, pairs: int) -> None:
    """Print what each of *acts* costs, and how many times as much the first costs as the others."""
    first, *others = acts
    for callers in CALLS:
        found: dict[str, list[float]] = {name: [] for name in acts}
        for pair in range(pairs + 2):
            # What earlier pairs have left must not slow later ones down.
            await forget_holds(url)
            for name in acts if pair % 2 else reversed(list(acts)):
                found[name].append(
                    await cpu_us(acts[name], callers=callers, name=f"{name}{callers}-{pair}")
                )
        costs = {name: values[2:] for name, values in found.items()}
        line = f"{title:8} c={callers:<3}"
        for name, values in costs.items():
            line += f" {name} {percentile(values, 50):6.1f} us "
        for name in others:
            ratios = [a / b for a, b in zip(costs[first], costs[name], strict=True)]
            low, middle, high = quartiles(ratios)
            line += f" {first}/{name} {middle:.2f} [{low:.2f}-{high:.2f}]"
        print(line, flush=True)


async def forget_holds(url: str) -> None:
    """Empty the server, but for the marks that its buckets are filled."""
    async with Redis.from_url(url) as client:
        names = [name async for name in client.scan_iter(count=10_000) if b":epoch" not in name]
        for start in range(0, len(names), 1000):
            await client.delete(*names[start : start + 1000])


def reserving(scripts: Scripts, generation: str) -> Prepare:
    """Reserve a hold on four accounts, of one of 500 customers."""
    store = RedisSpendStore(scripts, now=lambda: AT)
    store.adopt(generation)

    def prepare(name: str, number: int) -> Act:
        customer = f"c{number % CUSTOMERS}"
        held = hold(name, 1, month=LIMIT, customer=customer, max_concurrency=10**6)
        return partial(store.reserve, held)

    return prepare


def hitting(limiter: WindowRateLimiter) -> Prepare:
    """Count a request of one of 500 customers."""
    return lambda _, number: partial(limiter.hit, f"c{number % CUSTOMERS}", [RATE])


def hitting_theirs(storage: RedisStorage) -> Prepare:
    """The same through the storage that `limits` brings."""
    limiter, item = SlidingWindowCounterRateLimiter(storage), parse(RATE)
    return lambda _, number: partial(limiter.hit, item, f"c{number % CUSTOMERS}")


async def main(url: str, pairs: int) -> None:
    """Measure reserve, then a rate's hit."""
    ways = {name: make(url) for name, make in SCRIPTS.items()}
    store = RedisSpendStore(ways["redis"], now=lambda: AT)
    await store.open()
    generation = await store.generation()
    assert generation is not None
    acts = {name: reserving(scripts, generation) for name, scripts in ways.items()}
    await compare("reserve", acts, url, pairs)
    pool = connection_pool(url)
    storage = RedisStorage(
        "async+redis://",
        implementation="redispy",
        connection_pool=pool,  # type: ignore[arg-type] # declared as text or a number
    )
    hits = {"limits": hitting_theirs(storage)}
    hits |= {name: hitting(WindowRateLimiter.in_redis(scripts)) for name, scripts in ways.items()}
    await compare("hit", hits, url, pairs)
    await pool.aclose()
    for scripts in ways.values():
        await scripts.aclose()


if __name__ == "__main__":
    cores = Cores.of_machine()
    with (
        tempfile.TemporaryDirectory() as folder,
        on_core(cores.rest),
        running_redis_server(Path(folder), "--appendonly", "yes", "--save", "") as own,
        on_core(cores.servers),
    ):
        # As the tests have it: a busy machine is no outage.
        own_url = f"redis://127.0.0.1:{own.port}?socket_timeout=10&socket_connect_timeout=10"
        uvloop.run(main(own_url, int(sys.argv[1]) if len(sys.argv) > 1 else 20))
