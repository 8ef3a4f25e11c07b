"""
What is measured of each variant.

CPU is measured with 16 requests at once, latency with one; a result that was taken otherwise says
so, and so does a figure's name. Of streams, latency is the time to the first chunk.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

from benchmarks.figures import percentile, quartiles
from benchmarks.measuring import CONCURRENCY, Load, Loader
from benchmarks.messages import CHUNKS
from benchmarks.servers import (
    CUSTOMERS,
    EXTRA_EVENTS,
    SLOW_CHUNKS,
    Bench,
    Served,
    running_relay,
)
from benchmarks.verdict import Counts

MORE_STREAMS = 64
"""At once: where several pieces are read in one turn of the server's loop."""

_STREAMS_IN_A_ROW = 5
_US = 1e6
_KIB_IN_MIB = 1024


@dataclass(frozen=True, slots=True, kw_only=True)
class Sizes:
    """
    How much is measured.

    Attributes:
        customers: Who ask, in turn.
        latency_rounds: How often the upstream and the variant are measured in turn, one request at
            a time.
        checkpoints: After how many requests memory is read.
        block: Requests of one measurement of CPU.
    """

    customers: int = CUSTOMERS
    latency_rounds: int
    latency_requests: int
    block: int
    checkpoints: tuple[int, ...]
    streams: int
    latency_streams: int
    slow_streams: int = 1000


