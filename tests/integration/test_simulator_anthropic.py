"""
The simulated Anthropic over real sockets.
"""

import json
from collections.abc import Iterator

import httpx
import pytest

from relay_middleware.testing import Behaviour, Simulator, tokens_of

BODY = {"model": "c", "max_tokens": 500, "messages": [{"role": "user", "content": "Hello you"}]}
WEATHER = {
    "name": "weather",
    "input_schema": {
        "type": "object",
        "required": ["city"],
        "properties": {"city": {"type": "string"}},
    },
}


@pytest.fixture(name="client")
def _client(url: str) -> Iterator[httpx.Client]:
    """
    A client with a key.
    """
    headers = {"x-api-key": "sk-test-1234", "anthropic-version": "2023-06-01"}
    with httpx.Client(base_url=url, headers=headers) as client:
        yield client


def events_of(body: str) -> list[tuple[str, dict[str, object]]]:
    """Names and JSON of a stream's events."""
    blocks = [block.split("\n") for block in body.strip().split("\n\n")]
    return [
        (name.removeprefix("event: "), json.loads(data.removeprefix("data: ")))
        for name, data in blocks
    ]


def test_a_message_is_counted_by_the_stated_rule(client: httpx.Client) -> None:
    """
    Input is reported without what the cache gave and took; the system prompt counts as a message.
    """
    answer = client.post("/brief/v1/messages", json=BODY | {"system": "Be brief"}).json()

    text_tokens = tokens_of(answer["content"][0]["text"])
    # 3 for the answer, 3 + 3 for the message, 3 + 2 for the system prompt.
    assert answer["usage"]["cache_read_input_tokens"] == 14 // 2
    assert answer["usage"]["cache_creation_input_tokens"] == 14 // 4
    assert answer["usage"]["input_tokens"] == 14 - 7 - 3
    assert answer["usage"]["output_tokens"] == text_tokens + 1 + text_tokens // 4
    assert answer["stop_reason"] == "end_turn"
    assert answer["x_simulator"] == {"profile": "brief", "call": 1}


def test_a_stream_has_anthropic_s_order(client: httpx.Client) -> None:
    """
    A stream says what the body says: the input at its start, the output at its end.
    """
    whole = client.post("/v1/messages", json=BODY).json()

    events = events_of(client.post("/v1/messages", json=BODY | {"stream": True}).text)

    names = [name for name, _ in events]
    data = [data for _, data in events]
    deltas = names.count("content_block_delta")
    assert deltas > 1
    assert names == [
        "message_start",
        "content_block_start",
        "ping",
        *["content_block_delta"] * deltas,
        "content_block_stop",
        "message_delta",
        "message_stop",
    ]
    text = "".join(event["delta"]["text"] for event in data[3 : 3 + deltas])
    assert text == whole["content"][0]["text"]
    assert data[0]["message"]["usage"] == whole["usage"] | {"output_tokens": 1}
    assert data[-2]["usage"] == {"output_tokens": whole["usage"]["output_tokens"]}
    assert all("x_simulator" in event for event in data)


def test_output_keeps_to_its_cap(client: httpx.Client) -> None:
    """
    A cut message says `max_tokens` and reports no more than the cap.
    """
    answer = client.post("/v1/messages", json=BODY | {"max_tokens": 5}).json()

    assert answer["stop_reason"] == "max_tokens"
    assert answer["usage"]["output_tokens"] == 5
    assert tokens_of(answer["content"][0]["text"]) == 3


def test_a_tool_is_used(client: httpx.Client) -> None:
    """
    With tools the answer is a use of the first one, streamed as pieces of JSON.
    """
    body = BODY | {"tools": [WEATHER]}
    whole = client.post("/v1/messages", json=body).json()

    events = events_of(client.post("/v1/messages", json=body | {"stream": True}).text)

    block = whole["content"][0]
    assert (block["type"], block["name"], block["input"]) == (
        *("tool_use", "weather", {"city": "simulated"}),
    )
    assert whole["stop_reason"] == "tool_use"
    pieces = [data["delta"]["partial_json"] for name, data in events if name.endswith("ock_delta")]
    assert pieces == ['{"city":"simulat', 'ed"}']


