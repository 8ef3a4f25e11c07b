"""
Fault matrix, usage and prices: what a provider reports, how, at which rate, and after how many
attempts.
"""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path

import pytest
from fixtures.books import audited
from fixtures.prices import limit
from fixtures.provider import (
    CONTENT,
    DONE,
    ROLE,
    STREAM,
    STREAM_END,
    Script,
    answer,
    event,
    scripted_provider,
)
from fixtures.world import MESSAGES, anthropic, deployment, tiers

from relay_middleware.testing import Behaviour, Simulator

pytestmark = pytest.mark.anyio

TEXT = "12345678" * 25
"""200 bytes: 50 tokens."""
MINI = (150, 600)
HAIKU = (1_000, 5_000)
"""Nano-dollars a token, input and output, of gpt-4o-mini and claude-haiku-4-5."""


def usage(input_tokens: int, output_tokens: int) -> Mapping[str, object]:
    return {
        "prompt_tokens": input_tokens,
        "completion_tokens": output_tokens,
        "total_tokens": input_tokens + output_tokens,
    }


@pytest.mark.parametrize(
    ("mode", "stream", "expected"),
    [
        ("normal", True, (100, 50, "provider")),
        ("twice", True, (100, 50, "provider")),
        ("with_choices", True, (100, 50, "provider")),
        # "Hello!" and "user" are 10 bytes, the answer is 200: a token for four of them.
        ("none", True, (3, 50, "counted")),
        ("none", False, (3, 50, "counted")),
        ("zero", True, (0, 0, "provider")),
        ("zero", False, (0, 0, "provider")),
    ],
)
async def test_how_usage_is_reported(
    tmp_path: Path, mode: str, expected: tuple[int, int, str], *, stream: bool
) -> None:
    """
    Beside choices, without any, or repeated, the last report counts; where there is none the bytes
    do, and the answer says so; zero is a report.
    """
    simulator = Simulator()
    numbers = {"input_tokens": 100, "cached_input_tokens": 0, "output_tokens": 50}
    simulator.set(
        "live",
        Behaviour.from_json({"usage": mode, "text": TEXT, "reasoning_tokens": 0, **numbers}),
    )
    async with simulator.serve() as provider:
        config = {"model_list": [deployment(provider)], **tiers()}
        async with audited(tmp_path, config, simulator) as (world, _):
            asked = {"model": "smart", "messages": MESSAGES, "max_tokens": 200, "stream": stream}
            told = await world.post(asked)
            (row,) = await world.ledger()

    input_tokens, output_tokens, source = expected
    assert (row["input_tokens"], row["output_tokens"], row["usage_source"]) == expected
    assert row["charge_nano_usd"] == input_tokens * MINI[0] + output_tokens * MINI[1]
    assert f'"usage_source":"{source}"' in told.text
    assert told.text.count('"cost_cents"') == 1


