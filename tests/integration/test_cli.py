"""
The command line: what an operator types, and what comes back.
"""

import asyncio
import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path

import httpx
import pytest
from click.testing import CliRunner, Result
from fixtures.records import ended

from proxy_app.cli import main
from relay_middleware.core.holds import HoldState
from relay_middleware.core.records import LedgerRecord
from relay_middleware.ledger.database import Database
from relay_middleware.ledger.dead_letters import DeadLetter, keep_dead_letter
from relay_middleware.ledger.migrations import migrate
from relay_middleware.ledger.sql import SqlLedger

ROOT = Path(__file__).parent.parent.parent

FILE = """\
model_list:
  - {model_name: smart, litellm_params: {model: openai/gpt-4o-mini, api_key: sk-1}}
tiers:
  free: {models: ["*"], spend_limits: [{cents: 50, per: day}, {cents: 500, per: month}]}
  pro: {models: ["*"]}
customers: {default_tier: free}
"""

Relay = Callable[..., Result]


@pytest.fixture(name="config_path")
def _config_path(tmp_path: Path) -> Path:
    """A configuration whose database and state are the test's own."""
    path = tmp_path / "relay.yaml"
    own = f"state_dir: {tmp_path}/state\ndatabase_url: sqlite:///{tmp_path}/relay.db\n"
    path.write_text(FILE + own, encoding="utf-8")
    return path


@pytest.fixture(name="relay")
def _relay(config_path: Path) -> Relay:
    """The command line, with the configuration at hand."""
    runner = CliRunner(env={"RELAY_CONFIG": str(config_path)})

    def run(*arguments: str) -> Result:
        return runner.invoke(main, arguments, prog_name="relay")

    return run


