"""
Dead deployments: every request is answered as long as one deployment lives, and quickly so.
"""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from fixtures.world import MESSAGES, World, deployment, running, tiers

from benchmarks.redis_server import free_port
from relay_middleware.testing import Behaviour, Simulator

pytestmark = pytest.mark.anyio

SILENCE_S = 0.25

SHORT = {"connect_s": SILENCE_S, "first_event_s": SILENCE_S, "non_stream_s": SILENCE_S}
"""Of those alone that never answer: on a busy machine the others may take longer."""

WAYS = ["closed", "silent", "500"]


@pytest.fixture(name="simulator")
def _simulator() -> Simulator:
    """
    Profile `live` answers; two each of `silent` and `500` fail as they are called.
    """
    simulator = Simulator()
    for number in range(2):
        simulator.set(f"silent{number}", Behaviour(stall="before_headers"))
        simulator.set(f"500{number}", Behaviour(status=500))
    return simulator


@pytest.fixture(name="provider")
async def _provider(simulator: Simulator) -> AsyncIterator[str]:
    async with simulator.serve() as url:
        yield url


def dead(provider: str, way: str, number: int) -> dict[str, object]:
    """Return a deployment of `smart` that fails in one of the three ways."""
    if way == "closed":
        return deployment(f"http://127.0.0.1:{free_port()}")
    return {**deployment(provider, profile=f"{way}{number}"), "timeouts": SHORT}


def configuration(
    models: list[dict[str, object]], *, fallbacks: list[dict[str, list[str]]] | None = None
) -> dict[str, object]:
    return {
        "model_list": models,
        "router_settings": {"fallbacks": fallbacks or [], "cooldown_time": 60},
        **tiers(),
    }


async def attempts_of(world: World, *, stream: bool) -> int:
    answer = await world.post(
        {"model": "smart", "messages": MESSAGES, "max_tokens": 5, "stream": stream}
    )
    assert answer.status_code == 200, answer.text
    assert '"cost_cents":' in answer.text
    return int(answer.headers["x-relay-attempts"])


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("is_fallback", [False, True], ids=["same-group", "fallback-group"])
@pytest.mark.parametrize("deaths", [1, 2], ids=["one-of-two", "two-of-three"])
async def test_all_are_answered_while_one_lives(
    tmp_path: Path, simulator: Simulator, provider: str, way: str, *, is_fallback: bool, deaths: int
) -> None:
    """
    100 of 100 are answered, streamed or not; at first with several attempts, later with one.
    """
    live = deployment(provider, name="backup" if is_fallback else "smart")
    config = configuration(
        [*(dead(provider, way, number) for number in range(deaths)), live],
        fallbacks=[{"smart": ["backup"]}] if is_fallback else [],
    )
    async with running(tmp_path, config, simulator) as world:
        attempts = [await attempts_of(world, stream=bool(i % 2)) for i in range(100)]

    assert max(attempts[:20]) > 1
    assert attempts[20:] == [1] * 80
    assert simulator.calls("live") == 100


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize(
    ("way", "status_code", "code"),
    [
        ("closed", 502, "upstream_error"),
        ("silent", 504, "upstream_timeout"),
        ("500", 502, "upstream_error"),
    ],
)
async def test_all_dead(  # noqa: PLR0917 - the row of a table
    tmp_path: Path,
    simulator: Simulator,
    provider: str,
    way: str,
    status_code: int,
    code: str,
    *,
    stream: bool,
) -> None:
    """
    First 502 or 504; once all are left out 503 with Retry-After, at once and without a call.
    """
    config = configuration([dead(provider, way, number) for number in range(2)])
    async with running(tmp_path, config, simulator) as world:
        body = {"model": "smart", "messages": MESSAGES, "stream": stream}
        first = await world.post(body)
        for _ in range(2):
            await world.post(body)
        calls = simulator.calls()
        later = [await world.post(body) for _ in range(10)]

        assert (first.status_code, first.json()["error"]["code"]) == (status_code, code)
        assert {answer.status_code for answer in later} == {503}
        assert later[0].json()["error"]["code"] == "no_deployment_available"
        assert int(later[0].headers["retry-after"]) >= 1
        assert simulator.calls() == calls
        # Nobody paid: a dollar is a dollar still.
        assert {row["charge_nano_usd"] for row in await world.ledger()} == {0}


