"""
`make bench`: what a request costs, by the kernel's accounting, in one table.

    python -m benchmarks [--quick]

Everything that is needed is started, in a temporary folder and on loopback, and ended again. The
exit code is 1 where the counts of a variant do not add up.
"""

import argparse
import os
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from benchmarks import report, verdict
from benchmarks.processes import Cores, Measured, on_core
from benchmarks.redis_server import running_redis_server
from benchmarks.servers import Bench, running_upstream
from benchmarks.variants import FULL, QUICK, Result, direct, relay_variants


@contextmanager
def running_bench() -> Iterator[Bench]:
    """Start what all variants have in common."""
    cores = Cores.of_machine()
    with tempfile.TemporaryDirectory(prefix="relay-bench-") as name:
        folder = Path(name)
        (folder / "redis-server").mkdir()
        with (
            on_core(cores.rest),
            running_redis_server(
                folder / "redis-server", "--appendonly", "yes", "--save", ""
            ) as redis,
            running_upstream(folder, cores.rest) as upstream,
        ):
            yield Bench(
                folder=folder,
                cores=cores,
                upstream=upstream,
                redis_url=f"redis://127.0.0.1:{redis.port}",
                redis=Measured(redis.pid),
            )


def main() -> int:
    """Measure, print and keep everything; return the exit code."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="less of everything: under a minute")
    arguments = parser.parse_args()
    sizes = QUICK if arguments.quick else FULL
    rig = report.rig(is_quick=arguments.quick)
    results: list[Result] = []
    began_s = time.monotonic()
    print(f"load at the start: {os.getloadavg()[0]:.2f}", flush=True)
    with running_bench() as bench:
        results.append(direct(bench, sizes))
        for result in relay_variants(bench, sizes):
            results.append(result)
            print(f"{result.name} measured, {time.monotonic() - began_s:.0f} s", flush=True)
    report.RESULTS_PATH.write_text(report.to_json(results, rig), encoding="utf-8")
    print(report.table(results))
    mistakes = [
        f"{result.name}: {mistake}"
        for result in results
        for mistake in verdict.mistakes(result.counts)
    ]
    for mistake in mistakes:
        print(f"does not add up: {mistake}", file=sys.stderr)
    return 1 if mistakes else 0


if __name__ == "__main__":
    sys.exit(main())
