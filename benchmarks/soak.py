"""
Whether memory stays flat.

    python -m benchmarks.soak [REQUESTS]

Sends REQUESTS (1,000,000) to one worker that counts in Redis, 16 at once, and reads its memory and
that of Redis every 50,000.
"""

import sys
import time

from benchmarks.measuring import Load, Loader
from benchmarks.report import tell_mistakes
from benchmarks.rig import running_bench
from benchmarks.servers import running_relay
from benchmarks.variants import Result

REQUESTS = 1_000_000
READINGS = 20
BLOCK = 2500


def main(requests: int) -> int:
    """Send *requests*, print the readings, and return the exit code."""
    began_s = time.monotonic()
    with (
        running_bench() as bench,
        running_relay(bench, "soak", redis_url=bench.redis_url) as served,
    ):
        loader, sent = Loader(bench, served), 0
        print("  requests  CPU µs/request  Relay MiB  Redis MiB  seconds")
        while sent < requests:
            load = Load()
            for _ in range(max(requests // READINGS // BLOCK, 1)):
                load.add(loader.ask(BLOCK))
            sent += load.requests
            print(
                f"{sent:10,}  {load.cpu_us_per_request:14,.0f}  {served.process.rss_mb():9.1f}"
                f"  {bench.redis.rss_mb():9.1f}  {time.monotonic() - began_s:7.0f}",
                flush=True,
            )
        counts = loader.close()
    return tell_mistakes([Result(name="soak", counts=counts)])


if __name__ == "__main__":
    sys.exit(main(int(sys.argv[1]) if len(sys.argv) > 1 else REQUESTS))
