"""
The overspend proof, as an operator runs it: a crowd, a limit, and a process that is killed.
"""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import pytest
import redis
from click.testing import CliRunner

from proxy_app.cli import main

pytestmark = [pytest.mark.redis, pytest.mark.slow]

FOREIGN = {"relay:{00}:epoch": "kept", "relay-selftest": "kept"}
"""What is in Redis beside the scratch keys, named almost alike."""


@pytest.fixture(name="client")
def _client(redis_url: str) -> Iterator["redis.Redis"]:
    """
    Redis, in which somebody else has keys, too.
    """
    with redis.Redis.from_url(redis_url, decode_responses=True) as client:
        client.mset(FOREIGN)
        yield client


@contextmanager
def selftest(redis_url: str, *arguments: str) -> Iterator["subprocess.Popen[str]"]:
    """Run `relay selftest`; whatever the test does, it ends."""
    # Who runs the tests in the background may have it ignored, and so would what is started here.
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    with subprocess.Popen(  # noqa: S603 - our own program
        [sys.executable, "-m", "proxy_app", "selftest", "--redis", redis_url, *arguments],
        env={**os.environ, "RELAY_MODEL_LIST": "settings of another installation"},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        signal.signal(signal.SIGINT, before)
        try:
            yield process
        finally:
            process.terminate()


def proven(redis_url: str, *arguments: str) -> Mapping[str, int]:
    """Run the proof, and return what it shows as JSON."""
    with selftest(redis_url, "--json", *arguments) as process:
        printed, said = process.communicate(timeout=300)
    assert process.returncode == 0, printed + said
    shown: Mapping[str, int] = json.loads(printed)
    return shown


def left_in(client: "redis.Redis") -> Mapping[str, str]:
    return {name: client.get(name) for name in client.scan_iter()}


def test_the_limit_is_kept(redis_url: str, client: "redis.Redis") -> None:
    """
    1,000 at once at $0.10 against $5.00, at four processes of which one is killed: never more is
    spent, less than $0.10 is left, nothing is held, and nothing is left behind in Redis.
    """
    shown = proven(redis_url)

    spent = shown["settled_nano_usd"] + shown["expired_nano_usd"]
    assert shown["limit_nano_usd"] == 5_000_000_000
    assert 4_900_000_000 < spent <= 5_000_000_000
    assert shown["held_nano_usd"] == 0
    assert shown["provider_calls"] >= shown["admitted"] >= 50
    assert (shown["processes"], shown["killed"]) == (4, 1)
    # What it was about is not known to be charged, and counts.
    assert shown["lost_requests"] > 0
    assert shown["provider_errors"] > 0
    assert shown["hung_up"] > 0
    assert shown["refused"] >= 1000
    assert left_in(client) == FOREIGN


def test_the_first_requests_of_a_customer(redis_url: str, client: "redis.Redis") -> None:
    """
    Nobody has heard of the customer before: its first 500 requests, all at once, keep the limit.
    """
    shown = proven(redis_url, "--new-customer", "--workers", "2", "--requests", "500")

    spent = shown["settled_nano_usd"] + shown["expired_nano_usd"]
    assert 4_900_000_000 < spent <= 5_000_000_000
    assert shown["held_nano_usd"] == 0
    assert shown["killed"] == 1
    assert left_in(client) == FOREIGN


def test_a_provider_that_lies(redis_url: str) -> None:
    """
    Each answer costs 5 cents more than its hold and 20 may be under way: the limit is passed, by
    $1.00 at most, and what was charged is in the ledger.
    """
    shown = proven(redis_url, "--lie", "50", "--workers", "2", "--requests", "300")

    spent = shown["settled_nano_usd"] + shown["expired_nano_usd"]
    assert shown["overrun_bound_nano_usd"] == 20 * 50_000_000
    assert shown["overrun_nano_usd"] == max(0, spent - 5_000_000_000)
    assert shown["overrun_nano_usd"] <= shown["overrun_bound_nano_usd"]
    assert shown["held_nano_usd"] == 0


@pytest.mark.parametrize("ending", [signal.SIGTERM, signal.SIGINT], ids=lambda each: each.name)
def test_what_is_broken_off_leaves_nothing(
    redis_url: str, client: "redis.Redis", ending: signal.Signals
) -> None:
    """
    Told to end in its middle, it ends what it has started and removes what it has written.
    """
    with selftest(redis_url, "--workers", "2", "--requests", "100") as process:
        assert process.stderr is not None
        said = ""
        while "Starting 2 processes" not in said:
            said += process.stderr.readline()
        assert len(left_in(client)) >= len(FOREIGN)
        process.send_signal(ending)
        _, rest = process.communicate(timeout=120)

    assert (process.returncode, "Traceback" in rest) == (1, False)
    assert rest.endswith("Aborted!\n")
    assert left_in(client) == FOREIGN


def test_it_says_why_it_cannot_begin(redis_url: str, client: "redis.Redis") -> None:
    """
    No Redis, none that keeps what it is told, and a folder that is in use: a line each.
    """
    runner = CliRunner()

    def told(*arguments: str) -> tuple[int, str]:
        result = runner.invoke(main, ["selftest", *arguments])
        return result.exit_code, result.stderr.replace("\n", " ")

    nowhere = told("--redis", "redis://127.0.0.1:1")
    wrong = told("--redis", "http://127.0.0.1")
    used = told("--redis", redis_url, "--keep", "tests")
    client.config_set("maxmemory-policy", "allkeys-lru")
    try:
        forgetful = told("--redis", redis_url)
    finally:
        client.config_set("maxmemory-policy", "noeviction")

    assert (nowhere[0], "did not answer" in nowhere[1]) == (1, True)
    assert (wrong[0], "is no address of a Redis" in wrong[1]) == (2, True)
    assert (used[0], "is not empty" in used[1]) == (2, True)
    assert (forgetful[0], "Set maxmemory-policy noeviction" in forgetful[1]) == (2, True)
    assert left_in(client) == FOREIGN
