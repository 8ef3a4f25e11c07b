"""
The command line before and beside a server: `relay check` and `relay deployments`.
"""

import json
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path

import anyio.to_thread
import pytest
from click.testing import CliRunner, Result
from fixtures.world import MESSAGES, World, anthropic, deployment, running, tiers

from proxy_app.cli import main
from relay_middleware.testing import Behaviour, Simulator

GOOD = """\
model_list:
  - model_name: smart
    litellm_params: {model: openai/gpt-4o-mini, api_key: os.environ/KEY}
  - model_name: claude
    litellm_params: {model: anthropic/claude-haiku-4-5, api_key: os.environ/KEY}
router_settings: {fallbacks: [{smart: [claude]}]}
tiers:
  free: {models: [smart], spend_limits: [{cents: 50, per: day}], rate_limits: [20/minute]}
  pro: {models: ["*"], margin: {percent: 20, per_request_cents: 0.5}}
customers: {default_tier: free}
database_url: postgresql://relay:hunter2@books.example/relay
redis_url: redis://:hunter3@cache.example:6379/0
"""

Check = Callable[..., Result]


@pytest.fixture(name="check")
def _check(tmp_path: Path) -> Check:
    """`relay check` of a text."""

    def run(text: str, *options: str, **environ: str) -> Result:
        path = tmp_path / "relay.yaml"
        path.write_text(text, encoding="utf-8")
        return CliRunner(env=environ).invoke(main, ["check", str(path), *options])

    return run


def squeezed(text: str) -> list[str]:
    """Return the lines of *text* without their alignment."""
    return [" ".join(line.split()) for line in text.splitlines()]


def test_what_a_right_file_says(check: Check) -> None:
    """
    A person sees what is served at which price, who may spend how much, and where it is counted;
    no password.
    """
    result = check(GOOD, KEY="sk-1")

    lines = squeezed(result.stdout)
    assert result.exit_code == 0
    assert lines[0].endswith("relay.yaml is right.")
    assert lines[2] == "MODEL SERVED BY WIRE $/M INPUT $/M OUTPUT FALLBACKS"
    assert lines[3] == "smart openai/gpt-4o-mini direct 0.15 0.6 claude"
    assert lines[4] == "claude anthropic/claude-haiku-4-5 translated 1 5"
    assert "free smart $0.50/day 20/minute none yes" in lines
    assert "pro all none none 20 % and 0.5 cents a request" in lines
    assert "in Redis at cache.example:6379" in result.stdout
    assert "the ledger is in books.example/relay" in result.stdout
    assert "hunter3" not in result.stdout.replace("redis_url", "")
    assert "hunter2" not in result.stdout


def test_limits_of_tokens_and_of_requests_at_the_same_time(check: Check) -> None:
    """
    Where a tier has them they are columns; which outage policy applies is for programs.
    """
    paced = "token_limits: [9/day, 4/minute], max_concurrency: 4"

    plain = check(GOOD, KEY="sk-1").stdout
    table = check(GOOD.replace("rate_limits: [20/minute]", paced), KEY="sk-1").stdout
    facts = json.loads(check(GOOD, "--json", KEY="sk-1").stdout)

    heading = "TIER MODELS SPEND LIMITS RATE LIMITS TOKENS CONCURRENT MARGIN NEW CUSTOMERS"
    assert "TIER MODELS SPEND LIMITS RATE LIMITS MARGIN NEW CUSTOMERS" in squeezed(plain)
    assert heading in squeezed(table)
    assert "free smart $0.50/day none 4/minute, 9/day 4 none yes" in squeezed(table)
    # `pro` has no spend limit.
    assert [tier["on_outage"] for tier in facts["tiers"]] == ["closed", "open"]
    assert [tier["on_disconnect"] for tier in facts["tiers"]] == ["drain", "drain"]


def test_the_same_as_json(check: Check) -> None:
    """
    A program gets the same, and an empty list of mistakes.
    """
    result = check(GOOD, "--json", KEY="sk-1")

    facts = json.loads(result.stdout)
    assert (facts["is_right"], facts["mistakes"]) == (True, [])
    assert [model["wire"] for model in facts["models"]] == ["direct", "translated"]
    assert [tier["is_default"] for tier in facts["tiers"]] == ["yes", None]
    # The two passwords.
    assert [warning["line"] for warning in facts["warnings"]] == [11, 12]


def test_every_mistake_with_its_line(check: Check) -> None:
    """
    Of the file's shape, of a provider and of a price: all are told in one run, and warnings too.
    """
    text = (
        GOOD.replace("anthropic/", "antropic/")
        .replace("default_tier: free", "default_tier: fre")
        .replace("openai/gpt-4o-mini", "openai/mine, input_cost_per_token: 1")
    )

    result = check(text, KEY="sk-1")

    first, *lines = result.stdout.splitlines()
    assert result.exit_code == 2
    assert first.endswith("relay.yaml has 3 mistakes:")
    assert lines[0].startswith("  line 3: model_list[0].litellm_params: smart: output_cost_per_tok")
    assert lines[1].startswith("  line 5: model_list[1].litellm_params: claude: there is no provid")
    assert lines[2] == (
        "  line 10: customers.default_tier: there is no tier 'fre'; did you mean 'free'?"
    )
    assert lines[4:5] == ["Warnings:"]


def test_what_this_environment_lacks_is_a_warning(check: Check) -> None:
    """
    A file can be checked where the servers' secrets are not.
    """
    result = check(GOOD.replace("redis://:hunter3@cache.example:6379/0", "os.environ/CACHE"))

    assert result.exit_code == 0
    assert "in Redis at os.environ/CACHE" in result.stdout
    assert "line 12: redis_url: the environment variable CACHE is not set" in result.stdout
    # Both deployments have that key; it is told once.
    assert result.stdout.count("the environment variable KEY is not set; set it") == 1
    assert "line 3: model_list[0].litellm_params.api_key: the environment variable KEY" in (
        result.stdout
    )
    assert "is not set; set it (1 more like it)\n" in result.stdout


