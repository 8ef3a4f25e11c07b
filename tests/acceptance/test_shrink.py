"""
`on_insufficient: shrink`: a shorter answer rather than none.
"""

import json
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path
from typing import Protocol

import pytest
from fixtures.world import World, deployment, running, tiers

from relay_middleware.testing import Behaviour, Simulator

pytestmark = pytest.mark.anyio

# 150 and 600 nano-dollars a token, as gpt-4o-mini; of a model whose tokens Relay cannot count, so
# that the bytes of its input are what is held.
PLAIN = {"model": "openai/plain", "input_cost_per_token": 1.5e-07, "output_cost_per_token": 6e-07}
BODY = {"model": "smart", "messages": [{"role": "user", "content": "Hello!"}]}
BODY_BYTES = len(json.dumps(BODY, separators=(",", ":")))
INPUT_NANO_USD = 150 * (BODY_BYTES + 16 + 64)


class Serve(Protocol):
    """Serves a tier with these settings."""

    def __call__(self, **tier: object) -> AbstractAsyncContextManager[World]: ...


@pytest.fixture(name="serve")
def _serve(tmp_path: Path) -> Serve:
    @asynccontextmanager
    async def serve(**tier: object) -> AsyncIterator[World]:
        simulator = Simulator()
        simulator.set("live", Behaviour(output_tokens="cap", reasoning_tokens=0))
        async with simulator.serve() as provider:
            config = {
                "model_list": [
                    plain(provider),
                    deployment(provider, name="thinker", model="o4-mini"),
                    deployment(provider, name="counted"),
                ],
                **tiers(on_insufficient="shrink", **tier),
            }
            async with running(tmp_path, config, simulator) as world:
                yield world

    return serve


def plain(provider: str) -> dict[str, object]:
    """A deployment of that model."""
    params = {**PLAIN, "api_base": f"{provider}/live/v1", "api_key": "sk-operator-secret"}
    return {"model_name": "smart", "litellm_params": params}


def limit(nano_usd: int) -> list[dict[str, object]]:
    """A monthly limit of so much."""
    return [{"cents": f"{nano_usd / 10_000_000:.7f}", "per": "month"}]


@pytest.mark.parametrize("stream", [False, True], ids=["whole", "stream"])
async def test_the_answer_is_cut_to_the_money(serve: Serve, *, stream: bool) -> None:
    """
    With money for 1,000 tokens of output the default cap of 4,096 becomes 1,000: the provider is
    told, the client reads it in a header, and the charge stays under the limit.
    """
    body = {**BODY, "stream": stream}
    extra = 150 * (len(json.dumps(body, separators=(",", ":"))) - BODY_BYTES)
    async with serve(spend_limits=limit(INPUT_NANO_USD + extra + 1000 * 600)) as world:
        answer = await world.post(body)
        rows = await world.ledger()

        sent = json.loads(world.simulator.requests[0].body)

    assert answer.status_code == 200, answer.text
    assert sent["max_completion_tokens" if "max_completion_tokens" in sent else "max_tokens"] == (
        1000
    )
    assert answer.headers["x-relay-output-cap"] == "1000"
    assert [(row["output_tokens"], row["hold_nano_usd"]) for row in rows] == [
        (1000, INPUT_NANO_USD + extra + 1000 * 600)
    ]


async def test_it_is_divided_by_the_number_of_answers(serve: Serve) -> None:
    """
    For two answers the money of 1,000 tokens buys 500 each.
    """
    body = {**BODY, "n": 2}
    extra = 150 * (len(json.dumps(body, separators=(",", ":"))) - BODY_BYTES)
    async with serve(spend_limits=limit(INPUT_NANO_USD + extra + 1000 * 600)) as world:
        answer = await world.post(body)

    assert (answer.status_code, answer.headers["x-relay-output-cap"]) == (200, "500")


