"""
How one system is asked, and its CPU measured meanwhile.
"""

import json
import subprocess
import sys
from collections import Counter
from collections.abc import Callable
from dataclasses import asdict, dataclass, field

from benchmarks.load import Outcome, Plan
from benchmarks.processes import BenchmarkError, on_core
from benchmarks.servers import CUSTOMERS, FEWEST_EVENTS, Bench, Served, environment
from benchmarks.verdict import Counts

CONCURRENCY = 16

_WATCH_S = 0.05
_S_TO_US = 1e6


class NothingAnsweredError(BenchmarkError):
    """There is nothing to measure; says what came instead."""


class Loader:
    """
    Asks one system, and counts everything that it asked. Where it keeps a ledger, one is closed
    before the next begins.
    """

    def __init__(self, bench: Bench, served: Served, *, customers: int = CUSTOMERS) -> None:
        """
        Args:
            customers: How many are named in turn.
        """  # fmt: skip
        self._bench = bench
        self.customers = customers
        self.served = served
        self._next_customer = 0
        self._has_ledger = served.database_path is not None
        self._rows_before = served.ledger_rows() if self._has_ledger else 0
        self.counts = Counts()

    def ask(
        self,
        requests: int,
        *,
        connections: int = CONCURRENCY,
        model: str = "smart",
        prefix: str = "c",
        watch: Callable[[], None] | None = None,
    ) -> Outcome:
        """
        Send *requests* over *connections*.

        Args:
            prefix: Of the names of the customers; if it is not `c`, there is one.
            watch: Called again and again meanwhile.

        Raises:
            NothingAnsweredError: There was no answer at all.
        """
        before = self._bench.upstream.calls()
        route = self.served.routes[model]
        plan = Plan(
            port=self.served.port,
            path=route.path,
            headers=dict(route.headers),
            model=model,
            connections=connections,
            requests=requests,
            customers=self.customers if prefix == "c" else 1,
            first_customer=self._next_customer,
            customer_prefix=prefix,
            fewest_events=FEWEST_EVENTS[model],
        )
        self._next_customer = (self._next_customer + requests) % self.customers
        outcome = run_load(self._bench, self.served, plan, watch)
        if not outcome.answers:
            raise NothingAnsweredError(
                f"asked {requests} times for {model}, without an answer:"
                f" {dict(outcome.refusals | outcome.errors)}; the first:\n{outcome.first_bad}"
            )
        self.counts.add(outcome, planned=requests)
        # Others are asked in between, of the same upstream.
        self.counts.provider_calls += self._bench.upstream.calls() - before
        return outcome

    def close(self) -> Counts:
        """Wait until the ledger has heard of all, and return what was counted."""
        if self._has_ledger:
            expected = self._rows_before + self.counts.provider_calls
            self.counts.ledger_rows = self.served.drained_ledger_rows(expected) - self._rows_before
        return self.counts


@dataclass(slots=True)
class Load:
    """
    What several loads of the same kind have cost.

    Attributes:
        cpu_us: Per request, of each load.
        redis_cpu_s: What Redis has used.
    """

    cpu_us: list[float] = field(default_factory=list)
    cpu_s: float = 0.0
    redis_cpu_s: float = 0.0
    elapsed_s: float = 0.0
    requests: int = 0
    events: int = 0
    reads: int = 0

    def add(self, outcome: Outcome) -> Outcome:
        """Add what *outcome* has cost, and return it."""
        self.cpu_s += outcome.cpu_s
        self.redis_cpu_s += outcome.redis_cpu_s
        self.cpu_us.append(outcome.cpu_s / outcome.sent * _S_TO_US)
        self.elapsed_s += outcome.elapsed_s
        self.requests += outcome.sent
        self.events += outcome.events
        self.reads += outcome.reads
        return outcome

    @property
    def cpu_us_per_request(self) -> float:
        """Of all loads together."""
        return self.cpu_s / self.requests * _S_TO_US


def run_load(
    bench: Bench, served: Served, plan: Plan, watch: Callable[[], None] | None = None
) -> Outcome:
    """Run the load generator, and return what it found and what it cost."""
    with on_core(bench.cores.rest):
        process = subprocess.Popen(
            [sys.executable, "-m", "benchmarks.load"],
            env=environment(),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
    with process:
        assert process.stdin is not None
        assert process.stdout is not None
        print(json.dumps(asdict(plan)), file=process.stdin, flush=True)
        process.stdout.readline()
        began_s, redis_began_s = served.process.cpu_s(), bench.redis.cpu_s()
        print("go", file=process.stdin, flush=True)
        said = _said(process, watch)
        used_s, redis_used_s = served.process.cpu_s() - began_s, bench.redis.cpu_s() - redis_began_s
    found = json.loads(said)
    return Outcome(
        **found
        | {
            "refusals": Counter(found["refusals"]),
            "errors": Counter(found["errors"]),
            "cpu_s": used_s,
            "redis_cpu_s": redis_used_s,
        }
    )


def _said(process: subprocess.Popen[str], watch: Callable[[], None] | None) -> str:
    """Return what *process* prints until its end, with *watch* called again and again meanwhile."""
    while True:
        try:
            said, _ = process.communicate(timeout=_WATCH_S)
        except subprocess.TimeoutExpired:
            if watch is not None:
                watch()
        else:
            return said