def test_a_model_without_a_price_is_a_warning(check: Check) -> None:
    """
    A model that no table prices is told with its line: tiers with a limit refuse it.
    """
    result = check(GOOD.replace("openai/gpt-4o-mini", "openai/mine"), KEY="sk-1")

    assert result.exit_code == 0
    assert "line 3: model_list[0].litellm_params: smart: openai/mine has no known" in result.stdout


@pytest.fixture(name="provider")
def _provider() -> Iterator[str]:
    """Simulated providers, of which `dead` answers 503 with a host and a key in its words."""
    simulator = Simulator()
    simulator.set("dead", Behaviour(status=503))
    with simulator.run_in_thread() as url:
        yield url


def configured(folder: Path, *models: dict[str, object]) -> Path:
    """Write a configuration of *models* into *folder*."""
    path = folder / "relay.yaml"
    own = {"database_url": f"sqlite:///{folder}/relay.db", "state_dir": f"{folder}/state"}
    path.write_text(json.dumps({"model_list": models, **tiers(), **own}), encoding="utf-8")
    return path


def relay_deployments(path: Path, *options: str) -> Result:
    return CliRunner().invoke(main, ["deployments", "--config", str(path), *options])


def test_probe(tmp_path: Path, provider: str) -> None:
    """
    Each deployment is called once; who fails says why, without hosts and keys; exit code 1.
    """
    path = configured(
        tmp_path,
        deployment(provider, name="good"),
        deployment(provider, name="bad", profile="dead"),
        deployment("http://127.0.0.1:1", name="gone"),
        deployment(provider, name="vectors", model="text-embedding-3-small"),
        anthropic(provider, name="claude"),
    )

    result = relay_deployments(path, "--probe")

    heading, *lines = squeezed(result.stdout)
    assert result.exit_code == 1
    assert heading == "DEPLOYMENT SERVED BY ANSWER STATUS LATENCY COMPLAINT"
    assert lines[0].startswith("good#1 openai/gpt-4o-mini ok 200 ")
    assert lines[1].startswith("bad#1 openai/gpt-4o-mini failed 503 ")
    assert lines[1].endswith(" ms Simulated failure at [redacted] with key [redacted]")
    assert lines[2].startswith("gone#1 openai/gpt-4o-mini failed ")
    assert lines[2].endswith(" ms no connection")
    assert lines[3].startswith("vectors#1 openai/text-embedding-3-small ok 200 ")
    assert lines[4].startswith("claude#1 anthropic/claude-haiku-4-5 ok 200 ")
    assert "operator-secret" not in result.output


def test_probe_as_json(tmp_path: Path, provider: str) -> None:
    """
    Where all answer, the exit code is 0; a program gets milliseconds.
    """
    path = configured(tmp_path, deployment(provider))

    result = relay_deployments(path, "--probe", "--json")

    (only,) = json.loads(result.stdout)
    assert result.exit_code == 0
    assert (only["deployment_id"], only["is_ok"], only["complaint"]) == ("smart#1", True, None)
    assert only["latency_ms"] >= 0


def test_no_server(tmp_path: Path) -> None:
    """
    Where no server runs, that is said, and what can be done instead.
    """
    path = configured(tmp_path, deployment("http://127.0.0.1:1"))

    result = relay_deployments(path)

    assert (result.exit_code, result.stdout) == (0, "")
    assert result.stderr == "No server is running; --probe calls the deployments from here.\n"


@pytest.fixture(name="world")
async def _world(tmp_path: Path) -> AsyncIterator[World]:
    """A server whose first choice is down."""
    simulator = Simulator()
    simulator.set("dead", Behaviour(status=503))
    async with simulator.serve() as provider:
        config = {
            "model_list": [
                deployment(provider, name="smart", profile="dead"),
                deployment(provider, name="spare"),
            ],
            "router_settings": {
                "fallbacks": [{"smart": ["spare"]}],
                "allowed_fails": 0,
                "cooldown_time": 600,
            },
            **tiers(),
        }
        async with running(tmp_path, config, simulator) as world:
            yield world


async def _seen(path: Path, *options: str) -> Result:
    return await anyio.to_thread.run_sync(relay_deployments, path, *options)


@pytest.mark.anyio
async def test_what_the_workers_saw(world: World, tmp_path: Path) -> None:
    """
    After one request the failed deployment is shown as left out, the other one as serving.
    """
    async with world.client() as client:
        await client.chat.completions.create(model="smart", messages=MESSAGES)

    # The worker says so within a second, perhaps of the first attempt before the second.
    failed, served = dict[str, object](), dict[str, object]()
    with anyio.fail_after(20):
        while not (failed.get("last_outcome") and served.get("last_outcome")):
            shown = await _seen(tmp_path / "relay.yaml", "--json")
            failed, served = json.loads(shown.stdout) or ({}, {})
    table = await _seen(tmp_path / "relay.yaml")

    assert (failed["deployment_id"], failed["last_outcome"], failed["last_status_code"]) == (
        "smart#1",
        "failed",
        503,
    )
    assert 500 < int(str(failed["cooling_s"])) <= 600
    assert (served["deployment_id"], served["last_outcome"], served["cooling_s"]) == (
        "spare#1",
        "served",
        0,
    )
    assert squeezed(table.stdout)[0] == "DEPLOYMENT SERVED BY LAST STATUS AT LEFT OUT FOR WORKER"