async def test_a_deployment_comes_back(tmp_path: Path, simulator: Simulator, provider: str) -> None:
    """
    A lone deployment that fails twice is left out, and serves again after its cooldown.
    """
    simulator.set("live", Behaviour(status=500, fail_first=2))
    config = configuration([deployment(provider)])
    config["router_settings"] = {"cooldown_time": 1}
    async with running(tmp_path, config, simulator) as world:
        statuses = [(await world.post()).status_code for _ in range(3)]
        while (answer := await world.post()).status_code == 503:
            assert answer.headers["retry-after"] == "1"

    assert statuses == [502, 502, 503]
    assert answer.status_code == 200


@pytest.mark.parametrize(
    "behaviour",
    [
        Behaviour(stream_error_after_chunks=0),
        Behaviour(stream_error_after_chunks=1),
        Behaviour(cut_after_chunks=0),
        Behaviour(cut_after_chunks=1),
        Behaviour(stall="after_headers", comment_first=True),
        Behaviour(status=429, retry_after_s=30),
    ],
    ids=["error", "error-after-role", "cut", "cut-after-role", "stall", "429"],
)
async def test_failure_before_content_falls_back(
    tmp_path: Path, simulator: Simulator, provider: str, behaviour: Behaviour
) -> None:
    """
    A stream that fails before its first content is taken up by the next deployment, unseen.
    """
    simulator.set("ill", behaviour)
    config = configuration(
        [
            {**deployment(provider, profile="ill"), "timeouts": SHORT},
            deployment(provider, name="backup"),
        ],
        fallbacks=[{"smart": ["backup"]}],
    )
    async with running(tmp_path, config, simulator) as world:
        answer = await world.post({"model": "smart", "messages": MESSAGES, "stream": True})

    assert answer.headers["x-relay-attempts"] == "2"
    assert "error" not in answer.text
    assert answer.text.endswith("data: [DONE]\n\n")


@pytest.mark.parametrize(
    "behaviour",
    [
        Behaviour(stream_error_after_chunks=4),
        Behaviour(cut_after_chunks=4),
        Behaviour(stall="after_content"),
    ],
    ids=["error", "cut", "stall"],
)
async def test_failure_after_content_is_told_and_charged(
    tmp_path: Path, simulator: Simulator, provider: str, behaviour: Behaviour
) -> None:
    """
    After content there is no fallback: an error event with the cost, [DONE], and a settled hold.
    """
    simulator.set("ill", behaviour)
    config = configuration(
        [deployment(provider, profile="ill"), deployment(provider, name="backup")],
        fallbacks=[{"smart": ["backup"]}],
    )
    config["timeouts"] = {"between_chunks_s": SILENCE_S}
    async with running(tmp_path, config, simulator) as world:
        answer = await world.post({"model": "smart", "messages": MESSAGES, "stream": True})
        (row,) = await world.ledger()

    events = answer.text.split("\n\n")
    assert events[-2:] == ["data: [DONE]", ""]
    assert events[-3].startswith('data: {"error":')
    assert '"cost_cents":' in events[-3]
    assert "sk-sim" not in answer.text
    assert (row["state"], row["usage_source"]) == ("settled", "counted")
    assert simulator.calls("live") == 0


async def test_hold_is_for_the_dearest_reachable(
    tmp_path: Path, simulator: Simulator, provider: str
) -> None:
    """
    With a dearer fallback (gpt-4o, $10 a million) the hold is for that, the charge for what served.
    """
    config = configuration(
        [deployment(provider), deployment(provider, name="backup", model="gpt-4o")],
        fallbacks=[{"smart": ["backup"]}],
    )
    async with running(tmp_path, config, simulator) as world:
        answer = await world.post({"model": "smart", "messages": MESSAGES, "max_tokens": 100})
        (row,) = await world.ledger()

    assert answer.json()["relay"]["deployment_model"] == "gpt-4o-mini"
    # Output alone: 100 tokens at 10,000 nano-dollars; gpt-4o-mini would be 60,000.
    assert int(str(row["hold_nano_usd"])) > 1_000_000
    assert int(str(row["charge_nano_usd"])) <= 100 * 600 + 8 * 150