FULL = Sizes(
    latency_rounds=10,
    latency_requests=400,
    block=1000,
    checkpoints=(10_000, 100_000),
    streams=1600,
    latency_streams=20,
)
QUICK = Sizes(
    latency_rounds=4,
    latency_requests=60,
    block=500,
    checkpoints=(1000, 2000),
    streams=160,
    latency_streams=5,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Result:
    """
    What was found of one variant.

    Attributes:
        figures: By name, which ends in the unit.
        concurrency: Requests at once while CPU was measured.
        latency_concurrency: The same of latency.
    """

    name: str
    counts: Counts
    figures: dict[str, float] = field(default_factory=dict)
    concurrency: int = CONCURRENCY
    latency_concurrency: int = 1


def direct(bench: Bench, sizes: Sizes) -> Result:
    """Ask the upstream itself."""
    served = bench.upstream.as_served()
    loader, load = Loader(bench, served, customers=sizes.customers), Load()
    loader.ask(loader.customers)
    alone = loader.ask(sizes.latency_rounds * sizes.latency_requests, connections=1)
    for _ in range(sizes.checkpoints[0] // sizes.block):
        load.add(loader.ask(sizes.block))
    figures = of_load(load) | {
        "p50_ms": percentile(alone.latencies_ms, 50),
        "p99_ms": percentile(alone.latencies_ms, 99),
        "added_p50_ms": 0.0,
        "added_p99_ms": 0.0,
        "rss_mb": served.process.rss_mb(),
    }
    return Result(name="direct", counts=loader.close(), figures=figures)


def requests(name: str, bench: Bench, served: Served, sizes: Sizes) -> Result:
    """Ask for plain answers."""
    loader, load = Loader(bench, served, customers=sizes.customers), Load()
    figures = started(loader)
    rounds = sizes.latency_rounds
    figures |= added_latency(bench, loader, count=sizes.latency_requests, rounds=rounds)
    asked = 0
    for checkpoint in sizes.checkpoints:
        while asked < checkpoint:
            load.add(loader.ask(sizes.block))
            asked += sizes.block
        figures["rss_mb"] = figures[f"rss_after_{checkpoint}_mb"] = served.process.rss_mb()
    return Result(name=name, counts=loader.close(), figures=figures | of_load(load))


def streams(name: str, bench: Bench, served: Served, sizes: Sizes) -> Result:
    """Ask for streams whose pieces come one by one."""
    loader = Loader(bench, served, customers=sizes.customers)
    figures = started(loader)
    loader.ask(CONCURRENCY, model="smart-stream")
    figures |= added_latency(
        bench,
        loader,
        count=sizes.latency_streams,
        rounds=sizes.latency_rounds,
        model="smart-stream",
    )
    figures["time_to_first_chunk_ms"] = figures["p50_ms"]
    at_more = stream_load(loader, sizes.streams, MORE_STREAMS)
    figures[f"cpu_us_per_chunk_at_{MORE_STREAMS}"] = per_chunk(at_more, CHUNKS)
    load = stream_load(loader, sizes.streams, CONCURRENCY)
    figures |= of_load(load) | {
        "cpu_us_per_chunk": per_chunk(load, CHUNKS),
        # Nearly 1: they came one by one indeed.
        "events_per_read": load.events / load.reads,
        "rss_mb": served.process.rss_mb(),
    }
    return Result(name=name, counts=loader.close(), figures=figures)


def stream_load(loader: Loader, count: int, connections: int) -> Load:
    """Ask for *count* streams, so many at once."""
    load = Load()
    block = min(connections * _STREAMS_IN_A_ROW, count)
    for _ in range(count // block):
        load.add(loader.ask(block, connections=connections, model="smart-stream"))
    return load


def per_chunk(load: Load, chunks: int) -> float:
    """Return the CPU of one write of the upstream: of a stream's, divided by all its events."""
    return load.cpu_us_per_request / (chunks + EXTRA_EVENTS)


def slow_streams(name: str, bench: Bench, served: Served, sizes: Sizes) -> Result:
    """Keep many streams open at once, whose pieces are far apart."""
    count = sizes.slow_streams
    loader, load = Loader(bench, served, customers=sizes.customers), Load()
    figures = started(loader)
    before_mb = peak_mb = served.process.rss_mb()

    def watch() -> None:
        nonlocal peak_mb
        peak_mb = max(peak_mb, served.process.rss_mb())

    outcome = load.add(loader.ask(count, connections=count, model="smart-slow", watch=watch))
    alone = Loader(bench, bench.upstream.as_served())
    without = alone.ask(count, connections=count, model="smart-slow")
    figures |= of_load(load) | differences(outcome.first_chunks_ms, without.first_chunks_ms)
    figures |= {
        "time_to_first_chunk_ms": percentile(outcome.first_chunks_ms, 50),
        "cpu_us_per_chunk": per_chunk(load, SLOW_CHUNKS),
        "rss_before_mb": before_mb,
        "rss_peak_mb": peak_mb,
        "kib_per_open_stream": (peak_mb - before_mb) * _KIB_IN_MIB / count,
        "rss_mb": served.process.rss_mb(),
    }
    return Result(
        name=name,
        counts=loader.close(),
        figures=figures,
        concurrency=count,
        latency_concurrency=count,
    )


def started(loader: Loader) -> dict[str, float]:
    """
    Ask a server that was just started once for each customer, whom it then knows: what follows
    costs less.
    """
    served, load = loader.served, Load()
    figures = {"ready_s": served.ready_s, "rss_at_start_mb": served.process.rss_mb()}
    load.add(loader.ask(loader.customers))
    return figures | {"cpu_us_per_first_request": load.cpu_us_per_request}


def of_load(load: Load) -> dict[str, float]:
    """Return what *load* has cost."""
    low, middle, high = quartiles(load.cpu_us)
    return {
        "cpu_us_per_request": load.cpu_us_per_request,
        "cpu_us_per_request_quartile1": low,
        "cpu_us_per_request_median": middle,
        "cpu_us_per_request_quartile3": high,
        "redis_cpu_us_per_request": load.redis_cpu_s / load.requests * _US,
        "requests_per_second": load.requests / load.elapsed_s,
    }


def added_latency(
    bench: Bench, loader: Loader, *, count: int, rounds: int, model: str = "smart"
) -> dict[str, float]:
    """Measure with one request at a time, and the upstream alone in turn."""
    without, load = Loader(bench, bench.upstream.as_served()), Load()
    found: list[float] = []
    alone: list[float] = []
    for _ in range(rounds):
        alone += without.ask(count, connections=1, model=model).waits_ms
        found += load.add(loader.ask(count, connections=1, model=model)).waits_ms
    return differences(found, alone) | {
        "cpu_us_per_request_at_1": load.cpu_us_per_request,
        "p50_ms": percentile(found, 50),
        "p99_ms": percentile(found, 99),
    }


def differences(found: list[float], alone: list[float]) -> dict[str, float]:
    """Return how much longer it took than the upstream alone."""
    return {
        f"added_p{percent}_ms": percentile(found, percent) - percentile(alone, percent)
        for percent in (50, 99)
    }


Measure = Callable[[str, Bench, Served, Sizes], Result]

RELAY_VARIANTS: dict[str, tuple[bool, Measure]] = {
    "embedded": (False, requests),
    "redis": (True, requests),
    "redis-stream": (True, streams),
    "redis-slow-streams": (True, slow_streams),
}
"""Whether limits are counted in Redis, and what is measured."""


def relay_variants(bench: Bench, sizes: Sizes) -> Iterator[Result]:
    """Measure Relay, each variant on a server of its own."""
    for name, (is_in_redis, measure) in RELAY_VARIANTS.items():
        redis_url = bench.redis_url if is_in_redis else None
        with running_relay(bench, name, redis_url=redis_url) as served:
            yield measure(name, bench, served, sizes)