FINISH = event({"choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]})


def reporting(delta: str, reported: Mapping[str, object]) -> bytes:
    """Return content with a usage beside it."""
    return event({"choices": [{"index": 0, "delta": {"content": delta}}], "usage": reported})


STREAMS: Mapping[str, tuple[Sequence[bytes], tuple[int, int, str]]] = {
    "cumulative": (
        [
            reporting("Hello", usage(8, 2)),
            reporting(" there", usage(8, 4)),
            FINISH,
            event({"choices": [], "usage": usage(8, 5)}),
            DONE,
        ],
        (8, 5, "provider"),
    ),
    "cumulative, then a smaller last one": (
        [reporting("Hello", usage(8, 9)), event({"choices": [], "usage": usage(8, 7)}), DONE],
        (8, 7, "provider"),
    ),
    "before the end only": (
        # 40 bytes after the report of 2 tokens are 10 tokens more.
        [reporting("Hello", usage(8, 2)), reporting("x" * 40, {}), FINISH, DONE],
        (8, 12, "counted"),
    ),
    "after the end": (
        [CONTENT, FINISH, event({"choices": [], "usage": usage(8, 6)})],
        (8, 6, "provider"),
    ),
    "null until the last": (
        [
            event({"choices": [{"index": 0, "delta": {"content": "Hello"}}], "usage": None}),
            FINISH,
            event({"choices": [], "usage": usage(8, 3)}),
            DONE,
        ],
        (8, 3, "provider"),
    ),
}


@pytest.mark.parametrize("name", STREAMS)
async def test_usage_that_comes_as_it_goes(tmp_path: Path, name: str) -> None:
    """
    Reports are never added up: the last one counts, and beside it the text that came after it.
    """
    events, expected = STREAMS[name]
    async with scripted_provider(STREAM, ROLE, *events, STREAM_END) as provider:
        config = {"model_list": [deployment(provider.url.removesuffix("/v1"))], **tiers()}
        async with audited(tmp_path, config, Simulator()) as (world, _):
            await world.post({"model": "smart", "messages": MESSAGES, "stream": True})
            (row,) = await world.ledger()

    assert (row["input_tokens"], row["output_tokens"], row["usage_source"]) == expected
    assert row["charge_nano_usd"] == expected[0] * MINI[0] + expected[1] * MINI[1]


@pytest.mark.parametrize("mode", ["normal", "none"])
async def test_how_a_translated_usage_is_reported(tmp_path: Path, mode: str) -> None:
    """
    The same over another wire: what Claude reports at the end, or the bytes where there is nothing.
    """
    simulator = Simulator()
    numbers = {"input_tokens": 100, "cached_input_tokens": 0, "output_tokens": 50}
    simulator.set("live", Behaviour.from_json({"usage": mode, "text": TEXT, **numbers}))
    async with simulator.serve() as provider:
        config = {"model_list": [anthropic(provider)], **tiers()}
        async with audited(tmp_path, config, simulator) as (world, _):
            await world.post({"model": "smart", "messages": MESSAGES, "stream": True})
            (row,) = await world.ledger()

    expected = (3, 50, "counted") if mode == "none" else (100, 50, "provider")
    assert (row["input_tokens"], row["output_tokens"], row["usage_source"]) == expected
    assert row["charge_nano_usd"] == expected[0] * HAIKU[0] + expected[1] * HAIKU[1]


def answering(input_tokens: int, service_tier: str | None) -> Script:
    """Return what a provider does that answers with 100 tokens."""
    served = {} if service_tier is None else {"service_tier": service_tier}
    message = {"role": "assistant", "content": "Hello"}
    return [
        answer({"choices": [{"message": message}], "usage": usage(input_tokens, 100), **served})
    ]


def framed(body: object) -> int:
    """The most input tokens that a body of one message can be."""
    return len(json.dumps(body, separators=(",", ":"))) + 16 + 64


# gpt-5.4, nano-dollars a token: input and output.
STANDARD, FLEX, PRIORITY = (2_500, 15_000), (1_250, 7_500), (5_000, 30_000)
LONG = (5_000, 22_500)
"""Of prompts above 272,000 tokens."""


@pytest.mark.parametrize(
    ("asked", "served", "charged", "held"),
    [
        ("priority", "priority", PRIORITY, PRIORITY),
        ("priority", "default", STANDARD, PRIORITY),
        ("flex", "flex", FLEX, STANDARD),
        ("flex", "default", STANDARD, STANDARD),
        ("default", "default", STANDARD, STANDARD),
    ],
)
async def test_the_service_tier_that_was_served(
    tmp_path: Path,
    asked: str,
    served: str,
    charged: tuple[int, int],
    held: tuple[int, int],
) -> None:
    """
    The charge is by the tier that the provider says it served, the hold by the dearest that it may.
    """
    body = {"model": "smart", "messages": MESSAGES, "max_tokens": 100, "service_tier": asked}
    async with scripted_provider(*answering(8, served)) as provider:
        url = provider.url.removesuffix("/v1")
        config = {"model_list": [deployment(url, model="gpt-5.4")], **tiers()}
        async with audited(tmp_path, config, Simulator()) as (world, _):
            assert (await world.post(body)).status_code == 200
            (row,) = await world.ledger()

    assert row["charge_nano_usd"] == 8 * charged[0] + 100 * charged[1]
    assert row["hold_nano_usd"] == framed(body) * held[0] + 100 * held[1]


@pytest.mark.parametrize(("input_tokens", "charged"), [(272_000, STANDARD), (272_001, LONG)])
async def test_a_prompt_that_crosses_a_threshold(
    tmp_path: Path, input_tokens: int, charged: tuple[int, int]
) -> None:
    """
    One token above 272,000 makes all of them dearer, in and out; the hold was made for that,
    because 300,000 bytes may be so many.
    """
    body = {
        "model": "smart",
        "messages": [{"role": "user", "content": "word " * 60_000}],
        "max_tokens": 100,
        "service_tier": "default",
    }
    async with scripted_provider(*answering(input_tokens, "default")) as provider:
        url = provider.url.removesuffix("/v1")
        config = {
            "model_list": [deployment(url, model="gpt-5.4")],
            **tiers(spend_limits=limit(10**11)),
        }
        async with audited(tmp_path, config, Simulator()) as (world, _):
            assert (await world.post(body)).status_code == 200
            (row,) = await world.ledger()

    assert row["charge_nano_usd"] == input_tokens * charged[0] + 100 * charged[1]
    assert row["hold_nano_usd"] == framed(body) * LONG[0] + 100 * LONG[1]


@pytest.mark.parametrize("stream", [False, True], ids=["whole", "stream"])
@pytest.mark.parametrize(
    ("first", "outcome"),
    [
        (Behaviour(stall="before_headers"), "timed_out"),
        (Behaviour(stall="after_headers"), "timed_out"),
        (Behaviour(cut_after_chunks=0), "failed"),
        (Behaviour(status=500), "failed"),
    ],
    ids=["silent", "silent-after-headers", "cut", "500"],
)
async def test_two_attempts_are_billed_once(
    tmp_path: Path, first: Behaviour, outcome: str, *, stream: bool
) -> None:
    """
    A first provider that was called in vain and a second that answers are two attempts in the
    ledger, under one hold, and one charge: the second's.
    """
    simulator = Simulator()
    simulator.set("ill", first)
    numbers = {"input_tokens": 100, "cached_input_tokens": 0, "output_tokens": 50}
    simulator.set("live", Behaviour.from_json({"reasoning_tokens": 0, **numbers}))
    async with simulator.serve() as provider:
        ill = {"timeouts": {"connect_s": 0.5, "first_event_s": 0.2, "non_stream_s": 0.2}}
        config = {
            "model_list": [
                {**deployment(provider, profile="ill", model="gpt-4o"), **ill},
                deployment(provider, name="backup"),
            ],
            "router_settings": {"fallbacks": [{"smart": ["backup"]}]},
            **tiers(),
        }
        async with audited(tmp_path, config, simulator) as (world, _):
            told = await world.post({"model": "smart", "messages": MESSAGES, "stream": stream})
            (row,) = await world.ledger()
            async with world.database.connect() as connection:
                attempts = await connection.exec_driver_sql(
                    "SELECT deployment_model, outcome, request_id FROM attempt ORDER BY number"
                )
                tried = [tuple(attempt) for attempt in attempts]

    assert (told.status_code, told.headers["x-relay-attempts"]) == (200, "2")
    assert (simulator.calls("ill"), simulator.calls("live")) == (1, 1)
    assert (row["deployment_model"], row["charge_nano_usd"]) == (
        "gpt-4o-mini",
        100 * MINI[0] + 50 * MINI[1],
    )
    assert tried == [("gpt-4o", outcome, row["id"]), ("gpt-4o-mini", "served", row["id"])]
