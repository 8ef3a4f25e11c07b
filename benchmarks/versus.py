"""
`make bench-peers`: Relay beside LiteLLM's proxy and Portkey's gateway, measured in turn.

    python -m benchmarks.versus [--quick]

Installs the others in a scratch folder (`peers.py`). All run at the same time on one core, one of
them is asked at a time, and each round gives a ratio to Relay.
"""

import argparse
import os
import sys
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path

from benchmarks import peers, report
from benchmarks.comparing import Contender, compare, print_ratios
from benchmarks.measuring import CONCURRENCY, Loader
from benchmarks.messages import CHUNKS
from benchmarks.rig import rig, running_bench
from benchmarks.servers import CUSTOMERS, Bench, running_relay
from benchmarks.variants import Result, added_latency, of_load, per_chunk

RESULTS_PATH = Path(__file__).parent / "peers.json"

REQUESTS = {"redis": 640, "embedded": 640, "litellm": 96, "portkey": 640}
"""Of a round. LiteLLM's proxy takes as long for its as the others for theirs."""

STREAMS = 2 * CONCURRENCY
STREAMING = ("redis", "litellm")
"""Portkey's gateway at this version answers a request for a stream with 500, under Node 20."""

_LATENCY_REQUESTS = 30


def main() -> int:
    """Measure, print and keep everything; return the exit code."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.versus", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="4 rounds instead of 20")
    is_quick = parser.parse_args().quick
    installed = peers.scratch_folder()
    peers.install(installed)
    load_at_start = os.getloadavg()[0]
    with running_bench() as bench, ExitStack() as stack:
        systems = {
            "redis": stack.enter_context(running_relay(bench, "redis", redis_url=bench.redis_url)),
            "embedded": stack.enter_context(running_relay(bench, "embedded", redis_url=None)),
            "litellm": stack.enter_context(peers.running_litellm(bench, installed)),
            "portkey": stack.enter_context(peers.running_portkey(bench, installed)),
        }
        at_start = {name: served.process.rss_mb() for name, served in systems.items()}
        rounds = 4 if is_quick else 20
        for served in systems.values():
            # Relay looks up whom it sees for the first time, which the others never do.
            warm_up = Loader(bench, served)
            warm_up.ask(CUSTOMERS)
            warm_up.close()
        plain = [
            Contender(name, Loader(bench, served), REQUESTS[name])
            for name, served in systems.items()
        ]
        results = measured(bench, plain, rounds, at_start)
        streams = [
            Contender(f"{name}-stream", Loader(bench, systems[name]), STREAMS, model="smart-stream")
            for name in STREAMING
        ]
        results += measured(bench, streams, rounds, at_start)
    found_on = rig(is_quick=is_quick, load_at_start=load_at_start)
    RESULTS_PATH.write_text(report.to_json(results, found_on), encoding="utf-8")
    print(report.table(results))
    for group in (plain, streams):
        print_ratios(group)
    return report.tell_mistakes(results)


def measured(
    bench: Bench, contenders: Sequence[Contender], rounds: int, at_start: Mapping[str, float]
) -> list[Result]:
    """Measure all *contenders* in turn, their CPU first."""
    compare(contenders, rounds)
    return [
        result_of(bench, each, rounds, rss_at_start_mb=at_start[each.name.partition("-")[0]])
        for each in contenders
    ]


def result_of(bench: Bench, each: Contender, rounds: int, *, rss_at_start_mb: float) -> Result:
    """Measure what one request at a time takes, and return all that was found of *each*."""
    is_stream = each.model == "smart-stream"
    count = 2 if is_stream else _LATENCY_REQUESTS
    latency = added_latency(bench, each.loader, count=count, rounds=rounds, model=each.model)
    figures = of_load(each.load) | latency
    if is_stream:
        figures["time_to_first_chunk_ms"] = figures["p50_ms"]
        figures["cpu_us_per_chunk"] = per_chunk(each.load, CHUNKS)
    figures["rss_at_start_mb"] = rss_at_start_mb
    figures["rss_mb"] = each.loader.served.process.rss_mb()
    return Result(name=each.name, counts=each.loader.close(), figures=figures)


if __name__ == "__main__":
    sys.exit(report.in_words(main))
