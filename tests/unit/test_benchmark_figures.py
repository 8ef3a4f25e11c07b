"""
What the benchmarks compute and print of what they have measured.
"""

import json
from collections import Counter

import pytest

from benchmarks import report
from benchmarks.figures import percentile, quartiles
from benchmarks.load import Outcome
from benchmarks.messages import CHUNKS, end_of_message, events
from benchmarks.upstream import writes
from benchmarks.variants import Result, differences
from benchmarks.verdict import Counts, mistakes


@pytest.mark.parametrize(("percent", "expected"), [(50, 50), (99, 99), (100, 100), (0, 1)])
def test_percentile(percent: float, expected: float) -> None:
    """Of the numbers 1 to 100, in any order, the 99th percentile is 99: so many do not pass it."""
    values = [float(number) for number in range(100, 0, -1)]

    assert percentile(values, percent) == expected


def test_percentile_of_one() -> None:
    """Every percentile of one value is that value."""
    assert quartiles([7.0]) == (7.0, 7.0, 7.0)


def test_percentile_of_nothing() -> None:
    """No values have no percentile, which is said."""
    with pytest.raises(ValueError, match="no percentile of no values"):
        percentile([], 50)


def test_added_latency() -> None:
    """What is added is the difference of the percentiles: 5 - 2 ms, and 9 - 3 ms."""
    added = differences([5.0, 5.0, 9.0], [2.0, 2.0, 3.0])

    assert added == {"added_p50_ms": 3.0, "added_p99_ms": 6.0}


def counts(**more: object) -> Counts:
    """100 requests, of which 97 were answered and 3 refused."""
    whole = {
        "planned": 100,
        "sent": 100,
        "answers": 97,
        "refusals": Counter({"429": 3}),
        "provider_calls": 97,
        "ledger_rows": 97,
        **more,
    }
    return Counts(**whole)  # type: ignore[arg-type]


def test_counts_that_add_up() -> None:
    """Answers and refusals are all that was sent, and the ledger has every call: nothing to say."""
    assert mistakes(counts()) == []


def test_counts_without_a_ledger() -> None:
    """A system that keeps no ledger is not asked for its rows."""
    assert mistakes(counts(ledger_rows=None)) == []


@pytest.mark.parametrize(
    ("more", "said"),
    [
        ({"sent": 99}, "sent 99 of 100 requests"),
        (
            {"answers": 96, "provider_calls": 96, "ledger_rows": 96},
            "sent 100 requests, but got 96 answers and 3 refusals; errors: none",
        ),
        ({"ledger_rows": 96}, "the upstream received 97 calls, but the ledger has 96 rows"),
        ({"ledger_rows": 98}, "the upstream received 97 calls, but the ledger has 98 rows"),
        (
            {"provider_calls": 98, "ledger_rows": 98},
            "the upstream received 98 calls for 97 answers",
        ),
    ],
    ids=["sent", "answers", "lost row", "row too many", "call too many"],
)
def test_counts_that_do_not_add_up(more: dict[str, object], said: str) -> None:
    """Each number that does not fit is named with the one that it should be."""
    assert said in mistakes(counts(**more))


def test_errors_are_told() -> None:
    """Errors are neither answers nor refusals, so they stand in the sentence about those."""
    errors = Counter({"connection lost": 2, "status 500": 1})

    (found,) = mistakes(counts(answers=94, provider_calls=94, ledger_rows=94, errors=errors))

    assert found.endswith("3 refusals; errors: 2 x connection lost, 1 x status 500")


def test_counts_of_several_loads() -> None:
    """The counts of loads are added: 2 and 3 requests are 5, of which one was refused."""
    total = Counts()

    total.add(Outcome(sent=2, answers=2), planned=2)
    total.add(Outcome(sent=3, answers=2, refusals=Counter({"402": 1})), planned=3)

    assert total == Counts(planned=5, sent=5, answers=4, refusals=Counter({"402": 1}))


RESULTS = [
    Result(
        name="direct",
        counts=Counts(sent=1000, answers=1000),
        figures={"cpu_us_per_request": 9.6, "requests_per_second": 51234.5},
    ),
    Result(
        name="redis",
        counts=Counts(sent=2000, errors=Counter({"status 500": 2})),
        figures={"cpu_us_per_request": 1234.5, "added_p50_ms": 0.934},
    ),
]


def test_table() -> None:
    """Every column is as wide as its widest cell, numbers stand right, what is unknown is empty."""
    heading, direct, redis = report.table(RESULTS).splitlines()

    assert heading.startswith("variant  at once  requests  errors  CPU µs/request  requests/s")
    assert direct == "direct      16/1     1,000       0              10      51,234"
    assert redis == f"redis       16/1     2,000       2{'1,234':>16}{'0.93':>26}"


def test_results_as_json() -> None:
    """A program finds a variant's figures by its name, with its counts and what it ran on."""
    found = json.loads(report.to_json(RESULTS, {"cores": 2}))

    assert list(found) == ["direct", "redis"]
    assert found["redis"]["cpu_us_per_request"] == 1234.5
    assert found["redis"]["errors"] == 2
    assert found["redis"]["rig"] == {"cores": 2}


def test_verdict_is_told(capsys: pytest.CaptureFixture[str]) -> None:
    """What does not add up is said with the variant's name, and the exit code is 1."""
    wrong = Result(name="redis", counts=counts(ledger_rows=96))

    assert report.tell_mistakes([wrong]) == 1
    assert "does not add up: redis: the upstream received 97 calls" in capsys.readouterr().err
    assert report.tell_mistakes([Result(name="redis", counts=counts())]) == 0


@pytest.mark.parametrize(
    ("received", "end"),
    [
        (b"GET /calls HTTP/1.1\r\n\r\n", 23),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nab", 40),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\na", None),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n", None),
        (b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n1\r\na\r\n0\r\n\r\n", 58),
        (b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n1\r\na\r\n0\r\n", None),
    ],
)
def test_end_of_message(received: bytes, end: int | None) -> None:
    """A message ends after its head, its measured body, or its last chunk, and not before."""
    assert end_of_message(received) == end


def test_stream_of_the_upstream() -> None:
    """100 pieces of content are 104 events, each in a write of its own, the head with the first."""
    pieces = writes(CHUNKS)

    assert len(events(CHUNKS)) == len(pieces) == 104
    assert all(piece.count(b"data: ") == 1 for piece in pieces)
    assert pieces[0].startswith(b"HTTP/1.1 200 OK")
    assert end_of_message(b"".join(pieces)) == sum(map(len, pieces))