@pytest.fixture(name="taken_port")
def _taken_port() -> Iterator[int]:
    """A port of this machine that is somebody else's."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        yield listener.getsockname()[1]


def rows(result: Result) -> list[dict[str, object]]:
    """Return what a command with `--json` printed."""
    decoded: list[dict[str, object]] = json.loads(result.stdout)
    return decoded


def test_help_names_every_command(relay: Relay) -> None:
    """`relay --help` lists what there is."""
    result = relay("--help")

    assert result.exit_code == 0
    for command in (
        "serve",
        "demo",
        "check",
        "deployments",
        "keys",
        "customers",
        "usage",
        "deadletters",
        "simulate",
    ):
        assert f"\n  {command} " in result.stdout


@pytest.mark.parametrize(
    ("options", "right", "customer"),
    [
        (["--may-name-customers"], "may-name-customers", None),
        (["--customer", "cust_1"], "customer", "cust_1"),
        (["--management"], "management", None),
    ],
    ids=["may name customers", "customer", "management"],
)
def test_a_key_has_the_right_it_was_made_with(
    relay: Relay, options: list[str], right: str, customer: str | None
) -> None:
    """A new key is printed once, with its right; the list shows its last characters only."""
    created = json.loads(relay("keys", "create", "--json", *options).stdout)
    listed = rows(relay("keys", "list", "--json"))

    assert created["api_key"].startswith("mr_sk_")
    assert (created["right"], created["customer_id"]) == (right, customer)
    assert [(key["api_key_id"], key["right"], key["customer_id"]) for key in listed] == [
        (created["api_key_id"], right, customer)
    ]
    assert listed[0]["hint"] == created["api_key"][-4:]
    assert created["api_key"] not in json.dumps(listed)


def test_a_new_key_stands_alone_on_standard_output(relay: Relay) -> None:
    """A script can take the key as it is; what is said about it goes to standard error."""
    result = relay("keys", "create", "--management")

    assert result.stdout.startswith("mr_sk_")
    assert result.stdout.count("\n") == 1
    assert "It is not shown again." in result.stderr


def test_a_revoked_key_says_since_when(relay: Relay) -> None:
    """A revoked key stays in the list, with the time of its end."""
    created = json.loads(relay("keys", "create", "--json", "--management").stdout)

    result = relay("keys", "revoke", created["api_key_id"])

    assert result.stdout == f"{created['api_key_id']} is revoked.\n"
    assert rows(relay("keys", "list", "--json"))[0]["revoked_at"] is not None


def test_a_customer_is_created_in_a_tier(relay: Relay) -> None:
    """`set-tier` makes the customer, and moves one that is there."""
    relay("customers", "set-tier", "cust_1", "free")

    result = relay("customers", "set-tier", "cust_1", "pro")

    assert result.stdout == "cust_1 is in the tier pro.\n"
    assert rows(relay("customers", "list", "--json")) == [
        {
            "customer_id": "cust_1",
            "tier": "pro",
            "status": "active",
            "own_limits": None,
            "zone": "UTC",
            "anchor_day": 1,
        }
    ]


def test_a_customers_own_limit_goes_over_its_tiers(relay: Relay) -> None:
    """A limit of 12.5 cents a day is 0.125 dollars, and the month's stays the tier's 5 dollars."""
    result = relay("customers", "set-limit", "cust_1", "--cents", "12.5", "--per", "day")

    assert result.stdout == "cust_1 has a limit of 12.5 cents per day.\n"
    shown = json.loads(relay("customers", "show", "cust_1", "--json").stdout)
    assert [without_times(line) for line in shown["limits"]] == [
        limit("day", "0.125", "customer"),
        limit("week", "unlimited", "free"),
        limit("month", "5.00", "free"),
        limit("lifetime", "unlimited", "free"),
    ]


def limit(period: str, usd: str, whose: str) -> dict[str, str]:
    """Return a line of `customers show`, for a customer that spent nothing."""
    return {
        "period": period,
        "limit_usd": usd,
        "from": whose,
        "credit_usd": "0.00",
        "spent_usd": "0.00",
        "left_usd": usd,
    }


def without_times(line: dict[str, str]) -> dict[str, str]:
    """Return a line of `customers show` without when its period begins and ends."""
    return {key: line[key] for key in line if not key.endswith("_at")}


def test_a_limit_is_lifted_and_reset(relay: Relay) -> None:
    """`--unlimited` lifts the tier's limit for one customer, `--reset` brings it back."""
    lifted = relay("customers", "set-limit", "cust_1", "--unlimited", "--per", "day")
    without = rows(relay("usage", "--json"))
    reset = relay("customers", "set-limit", "cust_1", "--reset", "--per", "day")
    again = rows(relay("usage", "--json"))

    assert lifted.stdout == "cust_1 has no limit per day.\n"
    assert (without[0]["left_usd"], without[0]["left_of"]) == ("5.00", "month")
    assert reset.stdout == "cust_1 has the limit of the tier free per day.\n"
    assert (again[0]["left_usd"], again[0]["left_of"]) == ("0.50", "day")


def test_block_and_unblock(relay: Relay) -> None:
    """A customer is blocked, and served again."""
    blocked = relay("customers", "block", "cust_1")
    unblocked = relay("customers", "unblock", "cust_1")

    assert blocked.stdout == "cust_1 is blocked.\n"
    assert unblocked.stdout == "cust_1 is active.\n"


def test_usage_is_a_table(relay: Relay) -> None:
    """Without `--json`, usage is a table that a person can read."""
    relay("customers", "set-tier", "cust_1", "free")

    result = relay("usage", "--customer", "cust_1")

    heading, line = (" ".join(line.split()) for line in result.stdout.splitlines())
    assert heading == "CUSTOMER TIER REQUESTS INPUT TOKENS OUTPUT TOKENS CHARGE $ COST $ LEFT $ OF"
    assert line == "cust_1 free 0 0 0 0.00 0.00 0.50 day"


