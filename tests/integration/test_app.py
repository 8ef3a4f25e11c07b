"""
The application around Relay: what a load balancer asks, and what a browser does.
"""

from collections.abc import AsyncIterator
from pathlib import Path

import httpx
import pytest

from proxy_app.app import create_app
from proxy_app.metrics import METRICS, exposition
from relay_middleware import Config, Relay, load_config
from relay_middleware.core.money import NanoUsd
from relay_middleware.ports.stores import Drift
from relay_middleware.vitals import Vitals

pytestmark = pytest.mark.anyio

FILE = """\
model_list:
  - {model_name: smart, litellm_params: {model: openai/gpt-4o-mini, api_key: sk-1}}
tiers: {free: {models: ["*"]}}
customers: {default_tier: free}
cors_origins: [https://app.example]
"""


@pytest.fixture(name="config")
def _config(tmp_path: Path) -> Config:
    """A configuration whose files are the test's own."""
    path = tmp_path / "relay.yaml"
    state = f"state_dir: {tmp_path}\ndatabase_url: sqlite:///{tmp_path}/relay.db\n"
    path.write_text(FILE + state, encoding="utf-8")
    return load_config(path, {})


@pytest.fixture(name="relay")
async def _relay(config: Config) -> AsyncIterator[Relay]:
    """A relay that is not open yet, and closed afterwards."""
    relay = Relay.from_config(config)
    yield relay
    await relay.aclose()


@pytest.fixture(name="client")
async def _client(relay: Relay, config: Config) -> AsyncIterator[httpx.AsyncClient]:
    """A client of the application, without a lifespan: the relay opens when it is needed."""
    transport = httpx.ASGITransport(app=create_app(relay, config))
    async with httpx.AsyncClient(transport=transport, base_url="http://relay") as client:
        yield client


async def test_alive_before_it_is_ready(client: httpx.AsyncClient) -> None:
    """A process whose relay is not open is alive and takes no traffic."""
    alive = await client.get("/healthz")
    ready = await client.get("/readyz")

    assert (alive.status_code, alive.json()) == (200, {"status": "alive"})
    assert (ready.status_code, ready.json()) == (503, {"status": "starting"})


async def test_ready(client: httpx.AsyncClient, relay: Relay) -> None:
    """A process whose relay is open takes traffic, whatever its providers do."""
    await relay.start()

    ready = await client.get("/readyz")

    assert (ready.status_code, ready.json()) == (200, {"status": "ready", "enforcement": "ok"})


async def test_metrics(client: httpx.AsyncClient, relay: Relay) -> None:
    """Every metric is there once, of this process, in the form that Prometheus reads."""
    before = await client.get("/metrics")
    await relay.start()

    after = await client.get("/metrics")

    worker = (await relay.vitals()).worker_id
    lines = after.text.splitlines()
    assert (before.status_code, after.status_code) == (503, 200)
    assert after.headers["content-type"] == "text/plain; version=0.0.4; charset=utf-8"
    assert [line.split()[:4:2] for line in lines[::3]] == [["#", each.name] for each in METRICS]
    assert lines[1::3] == [f"# TYPE {each.name} {each.kind}" for each in METRICS]
    assert lines[2::3] == [
        f'{each.name}{{worker="{worker}"}} {int(each.name == "relay_enforcing")}'
        for each in METRICS
    ]


def test_a_worker_is_named_whatever_its_host_is_called() -> None:
    """A name with quotes, backslashes and line ends is still one label."""
    vitals = Vitals(
        worker_id='a"b\\c\nd',
        is_enforcing=False,
        is_breaker_open=True,
        drift=Drift(below_nano_usd=NanoUsd(1), above_nano_usd=NanoUsd(2)),
        raised_nano_usd=3,
        overrun_nano_usd=4,
        open_holds=5,
        owed_settlements=6,
        journal_entries=None,
    )

    samples = [line for line in exposition(vitals).splitlines() if not line.startswith("#")]

    label = r'{worker="a\"b\\c\nd"}'
    assert samples == [
        f"relay_enforcing{label} 0",
        f"relay_breaker_open{label} 1",
        f"relay_open_holds{label} 5",
        f"relay_owed_settlements{label} 6",
        f"relay_spend_drift_below_nano_usd{label} 1",
        f"relay_spend_drift_above_nano_usd{label} 2",
        f"relay_spend_raised_nano_usd_total{label} 3",
        f"relay_spend_overrun_nano_usd_total{label} 4",
    ]


async def test_unknown_path(client: httpx.AsyncClient) -> None:
    """A path that is nobody's is a 404 in OpenAI's envelope, which says where the API is."""
    answer = await client.get("/nothing")

    assert answer.status_code == 404
    error = answer.json()["error"]
    assert error["code"] == "unknown_url"
    assert error["message"] == "There is no 'GET' '/nothing' here; OpenAI's API is below /v1."


async def test_wrong_method(client: httpx.AsyncClient) -> None:
    """A wrong method is a 405 in OpenAI's envelope that names the right one."""
    answer = await client.post("/healthz")

    assert answer.status_code == 405
    assert answer.json()["error"]["code"] == "method_not_allowed"
    assert answer.headers["allow"] == "GET"


async def test_preflight_needs_no_key(client: httpx.AsyncClient) -> None:
    """A browser may ask beforehand, without a key, whether a page may call."""
    answer = await client.options(
        "/v1/chat/completions",
        headers={
            "origin": "https://app.example",
            "access-control-request-method": "POST",
            "access-control-request-headers": "authorization",
        },
    )

    assert answer.status_code == 200
    assert answer.headers["access-control-allow-origin"] == "https://app.example"
    assert answer.headers["access-control-allow-headers"] == "authorization"


async def test_pages_of_others_may_not_call(client: httpx.AsyncClient) -> None:
    """A page of an origin that is not configured is refused by its browser."""
    answer = await client.options(
        "/v1/models",
        headers={"origin": "https://evil.example", "access-control-request-method": "GET"},
    )

    assert answer.status_code == 400
    assert "access-control-allow-origin" not in answer.headers


async def test_errors_can_be_read_by_a_page(client: httpx.AsyncClient) -> None:
    """A refusal, too, carries what lets a page read it and all of its headers."""
    answer = await client.get("/v1/models", headers={"origin": "https://app.example"})

    assert answer.status_code == 401
    assert answer.headers["access-control-allow-origin"] == "https://app.example"
    assert answer.headers["access-control-expose-headers"] == "*"