@pytest.mark.parametrize(
    ("least", "tokens", "status"), [(None, 256, 200), (None, 255, 402), (100, 100, 200)]
)
async def test_the_shortest_answer(
    serve: Serve, least: int | None, tokens: int, status: int
) -> None:
    """
    Money for 256 tokens buys an answer, for 255 none; a tier may say otherwise.
    """
    settings = {} if least is None else {"min_output_tokens": least}
    async with serve(spend_limits=limit(INPUT_NANO_USD + tokens * 600), **settings) as world:
        answer = await world.post(BODY)

    assert answer.status_code == status


async def test_a_rate_refuses_what_was_shrunk(serve: Serve) -> None:
    """
    The second request of one a day has money for some 800 tokens of its 4,096: it is refused for
    the rate, not for the money.
    """
    async with serve(
        spend_limits=limit(2 * INPUT_NANO_USD + 2000 * 600), rate_limits=["1/day"]
    ) as world:
        first = await world.post({**BODY, "max_tokens": 1200})
        second = await world.post(BODY)

    assert first.status_code == 200, first.text
    error = second.json()["error"]
    assert (second.status_code, error["code"]) == (429, "rate_limit_exceeded")
    assert error["metadata"] == {"limit": "1/day"}


async def test_what_fits_is_not_shrunk(serve: Serve) -> None:
    """
    With room for the whole cap nothing changes, and no header says so.
    """
    async with serve(spend_limits=limit(INPUT_NANO_USD + 4096 * 600)) as world:
        answer = await world.post(BODY)

    assert answer.status_code == 200
    assert "x-relay-output-cap" not in answer.headers


async def test_a_thinking_model_is_refused(serve: Serve) -> None:
    """
    A model that may spend the whole cap on thoughts is not called with a lower one.
    """
    async with serve(spend_limits=limit(INPUT_NANO_USD + 1000 * 600)) as world:
        answer = await world.post({**BODY, "model": "thinker"})

    assert (answer.status_code, world.simulator.calls()) == (402, 0)


async def test_tight_in_two_periods(serve: Serve) -> None:
    """
    The tighter of two limits decides, also where the other one refused first.
    """
    limits = [
        {"cents": f"{(INPUT_NANO_USD + 2000 * 600) / 10_000_000:.7f}", "per": "day"},
        {"cents": f"{(INPUT_NANO_USD + 1000 * 600) / 10_000_000:.7f}", "per": "month"},
    ]
    async with serve(spend_limits=limits) as world:
        answer = await world.post(BODY)

    assert (answer.status_code, answer.headers["x-relay-output-cap"]) == (200, "1000")


LONG = {
    "model": "counted",
    "messages": [{"role": "user", "content": "prose " * 2000}],
    "max_completion_tokens": 100,
}
LONG_BYTES = len(json.dumps(LONG, separators=(",", ":")))


async def test_tokens_are_counted_where_bytes_do_not_fit(tmp_path: Path) -> None:
    """
    12,000 bytes of 2,000 words do not fit as bytes ($0.0019), and do as tokens (about 2,000, so
    some $0.0004): on a limit of a tenth of a cent the request is answered, and what was held fits.
    """
    simulator = Simulator()
    simulator.set("live", Behaviour(output_tokens=10, input_tokens=2010))
    async with simulator.serve() as provider:
        config = {
            "model_list": [deployment(provider, name="counted"), plain(provider)],
            **tiers(spend_limits=limit(1_000_000)),
        }
        async with running(tmp_path, config, simulator) as world:
            counted = await world.post(LONG)
            not_counted = await world.post({**LONG, "model": "smart"})
            (row,) = await world.ledger()

    hold = row["hold_nano_usd"]
    assert isinstance(hold, int)
    assert (counted.status_code, not_counted.status_code) == (200, 402)
    assert 2000 * 150 + 100 * 600 < hold < 1_000_000 < LONG_BYTES * 150
    assert row["is_bound_exact"] in (False, 0)