def test_show_is_a_table(relay: Relay) -> None:
    """Without `--json`, a customer is shown as two tables."""
    relay("customers", "set-limit", "cust_1", "--unlimited", "--per", "day")

    result = relay("customers", "show", "cust_1")

    assert "cust_1    free  active  unlimited/day  UTC   1\n" in result.stdout
    assert "\nmonth          5.00  free         0.00       5.00  20" in result.stdout


def append(config_path: Path, *records: LedgerRecord) -> None:
    """Write *records* as servers do."""

    async def run() -> None:
        database = Database(f"sqlite:///{config_path.parent}/relay.db")
        await migrate(database)
        await SqlLedger(database).append(records)
        await database.aclose()

    asyncio.run(run())


DOLLAR = 1_000_000_000


def test_a_credit_raises_one_limit(relay: Relay) -> None:
    """
    500 cents on top of the month's 5 dollars are 10, the day's 0.50 stay; taken back, they are 5.
    """
    given = relay("customers", "credit", "cust_1", "--cents", "500", "--per", "month")
    table = relay("customers", "show", "cust_1").stdout
    shown = json.loads(relay("customers", "show", "cust_1", "--json").stdout)
    taken = relay("customers", "credit", "cust_1", "--cents", "-500", "--per", "month")
    after = json.loads(relay("customers", "show", "cust_1", "--json").stdout)

    assert given.stdout.startswith(
        "cust_1 is given 500 cents on top of its limit per month, until 20"
    )
    left = {line["period"]: (line["credit_usd"], line["left_usd"]) for line in shown["limits"]}
    assert left["month"] == ("5.00", "10.00")
    assert left["day"] == ("0.00", "0.50")
    assert "CREDIT $" in table
    assert taken.exit_code == 0
    assert after["limits"][2]["left_usd"] == "5.00"


def test_a_credit_for_ever(relay: Relay) -> None:
    """A lifetime has no end, and more than was given is not taken back: exit code 1."""
    given = relay("customers", "credit", "a", "--cents", "1", "--per", "lifetime", "--note", "x")
    taken = relay("customers", "credit", "a", "--cents=-2", "--per", "lifetime")

    assert given.stdout == "a is given 1 cents on top of its limit per lifetime.\n"
    assert taken.exit_code == 1
    assert "has a credit of 1 cents per lifetime" in taken.stderr


def test_a_refund(relay: Relay, config_path: Path) -> None:
    """
    Of a dollar charged 30 cents are refunded, so 70 stay, and 71 more are refused; the usage has a
    column for it from then on.
    """
    append(config_path, ended("r1", DOLLAR, at=datetime.now(UTC)))
    without = relay("usage").stdout

    made = relay("customers", "refund", "alice", "r1", "--cents", "30", "--note", "was late")
    refused = relay("customers", "refund", "alice", "r1", "--cents", "71")

    assert made.stdout == "alice is refunded 30 cents of request r1; 70 stay charged.\n"
    assert refused.exit_code == 1
    assert "charged 100 cents, of which 30 are refunded: 71 cannot be taken back" in refused.stderr
    assert "REFUNDED $" not in without
    assert "REFUNDED $" in relay("usage").stdout
    (line,) = rows(relay("usage", "--json"))
    assert (line["charge_usd"], line["refunded_usd"], line["left_usd"]) == ("1.00", "0.30", "-0.20")


