"""
`/metrics`: what a process says of itself, in the form that Prometheus reads.

Source: Prometheus documentation, "Exposition formats", text-based format 0.0.4, read 2026-11-25.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

from relay_middleware.vitals import Vitals

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"


@dataclass(frozen=True, slots=True)
class Metric:
    """
    One metric.

    Attributes:
        kind: `counter` or `gauge`.
        read: Takes its value from what a process says; None is left out.
    """

    name: str
    kind: str
    meaning: str
    read: Callable[[Vitals], int | None]


METRICS = (
    Metric(
        "relay_enforcing",
        "gauge",
        "1 while limits can be checked.",
        lambda vitals: int(vitals.is_enforcing),
    ),
    Metric(
        "relay_breaker_open",
        "gauge",
        "1 while Redis does not answer and is asked once a second only.",
        lambda vitals: int(vitals.is_breaker_open),
    ),
    Metric(
        "relay_open_holds",
        "gauge",
        "Requests under way.",
        lambda vitals: vitals.open_holds,
    ),
    Metric(
        "relay_owed_settlements",
        "gauge",
        "Requests that have ended, of which the store has not heard.",
        lambda vitals: vitals.owed_settlements,
    ),
    Metric(
        "relay_journal_entries",
        "gauge",
        "Entries that wait for the ledger: of all processes with Redis.",
        lambda vitals: vitals.journal_entries,
    ),
    Metric(
        "relay_spend_drift_below_nano_usd",
        "gauge",
        "What counters lacked of the ledger's sums at the last comparison, and were raised by.",
        lambda vitals: vitals.drift.below_nano_usd,
    ),
    Metric(
        "relay_spend_drift_above_nano_usd",
        "gauge",
        "What counters had more than the ledger's sums at the last comparison.",
        lambda vitals: vitals.drift.above_nano_usd,
    ),
    Metric(
        "relay_spend_raised_nano_usd_total",
        "counter",
        "What counters were raised by.",
        lambda vitals: vitals.raised_nano_usd,
    ),
    Metric(
        "relay_spend_overrun_nano_usd_total",
        "counter",
        "What charges were above their holds.",
        lambda vitals: vitals.overrun_nano_usd,
    ),
)


def exposition(vitals: Vitals) -> str:
    """Return all metrics of a process."""
    return "".join(f"{line}\n" for line in _lines(vitals))


def _lines(vitals: Vitals) -> Iterator[str]:
    worker = vitals.worker_id.replace("\\", r"\\").replace('"', r"\"").replace("\n", r"\n")
    for metric in METRICS:
        value = metric.read(vitals)
        if value is None:
            continue
        yield f"# HELP {metric.name} {metric.meaning}"
        yield f"# TYPE {metric.name} {metric.kind}"
        yield f'{metric.name}{{worker="{worker}"}} {value}'
