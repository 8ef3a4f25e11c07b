"""
Usage that is missing, in an unusual place, or a lie.
"""

import json

import httpx
import pytest

from relay_middleware.testing import Behaviour, Simulator

CHAT = {"model": "m", "messages": [{"role": "user", "content": "Hello you"}]}
WITH_USAGE = CHAT | {"stream": True, "stream_options": {"include_usage": True}}


def post(client: httpx.Client, profile: str, body: object) -> httpx.Response:
    """Call the chat endpoint of *profile*."""
    return client.post(f"/{profile}/v1/chat/completions", json=body)


def datas_of(body: str) -> list[str]:
    """The data of a stream's events."""
    return [block.removeprefix("data: ") for block in body.strip().split("\n\n") if block]


def usages_of(body: str) -> list[tuple[int, int]]:
    """Number of choices and completion tokens of every event that reports usage."""
    events = [json.loads(data) for data in datas_of(body) if data != "[DONE]"]
    return [
        (len(event["choices"]), event["usage"]["completion_tokens"])
        for event in events
        if event.get("usage")
    ]


@pytest.mark.parametrize(
    ("mode", "usages"),
    [
        ("normal", [(0, 40)]),
        ("none", []),
        ("twice", [(0, 20), (0, 40)]),
        ("with_choices", [(1, 40)]),
        ("zero", [(0, 0)]),
    ],
)
def test_modes_of_usage_in_a_stream(
    simulator: Simulator, client: httpx.Client, mode: str, usages: list[tuple[int, int]]
) -> None:
    """
    A stream's usage comes as the mode says, and the last one is right.
    """
    simulator.set(mode, Behaviour.from_json({"usage": mode, "output_tokens": 40}))

    assert usages_of(post(client, mode, WITH_USAGE).text) == usages


@pytest.mark.parametrize(
    ("mode", "total"),
    [("none", None), ("twice", 50), ("with_choices", 50), ("zero", 0)],
)
def test_modes_of_usage_in_a_body(
    simulator: Simulator, client: httpx.Client, mode: str, total: int | None
) -> None:
    """
    A body has no usage, zeros, or what is normal.
    """
    simulator.set(
        mode, Behaviour.from_json({"usage": mode, "input_tokens": 10, "output_tokens": 40})
    )

    answer = post(client, mode, CHAT).json()

    assert answer.get("usage", {}).get("total_tokens") == total


def test_output_may_equal_its_cap(simulator: Simulator, client: httpx.Client) -> None:
    """
    `"cap"` reports the request's output cap, times the number of choices.
    """
    simulator.set("cap", Behaviour(output_tokens="cap", text="short"))

    answer = post(client, "cap", CHAT | {"n": 2, "max_tokens": 300}).json()

    assert answer["usage"]["completion_tokens"] == 600
    assert [choice["message"]["content"] for choice in answer["choices"]] == ["short", "short"]


def test_embeddings_lie_too(simulator: Simulator, client: httpx.Client) -> None:
    """
    The input of embeddings is reported as told.
    """
    simulator.set("lying", Behaviour(input_tokens=123))

    answer = client.post("/lying/v1/embeddings", json={"model": "e", "input": "a"}).json()

    assert answer["usage"] == {"prompt_tokens": 123, "total_tokens": 123}
