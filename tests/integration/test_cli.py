"""
The command line: what an operator types, and what comes back.
"""

import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx
import pytest
from click.testing import CliRunner, Result

from proxy_app.cli import main

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
        {"customer_id": "cust_1", "tier": "pro", "status": "active", "own_limits": None}
    ]


def test_a_customers_own_limit_goes_over_its_tiers(relay: Relay) -> None:
    """A limit of 12.5 cents a day is 0.125 dollars, and the month's stays the tier's 5 dollars."""
    result = relay("customers", "set-limit", "cust_1", "--cents", "12.5", "--per", "day")

    assert result.stdout == "cust_1 has a limit of 12.5 cents per day.\n"
    shown = json.loads(relay("customers", "show", "cust_1", "--json").stdout)
    assert shown["limits"] == [
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
        "spent_usd": "0.00",
        "left_usd": usd,
    }


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

    assert "cust_1    free  active  unlimited/day\n" in result.stdout
    assert "\nmonth          5.00  free         0.00       5.00\n" in result.stdout


MISTAKES = {
    "keys create": "Give one of --may-name-customers, --customer ID and --management.",
    "keys create --management --customer a": "Give one of --may-name-customers, --customer ID and",
    "keys create --customer a,b": "'a,b' is no customer id: 1 to 255 characters of",
    "customers set-tier cust_1 gold": "There is no tier 'gold'; there is free, pro.",
    "customers set-limit cust_1 --per day": "Give one of --cents N, --unlimited and --reset.",
    "customers set-limit cust_1 --per day --cents x": "--cents x is no amount",
    "customers set-limit cust_1 --per day --cents=-1": "--cents -1 must be from 0 to",
    "customers set-limit cust_1 --per day --cents 0.00000001": "at most 7 decimals",
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


@pytest.mark.parametrize("arguments", ["keys revoke nope", "usage --customer nope"])
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
