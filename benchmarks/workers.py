"""
Whether two workers cost as much per request as one, and admit the same.

    python -m benchmarks.workers [PAIRS]

CPU of all processes of a server per request, with one worker and with two on the same core, 16
requests at once for each of them, of PAIRS (20) measured in turn. And how many requests of one
customer are let through by each kind of limit: a rate of 50 a day, 4 requests at once, and a spend
limit of 1 cent.
"""

import sys
from contextlib import ExitStack
from pathlib import Path

from benchmarks.comparing import Contender, compare, print_ratios, results_of
from benchmarks.measuring import CONCURRENCY, Loader
from benchmarks.report import tell_mistakes
from benchmarks.rig import running_bench
from benchmarks.servers import (
    CUSTOMERS,
    TIER,
    Bench,
    add_customers,
    running_relay,
)

REQUESTS = 960
"""Of one measurement, for each worker."""

WORKERS = (1, 2)

LIMITED = {
    "rated": TIER | {"rate_limits": ["50/day"]},
    "placed": TIER | {"max_concurrency": 4},
    "spending": TIER | {"spend_limits": [{"cents": 1, "per": "month"}]},
}
"""Tiers that refuse, by their names and those of their customers."""

RATED_REQUESTS = 400
SPENDING_REQUESTS = 4000
PLACED_STREAMS = CONCURRENCY


def _add_limited(database_path: Path) -> None:
    for name in LIMITED:
        add_customers(database_path, 1, prefix=name, tier=name)


def admitted(loader: Loader) -> dict[str, int]:
    """Ask more than each limit allows, and return how many requests it let through."""
    return {
        "rated": loader.ask(RATED_REQUESTS, prefix="rated").answers,
        "placed": loader.ask(PLACED_STREAMS, model="smart-slow", prefix="placed").answers,
        "spending": loader.ask(SPENDING_REQUESTS, prefix="spending").answers,
    }


def main(pairs: int) -> int:
    """Compare and print; return the exit code: 1 where more workers admit another number."""
    with running_bench() as bench, ExitStack() as stack:
        contenders = [started(bench, workers, stack) for workers in WORKERS]
        compare(contenders, pairs)
        print_ratios(contenders)
        found = {each.name: admitted(each.loader) for each in contenders}
        results = results_of(contenders)
    for name, counts in found.items():
        print(f"{name} admitted: {counts}")
    first, *others = found.values()
    if any(other != first for other in others):
        print("not the same with more workers", file=sys.stderr)
        return 1
    return tell_mistakes(results)


def started(bench: Bench, workers: int, stack: ExitStack) -> Contender:
    """Start a server, and let it see every customer once."""
    name = f"{workers}-workers"
    served = stack.enter_context(
        running_relay(
            bench,
            name,
            redis_url=bench.redis_url,
            workers=workers,
            prepare=_add_limited,
            tiers={"pro": TIER, **LIMITED},
        )
    )
    loader, connections = Loader(bench, served), workers * CONCURRENCY
    for _ in range(2 * workers):
        # Each worker looks a customer up for itself.
        loader.ask(CUSTOMERS, connections=connections)
    return Contender(name, loader, workers * REQUESTS, connections)


if __name__ == "__main__":
    sys.exit(main(int(sys.argv[1]) if len(sys.argv) > 1 else 20))
