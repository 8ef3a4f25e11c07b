"""
What is printed and kept of the measurements.
"""

import json
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from benchmarks import verdict
from benchmarks.processes import BenchmarkError
from benchmarks.variants import Result

RESULTS_PATH = Path(__file__).parent / "results.json"

COLUMNS = {
    "cpu_us_per_request": ("CPU µs/request", "{:,.0f}"),
    "requests_per_second": ("requests/s", "{:,.0f}"),
    "added_p50_ms": ("added p50 ms", "{:.2f}"),
    "added_p99_ms": ("added p99 ms", "{:.2f}"),
    "time_to_first_chunk_ms": ("first chunk ms", "{:.2f}"),
    "cpu_us_per_chunk": ("CPU µs/chunk", "{:.1f}"),
    "kib_per_open_stream": ("KiB/stream", "{:.0f}"),
    "rss_at_start_mb": ("MiB at start", "{:.0f}"),
    "rss_mb": ("MiB at end", "{:.0f}"),
}
"""Heading and form of the figures that the table has."""

_DIGITS = 4


def table(results: Sequence[Result]) -> str:
    """
    Return *results* as an aligned table; what was not measured is left empty. `at once` is how many
    requests were while CPU and requests/s were measured, and while latency was.
    """
    lines = [
        ["variant", "at once", "requests", "errors", *(heading for heading, _ in COLUMNS.values())]
    ]
    for result in results:
        counts = result.counts
        at_once = f"{result.concurrency:,}/{result.latency_concurrency:,}"
        line = [result.name, at_once, f"{counts.sent:,}", f"{counts.errors.total():,}"]
        line += [
            form.format(result.figures[name]) if name in result.figures else ""
            for name, (_, form) in COLUMNS.items()
        ]
        lines.append(line)
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    return "\n".join(
        "  ".join(
            cell.rjust(width) if number else cell.ljust(width)
            for number, (cell, width) in enumerate(zip(line, widths, strict=True))
        ).rstrip()
        for line in lines
    )


def to_json(results: Sequence[Result], rig: Mapping[str, object]) -> str:
    """Return *results* as JSON: by the name of the variant its figures, its counts, the *rig*."""
    found = {}
    for result in results:
        counts = result.counts
        found[result.name] = {
            "requests": counts.sent,
            "answers": counts.answers,
            "refusals": counts.refusals.total(),
            "errors": counts.errors.total(),
            "provider_calls": counts.provider_calls,
            "ledger_rows": counts.ledger_rows,
            **{name: round(value, _DIGITS) for name, value in result.figures.items()},
            "concurrency": result.concurrency,
            "latency_concurrency": result.latency_concurrency,
            "rig": rig,
        }
    return json.dumps(found, indent=2) + "\n"


def tell_mistakes(results: Sequence[Result]) -> int:
    """Print what does not add up, and return the exit code: 0 where all does."""
    found = [
        f"{result.name}: {mistake}"
        for result in results
        for mistake in verdict.mistakes(result.counts)
    ]
    for mistake in found:
        print(f"does not add up: {mistake}", file=sys.stderr)
    return 1 if found else 0


def in_words(main: Callable[[], int]) -> int:
    """Return what *main* does; where nothing can be measured, print why and return 1."""
    try:
        return main()
    except BenchmarkError as error:
        print(f"nothing measured: {error}", file=sys.stderr)
        return 1