@pytest.mark.parametrize(
    ("option", "told", "refunded"),
    [("--charge", "charged", "0.00"), ("--release", "free again", "0.000001")],
)
def test_an_expired_request_is_resolved(
    relay: Relay, config_path: Path, option: str, told: str, refunded: str
) -> None:
    """
    A request of 1,000 nano-dollars that nobody knows the end of is listed and not charged, until it
    is resolved: then the list is empty, and it cannot be resolved again.
    """
    append(config_path, ended("r1", 0, at=datetime.now(UTC), state=HoldState.EXPIRED))
    (before,) = rows(relay("usage", "--json"))
    shown = json.loads(relay("customers", "show", "alice", "--json").stdout)
    tables = relay("usage").stdout + relay("customers", "show", "alice").stdout

    resolved = relay("customers", "resolve", "r1", option)
    again = relay("customers", "resolve", "r1", option)

    assert (before["charge_usd"], before["expired_usd"]) == ("0.00", "0.000001")
    assert [(each["request_id"], each["hold_usd"]) for each in shown["expired"]] == [
        ("r1", "0.000001")
    ]
    assert "EXPIRED $" in tables
    assert "EXPIRED REQUEST" in tables
    assert resolved.stdout == f"0.0001 cents of request r1 are {told}.\n"
    assert (again.exit_code, "r1 is settled" in again.stderr) == (1, True)
    (after,) = rows(relay("usage", "--json"))
    assert (after["charge_usd"], after["refunded_usd"]) == ("0.000001", refunded)
    assert after["expired_usd"] == "0.00"


def test_periods_of_a_customers_own(relay: Relay) -> None:
    """
    The command says from when on each period follows, and so does `show`, with what it was before.
    """
    result = relay("customers", "set-period", "a", "--zone", "Asia/Tokyo", "--anchor-day", "31")
    shown = json.loads(relay("customers", "show", "a", "--json").stdout)
    table = relay("customers", "show", "a").stdout

    told, coming = result.stdout.splitlines()
    assert told == "a has the time zone Asia/Tokyo, and months from day 31."
    assert coming == (
        f"Not yet followed by all periods: days from {shown['days_follow_from']}, weeks from"
        f" {shown['weeks_follow_from']}, months from {shown['months_follow_from']} on."
    )
    assert (shown["zone"], shown["anchor_day"]) == ("Asia/Tokyo", 31)
    assert (shown["previous_zone"], shown["previous_anchor_day"]) == ("UTC", 1)
    assert shown["months_follow_from"] == shown["limits"][2]["ends_at"]
    assert "Not yet followed by all periods: " in table


def test_dead_letters(relay: Relay, config_path: Path) -> None:
    """What the ledger refused is listed with its reason; as JSON with the record."""
    letter = DeadLetter(
        letter_id="1-0",
        source="relay:{07}:journal",
        payload='{"hold_id": "r1"}',
        reason="another charge",
        first_seen_at=datetime(2026, 11, 23, tzinfo=UTC),
    )

    async def keep() -> None:
        database = Database(f"sqlite:///{config_path.parent}/relay.db")
        await migrate(database)
        await keep_dead_letter(database, letter)
        await database.aclose()

    asyncio.run(keep())

    table = relay("deadletters").stdout
    (line,) = rows(relay("deadletters", "--json"))
    assert table.splitlines()[1].split() == [
        "1-0",
        "relay:{07}:journal",
        "2026-11-23T00:00:00Z",
        "another",
        "charge",
    ]
    assert line["payload"] == '{"hold_id": "r1"}'


def test_show_tells_how_fast_a_customer_may_ask(relay: Relay, config_path: Path) -> None:
    """A tier's limits of pace are shown; without a spend limit left, an outage lets requests in."""
    text = config_path.read_text(encoding="utf-8")
    paced = "pro: {rate_limits: [20/minute], token_limits: [9/day], max_concurrency: 4, "
    config_path.write_text(text.replace("pro: {", paced), "utf-8")
    relay("customers", "set-tier", "cust_1", "pro")

    table = relay("customers", "show", "cust_1")
    open_ended = json.loads(relay("customers", "show", "cust_1", "--json").stdout)
    relay("customers", "set-limit", "cust_1", "--cents", "1", "--per", "day")
    limited = json.loads(relay("customers", "show", "cust_1", "--json").stdout)

    lines = [" ".join(line.split()) for line in table.stdout.splitlines()]
    assert "RATE LIMITS TOKENS CONCURRENT ON DISCONNECT ON OUTAGE" in lines
    assert "20/minute 9/day 4 drain open" in lines
    assert (open_ended["token_limits"], open_ended["max_concurrency"]) == ("9/day", 4)
    assert (open_ended["on_outage"], limited["on_outage"]) == ("open", "closed")