@pytest.mark.parametrize(
    "more",
    [
        {"tool_choice": {"type": "none"}},
        {"messages": [{"role": "user", "content": [{"type": "tool_result", "content": "x"}]}]},
    ],
    ids=["forbidden", "after its result"],
)
def test_no_tool_is_used(client: httpx.Client, more: dict[str, object]) -> None:
    """
    After a result, or where tools are forbidden, the answer is text.
    """
    answer = client.post("/v1/messages", json=BODY | {"tools": [WEATHER]} | more).json()

    assert answer["content"][0]["type"] == "text"


def test_a_named_tool_must_exist(client: httpx.Client) -> None:
    """
    A choice of a tool that is not there is a 400.
    """
    choice = {"type": "tool", "name": "clock"}

    answer = client.post("/v1/messages", json=BODY | {"tools": [WEATHER], "tool_choice": choice})

    assert answer.status_code == 400


@pytest.mark.parametrize(
    "body",
    [{}, {"model": "c", "messages": BODY["messages"]}, BODY | {"messages": []}],
    ids=["empty", "no cap", "no messages"],
)
def test_a_wrong_request_is_refused(client: httpx.Client, body: dict[str, object]) -> None:
    """
    What Anthropic would refuse is a 400 in its envelope.
    """
    answer = client.post("/v1/messages", json=body)

    assert answer.status_code == 400
    assert answer.json()["error"]["type"] == "invalid_request_error"


def test_the_version_is_required(url: str) -> None:
    """
    A request without `anthropic-version` is a 400, as with the real one.
    """
    answer = httpx.post(f"{url}/v1/messages", json=BODY, headers={"x-api-key": "k"})

    assert "anthropic-version" in answer.json()["error"]["message"]


def test_a_missing_key_is_refused(url: str) -> None:
    """
    No key is a 401 in Anthropic's envelope.
    """
    answer = httpx.post(f"{url}/v1/messages", json=BODY)

    assert answer.status_code == 401
    assert answer.json()["error"]["type"] == "authentication_error"


@pytest.mark.parametrize(
    ("status", "kind"),
    [(429, "rate_limit_error"), (529, "overloaded_error"), (502, "api_error")],
)
def test_an_injected_error(
    simulator: Simulator, client: httpx.Client, status: int, kind: str
) -> None:
    """
    An injected error has Anthropic's envelope.
    """
    simulator.set("failing", Behaviour(status=status, error_message="No"))

    answer = client.post("/failing/v1/messages", json=BODY)

    assert answer.status_code == status
    assert answer.json() == {"type": "error", "error": {"type": kind, "message": "No"}}


def test_an_error_inside_a_stream(simulator: Simulator, client: httpx.Client) -> None:
    """
    After so many events an `error` event ends the stream.
    """
    simulator.set("torn", Behaviour(stream_error_after_chunks=4))

    events = events_of(client.post("/torn/v1/messages", json=BODY | {"stream": True}).text)

    assert len(events) == 5
    assert events[-1][0] == "error"
    assert events[-1][1]["error"]["type"] == "api_error"


@pytest.mark.parametrize(
    ("mode", "outputs"), [("none", [None]), ("zero", [0]), ("twice", [20, 40])]
)
def test_modes_of_usage(
    simulator: Simulator, client: httpx.Client, mode: str, outputs: list[int | None]
) -> None:
    """
    A stream reports no usage, zeros, or twice with the right number last.
    """
    simulator.set(mode, Behaviour.from_json({"usage": mode, "output_tokens": 40}))

    events = events_of(client.post(f"/{mode}/v1/messages", json=BODY | {"stream": True}).text)

    deltas = [data for name, data in events if name == "message_delta"]
    assert [data.get("usage", {}).get("output_tokens") for data in deltas] == outputs
