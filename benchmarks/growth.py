"""
Whether a request costs the same when there is much of everything.

    python -m benchmarks.growth [--pairs N] [--many N] [customers] [deployments] [rows]

Compared are 10 and a million customers, 3 and 300 deployments, 10 and a million rows of the ledger,
each on two servers that count in Redis. Of N pairs (20), measured in turn, it prints the medians,
and the quartiles of the ratios; and how long the query of `relay usage` takes for one customer.
With `--many` the million is less.

What is filled: customers are rows in SQL, and each has its four accounts in Redis, but no rows of
the ledger. Rows are requests of this month in SQL, without attempts; every tenth is of one
customer, the others are spread over 500.
"""

import argparse
import asyncio
import statistics
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from urllib.parse import urlsplit

from benchmarks.comparing import Contender, compare, print_ratios, results_of
from benchmarks.filling import fill_accounts, fill_rows
from benchmarks.measuring import Loader
from benchmarks.report import tell_mistakes
from benchmarks.rig import running_bench
from benchmarks.servers import CUSTOMERS, Bench, deployment, running_relay
from relay_middleware.core.identifiers import CustomerId
from relay_middleware.ledger.database import Database
from relay_middleware.ledger.usage_reports import usage_report

MANY = 1_000_000
FEW = 10
DEPLOYMENTS = (3, 300)
REQUESTS = 500
USAGE_REPEATS = 20


def customers(bench: Bench, stack: ExitStack, many: int) -> list[Contender]:
    """Start a server that knows 10 customers, and two that know many, of whom 10 and 500 ask."""
    found = []
    for name, known, asking in (
        (f"{FEW}-customers", FEW, FEW),
        (f"{many}-customers", many, FEW),
        (f"{many}-customers-500-ask", many, CUSTOMERS),
    ):
        served = stack.enter_context(
            running_relay(bench, name, redis_url=bench.redis_url, customers=known)
        )
        loader = Loader(bench, served, customers=asking)
        loader.ask(asking)
        port = urlsplit(bench.redis_url).port
        assert port is not None
        took_s = fill_accounts(port, name, known)
        print(
            f"{name}: ready after {served.ready_s:.1f} s, accounts filled in {took_s:.0f} s,"
            f" {served.process.rss_mb():.0f} MiB, Redis {bench.redis.rss_mb():.0f} MiB",
            flush=True,
        )
        found.append(Contender(name, loader, REQUESTS))
    return found


def deployments(bench: Bench, stack: ExitStack, many: int) -> list[Contender]:
    """Start servers with few and many deployments: each of another model, and all of one."""
    del many
    found = []
    for count in DEPLOYMENTS:
        for kind, name_of in (("models", "other{}".format), ("alternatives", "smart".format)):
            others = [
                # No two of a model may be the same.
                deployment(name_of(number), bench.upstream.url, api_key=f"sk-{number}")
                for number in range(count - 1)
            ]
            name = f"{count}-{kind}"
            model_list = [deployment("smart", bench.upstream.url), *others]
            served = stack.enter_context(
                running_relay(bench, name, redis_url=bench.redis_url, model_list=model_list)
            )
            loader = Loader(bench, served)
            loader.ask(CUSTOMERS)
            found.append(Contender(name, loader, REQUESTS))
    return found


def rows(bench: Bench, stack: ExitStack, many: int) -> list[Contender]:
    """Start servers with few and many rows in their ledgers."""
    found = []
    for count, customers in ((FEW, CUSTOMERS), (many, CUSTOMERS), (many, 1)):
        name = f"{count}-rows" if customers > 1 else f"{count}-rows-of-one"
        served = stack.enter_context(
            running_relay(
                bench,
                name,
                redis_url=bench.redis_url,
                prepare=partial(fill_rows, count=count, customers=customers),
            )
        )
        print(f"{name}: ready after {served.ready_s:.1f} s", flush=True)
        loader = Loader(bench, served)
        loader.ask(CUSTOMERS)
        assert served.database_path is not None
        for customer in ("c0", "c7"):
            requests, took_ms = asyncio.run(usage_ms(served.database_path, customer))
            print(f"{name}: usage of {customer}, {requests:,} requests: {took_ms:.1f} ms")
        found.append(Contender(name, loader, REQUESTS))
    return found


async def usage_ms(database_path: Path, customer: str) -> tuple[int, float]:
    """Return how many requests *customer* has had this month, and how long that takes to say."""
    database = Database(f"sqlite:///{database_path}")
    took_ms, requests = [], 0
    for _ in range(USAGE_REPEATS):
        began_s = time.perf_counter()
        (report,) = await usage_report(database, datetime.now(UTC), only=CustomerId(customer))
        took_ms.append((time.perf_counter() - began_s) * 1000)
        requests = report.requests
    await database.aclose()
    return requests, statistics.median(took_ms)


Start = Callable[[Bench, ExitStack, int], list[Contender]]
STARTS: dict[str, Start] = {"customers": customers, "deployments": deployments, "rows": rows}


def main(chosen: Sequence[str], *, pairs: int, many: int) -> int:
    """Compare what is *chosen*; return the exit code."""
    results = []
    for name in chosen:
        with running_bench() as bench, ExitStack() as stack:
            contenders = STARTS[name](bench, stack, many)
            compare(contenders, pairs)
            print_ratios(contenders)
            results += results_of(contenders)
    return tell_mistakes(results)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(prog="python -m benchmarks.growth", description=__doc__)
    parser.add_argument("--pairs", type=int, default=20, help="measured in turn")
    parser.add_argument("--many", type=int, default=MANY, help="customers and rows")
    parser.add_argument("chosen", nargs="*", metavar="WHAT", help="customers, deployments, rows")
    options = parser.parse_args()
    if unknown := set(options.chosen) - set(STARTS):
        parser.error(f"not known: {', '.join(sorted(unknown))}; known: {', '.join(STARTS)}")
    sys.exit(main(options.chosen or list(STARTS), pairs=options.pairs, many=options.many))