MISTAKES = {
    "keys create": "Give one of --may-name-customers, --customer ID and --management.",
    "keys create --management --customer a": "Give one of --may-name-customers, --customer ID and",
    "keys create --customer a,b": "'a,b' is no customer id: 1 to 255 characters of",
    "customers set-tier cust_1 gold": "There is no tier 'gold'; there is free, pro.",
    "customers set-limit cust_1 --per day": "Give one of --cents N, --unlimited and --reset.",
    "customers set-limit cust_1 --per day --cents x": "--cents x is no amount",
    "customers set-limit cust_1 --per day --cents=-1": "--cents -1 must be from 0 to",
    # 2^53 nano-dollars: Redis's Lua counts exactly up to one less.
    "customers set-limit cust_1 --per day --cents 900719925.4740992": "0 to 900719925.4740991.",
    "customers set-limit cust_1 --per day --cents 0.00000001": "at most 7 decimals",
    "customers set-period cust_1": "Give --zone NAME, --anchor-day N or both.",
    "customers set-period cust_1 --anchor-day 32": "32 is not in the range 1<=x<=31",
    "customers set-period cust_1 --zone europe/berln": "did you mean Europe/Berlin",
    "customers set-period cust_1 --zone ../etc/passwd": "is not in the time zone database",
    "customers credit cust_1 --per month --cents x": "--cents x is no amount",
    "customers credit cust_1 --per month": "Missing option '--cents'",
    "customers refund cust_1 r1 --cents 0": "--cents 0 must be from 0.0000001 to",
    "customers refund a,b r1 --cents 1": "'a,b' is no customer id",
    "customers resolve r1": "Give one of --charge and --release.",
    "customers resolve r1 --charge --release": "Give one of --charge and --release.",
    "customers set-limit cust_1 --per year --reset": "'year' is not one of",
    "check none.yaml": "No such file or directory; write it, or name another file",
    "usage --config none.yaml": "cannot read the configuration none.yaml: No such file",
    "serve --workers 2": "the embedded store belongs to one process, and --workers is 2",
    "serve --host 192.0.2.1": "cannot listen on 192.0.2.1:8000: ",
    "demo --host 0.0.0.0": "this listens on loopback only, not on 0.0.0.0",
    "simulate --host relay.example": "this listens on loopback only, not on relay.example",
    "frobnicate": "No such command 'frobnicate'.",
}


@pytest.mark.parametrize(("arguments", "told"), MISTAKES.items(), ids=MISTAKES)
def test_mistake(relay: Relay, arguments: str, told: str) -> None:
    """A mistake of the operator is one line on standard error, and exit code 2."""
    result = relay(*arguments.split())

    assert result.exit_code == 2
    assert result.stderr.startswith("Error: ")
    assert told in result.stderr
    assert result.stderr.count("\n") == 1


@pytest.mark.parametrize("group", ["keys", "customers"])
def test_a_group_alone_shows_its_help(relay: Relay, group: str) -> None:
    """Who names a group of commands and none of them is told which there are."""
    result = relay(group)

    assert result.exit_code == 2
    assert f"Usage: relay {group} [OPTIONS] COMMAND [ARGS]..." in result.stderr
    assert "\n  list " in result.stderr


@pytest.mark.parametrize(
    "arguments",
    [
        "keys revoke nope",
        "usage --customer nope",
        "customers refund alice nope --cents 1",
        "customers resolve nope --charge",
    ],
)
def test_what_is_not_there(relay: Relay, arguments: str) -> None:
    """A name that nobody has is told in one line, with exit code 1."""
    result = relay(*arguments.split())

    assert result.exit_code == 1
    assert result.stderr.startswith("Error: ")
    assert "nope" in result.stderr
    assert result.stderr.count("\n") == 1


