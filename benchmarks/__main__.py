"""
`make bench`: what a request costs, by the kernel's accounting, in one table.

    python -m benchmarks [--quick]

Everything that is needed is started, in a temporary folder and on loopback, and ended again. The
exit code is 1 where the counts of a variant do not add up.
"""

import argparse
import os
import sys
import time

from benchmarks import report
from benchmarks.rig import rig, running_bench
from benchmarks.variants import FULL, QUICK, Result, direct, relay_variants


def main() -> int:
    """Measure, print and keep everything; return the exit code."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="less of everything: under a minute")
    arguments = parser.parse_args()
    sizes = QUICK if arguments.quick else FULL
    results: list[Result] = []
    began_s = time.monotonic()
    load_at_start = os.getloadavg()[0]
    with running_bench() as bench:
        results.append(direct(bench, sizes))
        for result in relay_variants(bench, sizes):
            results.append(result)
            print(f"{result.name} measured, {time.monotonic() - began_s:.0f} s", flush=True)
    found_on = rig(is_quick=arguments.quick, load_at_start=load_at_start)
    report.RESULTS_PATH.write_text(report.to_json(results, found_on), encoding="utf-8")
    print(report.table(results))
    return report.tell_mistakes(results)


if __name__ == "__main__":
    sys.exit(report.in_words(main))