def test_no_tier_for_a_new_customer(relay: Relay, config_path: Path) -> None:
    """Where requests create no customers, a limit creates none either."""
    text = config_path.read_text(encoding="utf-8")
    config_path.write_text(text.replace("{default_tier: free}", "{unknown: reject}"), "utf-8")

    result = relay("customers", "block", "cust_1")

    assert result.exit_code == 1
    assert result.stderr == (
        "Error: There is no customer cust_1. 'relay customers set-tier' creates it.\n"
    )


def test_no_database(relay: Relay, taken_port: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """A database that cannot be reached is told in one line, without the password of its URL."""
    url = f"postgresql://relay:hunter2@127.0.0.1:{taken_port + 1 if taken_port < 65535 else 1}/r"
    monkeypatch.setenv("RELAY_DATABASE_URL", url)

    result = relay("usage")

    assert result.exit_code == 1
    assert result.stderr.startswith("Error: the database 127.0.0.1/r failed")
    assert "hunter2" not in result.output


@pytest.mark.parametrize("command", ["serve", "demo", "simulate"])
def test_taken_port(relay: Relay, command: str, taken_port: int) -> None:
    """A port that is taken is told in one line, with the option that names another."""
    result = relay(command, "--port", str(taken_port))

    assert result.exit_code == 2
    assert result.stderr == (
        f"Error: cannot listen on 127.0.0.1:{taken_port}: Address already in use; choose another "
        "port with --port or PORT, another address with --host\n"
    )


@pytest.mark.parametrize(
    ("content", "told"),
    [("[", "unexpected end"), ("[]", "a JSON object"), ('{"dead": {"sttus": 1}}', "sttus")],
    ids=["no JSON", "no object", "unknown member"],
)
def test_wrong_behaviour(relay: Relay, tmp_path: Path, content: str, told: str) -> None:
    """A file of behaviours that is wrong is told in one line."""
    path = tmp_path / "behaviour.json"
    path.write_text(content, encoding="utf-8")

    result = relay("simulate", "--port", "0", "--behaviour", str(path))

    assert result.exit_code == 2
    assert f"the behaviours in {path} are wrong" in result.stderr
    assert told in result.stderr


def test_a_bug_is_not_hidden(relay: Relay) -> None:
    """Only Relay's own errors are told in a line: any other keeps its traceback."""
    result = relay("usage", "--config", "no shell can pass a \0")

    assert isinstance(result.exception, ValueError)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM], ids=["Ctrl-C", "SIGTERM"])
def test_simulated_providers_in_a_process(tmp_path: Path, number: signal.Signals) -> None:
    """`relay simulate` serves what its file says, and ends cleanly when it is told to."""
    path = tmp_path / "behaviour.json"
    path.write_text('{"dead": {"status": 503}}', encoding="utf-8")
    command = [sys.executable, "-m", "proxy_app", "simulate", "--port", "0", "--behaviour", path]
    with subprocess.Popen(  # noqa: S603 - our own program
        command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        address = process.stdout.readline().split(" listen on ")[1].split("/v1")[0]
        statuses = [
            httpx.post(
                f"{address}/{profile}/v1/chat/completions",
                json={"model": "m", "messages": [{"role": "user", "content": "Hello!"}]},
                headers={"authorization": "Bearer any"},
            ).status_code
            for profile in ("live", "dead")
        ]
        process.send_signal(number)
        _, told = process.communicate(timeout=30)

    assert statuses == [200, 503]
    assert (process.returncode, told) == (0, "")


def test_the_package_can_be_run() -> None:
    """`python -m proxy_app` is the same command line, under the same name."""
    result = subprocess.run(
        [sys.executable, "-m", "proxy_app", "--help"],
        cwd=ROOT,
        check=True,
        capture_output=True,
        text=True,
        env={**os.environ, "COLUMNS": "100"},
    )

    assert result.stdout.startswith("Usage: relay [OPTIONS] COMMAND [ARGS]...")
